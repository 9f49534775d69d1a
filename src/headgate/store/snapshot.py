"""The immutable view of all entities at one revision, as workers and the Admin API read it.

Entities are plain JSON dicts exactly as the Admin API shows them, foreign keys as `{"id": …}` or None. Nobody may
change them. Lookups are dict reads: an index is made at its first use and kept, since the data never changes. Only
time changes what is seen: an entity whose time to live is over is not found any more.
"""

import time
from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from headgate.store.delta import Delta
from headgate.store.encoded import EncodedEntities

Entity = dict[str, Any]
EMPTY_HASH: Final = "0" * 32
_NO_ENTITIES: Final[Mapping[str, Entity]] = {}
_encoder: Final = msgspec.msgpack.Encoder()


class _Encoded(msgspec.Struct, array_like=True):
    revision: int
    configuration_hash: str
    entities: dict[str, list[dict[str, Any]]]
    expires: dict[str, float] = {}


_decoder: Final = msgspec.msgpack.Decoder(_Encoded)


class Snapshot:
    """All entities at one revision.

    Args: expires, id -> Unix time in seconds after which that entity is gone; until then it is shown with `ttl`, the
    whole seconds left. `entities` itself holds all of them, without `ttl`.
    """

    __slots__ = ("_children", "_repeated", "_unique", "configuration_hash", "entities", "expires", "revision")

    def __init__(
        self,
        entities: Mapping[str, Mapping[str, Entity]],
        *,
        configuration_hash: str = EMPTY_HASH,
        revision: int = 0,
        expires: Mapping[str, float] | None = None,
    ) -> None:
        self.entities = entities
        self.expires: Mapping[str, float] = expires if expires is not None else {}
        self.configuration_hash = configuration_hash
        self.revision = revision
        self._unique: dict[tuple[str, str], dict[Any, Entity]] = {}
        self._children: dict[tuple[str, str], dict[str, list[Entity]]] = {}
        # Fields of `_unique` of which several entities had the same value.
        self._repeated: set[tuple[str, str]] = set()

    def __repr__(self) -> str:
        counts = ", ".join(f"{type_}: {len(items)}" for type_, items in self.entities.items() if items)
        return f"<Snapshot revision {self.revision} of {self.configuration_hash} ({counts})>"

    def __len__(self) -> int:
        return sum(len(items) for items in self.entities.values())

    @property
    def is_empty(self) -> bool:
        """Tell whether there is no entity at all."""
        return len(self) == 0

    def all(self, type_: str) -> Iterator[Entity]:
        """Return the entities of a type, in the order of their ids."""
        rows = self.entities.get(type_, _NO_ENTITIES).values()
        return iter(rows) if not self.expires else filter(None, map(self._living, rows))

    def get(self, type_: str, entity_id: str) -> Entity | None:
        """Return the entity with an id."""
        return self._living(self.entities.get(type_, _NO_ENTITIES).get(entity_id))

    def by(self, type_: str, unique_field: str, value: Any) -> Entity | None:
        """Return the entity whose field has a value; the field should be unique, else the first by id is meant.

        Source: own choice; the first call for a field is O(n), each later one O(1).
        """
        index = self._unique.get((type_, unique_field))
        if index is None:
            index = {}
            for entity in self.entities.get(type_, _NO_ENTITIES).values():
                key = entity.get(unique_field)
                if key is None or isinstance(key, (dict, list)):
                    continue
                if index.setdefault(key, entity) is not entity:
                    self._repeated.add((type_, unique_field))
            self._unique[type_, unique_field] = index
        return self._living(index.get(value))

    def children(self, type_: str, foreign_field: str, parent_id: str) -> Sequence[Entity]:
        """Return the entities of a type whose foreign key refers to a parent, in the order of their ids."""
        index = self._children.get((type_, foreign_field))
        if index is None:
            index = {}
            for entity in self.entities.get(type_, _NO_ENTITIES).values():
                reference = entity.get(foreign_field)
                if reference is not None:
                    index.setdefault(reference["id"], []).append(entity)
            self._children[type_, foreign_field] = index
        rows: Sequence[Entity] = index.get(parent_id, ())
        return rows if not self.expires else [living for living in map(self._living, rows) if living is not None]

    def indexed(self, type_: str, index_name: str, key: Callable[[Entity], str], value: str) -> Entity | None:
        """Return the entity for which a function gives a value; the index of that name is made at its first use."""
        index = self._unique.get((type_, index_name))
        if index is None:
            rows = self.entities.get(type_, _NO_ENTITIES).values()
            index = self._unique[type_, index_name] = {key(entity): entity for entity in rows}
        return self._living(index.get(value))

    def _living(self, entity: Entity | None) -> Entity | None:
        if entity is None or not self.expires or (expires_at := self.expires.get(entity["id"])) is None:
            return entity
        left_s = expires_at - time.time()
        return {**entity, "ttl": int(left_s)} if left_s > 0 else None

    def with_revision(self, revision: int) -> "Snapshot":
        """Return the same entities under another revision; indexes already made are shared."""
        other = Snapshot(
            self.entities, configuration_hash=self.configuration_hash, revision=revision, expires=self.expires
        )
        other._unique = self._unique
        other._children = self._children
        other._repeated = self._repeated
        return other

    def after(self, delta: Delta, revision: int) -> "Snapshot":
        """Return the snapshot that a delta makes of this one.

        Types that did not change are shared with this one, indexes too; indexes of the others are brought up to date,
        so that no later lookup has to make them anew.
        """
        entities = dict(self.entities)
        replaced: dict[str, tuple[list[Entity], list[Entity]]] = {}
        for type_ in delta.types:
            before = self.entities.get(type_, _NO_ENTITIES)
            rows = dict(before)
            gone = [before[each] for each in delta.removed.get(type_, ()) if rows.pop(each, None) is not None]
            come = delta.changed.get(type_, [])
            is_in_order = True
            for entity in come:
                identifier = entity["id"]
                if identifier in rows:
                    gone.append(rows[identifier])
                else:
                    is_in_order = False
                rows[identifier] = entity
            entities[type_] = rows if is_in_order else dict(sorted(rows.items(), key=_first))
            replaced[type_] = (gone, come)
        other = Snapshot(
            entities,
            configuration_hash=delta.configuration_hash,
            revision=revision,
            expires=_expires_after(self.expires, delta, replaced),
        )
        other._take_indexes(self, replaced)
        return other

    def delta_to(self, later: "Snapshot", most: int) -> Delta | None:
        """Return what makes a later snapshot of this one; None when more than `most` entities differ."""
        delta = Delta(later.configuration_hash)
        for type_ in dict.fromkeys((*self.entities, *later.entities)):
            before, after = self.entities.get(type_, _NO_ENTITIES), later.entities.get(type_, _NO_ENTITIES)
            gone = [identifier for identifier in before if identifier not in after]
            come = [
                entity
                for identifier, entity in after.items()
                if ((known := before.get(identifier)) is not entity and known != entity)
                or self.expires.get(identifier) != later.expires.get(identifier)
            ]
            if gone:
                delta.removed[type_] = gone
            if come:
                delta.changed[type_] = come
                ends = {one["id"]: later.expires[one["id"]] for one in come if one["id"] in later.expires}
                delta.expires.update(ends)
            if len(delta) > most:
                return None
        return delta

    def _take_indexes(self, earlier: "Snapshot", replaced: Mapping[str, tuple[list[Entity], list[Entity]]]) -> None:
        # Copied first: another thread may be adding an index to the earlier snapshot.
        for name, unique in list(earlier._unique.items()):
            if name[0] not in replaced:
                self._unique[name] = unique
            elif name not in earlier._repeated:
                patched = _patched(unique, name[1], *replaced[name[0]])
                if patched is not None:
                    self._unique[name] = patched
        self._repeated = {name for name in list(earlier._repeated) if name in self._unique}
        for name, children in list(earlier._children.items()):
            gone, come = replaced.get(name[0], ((), ()))
            self._children[name] = _patched_children(children, name[1], gone, come) if gone or come else children

    def encode(self, known: EncodedEntities | None = None) -> bytes:
        """Return the snapshot as MessagePack, for other processes of the node.

        Args: known, entities as `encode_entity` makes them, of earlier snapshots.
        """
        lists: dict[str, list[Any]]
        if known is None:
            lists = {type_: list(items.values()) for type_, items in self.entities.items() if items}
        else:
            lists = {type_: list(map(msgspec.Raw, texts)) for type_, texts in known.of(self.entities).items() if texts}
        return _encoder.encode(_Encoded(self.revision, self.configuration_hash, lists, dict(self.expires)))

    @classmethod
    def decode(cls, data: bytes) -> "Snapshot":
        """Return the snapshot that `encode` wrote.

        Raises: ValueError, when the data is something else.
        """
        encoded = _decoder.decode(data)
        try:
            entities = {type_: {item["id"]: item for item in items} for type_, items in encoded.entities.items()}
        except KeyError:
            raise ValueError("an entity of the snapshot has no id") from None
        return cls(
            entities,
            configuration_hash=encoded.configuration_hash,
            revision=encoded.revision,
            expires=encoded.expires,
        )


