"""Listening sockets: bound once by the supervisor, inherited by workers and control, kept over reloads.

Owns binding with the flags of the `*_listen` settings and the reuse of open sockets when the settings change. A taken
port is one fault that names address, port and setting.
"""

import errno
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from headgate.config.listeners import Listener

_DEFAULT_BACKLOG = 511
# Seconds a connection may be held by the kernel before its first byte, with the flag `deferred`.
_DEFER_ACCEPT_S = 10


@dataclass
class Bound:
    """A listener with its open sockets: one per process that accepts on it, or a single shared one."""

    listener: Listener
    sockets: list[socket.socket]

    @property
    def port(self) -> int:
        """The port in use, also where the setting says 0."""
        return int(self.sockets[0].getsockname()[1])

    @property
    def address(self) -> str:
        """The address in use, numeric."""
        return str(self.sockets[0].getsockname()[0])

    def for_process(self, index: int, count: int) -> list[socket.socket]:
        """Return the sockets on which process `index` of `count` accepts; all processes together cover all."""
        if len(self.sockets) < count:
            return [self.sockets[index % len(self.sockets)]]
        return self.sockets[index::count]


class BindError(Exception):
    """A listener cannot be opened; the text is for a person."""


class SocketTable:
    """The open listening sockets of the node."""

    def __init__(self) -> None:
        self._bound: list[Bound] = []

    def open(self, listeners: Iterable[tuple[Listener, int]]) -> tuple["SocketTable", list[str]]:
        """Return a new table for the given (listener, process count) pairs, taking over sockets of this one.

        This table stays usable until `close_unused`. The list has a text for each listener that cannot be opened;
        then the sockets opened by this call are closed again.
        """
        table = SocketTable()
        faults: list[str] = []
        opened: list[socket.socket] = []
        available = list(self._bound)
        for listener, count in listeners:
            known = next((bound for bound in available if _same_place(bound.listener, listener)), None)
            if known is not None:
                available.remove(known)
            sockets = list(known.sockets) if known is not None else []
            wanted = count if listener.is_reuseport else 1
            try:
                for open_socket in sockets:
                    _set_options(open_socket, listener)
                if not sockets or known is None or known.listener.is_reuseport:
                    while len(sockets) < wanted:
                        port = sockets[0].getsockname()[1] if sockets else listener.port
                        sockets.append(bind(listener, port, is_first=not sockets))
                        opened.append(sockets[-1])
            except BindError as error:
                faults.append(str(error))
                continue
            table._bound.append(Bound(listener, sockets))
        if faults:
            for new_socket in opened:
                new_socket.close()
        return table, faults

    def of_setting(self, name: str) -> list[Bound]:
        """Return the listeners that a setting asked for."""
        return [bound for bound in self._bound if bound.listener.setting_name == name]

    def all(self) -> list[Bound]:
        """Return all listeners."""
        return list(self._bound)

    def close_except(self, kept: "SocketTable | None") -> None:
        """Close the sockets of this table that `kept` does not use."""
        kept_ids = {id(entry) for bound in kept._bound for entry in bound.sockets} if kept is not None else set()
        for bound in self._bound:
            for entry in bound.sockets:
                if id(entry) not in kept_ids:
                    entry.close()


def _same_place(one: Listener, other: Listener) -> bool:
    def place(listener: Listener) -> tuple[str, int, str, bool]:
        return listener.host, listener.port, listener.setting_name, listener.is_udp

    return place(one) == place(other)


def bind(listener: Listener, port: int, *, is_first: bool = True) -> socket.socket:
    """Open, bind and listen.

    Args: `is_first` is false for further sockets of a listener that this process already has.
    Raises: BindError with one line that says which address, port and setting.
    """
    where = f"{listener.host if ':' not in listener.host else f'[{listener.host}]'}:{port}"
    try:
        found = socket.getaddrinfo(listener.host, port, type=_kind(listener), flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise BindError(f"cannot listen on {where} ({listener.setting_name}): {error.strerror}") from None
    family, kind, protocol, _, address = found[0]
    opened = socket.socket(family, kind, protocol)
    try:
        if not listener.is_udp:
            # Two programs that both set it could share a UDP port.
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.is_reuseport:
            if is_first and port != 0:
                _refuse_foreign_listener(family, address, where, listener)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            only = 0 if listener.is_ipv6_only is False else 1
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        opened.bind(address)
        _set_options(opened, listener)
    except OSError as error:
        opened.close()
        raise BindError(_bind_text(error, where, listener)) from None
    except BindError:
        opened.close()
        raise
    opened.setblocking(False)
    return opened


def _refuse_foreign_listener(family: int, address: tuple[object, ...], where: str, listener: Listener) -> None:
    """Refuse a port on which another program listens: SO_REUSEPORT would let the same user's share it."""
    with socket.socket(family, _kind(listener)) as probe:
        if not listener.is_udp:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if listener.is_ipv6_only is False else 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise BindError(_bind_text(error, where, listener)) from None


def _bind_text(error: OSError, where: str, listener: Listener) -> str:
    reason = os.strerror(error.errno) if error.errno else str(error)
    hint = ""
    if error.errno == errno.EADDRINUSE:
        hint = "; stop the program that uses it or choose another port"
    elif error.errno == errno.EACCES:
        hint = "; ports below 1024 need privileges"
    return f"cannot listen on {where} ({listener.setting_name}): {reason}{hint}"


def _kind(listener: Listener) -> socket.SocketKind:
    return socket.SOCK_DGRAM if listener.is_udp else socket.SOCK_STREAM


def _set_options(opened: socket.socket, listener: Listener) -> None:
    if listener.is_udp:
        return
    if listener.keepalive is not None or listener.is_keepalive_off:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0 if listener.is_keepalive_off else 1)
    if listener.keepalive is not None:
        for option, value in (
            (socket.TCP_KEEPIDLE, listener.keepalive.idle_s),
            (socket.TCP_KEEPINTVL, listener.keepalive.interval_s),
            (socket.TCP_KEEPCNT, listener.keepalive.count),
        ):
            if value:
                opened.setsockopt(socket.IPPROTO_TCP, option, value)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _DEFER_ACCEPT_S if listener.is_deferred else 0)
    opened.listen(listener.backlog or _DEFAULT_BACKLOG)
