"""What a declarative document would change in a configuration: the entities it adds, changes and, on a sync, removes.

Owns which entities are the same one: by id, else by the name, key or combination that is unique. What a document leaves
to chance (generated ids, secrets that are hashed anew, times of writing) is no difference.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

from headgate.entities.entity_type import EntityType
from headgate.entities.registry import Registry
from headgate.schema import record_definition
from headgate.store.snapshot import Snapshot

_TIMES: Final = ("created_at", "updated_at")
MASK: Final = "******"
# Last parts of the names of fields that are credentials, wherever they stand.
_SECRET_NAMES: Final = frozenset(("password", "secret", "client_secret", "key", "key_alt", "jwk", "pem", "token"))


class Difference(NamedTuple):
    """One entity that differs; `fields` maps dotted names to the value now and the value then, for changes."""

    operation: Literal["create", "update", "delete"]
    entity_type: str
    name: str
    fields: dict[str, tuple[Any, Any]]


def differences(current: Snapshot, wanted: Snapshot, entity_types: Registry) -> Iterator[Difference]:
    """Yield what turns one into the other, in the order of types: parents before children."""
    matched: dict[str, str] = {}
    for name, entity_type in entity_types.items():
        before = {entity["id"]: entity for entity in current.entities.get(name, {}).values()}
        keys = {key: entity for entity in before.values() for key in _keys(entity_type, entity, {})}
        seen: set[str] = set()
        for entity in wanted.entities.get(name, {}).values():
            known = before.get(entity["id"])
            if known is None:
                found = (keys.get(key) for key in _keys(entity_type, entity, matched))
                known = next((one for one in found if one is not None), None)
            if known is None:
                yield Difference("create", name, shown_name(entity_type, entity), {})
                continue
            matched[entity["id"]] = known["id"]
            seen.add(known["id"])
            fields = _changed_fields(entity_type, known, entity, matched)
            if fields:
                yield Difference("update", name, shown_name(entity_type, entity), fields)
        for identifier, entity in before.items():
            if identifier not in seen:
                yield Difference("delete", name, shown_name(entity_type, entity), {})


def shown_name(entity_type: EntityType, entity: Mapping[str, Any]) -> str:
    """Return what a person knows an entity by: its name or key with what it belongs to, else its id."""
    if entity_type.own_key is not None:
        return entity_type.own_key.text(entity)
    key = entity_type.endpoint_key
    own = entity.get(key) if key is not None and key not in _SECRET_NAMES else None
    own = own or entity.get("name") or entity["id"]
    return str(own)


def _keys(entity_type: EntityType, entity: Mapping[str, Any], matched: Mapping[str, str]) -> Iterator[tuple[Any, ...]]:
    """Yield what identifies an entity besides its id."""
    for name in entity_type.unique:
        value = entity.get(name)
        if isinstance(value, str):
            yield (name, value)
    together = () if entity_type.own_key is None else (entity_type.primary_key,)
    for names in (*together, *entity_type.composite_unique):
        values = tuple(_plain(entity.get(name), matched) for name in names)
        if values[0] is not None:
            yield (names, values)


def _plain(value: Any, matched: Mapping[str, str]) -> Any:
    """Return a value that can be compared: references by the id that the entity they mean has now."""
    if isinstance(value, Mapping) and set(value) == {"id"}:
        return matched.get(value["id"], value["id"])
    return value if isinstance(value, str | int | float) or value is None else repr(value)


def _changed_fields(
    entity_type: EntityType, now: Mapping[str, Any], then: Mapping[str, Any], matched: Mapping[str, str]
) -> dict[str, tuple[Any, Any]]:
    changed: dict[str, tuple[Any, Any]] = {}
    hashed = {one.name for one in record_definition(entity_type.model) if one.definition.spec.encrypted is True}
    for name in entity_type.fields:
        if name == "id" or name in _TIMES or (entity_type.name == "certificates" and name == "snis"):
            continue
        if name in hashed and any(now.get(key) != then.get(key) for key in entity_type.foreign):
            # Hashed with the id of what it belongs to, which the document does not know.
            continue
        before, after = now.get(name), then.get(name)
        if name in entity_type.foreign and isinstance(after, Mapping):
            after = {"id": matched.get(after["id"], after["id"])}
        _compare(name, before, after, changed)
    return changed


def _compare(name: str, now: Any, then: Any, changed: dict[str, tuple[Any, Any]]) -> None:
    if now == then:
        return
    if isinstance(now, Mapping) and isinstance(then, Mapping):
        for key in dict.fromkeys((*now, *then)):
            _compare(f"{name}.{key}", now.get(key), then.get(key), changed)
    elif name.rpartition(".")[2] in _SECRET_NAMES:
        changed[name] = tuple(None if value is None else MASK for value in (now, then))  # type: ignore[assignment]
    else:
        changed[name] = (now, then)
