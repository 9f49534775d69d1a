"""Entities as text, kept for the next snapshot: where most entities are the same objects, most of the text is too.

Owns what is kept and for how long; what the text is, is the caller's. An entity never changes, so that being the same
object is enough.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Entity: TypeAlias = dict[str, Any]


class EncodedEntities:
    """The texts of one snapshot's entities, by type and id; not for two threads at once.

    Args: encode, (id, entity) -> its text.
    """

    def __init__(self, encode: Callable[[str, Entity], bytes]) -> None:
        self._encode = encode
        self._kept: dict[str, dict[str, tuple[Entity, bytes]]] = {}

    def of(self, entities: Mapping[str, Mapping[str, Entity]]) -> dict[str, list[bytes]]:
        """Return the texts of all entities by type, in their order, and keep these and no others."""
        encode = self._encode
        kept: dict[str, dict[str, tuple[Entity, bytes]]] = {}
        for type_, rows in entities.items():
            before = self._kept.get(type_, {})
            now = kept[type_] = {}
            for identifier, entity in rows.items():
                known = before.get(identifier)
                if known is None or known[0] is not entity:
                    known = (entity, encode(identifier, entity))
                now[identifier] = known
        self._kept = kept
        return {type_: [text for _, text in now.values()] for type_, now in kept.items()}
