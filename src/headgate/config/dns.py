"""Settings of name resolution."""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from headgate.config.kinds import Array, ChoiceArray, Number, Seconds, Text
from headgate.config.setting import setting


@dataclass(frozen=True)
class Dns:
    """Where names are asked for and how long answers are kept."""

    dns_resolver: tuple[str, ...] = setting(
        Array(), "", "Name servers, ip or ip:port; empty: those of the system.", aliases=("resolver_address",)
    )
    # AAAA at the end goes beyond the reference, whose default cannot reach a host that has IPv6 addresses only.
    dns_order: tuple[str, ...] = setting(
        ChoiceArray(("last", "srv", "a", "aaaa", "cname")),
        "LAST,SRV,A,AAAA,CNAME",
        "Records asked for, in order; LAST is the kind that answered before, CNAMEs are always followed.",
    )
    dns_hostsfile: str | None = setting(
        Text("path"), "/etc/hosts", "File of fixed names.", aliases=("resolver_hosts_file",)
    )
    dns_valid_ttl_ms: int | None = setting(
        Seconds(), None, "Overrides the records' time to live.", name="dns_valid_ttl", aliases=("resolver_valid_ttl",)
    )
    dns_stale_ttl_ms: int = setting(
        Seconds(),
        "3600",
        "How long an expired answer is served while it is asked for anew.",
        name="dns_stale_ttl",
        aliases=("resolver_stale_ttl",),
    )
    dns_not_found_ttl_ms: int = setting(
        Seconds(), "30", "How long a missing name is remembered.", name="dns_not_found_ttl"
    )
    dns_error_ttl_ms: int = setting(
        Seconds(),
        "1",
        "How long another failure is remembered.",
        name="dns_error_ttl",
        aliases=("resolver_error_ttl",),
    )
    dns_cache_size: int = setting(Number(minimum=1), "10000", "Most names kept.", aliases=("resolver_lru_cache_size",))

    def check(self) -> Iterator[str]:
        """Yield faults that concern more than the syntax of one setting."""
        for resolver in self.dns_resolver:
            if not _is_address_with_port(resolver):
                form = "a comma separated list in the form of IPv4/6 or IPv4/6:port"
                yield f"dns_resolver must be {form}, got '{resolver}'"
        if not {"srv", "a", "aaaa"} & set(self.dns_order):
            yield "dns_order must name at least one of SRV, A and AAAA"
        if self.dns_hostsfile is not None and not Path(self.dns_hostsfile).is_file():
            yield f"dns_hostsfile: file does not exist: {self.dns_hostsfile}"


def _is_address_with_port(text: str) -> bool:
    address, port = text, "53"
    if text.startswith("["):
        address, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or "53"
    elif text.count(":") == 1:
        address, port = text.split(":")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return port.isdigit() and 1 <= int(port) <= 65535
