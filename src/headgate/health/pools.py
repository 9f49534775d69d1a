"""What workers report about their upstreams, as JSON of the engine (`crates/engine/src/upstream/reports.rs`)."""

from typing import NamedTuple, TypeAlias

import msgspec


class AddressKey(NamedTuple):
    """What makes an address the same one: name of the target, ip, port."""

    host: str
    ip: str
    port: int


class PoolAddress(msgspec.Struct, frozen=True):
    """One address of a target; `health` is the state on the worker that reports."""

    ip: str
    port: int
    weight: int
    health: str


class PoolTarget(msgspec.Struct, frozen=True):
    """A target with its addresses; none: its name has none."""

    host: str
    port: int
    weight: int
    dns: str
    addresses: list[PoolAddress]

    def key(self, address: PoolAddress) -> AddressKey:
        """Return the identity of one of the addresses."""
        return AddressKey(self.host, address.ip, address.port)


class Pool(msgspec.Struct, frozen=True, tag_field="type", tag="pool"):
    """The addresses of an upstream, whole."""

    upstream: str
    targets: list[PoolTarget]


class Observed(msgspec.Struct, frozen=True, tag_field="type", tag="observed"):
    """Equal observations of one address, by a worker's traffic."""

    upstream: str
    host: str
    ip: str
    port: int
    observation: str
    count: int


class Changed(msgspec.Struct, frozen=True, tag_field="type", tag="changed"):
    """A worker has put an address in or out of use by its own traffic."""

    upstream: str
    host: str
    ip: str
    port: int
    health: str


Report: TypeAlias = Pool | Observed | Changed

_decoder = msgspec.json.Decoder(list[Report])


def decode_reports(body: bytes) -> list[Report]:
    """Return the reports of a frame. Raises: msgspec.DecodeError."""
    return _decoder.decode(body)
