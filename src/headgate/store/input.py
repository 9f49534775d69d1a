"""What a write is given, on its way to a complete entity: merge, checks, automatic values, write transformations.

Owns what concerns one entity alone; what other entities have to say (references, uniqueness) is the store's.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from pydantic import BaseModel

from headgate.entities.entity_type import Entity, EntityType, ErrorTree
from headgate.entities.plugins import PluginType, check_plugin, stored_plugin
from headgate.errors import SCHEMA_VIOLATION, EntityError, violation_message
from headgate.schema import record_definition
from headgate.schema.stored import incomplete

IMMUTABLE: Final = "immutable field cannot be updated"


def completed(
    entity_type: EntityType,
    data: Mapping[str, Any],
    given: Mapping[str, Any],
    plugin_types: Mapping[str, PluginType],
    now: float,
    *,
    is_update: bool = False,
) -> Entity:
    """Return the complete, transformed entity.

    Args: data, all input fields, references as `{"id": …}`; given, what the caller wrote, for transformations.
    Raises: EntityError of code 2 with all faults, or 15.
    """
    if entity_type.name == "plugins":
        # What cannot be configured any more can still be switched off or moved; nobody knows what is right for code
        # that cannot be loaded.
        is_broken_allowed = (is_update and "config" not in given) or _is_unloadable(plugin_types, data.get("name"))
        entity, faults = check_plugin(
            data, plugin_types, now=now, is_update=is_update, is_broken_allowed=is_broken_allowed
        )
    else:
        entity, faults = entity_type.examine(data, now=now, is_update=is_update)
    if not is_update:
        add_incomplete(entity_type, given, plugin_types, faults)
    own_key = entity_type.own_key
    if own_key is not None and not faults:
        faults = dict(own_key.faults(entity))
    if faults:
        raise violation(faults)
    for name in entity_type.foreign:
        if entity.get(name) is not None:
            entity[name] = {"id": entity[name]["id"].lower()}
    if own_key is None:
        entity["id"] = entity["id"].lower()
    else:
        entity = {"id": own_key.id_of(entity), **entity}
    # What a change leaves alone is stored already, transformed or as somebody wanted it.
    is_transforming = not is_update or entity_type.name != "plugins" or "config" in given
    return stored(entity_type, entity, given, plugin_types, is_transforming=is_transforming)


def stored(
    entity_type: EntityType,
    entity: Entity,
    given: Mapping[str, Any],
    plugin_types: Mapping[str, PluginType],
    *,
    is_transforming: bool,
) -> Entity:
    """Return a checked entity as it is stored. Raises: EntityError of code 15."""
    if is_transforming and entity_type.has_transformations:
        entity = entity_type.transformed(entity, given)
    if entity_type.name == "plugins" and not _is_unloadable(plugin_types, entity["name"]):
        model = plugin_types[entity["name"]].config_model
        entity = stored_plugin(entity, given, model, is_transforming=is_transforming)
    for name in entity_type.transient:
        entity[name] = None
    return entity


def add_incomplete(
    entity_type: EntityType,
    given: Mapping[str, Any],
    plugin_types: Mapping[str, PluginType],
    faults: ErrorTree,
    before: Entity | None = None,
) -> None:
    """Add the texts for transformations that got some of their fields and not all to an error tree.

    Args: before, the stored entity that `given` changes.
    """
    texts = list(incomplete(entity_type.model, given, before))
    if entity_type.name == "plugins":
        plugin_type = plugin_types.get(str((before or given).get("name")))
        if plugin_type is not None:
            texts += incomplete(plugin_type.config_model, given, before)
    if texts:
        faults.setdefault("@entity", []).extend(texts)


def _is_unloadable(plugin_types: Mapping[str, PluginType], name: Any) -> bool:
    return isinstance(name, str) and getattr(plugin_types.get(name), "fault", None) is not None


def violation(faults: ErrorTree) -> EntityError:
    """Return the error of code 2 for an error tree."""
    return EntityError(SCHEMA_VIOLATION, message=violation_message(faults), fields=faults)


def given_together_fault(entity_type: EntityType, stored: Entity, changes: Mapping[str, Any]) -> str | None:
    """Return the text when a change gives a field without another one that its stored form depends on."""
    for field, needed in entity_type.given_together:
        needed_name = f"{needed}.id" if needed in entity_type.foreign else needed
        text = f"all or none of these fields must be set: '{field}', '{needed_name}'"
        if changes.get(field) is not None and changes.get(needed) is None:
            return text
        if changes.get(field) is None and needed in changes and changes[needed] != stored.get(needed):
            return text
    return None


def merged(
    entity_type: EntityType, stored: Entity, changes: Mapping[str, Any], plugin_types: Mapping[str, PluginType]
) -> Entity:
    """Return a stored entity with changes on top: records merge deeply, everything else is replaced.

    Raises: EntityError of code 2 for a change of an immutable field.
    """
    faults: ErrorTree = {}
    for member in record_definition(entity_type.model):
        if member.definition.spec.immutable is True and member.name in changes:
            before, after = stored.get(member.name), changes[member.name]
            if (_sorted(before) if isinstance(before, list) else before) != (
                _sorted(after) if isinstance(after, list) else after
            ):
                faults[member.name] = IMMUTABLE
    if faults:
        raise violation(faults)
    result = _merged_record(entity_type.model, stored, changes)
    if entity_type.name == "plugins" and isinstance(changes.get("config"), Mapping):
        plugin_type = plugin_types.get(result["name"])
        if plugin_type is not None and result["name"] == stored["name"]:
            result["config"] = _merged_record(plugin_type.config_model, stored["config"] or {}, changes["config"])
    # Set anew, whatever was given.
    result.pop("updated_at", None)
    if entity_type.own_key is not None and "id" not in changes:
        result.pop("id", None)
    return result


def _merged_record(model: type[BaseModel], stored: Mapping[str, Any], changes: Mapping[str, Any]) -> Entity:
    definition = record_definition(model)
    fields, result = definition.fields, dict(stored)
    for item, _ in definition.shorthands:
        if changes.get(item.name) is not None:
            # What the older name stands for is what it replaces here; validation says what is wrong with the value.
            with suppress(TypeError, ValueError, AttributeError):
                result = _without(result, item.members(changes[item.name]), changes)
    for name, value in changes.items():
        before = result.get(name)
        record = fields[name].definition.record if name in fields and fields[name].definition.kind == "record" else None
        if record is not None and isinstance(before, Mapping) and isinstance(value, Mapping):
            value = _merged_record(record, before, value)
        result[name] = value
    return result


def _without(stored: Mapping[str, Any], members: Mapping[str, Any], changes: Mapping[str, Any]) -> Entity:
    """Return a stored record without the values of some members, but for those that the changes give themselves."""
    result = dict(stored)
    for name, value in members.items():
        before, given = result.get(name), changes.get(name)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            result[name] = _without(before, value, given if isinstance(given, Mapping) else {})
        elif name not in changes:
            result.pop(name, None)
    return result


def _sorted(items: list[Any]) -> list[str]:
    return sorted(map(repr, items))
