"""Host names, IP addresses and what is written with them: checks with the contract's texts.

Each `*_fault` function returns the text of the fault or None. `normalized_target` is the one that rewrites. Names are
checked as the contract does, which is looser than DNS: letters, digits, `-`, `.` and `_`.
"""

import ipaddress
import re
from typing import Final, Literal

_HOSTNAME_CHARACTERS: Final = re.compile(r"[A-Za-z0-9\-._]+")
MAX_PORT: Final = 65535
DEFAULT_TARGET_PORT: Final = 8000


def hostname_kind(text: str) -> Literal["ipv4", "ipv6", "name"]:
    """Tell what a text looks like, by its separators: two colons or brackets are IPv6, four numbers IPv4."""
    if text.count(":") > 1 or text.startswith("["):
        return "ipv6"
    if re.fullmatch(r"\d+\.\d+\.\d+\.\d+(:\d+)?", text):
        return "ipv4"
    return "name"


def split_port(text: str) -> tuple[str, int | None] | None:
    """Return host (without brackets) and port of `host[:port]`; None when it is malformed."""
    if text.startswith("["):
        end = text.find("]")
        if end < 0:
            return None
        host, rest = text[1:end], text[end + 1 :]
        if rest and not re.fullmatch(r":\d+", rest):
            return None
        return host, int(rest[1:]) if rest else None
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        if not port.isascii() or not port.isdigit():
            return None
        return host, int(port)
    return text, None


def is_ip(text: str) -> bool:
    """Tell whether `text` is an IPv4 or IPv6 address, the latter with or without brackets."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        return False
    return "%" not in bare


def is_hostname(text: str) -> bool:
    """Tell whether `text` is a name of labels, not empty and not ending with `-`; one trailing dot is allowed."""
    if not _HOSTNAME_CHARACTERS.fullmatch(text) or text == ".":
        return False
    labels = text.removesuffix(".").split(".")
    return all(label and not label.endswith("-") for label in labels)


def host_fault(value: str) -> str | None:
    """Check a host name or IP address without a port."""
    parts = split_port(value)
    if parts is None:
        return f"invalid value: {value}"
    host, port = parts
    if not (is_ip(host) if hostname_kind(value) != "name" else is_hostname(host)):
        return f"invalid value: {value}"
    return "must not have a port" if port is not None else None


def host_with_optional_port_fault(value: str) -> str | None:
    """Check `host[:port]`."""
    parts = split_port(value)
    if parts is None:
        has_bad_port = hostname_kind(value) == "name" and ":" in value
        return "invalid port number" if has_bad_port else f"invalid hostname: {value}"
    host, port = parts
    if port is not None and port > MAX_PORT:
        return "invalid port number"
    kind = hostname_kind(value)
    if kind == "ipv6" and not is_ip(host):
        return f"invalid ipv6 address: {value}"
    if kind == "ipv4" and not is_ip(host):
        return f"invalid ipv4 address: {value}"
    return None if kind != "name" or is_hostname(host) else f"invalid hostname: {value}"


def wildcard_host_fault(value: str) -> str | None:
    """Check a host name with at most one `*`, leftmost or rightmost."""
    stars = value.count("*")
    if stars > 1:
        return "only one wildcard must be specified"
    if stars == 1 and not (value.startswith("*.") or value.endswith(".*")):
        return "wildcard must be leftmost or rightmost character"
    return sni_fault(value.replace("*", "wildcard"), shown=value)


def sni_fault(value: str, shown: str | None = None) -> str | None:
    """Check a server name: a host name, neither an IP address nor with a port."""
    shown = value if shown is None else shown
    if is_ip(value):
        return "must not be an IP"
    parts = split_port(value)
    if parts is None:
        return f"invalid value: {shown}"
    host, port = parts
    if is_ip(host):
        return "must not be an IP"
    if not is_hostname(host):
        return f"invalid value: {shown}"
    return "must not have a port" if port is not None else None


def route_host_fault(value: str) -> str | None:
    """Check a route's host after its wildcards were found well placed; a port is allowed."""
    parts = split_port(value.replace("*", "wildcard"))
    if parts is None:
        return f"invalid value: {value}"
    host, port = parts
    if port is not None and port > MAX_PORT:
        return "invalid port number"
    if is_ip(host) or is_hostname(host):
        return None
    return f"invalid value: {value}"


def ip_fault(value: str) -> str | None:
    """Check an IPv4 or IPv6 address."""
    return None if is_ip(value) and not value.startswith("[") else f"not an ip address: {value}"


def ip_or_cidr_fault(value: str) -> str | None:
    """Check an address or a range; bits after the prefix may be set."""
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        return f"invalid ip or cidr range: '{value}'"
    return None if value.rpartition("/")[2].isdigit() or "/" not in value else f"invalid ip or cidr range: '{value}'"


def cidr_v4_fault(value: str) -> str | None:
    """Check an IPv4 range or address."""
    try:
        ipaddress.IPv4Network(value, strict=False)
    except ValueError:
        return f"invalid ipv4 cidr range: '{value}'"
    return None


def upstream_name_fault(value: str) -> str | None:
    """Check the name of an upstream, which is looked up like a host name."""
    parts = split_port(value)
    if parts is None:
        return f"Invalid name ('{value}'); must be a valid hostname"
    host, port = parts
    if is_ip(host):
        return f"Invalid name ('{value}'); no ip addresses allowed"
    if not is_hostname(host) or hostname_kind(value) != "name":
        return f"Invalid name ('{value}'); must be a valid hostname"
    return f"Invalid name ('{value}'); no port allowed" if port is not None else None


def target_fault(value: str) -> str | None:
    """Check a target's `host[:port]`."""
    if normalized_target(value) is not None:
        return None
    return f"Invalid target ('{value}'); not a valid hostname or ip address"


def normalized_target(value: str) -> str | None:
    """Return `host:port` with the default port 8000 and IPv6 written out in brackets; None for no valid target."""
    parts = split_port(value)
    if parts is None:
        return None
    host, port = parts
    if port is not None and port > MAX_PORT:
        return None
    port = DEFAULT_TARGET_PORT if port is None else port
    kind = hostname_kind(value)
    if kind == "ipv6":
        return f"[{ipaddress.IPv6Address(host).exploded}]:{port}" if is_ip(host) and ":" in host else None
    if kind == "ipv4":
        return f"{host}:{port}" if is_ip(host) else None
    return f"{host}:{port}" if is_hostname(host) else None
