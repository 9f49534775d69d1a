"""What the platform knows about a type of entity, whatever the type.

Owns the description (`EntityType`) and the common steps of an input on its way to a stored entity: rewriting, defaults,
checks, automatic values, write transformations. Types differ only in the functions they give.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final
from uuid import UUID, uuid4, uuid5

from headgate.entities.primary_key import PLAIN_KEY, OwnKey
from headgate.errors import TRANSFORMATION_ERROR, EntityError
from headgate.schema import Record, examine, record_definition, schema_json
from headgate.schema.automatic import automatic_kind, random_text
from headgate.schema.definition import Definition
from headgate.schema.spec import UNSET
from headgate.schema.stored import FAILED, written

Entity = dict[str, Any]
ErrorTree = dict[str, Any]

_ID_NAMESPACE: Final = UUID("fd02801f-0957-4a15-a55a-c8d9606f30b5")
# A record whose fields another schema defines: stored as an open object, published without members.
ABSTRACT_RECORD: Final[Mapping[str, Any]] = {"type": "record", "abstract": True, "keys": UNSET, "values": UNSET}


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A reference to another type; `on_delete` is `restrict`, `cascade` or `null`."""

    reference: str
    on_delete: str = "restrict"
    is_required: bool = False


@dataclass(frozen=True)
class EntityType:
    """A type of entity.

    name: plural, as in documents and `/schemas`.
    admin_path: path of the collection in the Admin API, without the slash.
    primary_key: the fields that identify an entity; where it is not `id`, the id is derived from them and not shown.
    endpoint_key: unique field that addresses an entity in paths and references; None: only the primary key does.
    nested_under: foreign field -> path below the parent, for `/parent/{p}/<path>`.
    nested_key: field that addresses an entity below its parent as well as the id does; unique there.
    composite_unique: sets of fields that are unique together.
    given_together: pairs of a field and another whose value its stored form depends on; changes must give both.
    id_fields: fields whose texts name the entity in its generated id; () for a random id.
    optional_id_fields: more of them, which count only when they are set.
    cascades: foreign fields with which an entity goes away although its published schema does not say so.
    secrets: fields that a database holds encrypted although the published schema does not say that they are secret.
    cache_key: fields whose values make the key under which plugins cache an entity; () for the id.
    rewrite: input -> input, before defaults (shorthands, automatic choices).
    finish: (entity) -> changes; always, after the checks.
    transform: (entity, given input) -> changes; only when write transformations are on. May raise ValueError.
    """

    name: str
    model: type[Record]
    admin_path: str
    primary_key: tuple[str, ...] = PLAIN_KEY
    endpoint_key: str | None = None
    nested_under: Mapping[str, str] = field(default_factory=dict)
    nested_key: str | None = None
    composite_unique: tuple[tuple[str, ...], ...] = ()
    given_together: tuple[tuple[str, str], ...] = ()
    id_fields: tuple[str, ...] = ()
    optional_id_fields: tuple[str, ...] = ()
    is_id_prefixed: bool = False
    has_ttl: bool = False
    cascades: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    cache_key: tuple[str, ...] = ()
    is_exported: bool = True
    rewrite: Callable[[Entity], Entity] | None = None
    finish: Callable[[Entity], Entity] | None = None
    transform: Callable[[Entity, Mapping[str, Any]], Entity] | None = None

    @cached_property
    def foreign(self) -> Mapping[str, ForeignKey]:
        """The foreign keys by field."""
        found = {}
        for member in record_definition(self.model):
            spec = member.definition.spec
            if member.definition.kind == "foreign":
                on_delete = "restrict" if spec.on_delete is UNSET else spec.on_delete
                if member.name in self.cascades:
                    on_delete = "cascade"
                found[member.name] = ForeignKey(spec.reference, on_delete, member.is_required)
        return found

    @cached_property
    def reference_lists(self) -> tuple[str, ...]:
        """The fields that list ids of other entities; such a field has the name of their type."""
        return tuple(
            member.name
            for member in record_definition(self.model)
            if member.definition.elements is not None and member.definition.elements.spec.uuid is True
        )

    @cached_property
    def own_key(self) -> OwnKey | None:
        """The primary key where it is not `id`."""
        if self.primary_key == PLAIN_KEY:
            return None
        members = record_definition(self.model).fields
        return OwnKey(self._namespace, {name: members[name].definition.kind for name in self.primary_key})

    @cached_property
    def unique(self) -> tuple[str, ...]:
        """The fields that are unique on their own, without the id."""
        return tuple(member.name for member in record_definition(self.model) if member.definition.spec.unique is True)

    @cached_property
    def lookup_fields(self) -> tuple[str, ...]:
        """The fields by which a store finds entities: the unique ones and the endpoint key."""
        key = self.endpoint_key
        return self.unique if key is None or key in self.unique else (*self.unique, key)

    @cached_property
    def sealed_fields(self) -> tuple[str, ...]:
        """The fields that a database holds encrypted: those that are secret, and those that may hold secrets.

        Not those by which entities are found: a database must be able to compare them.
        """
        return tuple(
            member.name
            for member in record_definition(self.model)
            if member.name not in (*self.lookup_fields, *self.primary_key)
            and (
                member.name in self.secrets
                or _holds_secrets(member.definition)
                or member.definition.spec.schema_extra is ABSTRACT_RECORD
            )
        )

    @cached_property
    def readable_secrets(self) -> tuple[str, ...]:
        """The fields declared `encrypted` that a database holds readable, as entities are found by them."""
        members = record_definition(self.model).fields
        return tuple(name for name in self.lookup_fields if _holds_secrets(members[name].definition))

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """All fields in published order."""
        return tuple(record_definition(self.model).fields)

    @cached_property
    def singular(self) -> str:
        """The name of one entity in flattened errors: the plural without its last `s`."""
        return self.name.removesuffix("s")

    @cached_property
    def schema(self) -> dict[str, Any]:
        """The published schema."""
        return schema_json(self.model)

    @cached_property
    def _auto_fields(self) -> tuple[tuple[str, str], ...]:
        auto = []
        for member in record_definition(self.model):
            spec = member.definition.spec
            if spec.auto is True:
                auto.append((member.name, automatic_kind(spec, member.definition.kind)))
        return tuple(auto)

    def examine(self, given: Mapping[str, Any], *, now: float, is_update: bool = False) -> tuple[Entity, ErrorTree]:
        """Return the complete entity for an input, and the faults of the input; the entity counts only without faults.

        Args: now, Unix time in seconds, for automatic timestamps. Foreign keys are `{"id": …}` here.
        """
        data = dict(given)
        if self.rewrite is not None:
            data = self.rewrite(data)
        for name, kind in self._auto_fields:
            value = data.get(name)
            if kind == "time":
                if value is None:
                    data[name] = self._time(name, now)
            elif name not in data:
                data[name] = str(uuid4()) if kind == "uuid" else random_text()
        outcome = examine(self.model, data, is_update=is_update)
        errors = outcome.errors
        whole = errors.pop("@record", None)
        if whole is not None:
            errors.setdefault("@entity", []).append(whole)
        entity = outcome.data
        if not errors and self.finish is not None:
            entity.update(self.finish(entity))
        return entity, errors

    def _time(self, name: str, now: float) -> float:
        kind = record_definition(self.model).fields[name].definition.kind
        return int(now) if kind == "integer" else round(now, 3)

    @cached_property
    def has_transformations(self) -> bool:
        """Tell whether what is stored may differ from what was given."""
        return self.transform is not None or bool(self.model.transformations)

    def transformed(self, entity: Entity, given: Mapping[str, Any]) -> Entity:
        """Return the entity after its write transformations. Raises: EntityError of code 15."""
        if self.transform is not None:
            try:
                entity = {**entity, **self.transform(entity, given)}
            except ValueError as error:
                raise EntityError(TRANSFORMATION_ERROR, message=f"{FAILED}{error}") from error
        return written(self.model, entity, given) if self.model.transformations else entity

    @cached_property
    def transient(self) -> tuple[str, ...]:
        """The fields that are not stored."""
        members = record_definition(self.model)
        return tuple(member.name for member in members if member.definition.spec.transient is True)

    @cached_property
    def _namespace(self) -> UUID:
        return uuid5(_ID_NAMESPACE, self.name)

    def generated_id(self, given: Mapping[str, Any], parents: Mapping[str, str]) -> str | None:
        """Return the name-based id of an entity without one; None when it gets a random id.

        Args: parents, foreign field -> what stands for the parent in the key (reference text, or parent id).
        Source: declarative reference, section 4.
        """
        parts = []
        for name in self.id_fields:
            value = parents.get(name, "") if name in self.foreign else given.get(name)
            if value is None and name not in self.foreign:
                return None
            parts.append(str(value))
        if not parts:
            return None
        parts.extend(parents[name] for name in self.optional_id_fields if parents.get(name))
        key = ":".join((self.name, "*", *parts)) if self.is_id_prefixed else parts[0]
        return _named_id(self._namespace.bytes, key)


def _holds_secrets(definition: Definition | None) -> bool:
    if definition is None:
        return False
    if definition.spec.encrypted is True or _holds_secrets(definition.elements) or _holds_secrets(definition.values):
        return True
    record = definition.record
    return record is not None and any(_holds_secrets(member.definition) for member in record_definition(record))


def _named_id(namespace: bytes, name: str) -> str:
    """Return the version 5 UUID of a name as text, as `uuid.uuid5` does, in a third of the time.

    Source: RFC 9562 clause 5.5.
    """
    data = bytearray(hashlib.sha1(namespace + name.encode(), usedforsecurity=False).digest()[:16])
    data[6] = data[6] & 0x0F | 0x50
    data[8] = data[8] & 0x3F | 0x80
    text = data.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