def encode_entity(_: str, entity: Entity) -> bytes:
    """Return an entity as `Snapshot.encode` writes it."""
    return _encoder.encode(entity)


def _first(item: tuple[str, Entity]) -> str:
    return item[0]


def _expires_after(
    expires: Mapping[str, float], delta: Delta, replaced: Mapping[str, tuple[list[Entity], list[Entity]]]
) -> Mapping[str, float]:
    gone = [entity["id"] for before, _ in replaced.values() for entity in before if entity["id"] in expires]
    if not gone and not delta.expires:
        return expires
    changed = dict(expires)
    for identifier in gone:
        del changed[identifier]
    return {**changed, **delta.expires}


def _patched(
    index: Mapping[Any, Entity], field: str, gone: Iterable[Entity], come: Iterable[Entity]
) -> dict[Any, Entity] | None:
    """Return an index of unique values brought up to date; None when it has to be made anew."""
    patched = dict(index)
    for is_new, entity in (*((False, one) for one in gone), *((True, one) for one in come)):
        if field not in entity:
            # An index over something else than a field.
            return None
        key = entity[field]
        if key is None or isinstance(key, (dict, list)):
            continue
        if is_new:
            if patched.setdefault(key, entity) is not entity:
                return None
        elif patched.pop(key, None) is not entity:
            return None
    return patched


def _patched_children(
    index: Mapping[str, list[Entity]], field: str, gone: Iterable[Entity], come: Iterable[Entity]
) -> dict[str, list[Entity]]:
    patched = dict(index)
    copied: set[str] = set()
    for is_new, entity in (*((False, one) for one in gone), *((True, one) for one in come)):
        reference = entity.get(field)
        if reference is None:
            continue
        parent = reference["id"]
        if parent not in copied:
            # Lists were handed out: those of the earlier snapshot stay as they are.
            copied.add(parent)
            patched[parent] = list(patched.get(parent, ()))
        if is_new:
            insort(patched[parent], entity, key=_id)
        else:
            patched[parent] = [one for one in patched[parent] if one is not entity]
        if not patched[parent]:
            del patched[parent]
            copied.discard(parent)
    return patched


def _id(entity: Entity) -> str:
    identifier: str = entity["id"]
    return identifier


EMPTY: Final = Snapshot({})
