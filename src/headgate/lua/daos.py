"""`daos.lua` as declarations of entities: the same that the module `daos` of a Python plugin lists.

Owns the reading of the Lua tables around the fields, and which module `dao` names; the fields are `schema`'s. What this
gateway has in no form (polymorphic entities, SQL in strategies) is refused, one line for each.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from headgate.entities.registry import ENTITY_TYPES
from headgate.errors import PluginLoadError
from headgate.lua.schema import SchemaReader
from headgate.lua.values import LuaTable, text_from_lua
from headgate.schema import Record, record_definition
from headgate.schema.entity import EntityDeclaration

if TYPE_CHECKING:
    from headgate.lua.vm import Vm

_SUBSCHEMAS = (
    "not supported: there is no way to register a subschema; use one record per kind with entity_checks of type "
    "'conditional', or a field of type 'json'"
)
_REFUSED = {"subschema_key": _SUBSCHEMAS, "subschema_error": _SUBSCHEMAS}
_STRATEGIES = ("postgres", "off")
CREDENTIALS = frozenset(
    (
        *("acls", "basicauth_credentials", "hmacauth_credentials", "jwt_secrets", "keyauth_credentials"),
        "oauth2_credentials",
    )
)
"""Entities of plugins that the gateway has itself: a plugin that declares one gets the gateway's."""
_KNOWN = frozenset(
    (
        *("name", "primary_key", "fields", "endpoint_key", "cache_key", "workspaceable", "ttl", "db_export"),
        *("generate_admin_api", "admin_api_name", "admin_api_nested_name", "entity_checks", "shorthand_fields"),
        *("check", "transformations", "table_name", "dao"),
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
    daos: dict[str, str] = {}
    for position in range(1, len(table) + 1):
        own: list[str] = []
        name = _name(table[position], position)
        if name in CREDENTIALS:
            unknown = _unknown_fields(name, table[position])
            faults += [
                f"plugin '{plugin}': entity '{name}' is the gateway's, which has no field '{one}'" for one in unknown
            ]
            continue
        declaration = _declaration(machine, table[position], own)
        dao = _dao(machine, table[position], own)
        own += _strategies(machine, plugin, name)
        if dao is not None:
            daos[name] = dao
        faults += [f"schema of custom plugin entity '{plugin}.{name}' is invalid: {text}" for text in own]
        if declaration is not None:
            found.append(declaration)
    if faults:
        raise PluginLoadError(faults)
    machine.daos[plugin] = daos
    for name, dao in daos.items():
        machine.core["daos"][name] = dao
    return tuple(found)


def own_daos(machine: "Vm", plugin: str) -> Mapping[str, str]:
    """Return the entities of a plugin, loaded before, whose `dao` is a module of the plugin's, with that module."""
    return machine.daos.get(plugin, {})


def _dao(machine: "Vm", entity: Any, faults: list[str]) -> str | None:
    """Return the module that `dao` names."""
    given = entity["dao"] if entity.__class__ is LuaTable else None
    if given is None:
        return None
    if not isinstance(given, str):
        faults.append("dao: expected a string")
        return None
    module = text_from_lua(given)
    if machine.find(module) is None:
        faults.append(f"dao: there is no module '{module}'")
        return None
    try:
        functions = machine.load_module(module)
    except PluginLoadError as error:
        faults += [f"dao: {text}" for text in error.faults]
        return None
    if functions.__class__ is not LuaTable:
        faults.append(f"dao: module '{module}' must return a table of functions")
    elif functions["cache_key"] is not None:
        faults.append(
            "dao: cache_key cannot be replaced: what is forgotten of a changed entity follows its declaration"
        )
    return module


def _strategies(machine: "Vm", plugin: str, entity: str) -> list[str]:
    """Return the faults of modules in the place of functions of the datastore: SQL for tables of another layout."""
    names = [f"kong.plugins.{plugin}.strategies.{kind}.{entity}" for kind in _STRATEGIES]
    return [
        f"strategies: {name} cannot be used: SQL of plugins is not run; write its functions with self.super in a "
        "module that `dao` names"
        for name in names
        if machine.find(name) is not None
    ]


def _unknown_fields(name: str, entity: Any) -> list[str]:
    known = record_definition(ENTITY_TYPES[name].model).fields
    return [field for field, _ in _definitions(entity) if field not in known]


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
    primary_key = plain(entity["primary_key"])
    if primary_key is None:
        faults.append("primary_key: required field missing")
    elif not isinstance(primary_key, list) or not all(isinstance(field, str) for field in primary_key):
        faults.append("primary_key: expected an array of field names")
    if entity["fields"].__class__ is not LuaTable:
        faults.append("fields: expected an array")
        return None
    faults += _key_faults(entity, plain)
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
        primary_key=tuple(primary_key),
        endpoint_key=plain(entity["endpoint_key"]),
        cache_key=tuple(plain(entity["cache_key"]) or ()),
        ttl=bool(entity["ttl"]),
        db_export=entity["db_export"] is not False,
        generate_admin_api=entity["generate_admin_api"] is not False,
        admin_api_name=plain(entity["admin_api_name"]),
        admin_api_nested_names=names,
    )


def _key_faults(entity: Any, plain: Callable[[Any], Any]) -> Iterator[str]:
    """Yield what is wrong with the fields that the keys of an entity name."""
    definitions = dict(_definitions(entity))
    endpoint_key, cache_key = plain(entity["endpoint_key"]), plain(entity["cache_key"]) or []
    primary_key = plain(entity["primary_key"])
    if endpoint_key is not None and endpoint_key not in definitions:
        yield "endpoint_key: value must be a field name"
    if any(field not in definitions for field in cache_key):
        yield "cache_key: values must be field names"
    elif len(cache_key) == 1 and cache_key != primary_key and not definitions[cache_key[0]]["unique"]:
        yield "cache_key: a field used as a single cache key must be unique"
    if entity["ttl"] and "ttl" in definitions:
        yield "ttl: ttl is a reserved field name when ttl is enabled"


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
        is_key = field == "id" and machine.values.from_lua(entity["primary_key"]) == ["id"]
        if is_key and not (definition["uuid"] and definition["auto"]):
            faults.append("id: must be typedefs.uuid where it is the primary key")
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
