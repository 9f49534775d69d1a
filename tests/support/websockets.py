"""Both ends of WebSocket tests: an echo server of a real library, and frames as raw bytes."""

import base64
import hashlib
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import Server, ServerConnection, serve

from tests.support.http1 import Client, Response
from tests.support.upstream import Connection, Request

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
MASK = b"\x01\x02\x03\x04"


class EchoServer:
    """A WebSocket server of the `websockets` library that sends back what it gets; a context manager."""

    def __init__(self, handler: Callable[[ServerConnection], None] | None = None, **arguments: Any) -> None:
        defaults: dict[str, Any] = {"compression": None}
        self._server: Server = serve(handler or echo, "127.0.0.1", 0, **(defaults | arguments))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def port(self) -> int:
        """Its port."""
        port: int = self._server.socket.getsockname()[1]
        return port

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()


def echo(connection: ServerConnection) -> None:
    """Send back every message."""
    with suppress(ConnectionClosed):
        for message in connection:
            connection.send(message)


def open_websocket(address: tuple[str, int], path: str = "/", **arguments: Any) -> ClientConnection:
    """Connect a client of the `websockets` library through the gateway."""
    scheme = "wss" if isinstance(arguments.get("ssl"), ssl.SSLContext) else "ws"
    defaults: dict[str, Any] = {"compression": None, "proxy": None, "max_size": None}
    connection: ClientConnection = connect(f"{scheme}://{address[0]}:{address[1]}{path}", **(defaults | arguments))
    return connection


def accept_key(key: str) -> str:
    """Return the answer to a `Sec-WebSocket-Key`."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


def handshake(client: Client, path: str = "/", headers: str = "") -> Response:
    """Ask for a WebSocket with raw bytes and return the answer."""
    client.send(
        f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n".encode()
    )
    return client.read_response()


def accept(request: Request, connection: Connection, headers: str = "") -> None:
    """Answer a handshake as an upstream."""
    connection.send(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_key(request.headers['Sec-WebSocket-Key'])}\r\n{headers}\r\n".encode()
    )


def frame(first: int, payload: bytes = b"", *, is_masked: bool = True) -> bytes:
    """Return one frame; `first` is its first byte: the final bit, reserved bits and opcode."""
    masked = 0x80 if is_masked else 0
    size = len(payload)
    if size < 126:
        head = bytes((first, masked | size))
    elif size < 65536:
        head = bytes((first, masked | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, masked | 127)) + size.to_bytes(8, "big")
    if not is_masked:
        return head + payload
    return head + MASK + bytes(byte ^ MASK[place % 4] for place, byte in enumerate(payload))


def read_frame(take: Callable[[int], bytes]) -> tuple[int, bytes]:
    """Read one frame; return its first byte and the unmasked payload."""
    first, second = take(2)
    size = second & 0x7F
    if size > 125:
        size = int.from_bytes(take(2 if size == 126 else 8), "big")
    mask = take(4) if second & 0x80 else bytes(4)
    return first, bytes(byte ^ mask[place % 4] for place, byte in enumerate(take(size)))


def close_frame(status: int, reason: bytes = b"") -> tuple[int, bytes]:
    """Return a close frame as `read_frame` does."""
    return 0x88, status.to_bytes(2, "big") + reason
