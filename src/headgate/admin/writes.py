"""The write methods of entity endpoints, as functions over a transaction of the store (reference: admin-api 2).

Owns what POST, PUT, PATCH and DELETE mean for each form of path; the paths are `entities`'. A method gets the
operations of one transaction, the keys in the path and what the client gave, so that several can be one transaction.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from headgate.admin.answers import AnswerError, not_found
from headgate.admin.conversion import converted
from headgate.admin.lookup import find, find_child, is_server_name, key_values, reference_id, required
from headgate.admin.preconditions import NO_PRECONDITIONS, Preconditions
from headgate.entities.entity_type import Entity, EntityType
from headgate.entities.plugins import PluginType
from headgate.entities.primary_key import OwnKey
from headgate.store.base import Operations, is_id


@dataclass(frozen=True)
class Given:
    """What a client gave: values, of which those of forms are texts yet, and conditions."""

    values: Mapping[str, Any] = field(default_factory=dict)
    is_form: bool = False
    conditions: Preconditions = NO_PRECONDITIONS
    plugin_types: Mapping[str, PluginType] = field(default_factory=dict)

    def entity(self, kind: EntityType, stored: Entity | None = None) -> dict[str, Any]:
        """Return the values as those of an entity of a type; `stored` is the one they change."""
        if not self.is_form:
            return dict(self.values)
        plugin_name = stored["name"] if stored is not None and kind.name == "plugins" else None
        return converted(kind, self.values, self.plugin_types, plugin_name)


@dataclass(frozen=True)
class Outcome:
    """The answer of a write: an entity of a type, or a body of its own, or nothing."""

    status: int
    entity: Entity | None = None
    kind: EntityType | None = None
    body: Any = None


Method: TypeAlias = Callable[[Operations, Mapping[str, str], Given], Outcome]
GONE = Outcome(204)


@dataclass(frozen=True)
class Write:
    """A write method of a path, and the type it concerns; `status` where success is not what its method has."""

    kind: EntityType
    run: Method
    status: int | None = None


def collection_writes(kind: EntityType) -> dict[str, Write]:
    """Return the writes of `/P`."""

    def post(operations: Operations, keys: Mapping[str, str], given: Given) -> Outcome:
        return Outcome(201, operations.insert(kind.name, given.entity(kind)), kind)

    return {"POST": Write(kind, post)}


def entity_writes(kind: EntityType) -> dict[str, Write]:
    """Return the writes of `/P/{key}`."""

    def put(operations: Operations, keys: Mapping[str, str], given: Given) -> Outcome:
        key = keys["key"]
        current = find(operations, kind, key)
        given.conditions.check(current)
        return Outcome(200, _put(operations, kind, key, current, given.entity(kind, current)), kind)

    def patch(operations: Operations, keys: Mapping[str, str], given: Given) -> Outcome:
        current = required(operations, kind, keys["key"])
        given.conditions.check(current)
        return Outcome(200, operations.update(kind.name, current["id"], given.entity(kind, current)), kind)

    def delete(operations: Operations, keys: Mapping[str, str], given: Given) -> Outcome:
        key = keys["key"]
        current = required(operations, kind, key) if is_server_name(kind, key) else find(operations, kind, key)
        given.conditions.check(current)
        if current is not None:
            operations.delete(kind.name, current["id"])
        return GONE

    return {"PUT": Write(kind, put), "PATCH": Write(kind, patch), "DELETE": Write(kind, delete)}


def _put(operations: Operations, kind: EntityType, key: str, current: Entity | None, values: dict[str, Any]) -> Entity:
    if is_server_name(kind, key):
        if current is not None:
            return operations.upsert(kind.name, current["id"], values)
        names = values.get("snis") or []
        if isinstance(names, list) and key not in names:
            values["snis"] = [*names, key]
        return operations.insert(kind.name, values)
    if kind.own_key is not None:
        return _put_by_own_key(operations, kind, kind.own_key, key, current, values)
    if is_id(key):
        return operations.upsert(kind.name, key, values)
    assert kind.endpoint_key is not None, "looked up by it already"
    return operations.upsert(kind.name, key, values, by=kind.endpoint_key)


def _put_by_own_key(
    operations: Operations,
    kind: EntityType,
    own_key: OwnKey,
    key: str,
    current: Entity | None,
    values: dict[str, Any],
) -> Entity:
    """Store an entity under the primary key that a path has; where the path has an endpoint key, under that given."""
    if current is not None:
        return operations.upsert(kind.name, current["id"], values | own_key.values_of(current))
    named = key_values(operations, kind, key)
    if named is not None:
        return operations.upsert(kind.name, own_key.id_of(named), values | named)
    if kind.endpoint_key is None:
        raise not_found()
    return operations.upsert(kind.name, key, values, by=kind.endpoint_key)


def children_writes(kind: EntityType, foreign_field: str, parent: EntityType) -> dict[str, Write]:
    """Return the writes of `/parent/{parent}/C`."""

    def post(operations: Operations, keys: Mapping[str, str], given: Given) -> Outcome:
        owner = required(operations, parent, keys["parent"])
        values = given.entity(kind) | {foreign_field: {"id": owner["id"]}}
        return Outcome(201, operations.insert(kind.name, values), kind)

    return {"POST": Write(kind, post)}


def child_writes(kind: EntityType, foreign_field: str, parent: EntityType) -> dict[str, Write]:
    """Return the writes of `/parent/{parent}/C/{key}`; a target can be changed by PUT but not made."""

    def found(operations: Operations, keys: Mapping[str, str]) -> tuple[str, Entity]:
        owner = required(operations, parent, keys["parent"])
        child = find_child(operations, kind, foreign_field, owner["id"], keys["key"])
        if child is None:
            raise not_found()
        return owner["id"], child

    def put(operations: Operations, keys: Mapping[str, str], given: Given) -> Outcome:
        owner, key = required(operations, parent, keys["parent"]), keys["key"]
        if kind.nested_key is not None and not is_id(key):
            current = find_child(operations, kind, foreign_field, owner["id"], key)
        else:
            current = find(operations, kind, key)
        if current is None and kind.name == "targets":
            raise not_found()
        given.conditions.check(current)
        values = given.entity(kind, current) | {foreign_field: {"id": owner["id"]}}
        if kind.nested_key is None or is_id(key):
            return Outcome(200, _put(operations, kind, key, current, values), kind)
        values.setdefault(kind.nested_key, key)
        if current is None:
            return Outcome(200, operations.insert(kind.name, values), kind)
        return Outcome(200, operations.upsert(kind.name, current["id"], values), kind)

    def patch(operations: Operations, keys: Mapping[str, str], given: Given) -> Outcome:
        owner_id, child = found(operations, keys)
        given.conditions.check(child)
        values = given.entity(kind, child) | {foreign_field: {"id": owner_id}}
        return Outcome(200, operations.update(kind.name, child["id"], values), kind)

    def delete(operations: Operations, keys: Mapping[str, str], given: Given) -> Outcome:
        _, child = found(operations, keys)
        given.conditions.check(child)
        operations.delete(kind.name, child["id"])
        return GONE

    return {"PUT": Write(kind, put), "PATCH": Write(kind, patch), "DELETE": Write(kind, delete)}


def parent_writes(kind: EntityType, foreign_field: str, parent: EntityType) -> dict[str, Write]:
    """Return the writes of `/C/{key}/F`, the parent of a child."""

    def put(operations: Operations, keys: Mapping[str, str], given: Given) -> Outcome:
        child = required(operations, kind, keys["key"])
        owner_id = reference_id(child, foreign_field)
        if owner_id is not None:
            current = operations.select(parent.name, owner_id)
            given.conditions.check(current)
            return Outcome(200, operations.upsert(parent.name, owner_id, given.entity(parent, current)), parent)
        given.conditions.check(None)
        owner = operations.insert(parent.name, given.entity(parent))
        operations.update(kind.name, child["id"], {foreign_field: {"id": owner["id"]}})
        return Outcome(200, owner, parent)

    def referred(operations: Operations, keys: Mapping[str, str]) -> Entity:
        owner_id = reference_id(required(operations, kind, keys["key"]), foreign_field)
        owner = None if owner_id is None else operations.select(parent.name, owner_id)
        if owner is None:
            raise not_found()
        return owner

    def patch(operations: Operations, keys: Mapping[str, str], given: Given) -> Outcome:
        owner = referred(operations, keys)
        given.conditions.check(owner)
        return Outcome(200, operations.update(parent.name, owner["id"], given.entity(parent, owner)), parent)

    def delete(operations: Operations, keys: Mapping[str, str], given: Given) -> Outcome:
        referred(operations, keys)
        raise AnswerError(405, {"message": "Method not allowed"})

    return {"PUT": Write(parent, put), "PATCH": Write(parent, patch), "DELETE": Write(parent, delete)}
