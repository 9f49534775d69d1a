"""What changed between two snapshots of one store, as it travels: whole entities that are new, ids that are gone.

Owns the form. `Snapshot.after` makes the later snapshot of the earlier one; a delta fits no other one, which is why
both ends compare revisions first.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

_encoder = msgspec.msgpack.Encoder()


class Delta(msgspec.Struct, array_like=True):
    """Changed entities by type, each whole; ids of removed ones; when changed ones end, by id, in Unix time."""

    configuration_hash: str
    changed: dict[str, list[dict[str, Any]]] = {}
    removed: dict[str, list[str]] = {}
    expires: dict[str, float] = {}

    @property
    def types(self) -> frozenset[str]:
        """The types of entities that differ."""
        return frozenset((*self.changed, *self.removed))

    def __len__(self) -> int:
        return sum(map(len, self.changed.values())) + sum(map(len, self.removed.values()))

    def encode(self) -> bytes:
        """Return the delta as MessagePack."""
        return _encoder.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> "Delta":
        """Return the delta that `encode` wrote. Raises: ValueError."""
        return _decoder.decode(data)

    def of_type(self, type_: str) -> tuple[Mapping[str, dict[str, Any]], frozenset[str]]:
        """Return the changed entities of a type by id, and the ids of removed ones."""
        return {one["id"]: one for one in self.changed.get(type_, ())}, frozenset(self.removed.get(type_, ()))


_decoder = msgspec.msgpack.Decoder(Delta)
