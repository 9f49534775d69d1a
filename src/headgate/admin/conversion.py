"""Texts of forms into the types that a schema asks for (reference: admin-api 6).

A text that cannot be converted stays as it is: validation then says what was expected.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from headgate.entities.entity_type import EntityType
from headgate.entities.plugins import PluginType
from headgate.schema import record_definition
from headgate.schema.definition import Definition


def converted(
    entity_type: EntityType, given: Mapping[str, Any], plugin_types: Mapping[str, PluginType], plugin_name: Any = None
) -> dict[str, Any]:
    """Return the values of a form as those of an entity.

    Args: plugin_name, of the stored plugin instance where the form does not name the plugin.
    """
    values = _record(entity_type.model, given)
    if entity_type.has_ttl and "ttl" in values:
        values["ttl"] = _number(values["ttl"])
    if entity_type.name == "plugins" and isinstance(given.get("config"), Mapping):
        name = given.get("name", plugin_name)
        plugin_type = plugin_types.get(name) if isinstance(name, str) else None
        if plugin_type is not None:
            values["config"] = _record(plugin_type.config_model, given["config"])
    return values


def _record(model: type[BaseModel], given: Mapping[str, Any]) -> dict[str, Any]:
    definition = record_definition(model)
    known = {member.name: member.definition for member in definition}
    known.update({item.name: inner for item, inner in definition.shorthands})
    return {
        name: _value(value, known[name]) if name in known else (None if value == "" else value)
        for name, value in given.items()
    }


def _value(value: Any, definition: Definition) -> Any:
    if value == "":
        return None
    kind = definition.kind
    if kind in ("array", "set"):
        return _list(value, definition)
    if isinstance(value, (list, Mapping)):
        if kind == "record" and definition.record is not None and isinstance(value, Mapping):
            return _record(definition.record, value)
        if kind == "map" and definition.values is not None:
            entries = enumerate(value, 1) if isinstance(value, list) else value.items()
            return {str(key): _value(item, definition.values) for key, item in entries}
        return value
    if kind in ("number", "integer"):
        return _number(value)
    if kind == "boolean":
        return {"true": True, "false": False}.get(value, value)
    return value


def _list(value: Any, definition: Definition) -> Any:
    if isinstance(value, Mapping):
        return value
    items = value if isinstance(value, list) else [value]
    if items == [""]:
        return []
    return items if definition.elements is None else [_value(item, definition.elements) for item in items]


def _number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        number = float(value)
    except ValueError:
        return value
    if number != number or number in (float("inf"), float("-inf")):
        return value
    return int(number) if number.is_integer() else number
