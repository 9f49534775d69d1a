"""`ngx.socket`, `ngx.sleep`: what waits. Streams of the worker's event loop; nothing here holds the engine's thread.

Owns TCP and UDP sockets, TLS on them, the pool of kept connections, and their bounds. Faults are `nil, text` with
OpenResty's short words (`timeout`, `closed`, `connection refused`).
"""

import asyncio
import contextlib
import itertools
import re
import socket
import ssl
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headgate.lua.values import LuaTable, bytes_from_lua
from headgate.pdk._node import node

if TYPE_CHECKING:
    from headgate.lua.vm import Vm

DEFAULT_TIMEOUT_S = 60.0
DEFAULT_IDLE_S = 60.0
DEFAULT_POOL_SIZE = 30
MOST_READ_BYTES = 64 * 1024 * 1024
"""Of one `receive` (own choice): a peer that never ends a line must not fill the worker's memory."""

_BUFFER_BYTES = 64 * 1024


@dataclass
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    reused: int = 0
    idle_until_s: float = 0.0


@dataclass
class _Socket:
    pool: str = ""
    connection: _Connection | None = None
    connect_s: float = DEFAULT_TIMEOUT_S
    send_s: float = DEFAULT_TIMEOUT_S
    read_s: float = DEFAULT_TIMEOUT_S
    datagram: socket.socket | None = None
    pending: bytearray = field(default_factory=bytearray)


