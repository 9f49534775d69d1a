"""`kong.dns`: names to addresses, by the system's resolver on the worker's loop (PDK reference 20.3).

For plugins' own connections. Where requests go, the engine resolves by itself, with its own cache.
"""

import asyncio
import socket
from typing import NamedTuple, TypedDict

from headgate.errors import GatewayError
from headgate.pdk._check import need_integer, need_string
from headgate.pdk._phase import any_phase
from headgate.pdk._span import CLIENT
from headgate.pdk.tracing import is_instrumented, tracing

TYPE_A, TYPE_AAAA = 1, 28

_TYPES = {socket.AF_INET: TYPE_A, socket.AF_INET6: TYPE_AAAA}
_FAMILIES = {None: socket.AF_UNSPEC, TYPE_A: socket.AF_INET, TYPE_AAAA: socket.AF_INET6}


class DnsError(GatewayError):
    """A name has no address, or the resolver failed; Kong returns nil and the text."""


class Record(TypedDict):
    """One address: `name` as asked, `type` 1 (A) or 28 (AAAA), `class` 1."""

    name: str
    address: str
    type: int


class Address(NamedTuple):
    """Where to connect."""

    ip: str
    port: int


class Dns:
    """`kong.dns`; for `async def` handlers and timers."""

    __slots__ = ()

    @any_phase
    async def resolve(self, name: str, qtype: int | None = None) -> list[Record]:
        """Return the addresses of a name, in the order of the system's resolver.

        Args: `qtype`: 1 for IPv4 only, 28 for IPv6 only, None for both.
        Raises: TypeError `name must be a string`; ValueError for another type; DnsError
            `dns server error: 3 name error`, `dns client error: …`.
        """
        need_string(name, "name")
        if qtype not in _FAMILIES:
            raise ValueError(f"dns client error: record type {qtype} is not supported")
        if not is_instrumented("dns_query"):
            return await _resolved(name, qtype)
        attributes = {"dns.record.domain": name}
        with tracing.start_span("kong.dns", {"span_kind": CLIENT, "attributes": attributes}):
            return await _resolved(name, qtype)

    @any_phase
    async def toip(self, name: str, port: int) -> Address:
        """Return the first address of a name, with the port.

        Raises: TypeError `name must be a string`, `port must be an integer`; ValueError outside of 0 to 65535;
            DnsError as `resolve`.
        """
        number = need_integer(port, "port", 0, 65535)
        return Address((await self.resolve(name))[0]["address"], number)


async def _resolved(name: str, qtype: int | None) -> list[Record]:
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
