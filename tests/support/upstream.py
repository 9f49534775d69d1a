"""A scripted upstream: a real server on its own port whose answers are Python functions, one thread per connection.

A test registers a script and gets the path under which it is reached; other paths are echoed as JSON. Scripts see the
parsed head and the connection, send exact bytes, wait for events, close or reset. Nothing sleeps.
"""

import itertools
import json
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from tests.support.http1 import DEFAULT_TIMEOUT_S, Head, Headers, MessageReader, Truncated


class CloseConnection(Exception):
    """Raised by a script to end its connection."""


@dataclass
class Request:
    """A request as the upstream got it; the body is still on the connection."""

    head: Head
    connection_number: int

    @property
    def method(self) -> str:
        """The method."""
        return self.head.parts[0]

    @property
    def target(self) -> str:
        """Path and query."""
        return self.head.parts[1]

    @property
    def path(self) -> str:
        """The target without query."""
        return self.target.partition("?")[0]

    @property
    def headers(self) -> Headers:
        """All fields."""
        return self.head.headers


class Connection:
    """The upstream's side of one connection."""

    def __init__(self, open_socket: socket.socket, number: int) -> None:
        self.socket = open_socket
        self.number = number
        self.reader = MessageReader(self._receive)
        self.is_open = True

    def _receive(self) -> bytes:
        try:
            return self.socket.recv(65536)
        except (ConnectionResetError, ssl.SSLError):
            return b""

    def send(self, data: bytes) -> None:
        """Send exactly these bytes."""
        self.socket.sendall(data)

    def read_body(self, request: Request) -> bytes:
        """Return the request's whole body; trailers are left in `self.reader.trailers`."""
        if "chunked" in (request.headers.get("Transfer-Encoding") or ""):
            return b"".join(self.reader.chunks())
        return self.reader.take(int(request.headers.get("Content-Length") or 0))

    def respond(self, body: bytes = b"", status: str = "200 OK", headers: dict[str, str] | None = None) -> None:
        """Send a response with Content-Length."""
        fields = {"Content-Length": str(len(body))} | (headers or {})
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.send(f"HTTP/1.1 {status}\r\n{lines}\r\n".encode("latin-1") + body)

    def wait_for_end(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> bytes:
        """Return what still comes until the gateway closes; TimeoutError when it does not."""
        self.socket.settimeout(timeout_s)
        return self.reader.read_to_end()

    def close(self) -> None:
        """Close with FIN."""
        if self.is_open:
            self.is_open = False
            try:
                self.socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            self.socket.close()

    def reset(self) -> None:
        """Close with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.is_open = False
        self.socket.close()


Script = Callable[[Request, Connection], None]


def echo(request: Request, connection: Connection) -> None:
    """Answer with what was received."""
    body = connection.read_body(request)
    document = {
        "method": request.method,
        "target": request.target,
        "headers": request.headers.items,
        "body": body.decode("latin-1"),
        "connection": connection.number,
    }
    connection.respond(json.dumps(document).encode(), headers={"Content-Type": "application/json"})


class Upstream:
    """The server; a context manager."""

    def __init__(
        self, tls: ssl.SSLContext | None = None, default: Script = echo, address: tuple[str, int] = ("127.0.0.1", 0)
    ) -> None:
        self._tls = tls
        self._default = default
        self._scripts: dict[str, Script] = {}
        self._numbers = itertools.count(1)
        self._connections: set[Connection] = set()
        self._lock = threading.Lock()
        self.requests: list[Request] = []
        self.failures: list[BaseException] = []
        self._listener = socket.create_server(address, backlog=1024)
        self.host, self.port = self._listener.getsockname()[:2]
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop_connections()
        self._thread.join(DEFAULT_TIMEOUT_S)

    @property
    def url(self) -> str:
        """URL for a service entity."""
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"

    def script(self, script: Script) -> str:
        """Register a script; return the path under which it answers (anything below it, too)."""
        with self._lock:
            path = f"/script-{len(self._scripts)}"
            self._scripts[path] = script
        return path

    def requests_to(self, path: str) -> list[Request]:
        """Return the requests seen below this path."""
        return [request for request in list(self.requests) if request.path.startswith(path)]

    @property
    def open_connection_count(self) -> int:
        """Connections the gateway holds open."""
        return len(self._connections)

    def drop_connections(self) -> None:
        """Close every connection."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(accepted,), daemon=True).start()

    def _serve(self, accepted: socket.socket) -> None:
        try:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            opened = self._tls.wrap_socket(accepted, server_side=True) if self._tls else accepted
        except OSError:
            accepted.close()
            return
        connection = Connection(opened, next(self._numbers))
        with self._lock:
            self._connections.add(connection)
        try:
            while connection.is_open:
                request = Request(connection.reader.read_head(), connection.number)
                self.requests.append(request)
                self._script_of(request.path)(request, connection)
        except (CloseConnection, Truncated, OSError):
            pass
        except BaseException as error:
            self.failures.append(error)
        finally:
            connection.close()
            with self._lock:
                self._connections.discard(connection)

    def _script_of(self, path: str) -> Script:
        return self._scripts.get("/" + path[1:].partition("/")[0], self._default)