class Sockets:
    """The sockets of this worker, by number: Lua holds numbers, so that nothing of Python's is in its hands."""

    def __init__(self, vm: "Vm") -> None:
        self._vm = vm
        self._sockets: dict[int, _Socket] = {}
        self._numbers = itertools.count(1)
        self._kept: defaultdict[str, list[_Connection]] = defaultdict(list)

    def open(self) -> int:
        """Make a socket; returns its number."""
        number = next(self._numbers)
        self._sockets[number] = _Socket()
        return number

    def forget(self, number: int) -> None:
        """Let go of a socket that Lua has lost."""
        lost = self._sockets.pop(number, None)
        if lost is None:
            return
        if lost.connection is not None and node.loop is not None:
            node.loop.call_soon_threadsafe(lost.connection.writer.close)
        if lost.datagram is not None:
            lost.datagram.close()

    def set_timeouts(self, number: int, connect_ms: Any, send_ms: Any, read_ms: Any) -> None:
        """Set what the next operations may take; nil leaves one as it is."""
        one = self._sockets[number]
        for name, value in (("connect_s", connect_ms), ("send_s", send_ms), ("read_s", read_ms)):
            if value is not None and value > 0:
                setattr(one, name, value / 1000)

    async def connect(self, number: int, host: str, port: int, pool: Any) -> Any:
        """Connect, or take a kept connection of the same pool."""
        one = self._sockets[number]
        if one.connection is not None:
            one.connection.writer.close()
            one.connection = None
        one.pool = pool or f"{host}:{port}"
        kept = self._take(one.pool)
        if kept is not None:
            one.connection = kept
            return 1
        try:
            async with asyncio.timeout(one.connect_s):
                if host.startswith("unix:"):
                    pair = await asyncio.open_unix_connection(host.removeprefix("unix:"), limit=_BUFFER_BYTES)
                else:
                    pair = await asyncio.open_connection(host, int(port), limit=_BUFFER_BYTES)
        except (OSError, ValueError, TypeError, TimeoutError, UnicodeError) as error:
            return (None, _word(error))
        one.connection = _Connection(*pair)
        return 1

    async def handshake(self, number: int, server_name: Any, is_verified: Any) -> Any:
        """Start TLS."""
        one = self._sockets[number]
        if one.connection is None:
            return (None, "closed")
        if one.connection.writer.get_extra_info("ssl_object") is not None:
            return True
        context = ssl.create_default_context()
        if not is_verified:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            trusted = node.configuration.get("lua_ssl_trusted_certificate") or ()
            for path in trusted:
                if path != "system":
                    context.load_verify_locations(path)
        try:
            async with asyncio.timeout(one.connect_s):
                await one.connection.writer.start_tls(context, server_hostname=server_name or None)
        except (OSError, ValueError, TimeoutError) as error:
            await self._closed(one)
            return (None, _word(error))
        return True

    async def send(self, number: int, data: bytes) -> Any:
        """Send all of it."""
        one = self._sockets[number]
        if one.connection is None:
            return (None, "closed")
        try:
            one.connection.writer.write(data)
            async with asyncio.timeout(one.send_s):
                await one.connection.writer.drain()
        except (OSError, TimeoutError) as error:
            await self._closed(one)
            return (None, _word(error))
        return len(data)

    async def receive(self, number: int, pattern: Any) -> Any:
        """Read a line (`*l`), everything (`*a`), or a number of bytes; (nil, text, what came) on a fault."""
        if isinstance(pattern, str) and pattern not in ("*l", "*a", "l", "a"):
            if not pattern.isdigit():
                raise ValueError(f"bad argument #1 to 'receive' (bad pattern argument: {pattern})")
            pattern = int(pattern)
        if pattern is None or pattern in ("*l", "l"):
            return await self._read(number, lambda buffer: _line(buffer), "")
        if pattern in ("*a", "a"):
            return await self._read(number, lambda buffer: None, None)
        size = int(pattern)
        return await self._read(
            number, lambda buffer: (bytes(buffer[:size]), size) if len(buffer) >= size else None, ""
        )

    async def receive_any(self, number: int, most: Any) -> Any:
        """Read whatever there is, up to a number of bytes."""
        size = int(most)
        return await self._read(
            number, lambda buffer: (bytes(buffer[:size]), min(size, len(buffer))) if buffer else None, ""
        )

    async def receive_until(self, number: int, mark: bytes, is_inclusive: Any) -> Any:
        """Read up to a mark, which is taken away."""

        def found(buffer: bytearray) -> tuple[bytes, int] | None:
            position = buffer.find(mark)
            if position < 0:
                return None
            end = position + len(mark)
            return bytes(buffer[: end if is_inclusive else position]), end

        return await self._read(number, found, "")

    async def _read(
        self, number: int, found: Callable[[bytearray], tuple[bytes, int] | None], at_end: str | None
    ) -> Any:
        one = self._sockets[number]
        if one.connection is None and not one.pending:
            return (None, "closed", "")
        try:
            async with asyncio.timeout(one.read_s):
                while True:
                    piece = found(one.pending)
                    if piece is not None:
                        del one.pending[: piece[1]]
                        return piece[0]
                    if len(one.pending) > MOST_READ_BYTES:
                        await self._closed(one)
                        return (None, "too much data", "")
                    more = b"" if one.connection is None else await one.connection.reader.read(_BUFFER_BYTES)
                    if not more:
                        rest = bytes(one.pending)
                        one.pending.clear()
                        await self._closed(one)
                        return rest if at_end is None else (None, "closed", rest)
                    one.pending += more
        except (OSError, TimeoutError) as error:
            rest = bytes(one.pending)
            one.pending.clear()
            if not isinstance(error, TimeoutError):
                await self._closed(one)
            return (None, _word(error), rest)

    async def keep(self, number: int, idle_ms: Any, size: Any) -> Any:
        """Put the connection into its pool."""
        one = self._sockets[number]
        connection = one.connection
        if connection is None or connection.reader.at_eof():
            return (None, "closed")
        if one.pending:
            await self._closed(one)
            return (None, "unread data in buffer")
        one.connection = None
        connection.idle_until_s = time.monotonic() + (idle_ms / 1000 if idle_ms else DEFAULT_IDLE_S)
        connection.reused += 1
        kept = self._kept[one.pool]
        kept.append(connection)
        while len(kept) > int(size or DEFAULT_POOL_SIZE):
            kept.pop(0).writer.close()
        return 1

    def reused(self, number: int) -> Any:
        """Return how often the connection was taken from its pool."""
        connection = self._sockets[number].connection
        return (None, "closed") if connection is None else connection.reused

    async def close(self, number: int) -> Any:
        """Close the connection."""
        one = self._sockets[number]
        if one.datagram is not None:
            one.datagram.close()
            one.datagram = None
            return 1
        if one.connection is None:
            return (None, "closed")
        await self._closed(one)
        return 1

    # -- datagrams ----------------------------------------------------------------------------------------------------

    async def set_peer(self, number: int, host: str, port: int) -> Any:
        """Say where the datagrams of a socket go."""
        one = self._sockets[number]
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)
            one.datagram = socket.socket(found[0][0], socket.SOCK_DGRAM)
            one.datagram.setblocking(False)
            one.datagram.connect(found[0][4])
        except (OSError, UnicodeError) as error:
            return (None, _word(error))
        return 1

    async def send_datagram(self, number: int, data: bytes) -> Any:
        """Send one datagram."""
        one = self._sockets[number]
        if one.datagram is None:
            return (None, "closed")
        try:
            await asyncio.get_running_loop().sock_sendall(one.datagram, data)
        except OSError as error:
            return (None, _word(error))
        return 1

    async def receive_datagram(self, number: int, most: Any) -> Any:
        """Receive one datagram."""
        one = self._sockets[number]
        if one.datagram is None:
            return (None, "closed")
        try:
            async with asyncio.timeout(one.read_s):
                return await asyncio.get_running_loop().sock_recv(one.datagram, int(most or 65535))
        except (OSError, TimeoutError) as error:
            return (None, _word(error))

    def _take(self, pool: str) -> _Connection | None:
        kept = self._kept[pool]
        while kept:
            connection = kept.pop()
            if connection.idle_until_s > time.monotonic() and not connection.reader.at_eof():
                return connection
            connection.writer.close()
        return None

    async def _closed(self, one: _Socket) -> None:
        connection, one.connection = one.connection, None
        if connection is not None:
            connection.writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(connection.writer.wait_closed(), 1)


