"""What an earlier declarative document said of its entities, so that the next one is checked where it says otherwise.

Owns what counts as the same: the type, every field with its value, and what references mean. An entity that is taken
over is the very same object, with the times of its writing; so what has changed between two documents is found without
looking into entities.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from headgate.store.entries import ReadEntries

Entity = dict[str, Any]

_DIGEST_BYTES: Final = 16
_encoder: Final = msgspec.msgpack.Encoder()


class KnownEntities:
    """The entities of the last document, by a digest of what it said of each; not for two loads at once."""

    def __init__(self) -> None:
        self._entities: Mapping[bytes, Entity] = {}
        self.read: Final = ReadEntries()
        """The entries themselves, of items that are written in the same way again."""

    def digest(self, type_name: str, said: Mapping[str, Any], *, is_transforming: bool) -> bytes | None:
        """Return what stands for an entry; None for values that no entity can have."""
        try:
            text = _encoder.encode((type_name, is_transforming, said))
        except (TypeError, ValueError, OverflowError):
            return None
        return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).digest()

    def get(self, digest: bytes) -> Entity | None:
        """Return the entity of which the last document said the same."""
        return self._entities.get(digest)

    def replace(self, entities: Iterable[tuple[bytes, Entity]]) -> None:
        """Know these entities and no others: what is held is bounded by one document."""
        self._entities = dict(entities)
        self.read.keep()
