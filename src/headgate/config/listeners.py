"""Settings of listeners: addresses, ports and socket flags.

Owns the `*_listen` syntax (reference: configuration 3). Binding is `headgate.node.sockets`; which process accepts on
which socket is the supervisor's business.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from headgate.config.kinds import split_list
from headgate.config.setting import setting

_ENTRY = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):(?P<port>\d{1,5})")
_KEEPALIVE = re.compile(r"(\d*[smh]?):(\d*[smh]?):(\d*)")
_SOCKET_FLAGS_TEXT = (
    "[backlog=%d+] [ipv6only=on] [ipv6only=off] [so_keepalive=on] [so_keepalive=off] [so_keepalive=%w*:%w*:%d*]"
)
_FLAGS_TEXT = f"[ssl] [http2] [proxy_protocol] [deferred] [bind] [reuseport] {_SOCKET_FLAGS_TEXT}"
_STREAM_FLAGS_TEXT = f"[ssl] [udp] [proxy_protocol] [bind] [reuseport] {_SOCKET_FLAGS_TEXT}"


@dataclass(frozen=True)
class KeepaliveProbes:
    """TCP keep-alive of accepted connections; None keeps the system's value."""

    idle_s: int | None = None
    interval_s: int | None = None
    count: int | None = None


@dataclass(frozen=True)
class Listener:
    """One entry of a `*_listen` setting."""

    setting_name: str
    host: str
    port: int
    is_ssl: bool = False
    is_http2: bool = False
    is_proxy_protocol: bool = False
    is_udp: bool = False
    is_deferred: bool = False
    is_reuseport: bool = False
    backlog: int | None = None
    is_ipv6_only: bool | None = None
    keepalive: KeepaliveProbes | None = None
    is_keepalive_off: bool = False
    flags: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """`host:port` as in the setting, IPv6 in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class ListenerArray:
    """`off`, or a comma-separated list of `host:port [flags]`."""

    label: str = "listeners"
    is_for_streams: bool = False

    def parse(self, name: str, text: str) -> tuple[Listener, ...]:
        entries = split_list(text)
        if not entries or entries[0].split()[0] == "off":
            return ()
        return tuple(_parse_entry(name, entry, self.is_for_streams) for entry in entries)

    def show(self, text: str) -> Any:
        return split_list(text)


def _parse_entry(name: str, entry: str, is_for_streams: bool) -> Listener:
    flags_text = _STREAM_FLAGS_TEXT if is_for_streams else _FLAGS_TEXT
    form = ValueError(f"{name} must be of form: [off] | <ip>:<port> {flags_text}, [... next entry ...]")
    address, *flags = entry.split()
    match = _ENTRY.fullmatch(address)
    if match is None or int(match["port"]) > 65535:
        raise form
    found: dict[str, Any] = {}
    for flag in flags:
        key, equals, value = flag.partition("=")
        if flag == "ssl":
            found["is_ssl"] = True
        elif flag == "udp" and is_for_streams:
            found["is_udp"] = True
        elif flag == "http2" and not is_for_streams:
            found["is_http2"] = True
        elif flag == "deferred" and not is_for_streams:
            found["is_deferred"] = True
        elif flag == "reuseport":
            found["is_reuseport"] = True
        elif flag == "bind":
            pass  # every listener has a socket of its own here
        elif flag == "proxy_protocol":
            found["is_proxy_protocol"] = True
        elif key == "backlog" and equals and value.isdigit() and int(value) > 0:
            found["backlog"] = int(value)
        elif key == "ipv6only" and value in ("on", "off"):
            found["is_ipv6_only"] = value == "on"
        elif key == "so_keepalive" and value == "off":
            found["is_keepalive_off"] = True
        elif key == "so_keepalive" and value == "on":
            found["keepalive"] = KeepaliveProbes()
        elif key == "so_keepalive" and (probes := _KEEPALIVE.fullmatch(value)):
            found["keepalive"] = KeepaliveProbes(
                _seconds(probes[1]), _seconds(probes[2]), int(probes[3]) if probes[3] else None
            )
        else:
            raise form
    if found.get("is_udp"):
        unfit = {"is_ssl", "is_proxy_protocol", "backlog", "keepalive", "is_keepalive_off"} & found.keys()
        if unfit:
            raise ValueError(f"{name}: {entry}: with udp there is no ssl, proxy_protocol, backlog or so_keepalive")
        # Datagrams of one client must reach one worker, which one socket shared by all would not do.
        found["is_reuseport"] = True
    host = match["host"].strip("[]")
    if "is_ipv6_only" in found and ":" not in host:
        raise ValueError(f"{name}: ipv6only needs an IPv6 address, got {host}")
    return Listener(setting_name=name, host=host, port=int(match["port"]), flags=tuple(flags), **found)


def _seconds(text: str) -> int | None:
    if not text:
        return None
    unit_s = {"s": 1, "m": 60, "h": 3600}.get(text[-1])
    return int(text) if unit_s is None else int(text[:-1] or 0) * unit_s


@dataclass(frozen=True)
class Listeners:
    """What the node listens on; port 0 lets the system choose."""

    proxy_listen: tuple[Listener, ...] = setting(
        ListenerArray(),
        "0.0.0.0:8000 reuseport backlog=16384, 0.0.0.0:8443 http2 ssl reuseport backlog=16384",
        "Addresses that proxy HTTP.",
    )
    admin_listen: tuple[Listener, ...] = setting(
        ListenerArray(),
        "127.0.0.1:8001 reuseport backlog=16384, 127.0.0.1:8444 ssl reuseport backlog=16384",
        "Addresses of the Admin API. Beyond loopback, set admin_tokens or admin_client_ca.",
    )
    status_listen: tuple[Listener, ...] = setting(
        ListenerArray(), "127.0.0.1:8007 reuseport backlog=16384", "Addresses of the Status API."
    )
    stream_listen: tuple[Listener, ...] = setting(
        ListenerArray(is_for_streams=True),
        "off",
        "Addresses that proxy TCP, TLS (ssl) and UDP (udp) to services of the routes of these protocols.",
    )

    def all(self) -> tuple[Listener, ...]:
        """Return every listener in the order of the settings."""
        return self.proxy_listen + self.stream_listen + self.admin_listen + self.status_listen

    def check(self) -> Iterator[str]:
        """Yield faults that concern more than the syntax of one setting."""
        for listener in self.admin_listen + self.status_listen:
            if listener.is_proxy_protocol:
                yield (
                    f"{listener.setting_name}: {listener.address}: proxy_protocol is for proxy_listen and "
                    "stream_listen, remove it here"
                )
            if listener.is_http2 and not listener.is_ssl:
                yield (
                    f"{listener.setting_name}: {listener.address} has http2 without ssl, which is HTTP/2 by prior "
                    "knowledge; this API speaks HTTP/1.1 there, remove http2"
                )
        seen: dict[tuple[str, int, bool], str] = {}
        for listener in self.all():
            if listener.port == 0:
                continue
            other = seen.setdefault((listener.host, listener.port, listener.is_udp), listener.setting_name)
            if other != listener.setting_name:
                yield f"{listener.setting_name}: {listener.address} is also an address of {other}"
            elif sum(1 for entry in self.all() if entry == listener) > 1:
                yield f"{listener.setting_name}: {listener.address} is given twice"

    def notices(self) -> Iterator[str]:
        """Yield what works differently from what the settings ask for."""
        for listener in self.admin_listen + self.status_listen:
            if listener.is_http2 and listener.is_ssl:
                yield f"{listener.setting_name}: {listener.address} offers HTTP/1.1 only, http2 has no effect there"