def _line(buffer: bytearray) -> tuple[bytes, int] | None:
    position = buffer.find(b"\n")
    return None if position < 0 else (bytes(buffer[:position]).replace(b"\r", b""), position + 1)


_ERRNO = re.compile(r"\[Errno -?\d+\] ?")


def _word(error: BaseException) -> str:
    """Return the words OpenResty has for a fault."""
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "closed"
    if isinstance(error, ssl.SSLError):
        return f"handshake failed: {error.reason or error}"
    if isinstance(error, socket.gaierror | UnicodeError):
        return "host not found"
    if isinstance(error, OSError) and "refused" in str(error).lower():
        return "connection refused"
    return _ERRNO.sub("", str(error)) or type(error).__name__


def functions(vm: "Vm") -> dict[str, Any]:
    """Return the functions by name."""
    sockets = Sockets(vm)

    def data(value: Any) -> bytes:
        if value.__class__ is LuaTable:
            return b"".join(data(item) for item in value.values())
        if value is None or isinstance(value, bool):
            raise TypeError("string, number, boolean, nil, or array table expected")
        return bytes_from_lua(str(value))

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds)

    waiting: dict[str, Callable[..., Awaitable[Any]]] = {
        "socket_connect": lambda number, host, port, pool=None: sockets.connect(number, host, port, pool),
        "socket_handshake": sockets.handshake,
        "socket_send": lambda number, value: sockets.send(number, data(value)),
        "socket_receive": lambda number, pattern=None: sockets.receive(number, pattern),
        "socket_receive_any": sockets.receive_any,
        "socket_receive_until": lambda number, mark, is_inclusive=None: sockets.receive_until(
            number, bytes_from_lua(mark), is_inclusive
        ),
        "socket_keep": lambda number, idle_ms=None, size=None: sockets.keep(number, idle_ms, size),
        "socket_close": sockets.close,
        "socket_set_peer": sockets.set_peer,
        "socket_send_datagram": lambda number, value: sockets.send_datagram(number, data(value)),
        "socket_receive_datagram": lambda number, most=None: sockets.receive_datagram(number, most),
        "sleep": sleep,
    }
    plain: dict[str, Callable[..., Any]] = {
        "socket_open": sockets.open,
        "socket_forget": sockets.forget,
        "socket_timeouts": sockets.set_timeouts,
        "socket_reused": sockets.reused,
    }
    return {name: vm.bridge.waiting(function) for name, function in waiting.items()} | {
        name: vm.bridge.raw(function) for name, function in plain.items()
    }
