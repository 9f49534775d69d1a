"""WebSocket messages per second: many small messages on a few connections, there and back.

Both ends are ours and cheap: every frame has the same size, so they count bytes instead of taking frames apart, and
what limits is the proxy between them. Each connection keeps a fixed number of messages on their way.
"""

import asyncio
import base64
import hashlib
import threading
import time
from dataclasses import dataclass
from typing import Self

from bench.load import Target
from bench.machine import MeasuringFailedError, on_processor
from tests.support import processes

PAYLOAD_BYTES = 64
CONNECTIONS = 16
ON_THEIR_WAY = 64
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = base64.b64encode(bytes(16)).decode()
_MASKED = bytes((0x82, 0x80 | PAYLOAD_BYTES)) + bytes(4) + b"x" * PAYLOAD_BYTES
_PLAIN = bytes((0x82, PAYLOAD_BYTES)) + b"x" * PAYLOAD_BYTES


@dataclass(frozen=True)
class WebSocketSample:
    """One run."""

    messages_per_s: float
    busy_ratio: float

    def document(self) -> dict[str, float]:
        """Return it for JSON."""
        return {"messages_per_s": self.messages_per_s, "busy_ratio": self.busy_ratio}


class Echo:
    """The upstream: answers every message with one of the same size; a context manager with a thread of its own."""

    def __init__(self, processor: int) -> None:
        self._processor = processor
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        with on_processor(self._processor):
            server = self._loop.run_until_complete(self._loop.create_server(_EchoProtocol, "127.0.0.1", 0))
            self.port = server.sockets[0].getsockname()[1]
            self._ready.set()
            self._loop.run_forever()


class _EchoProtocol(asyncio.Protocol):
    def __init__(self) -> None:
        self._head = b""
        self._is_open = False
        self._received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._is_open:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._is_open = True
            lines = (line.partition(b":") for line in head.split(b"\r\n"))
            key = next(value.strip() for name, _, value in lines if name.lower() == b"sec-websocket-key")
            accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
            self._transport.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
        self._received += len(data)
        whole, self._received = divmod(self._received, len(_MASKED))
        if whole:
            self._transport.write(_PLAIN * whole)


def run_websockets(processor: int, target: Target, *, seconds: float) -> WebSocketSample:
    """Send messages for some time and count those that came back."""
    worker = target.worker
    used_s = processes.processor_s(worker) if worker is not None else 0.0
    with on_processor(processor):
        started_s = time.monotonic()
        count = asyncio.run(_send(target.port, seconds))
        took_s = time.monotonic() - started_s
    used_s = (processes.processor_s(worker) if worker is not None else 0.0) - used_s
    return WebSocketSample(count / took_s, used_s / took_s)


async def _send(port: int, seconds: float) -> int:
    ends_s = time.monotonic() + seconds
    return sum(await asyncio.gather(*(_converse(port, ends_s) for _ in range(CONNECTIONS))))


async def _converse(port: int, ends_s: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"GET / HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: {_KEY}\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 101 " not in head:
        raise MeasuringFailedError(f"no WebSocket: {head!r}")
    count = 0
    writer.write(_MASKED * ON_THEIR_WAY)
    received = 0
    while time.monotonic() < ends_s:
        data = await reader.read(256 * 1024)
        if not data:
            raise MeasuringFailedError("the connection was closed")
        whole, received = divmod(received + len(data), len(_PLAIN))
        count += whole
        writer.write(_MASKED * whole)
    writer.close()
    return count
