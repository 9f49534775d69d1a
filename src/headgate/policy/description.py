"""A request or a stream as a person describes it, checked and completed: what `explain` looks up.

Owns the words of a description, their defaults and the texts about wrong ones, for the command and the Admin API alike.
Which route it takes is the router's answer (`engine.find_route`).
"""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from headgate.errors import GatewayError

HTTP_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
STREAM_SCHEMES: Final = ("tcp", "tls", "udp")
SCHEMES: Final = (*HTTP_PORTS, *STREAM_SCHEMES)
_ENCRYPTED: Final = frozenset(("https", "wss", "tls"))
_OF_REQUESTS: Final = ("method", "path", "host", "header", "consumer")
_LARGEST_PORT: Final = 65535


class DescriptionError(GatewayError):
    """A description that describes nothing; `faults` are texts by the name of what was given."""

    def __init__(self, faults: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {text}" for name, text in faults.items()))
        self.faults = dict(faults)


class Address(NamedTuple):
    """One end of a connection; None is what nobody said: a route that asks for it does not match."""

    ip: str | None = None
    port: int | None = None


UNKNOWN: Final = Address()


@dataclass(frozen=True)
class Description:
    """A request (`scheme` of HTTP) or a stream. `source` is the client, `destination` what it has connected to."""

    scheme: str = "http"
    method: str = "GET"
    target: str = "/"
    host: str = "localhost"
    headers: tuple[tuple[str, str], ...] = ()
    sni: str | None = None
    source: Address = UNKNOWN
    destination: Address = UNKNOWN

    @property
    def is_stream(self) -> bool:
        """Tell whether it is a stream."""
        return self.scheme in STREAM_SCHEMES

    @property
    def is_tls(self) -> bool:
        """Tell whether the connection begins with a TLS handshake."""
        return self.scheme in _ENCRYPTED


@dataclass(frozen=True)
class RouteMatch:
    """What the router says of a described request or stream; `route` is a position in the plan, None when nothing
    matched. A stream has nothing else.
    """

    route: int | None
    normalized_path: str = ""
    matched_prefix: str | None = None
    upstream_path: str | None = None
    unnamed_captures: tuple[str, ...] = ()
    named_captures: Mapping[str, str] | None = None


def described(given: Mapping[str, Any]) -> Description:
    """Return the description that `given` words make; what is missing or None has its default.

    Args: given, `scheme`, `method`, `path`, `host`, `sni`, `port`, `source`, `destination` and `consumer` as texts,
        `header` as a list of `NAME:VALUE`. `consumer` is only checked to be possible.
    Raises: DescriptionError with every fault.
    """
    words = {name: value for name, value in given.items() if value not in (None, (), [])}
    faults: dict[str, str] = {}
    scheme = words.get("scheme", "http")
    if scheme not in SCHEMES:
        faults["scheme"] = f"expected one of: {', '.join(SCHEMES)}"
    is_stream = scheme in STREAM_SCHEMES
    if is_stream:
        faults |= {name: "a stream has none" for name in _OF_REQUESTS if name in words}
    target, host = words.get("path", "/"), words.get("host", "localhost")
    if not target.startswith("/"):
        faults.setdefault("path", "should start with: /")
    if "sni" in words and scheme in SCHEMES and scheme not in _ENCRYPTED:
        faults["sni"] = f"there is no server name without TLS: the scheme is {scheme}"
    source = _address("source", words, faults)
    destination = _address("destination", words, faults)
    port = _port(words, destination, faults)
    if port is None and is_stream and not faults.keys() & {"port", "destination"}:
        faults["port"] = "a stream needs the port that it connects to, here or with the destination"
    headers = tuple(_headers(words.get("header", ()), faults))
    if faults:
        raise DescriptionError(faults)
    return Description(
        scheme,
        words.get("method", "GET").upper(),
        target,
        host,
        headers,
        words.get("sni", _server_name(host) if scheme in ("https", "wss") else None),
        source,
        Address(destination.ip, port or HTTP_PORTS.get(scheme)),
    )


def _address(name: str, words: Mapping[str, Any], faults: dict[str, str]) -> Address:
    """Return `IP`, `IP:PORT` or `[IP]:PORT` as an address."""
    text = words.get(name)
    if text is None:
        return UNKNOWN
    ip, port = str(text), None
    if ip.startswith("["):
        ip, _, rest = ip[1:].partition("]")
        if rest:
            # Without its colon it is no port, and the rest is none.
            port = rest[1:] if rest.startswith(":") else rest + ":"
    elif ip.count(":") == 1:
        ip, _, port = ip.partition(":")
    try:
        return Address(str(ipaddress.ip_address(ip)), None if port is None else _number(port))
    except ValueError:
        faults[name] = "expected IP, IP:PORT or [IP]:PORT"
        return UNKNOWN


def _port(words: Mapping[str, Any], destination: Address, faults: dict[str, str]) -> int | None:
    text = words.get("port")
    if text is None:
        return destination.port
    try:
        port = _number(str(text))
    except ValueError:
        faults["port"] = f"value should be between 1 and {_LARGEST_PORT}"
        return None
    if destination.port not in (None, port):
        faults["port"] = f"the destination has another one: {destination.port}"
    return port


def _number(text: str) -> int:
    """Return a port. Raises: ValueError."""
    if not text.isdecimal() or not 1 <= int(text) <= _LARGEST_PORT:
        raise ValueError(text)
    return int(text)


def _headers(texts: Sequence[str], faults: dict[str, str]) -> Sequence[tuple[str, str]]:
    found = []
    for text in texts:
        name, separator, value = text.partition(":")
        if not separator or not name.strip():
            faults.setdefault("header", f"expected NAME:VALUE, got: {text}")
        found.append((name.strip(), value.strip()))
    return found


def _server_name(host: str) -> str | None:
    """Return what a client of this host says in its handshake: nothing for an address (RFC 6066, section 3)."""
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return None
    try:
        ipaddress.ip_address(name or "")
    except ValueError:
        return name
    return None
