"""`daos.lua` as declarations of entities: the same that the module `daos` of a Python plugin lists.

Owns the reading of the Lua tables around the fields; the fields are `schema`'s. What this gateway has in no form (other
primary keys, own DAO classes, polymorphic entities) is refused, one line for each.
"""

from typing import TYPE_CHECKING, Any

from headgate.errors import PluginLoadError
from headgate.lua.schema import SchemaReader
from headgate.lua.values import LuaTable, text_from_lua
from headgate.schema import Record, record_definition
from headgate.schema.entity import EntityDeclaration

if TYPE_CHECKING:
    from headgate.lua.vm import Vm

_REFUSED = {
    "dao": "an own DAO class cannot be used: kong.db has the same functions for every entity",
    "subschema_key": "entities with subschemas are not supported",
    "subschema_error": "entities with subschemas are not supported",
}
_KNOWN = frozenset(
    (
        *("name", "primary_key", "fields", "endpoint_key", "cache_key", "workspaceable", "ttl", "db_export"),
        *("generate_admin_api", "admin_api_name", "admin_api_nested_name", "entity_checks", "shorthand_fields"),
        *("check", "transformations", "table_name"),
    )
)


def declarations(machine: "Vm", plugin: str) -> tuple[EntityDeclaration, ...]:
    """Return what the module `daos` of a Lua plugin declares; () without such a module.

    Raises: PluginLoadError with every fault.
    """
    module = f"kong.plugins.{plugin}.daos"
    if machine.find(module) is None:
        return ()
    table = machine.load_module(module)
    if table.__class__ is not LuaTable or (not len(table) and list(table.keys())):
        raise PluginLoadError(f"custom plugin '{plugin}' returned non-array daos definition table")
    faults: list[str] = []
    found: list[EntityDeclaration] = []
    for position in range(1, len(table) + 1):
        own: list[str] = []
        name = _name(table[position], position)
        declaration = _declaration(machine, table[position], own)
        faults += [f"schema of custom plugin entity '{plugin}.{name}' is invalid: {text}" for text in own]
        if declaration is not None:
            found.append(declaration)
    if faults:
        raise PluginLoadError(faults)
    return tuple(found)


def _name(entity: Any, position: int) -> str:
    name = entity["name"] if entity.__class__ is LuaTable else None
    return text_from_lua(name) if isinstance(name, str) else str(position)


def _declaration(machine: "Vm", entity: Any, faults: list[str]) -> EntityDeclaration | None:
    if entity.__class__ is not LuaTable:
        faults.append("expected a record")
        return None
    if not isinstance(entity["name"], str):
        faults.append("name: required field missing")
        return None
    name = text_from_lua(entity["name"])
    plain = machine.values.from_lua
    for key in entity:
        if key in _REFUSED:
            faults.append(f"{key}: {_REFUSED[key]}")
        elif key not in _KNOWN:
            faults.append(f"{key}: unknown field")
    if plain(entity["primary_key"]) != ["id"]:
        faults.append('primary_key: must be { "id" }; other primary keys are not supported')
    if entity["fields"].__class__ is not LuaTable:
        faults.append("fields: expected an array")
        return None
    told: list[str] = []
    model, hidden = _model(machine, name, entity, told)
    faults += [text.removeprefix(f"{name}.").removeprefix(f"{name}: ") for text in told]
    nested = entity["admin_api_nested_name"]
    names: dict[str, str | None] = {}
    for field in _foreign_fields(entity):
        if field in hidden:
            names[field] = None
        elif isinstance(nested, str):
            names[field] = text_from_lua(nested)
    if faults:
        return None
    return EntityDeclaration(
        name=name,
        model=model,
        endpoint_key=plain(entity["endpoint_key"]),
        cache_key=tuple(plain(entity["cache_key"]) or ()),
        ttl=bool(entity["ttl"]),
        db_export=entity["db_export"] is not False,
        generate_admin_api=entity["generate_admin_api"] is not False,
        admin_api_name=plain(entity["admin_api_name"]),
        admin_api_nested_names=names,
    )


def _model(machine: "Vm", name: str, entity: Any, faults: list[str]) -> tuple[type[Record], frozenset[str]]:
    """Return the record of an entity, and its foreign fields without endpoints below the parent."""
    reader = SchemaReader(machine)
    model = reader.entity_model(name, entity, faults)
    if not faults:
        try:
            record_definition(model)
        except (TypeError, ValueError) as error:
            faults.append(str(error))
    hidden: set[str] = set()
    for field, definition in _definitions(entity):
        if definition["type"] == "foreign" and definition["generate_admin_api"] is False:
            hidden.add(field)
        if definition["type"] == "map" and definition["keys"] is not None and definition["keys"]["type"] != "string":
            faults.append(f"{field}: Entities map keys must be strings.")
        if field == "id" and not (definition["uuid"] and definition["auto"]):
            faults.append("id: must be typedefs.uuid")
    return model, frozenset(hidden)


def _foreign_fields(entity: Any) -> list[str]:
    return [field for field, definition in _definitions(entity) if definition["type"] == "foreign"]


def _definitions(entity: Any) -> list[tuple[str, Any]]:
    """Return the well-formed entries of `fields`."""
    fields = entity["fields"]
    if fields.__class__ is not LuaTable:
        return []
    found = []
    for position in range(1, len(fields) + 1):
        entry = fields[position]
        if entry.__class__ is LuaTable:
            found += [(text_from_lua(str(key)), value) for key, value in entry.items() if value.__class__ is LuaTable]
    return found
