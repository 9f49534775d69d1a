"""`kong.dns`: names to addresses, as the engine finds them for requests (PDK reference 20.3).

One cache and one set of settings (`dns_*`) for plugins and requests. Before the engine runs (`init_worker`), and where
there is none (tests of plugins), the system's resolver answers.
"""

import asyncio
import socket
from typing import NamedTuple, NotRequired, TypedDict

from headgate.errors import GatewayError, NameResolutionError
from headgate.pdk._check import need_integer, need_string
from headgate.pdk._node import node
from headgate.pdk._phase import any_phase
from headgate.pdk._span import CLIENT
from headgate.pdk.tracing import is_instrumented, tracing

TYPE_A, TYPE_AAAA, TYPE_SRV = 1, 28, 33

_TYPES = {socket.AF_INET: TYPE_A, socket.AF_INET6: TYPE_AAAA}
_FAMILIES = {None: socket.AF_UNSPEC, TYPE_A: socket.AF_INET, TYPE_AAAA: socket.AF_INET6}
_KINDS = {None: None, TYPE_A: "A", TYPE_AAAA: "AAAA", TYPE_SRV: "SRV"}


class DnsError(GatewayError):
    """A name has no address, or the resolver failed; Kong returns nil and the text."""


class Record(TypedDict):
    """One address: `name` as asked, `type` 1 (A), 28 (AAAA) or 33 (SRV).

    One of SRV has the address of the host that it names, `target`, and `port` (0: it says none) and `weight`.
    """

    name: str
    address: str
    type: int
    port: NotRequired[int]
    weight: NotRequired[int]
    target: NotRequired[str]


class Address(NamedTuple):
    """Where to connect."""

    ip: str
    port: int


class Dns:
    """`kong.dns`; for `async def` handlers and timers."""

    __slots__ = ()

    @any_phase
    async def resolve(self, name: str, qtype: int | None = None) -> list[Record]:
        """Return the addresses of a name, of the first kind of records in `dns_order` that it has.

        Args: `qtype`: 1 for IPv4 only, 28 for IPv6 only, 33 for services (SRV) only.
        Raises: TypeError `name must be a string`; ValueError for another type; DnsError
            `dns server error: 3 name error`, `dns client error: …`.
        """
        need_string(name, "name")
        if qtype not in _KINDS:
            raise ValueError(f"dns client error: record type {qtype} is not supported")
        if not is_instrumented("dns_query"):
            return await _resolved(name, qtype)
        with tracing.start_span("kong.dns", {"span_kind": CLIENT, "attributes": {"dns.record.domain": name}}):
            return await _resolved(name, qtype)

    @any_phase
    async def toip(self, name: str, port: int) -> Address:
        """Return the address of a name whose turn it is, with the port: that of an SRV record, else the given one.

        Raises: TypeError `name must be a string`, `port must be an integer`; ValueError outside of 0 to 65535;
            DnsError as `resolve`.
        """
        number = need_integer(port, "port", 0, 65535)
        need_string(name, "name")
        if not is_instrumented("dns_query"):
            record = await _next(name)
        else:
            with tracing.start_span("kong.dns", {"span_kind": CLIENT, "attributes": {"dns.record.domain": name}}):
                record = await _next(name)
        return Address(record["address"], record.get("port") or number)


async def _resolved(name: str, qtype: int | None) -> list[Record]:
    try:
        found = None if node.resolver is None else await node.resolver.resolve(name, _KINDS[qtype])
    except NameResolutionError as error:
        raise _error(error) from error
    return await _of_system(name, qtype) if found is None else [_record(name, *one) for one in found]


async def _next(name: str) -> Record:
    try:
        found = None if node.resolver is None else await node.resolver.resolve_next(name)
    except NameResolutionError as error:
        raise _error(error) from error
    return (await _of_system(name, None))[0] if found is None else _record(name, *found[0])


def _record(name: str, address: str, service: tuple[int | None, int, str] | None) -> Record:
    if service is None:
        return Record(name=name, address=address, type=TYPE_AAAA if ":" in address else TYPE_A)
    port, weight, target = service
    return Record(name=name, address=address, type=TYPE_SRV, port=port or 0, weight=weight, target=target)


def _error(error: NameResolutionError) -> DnsError:
    text = str(error)
    return DnsError(text if text.startswith("dns server error") else f"dns client error: {text}")


async def _of_system(name: str, qtype: int | None) -> list[Record]:
    if qtype == TYPE_SRV:
        raise DnsError("dns client error: the system's resolver has no SRV records, and the engine does not run yet")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            name, None, family=_FAMILIES[qtype], type=socket.SOCK_STREAM
        )
    except socket.gaierror as error:
        if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
            raise DnsError("dns server error: 3 name error") from error
        raise DnsError(f"dns client error: {error.strerror}") from error
    except (UnicodeError, OSError) as error:
        raise DnsError(f"dns client error: {error}") from error
    addresses = dict.fromkeys((str(address[0]), _TYPES[socket.AddressFamily(family)]) for family, *_, address in found)
    return [Record(name=name, address=address, type=kind) for address, kind in addresses]


dns = Dns()
