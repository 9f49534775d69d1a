"""How plugins address entities and see them: primary keys, unique values, keys for caches, the form that is read.

Owns the translation between what `kong.db` is given and what a snapshot has; `db` has the functions themselves.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import zip_longest
from typing import Any, TypeAlias

from headgate.errors import INVALID_PRIMARY_KEY, NOT_FOUND, EntityError, lua_style
from headgate.pdk._call import current_call
from headgate.pdk._check import is_number
from headgate.pdk._node import SnapshotView, node, own_store

Entity: TypeAlias = dict[str, Any]

_KEY_PARTS = 5


def current_snapshot() -> SnapshotView:
    """Return the snapshot in force for the request, else the running one."""
    call = current_call.get()
    if call is not None and call.exchange is not None:
        snapshot: SnapshotView = call.exchange.plan.snapshot
        return snapshot
    own = own_store.get()
    if own is not None:
        return own.snapshot
    if node.snapshot is None:
        raise LookupError("kong.db is not available before the configuration was loaded")
    return node.snapshot


def shown(type_: str, entity: Entity | None, options: Mapping[str, Any] | None = None) -> Entity | None:
    """Return an entity in the form in which plugins read it; most types are stored in the same one."""
    read = _read_form(type_, options)
    return entity if read is None or entity is None else read(entity)


def all_shown(type_: str, entities: Iterator[Entity], options: Mapping[str, Any] | None) -> Iterator[Entity]:
    """Yield entities in the form in which plugins read them."""
    read = _read_form(type_, options)
    return entities if read is None else map(read, entities)


def _read_form(type_: str, options: Mapping[str, Any] | None) -> Callable[[Entity], Entity] | None:
    read, forms = node.read_forms.get(type_), node.key_forms
    is_by_own_keys = forms is not None and forms.is_shown_otherwise(type_)
    if not options and not is_by_own_keys:
        return read
    given = options or {}
    is_transformed = read is not None and given.get("transform") is not False
    has_workspace = bool(given.get("show_ws_id"))
    if not (is_transformed or has_workspace or is_by_own_keys):
        return None
    find = current_snapshot().get

    def shown_form(entity: Entity) -> Entity:
        if is_transformed and read is not None:
            entity = read(entity)
        if is_by_own_keys and forms is not None:
            entity = forms.shown(type_, entity, find)
        return {**entity, "ws_id": node.configuration.get("default_workspace")} if has_workspace else entity

    return shown_form


def cache_keys_of(type_: str, entity: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys under which an entity may be cached: that of its declaration first, that of its primary key."""
    by_id = _key_of(type_, node.primary_keys.get(type_, ("id",)), entity)
    declared = node.cache_keys.get(type_, ())
    if all(entity.get(name) is None for name in declared):
        return (by_id,)
    return (_key_of(type_, declared, entity), by_id)


def _key_of(type_: str, fields: tuple[str, ...], entity: Mapping[str, Any]) -> str:
    return cache_key_of(type_, tuple(entity.get(name) for name in fields), fields)


def cache_key_of(type_: str, values: tuple[Any, ...], fields: tuple[str, ...]) -> str:
    """Return `<type>:<k1>:…:<k5>:<workspace>` for values of some fields."""
    named = zip_longest(values[:_KEY_PARTS], fields[: len(values)])
    parts = ["" if value is None else _cache_part(type_, field, value) for value, field in named]
    parts = (parts + [""] * _KEY_PARTS)[:_KEY_PARTS]
    return ":".join((type_, *parts, str(node.configuration.get("default_workspace") or "")))


def _cache_part(type_: str, field: str | None, value: Any) -> str:
    """Return what stands for a value in a cache key: of a reference, the id of what it means."""
    if not isinstance(value, Mapping):
        return str(value)
    return id_of(type_, value) if field is None else foreign_id(type_, field, value)


def unique_text(type_: str, field: str, value: Any) -> str:
    """Return the text by which a store finds a value of a unique field.

    Raises: TypeError `<field> must be a string`, for another type than the field has.
    """
    kind = node.unique_kinds.get((type_, field), "string")
    if kind == "foreign" and isinstance(value, Mapping):
        return foreign_id(type_, field, value)
    if kind == "boolean" and isinstance(value, bool):
        return json.dumps(value)
    if kind in ("integer", "number") and is_number(value):
        return json.dumps(int(value) if float(value).is_integer() else value)
    if kind != "string" or not isinstance(value, str):
        words = {"foreign": "table", "integer": "number"}
        raise TypeError(f"{field} must be a {words.get(kind, kind)}")
    return value


def id_of(type_: str, primary_key: Any) -> str:
    """Return the id of the entity that a primary key means."""
    if node.key_forms is not None and type_ in node.key_forms:
        return node.key_forms.id_of(type_, primary_key)
    if isinstance(primary_key, str):
        return primary_key
    if not isinstance(primary_key, Mapping):
        raise TypeError("primary_key must be a table")
    identifier = primary_key.get("id")
    if identifier is None:
        shown_key = lua_style(dict(primary_key))
        fields = {"id": "missing primary key"}
        raise EntityError(INVALID_PRIMARY_KEY, message=f"invalid primary key: '{shown_key}'", fields=fields)
    return str(identifier)


def foreign_id(type_: str, field: str, foreign_key: Any) -> str:
    """Return the id of the entity that a foreign field means, in its stored form or in the one that is shown."""
    if isinstance(foreign_key, Mapping) and isinstance(foreign_key.get("id"), str):
        return str(foreign_key["id"])
    reference = None if node.key_forms is None else node.key_forms.reference(type_, field)
    return id_of(type_ if reference is None else reference, foreign_key)


def of_own_key(type_: str, primary_key: Any, error: EntityError) -> EntityError:
    """Return the error of a write with the key that the caller knows in the place of a derived id."""
    forms = node.key_forms
    if error.code != NOT_FOUND or forms is None or type_ not in forms:
        return error
    key = forms.values(type_, primary_key)
    text = f"could not find the entity with primary key '{lua_style(key)}'"
    return EntityError(NOT_FOUND, message=text, fields=key)
