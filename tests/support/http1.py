"""HTTP/1 as bytes, for both ends of wire tests: a reader of messages, and a client that sends just what it is told.

It is strict where the gateway must be exact (framing) and keeps everything as received, so that a test can look at it.
"""

import json
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

DEFAULT_TIMEOUT_S = 10.0


class Truncated(Exception):
    """The peer closed before the message was whole; `received` is what came of it."""

    def __init__(self, received: bytes) -> None:
        super().__init__(f"connection closed after {len(received)} bytes: {received[:200]!r}")
        self.received = received


@dataclass
class Headers:
    """Fields in order as received; lookups ignore case."""

    items: list[tuple[str, str]] = field(default_factory=list)

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the first value of a field."""
        return next(iter(self.all(name)), default)

    def all(self, name: str) -> list[str]:
        """Return every value of a field."""
        return [value for key, value in self.items if key.lower() == name.lower()]

    def __contains__(self, name: str) -> bool:
        return bool(self.all(name))

    def __getitem__(self, name: str) -> str:
        found = self.get(name)
        if found is None:
            raise KeyError(f"{name} not in {self.items}")
        return found


@dataclass
class Head:
    """Start line and fields of a message."""

    start_line: str
    headers: Headers
    raw: bytes

    @property
    def parts(self) -> list[str]:
        """The start line's three parts."""
        return self.start_line.split(" ", 2)


@dataclass
class Response:
    """A whole response."""

    version: str
    status: int
    headers: Headers
    body: bytes
    trailers: Headers
    chunks: list[bytes]

    def json(self) -> Any:
        """Return the decoded JSON body."""
        return json.loads(self.body)


class MessageReader:
    """Reads messages from a stream; `receive` returns b"" at its end."""

    def __init__(self, receive: Callable[[], bytes]) -> None:
        self._receive = receive
        self.buffer = b""

    def fill(self) -> bool:
        """Take more bytes; False at the end of the stream."""
        data = self._receive()
        self.buffer += data
        return bool(data)

    def take(self, size: int) -> bytes:
        """Return exactly `size` bytes."""
        # Pieces are joined once: appending to bytes copies a large body again and again.
        pieces, have = [self.buffer], len(self.buffer)
        while have < size:
            pieces.append(self._receive())
            have += len(pieces[-1])
            if not pieces[-1]:
                self.buffer = b"".join(pieces)
                raise Truncated(self.buffer)
        whole = b"".join(pieces)
        taken, self.buffer = whole[:size], whole[size:]
        return taken

    def take_until(self, mark: bytes) -> bytes:
        """Return everything up to and with `mark`."""
        while (position := self.buffer.find(mark)) < 0:
            if not self.fill():
                raise Truncated(self.buffer)
        return self.take(position + len(mark))

    def read_head(self) -> Head:
        """Return the next message's head."""
        raw = self.take_until(b"\r\n\r\n")
        start_line, *lines = raw[:-4].decode("latin-1").split("\r\n")
        return Head(start_line, _fields(lines), raw)

    def chunks(self) -> Iterator[bytes]:
        """Yield the chunks of a chunked body; trailers are left in `self.trailers` after the last."""
        self.trailers = Headers()
        while True:
            size = int(self.take_until(b"\r\n").split(b";")[0], 16)
            if size == 0:
                break
            yield self.take(size)
            if self.take(2) != b"\r\n":
                raise AssertionError("chunk is not ended by CRLF")
        lines = []
        while (line := self.take_until(b"\r\n")) != b"\r\n":
            lines.append(line[:-2].decode("latin-1"))
        self.trailers = _fields(lines)

    def read_to_end(self) -> bytes:
        """Return everything until the peer closes."""
        while self.fill():
            pass
        return self.take(len(self.buffer))


def _fields(lines: Iterable[str]) -> Headers:
    pairs = [line.split(":", 1) for line in lines]
    return Headers([(name, value.strip(" \t")) for name, value in pairs])


class Client:
    """One connection to the gateway, plain or TLS."""

    def __init__(
        self,
        address: tuple[str, int],
        *,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        receive_buffer_bytes: int | None = None,
    ) -> None:
        raw = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer_bytes:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        raw.settimeout(timeout_s)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            raw.connect(address)
            self.socket: socket.socket = raw if tls is None else tls.wrap_socket(raw, server_hostname=server_name)
        except BaseException:
            raw.close()
            raise
        self.reader = MessageReader(self._receive)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _receive(self) -> bytes:
        try:
            return self.socket.recv(65536)
        except ConnectionResetError:
            return b""

    def send(self, data: bytes) -> None:
        """Send exactly these bytes."""
        self.socket.sendall(data)

    def request(
        self,
        method: str,
        target: str,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        host: str = "gateway.test",
    ) -> Response:
        """Send a request with Content-Length where there is a body, and return the final response."""
        fields = {"Host": host} | ({"Content-Length": str(len(body))} if body is not None else {}) | (headers or {})
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (body or b""))
        return self.read_response(method)

    def read_response(self, method: str = "GET", *, is_interim_skipped: bool = True) -> Response:
        """Read the next response; 1xx ones are skipped unless asked for."""
        while True:
            head = self.reader.read_head()
            version, status_text, *_ = head.start_line.split(" ", 2)
            status = int(status_text)
            if status >= 200 or status == 101 or not is_interim_skipped:
                break
        body, chunks, trailers = b"", [], Headers()
        if method == "HEAD" or status in (204, 304) or status < 200:
            pass
        elif "chunked" in (head.headers.get("Transfer-Encoding") or ""):
            chunks = list(self.reader.chunks())
            body, trailers = b"".join(chunks), self.reader.trailers
        elif "Content-Length" in head.headers:
            body = self.reader.take(int(head.headers["Content-Length"]))
        else:
            body = self.reader.read_to_end()
        return Response(version, status, head.headers, body, trailers, chunks)

    def is_closed_by_peer(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> bool:
        """Wait until the peer closes; False when data comes or time passes instead."""
        if self.reader.buffer:
            return False
        self.socket.settimeout(timeout_s)
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.socket.close()

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def send_until_blocked(self, chunk: bytes, limit_bytes: int) -> int:
        """Send `chunk` again and again until the peer takes no more for half a second; return bytes sent."""
        self.socket.setblocking(False)
        sent = 0
        try:
            while sent < limit_bytes:
                _, writable, _ = select.select([], [self.socket], [], 0.5)
                if not writable:
                    break
                sent += self.socket.send(chunk)
        finally:
            self.socket.settimeout(DEFAULT_TIMEOUT_S)
        return sent


def wait_until(condition: Callable[[], bool], timeout_s: float = DEFAULT_TIMEOUT_S) -> bool:
    """Ask until `condition` holds, and return whether it came to; for facts of the kernel, of which nothing tells."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        select.select([], [], [], 0.01)
    return True
