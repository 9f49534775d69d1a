"""`migrations` of a Lua plugin: the tables of its `daos.lua`, then what its list names.

Owns the reading of the list and of its modules. A table is made from the declaration of its entity, each by a migration
of its own, so that an entity that comes later brings its table along. SQL of a plugin is never run, as it was written
for tables of another layout: what only makes those tables is passed over, which a run tells, and the rest is refused.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import lupa.luajit21 as lupa

from headgate.errors import PluginLoadError
from headgate.lua.daos import CREDENTIALS
from headgate.lua.migration_sql import needed_statements
from headgate.lua.values import LuaTable, text_from_lua
from headgate.store.migration import Migration, MigrationError, Step

if TYPE_CHECKING:
    from headgate.lua.vm import Vm

_LONGEST_STATEMENT = 100
_PASSED_OVER = "its SQL is not run, the tables are made from daos.lua"


def migrations(machine: "Vm", plugin: str, entity_names: Sequence[str]) -> tuple[Migration, ...] | None:
    """Return the migrations of a Lua plugin in their order; None when it has neither entities nor migrations.

    Raises: PluginLoadError with every fault.
    """
    found = [Migration(f"table_of_{name}", entity=name) for name in entity_names]
    namespace = f"kong.plugins.{plugin}.migrations"
    module = next((name for name in (f"{namespace}.init", namespace) if machine.find(name) is not None), None)
    if module is None:
        return tuple(found) or None
    index = machine.load_module(module)
    if index.__class__ is not LuaTable:
        raise PluginLoadError(f"plugin '{plugin}': migrations index from '{namespace}' must be a table")
    tables = frozenset(_table_names(machine, plugin, entity_names))
    faults: list[str] = []
    for position in range(1, len(index) + 1):
        name = text_from_lua(str(index[position]))
        try:
            found.append(_migration(machine, plugin, namespace, name, tables))
        except PluginLoadError as error:
            faults += error.faults
        except MigrationError as error:
            faults.append(f"plugin '{plugin}': {error}")
    if faults:
        raise PluginLoadError(faults)
    return tuple(found)


def _table_names(machine: "Vm", plugin: str, entity_names: Sequence[str]) -> Iterator[str]:
    """Yield what SQL of a plugin calls the tables of its entities."""
    yield from entity_names
    yield from CREDENTIALS  # the gateway's, for plugins that declare them
    module = f"kong.plugins.{plugin}.daos"
    daos = machine.load_module(module) if entity_names and machine.find(module) is not None else ()
    for position in range(1, len(daos) + 1):
        name = daos[position]["table_name"]
        if isinstance(name, str):
            yield text_from_lua(name)


def _migration(machine: "Vm", plugin: str, namespace: str, name: str, tables: frozenset[str]) -> Migration:
    full_name = f"{namespace}.{name}"
    if machine.find(full_name) is None:
        raise MigrationError(f"failed to load migration '{name}': there is no module {full_name}")
    table = machine.load_module(full_name)
    section: Any = table["postgres"] if table.__class__ is LuaTable else None
    if section.__class__ is not LuaTable:
        raise MigrationError(f"missing postgres strategy for migration '{name}'")
    up, functions = section["up"], {key: section[key] for key in ("up_f", "teardown")}
    needed = needed_statements(text_from_lua(up), tables) if isinstance(up, str) else []
    if needed:
        raise MigrationError(
            f"migration '{name}' has SQL that does more than to make the tables of daos.lua, and SQL of plugins is not "
            f"run: {needed[0][:_LONGEST_STATEMENT]}; when nothing is left to do for it here, take '{name}' off the "
            "list of migrations"
        )
    steps: dict[str, Step | None] = {}
    for key, function in functions.items():
        if function is not None and lupa.lua_type(function) != "function":
            raise MigrationError(
                f"migration '{full_name}' of '{plugin}' subsystem is invalid: {key}: expected a function"
            )
        steps[key] = None if function is None else _step(machine, plugin, function, tables)
    if up is None and not any(steps.values()):
        raise MigrationError(
            f"migration '{full_name}' of '{plugin}' subsystem is invalid: "
            "at least one of these fields must be non-empty: 'up', 'up_f', 'teardown'"
        )
    note = _PASSED_OVER if isinstance(up, str) and up.strip() else None
    return Migration(name, steps["up_f"], steps["teardown"], note=note)


def _step(machine: "Vm", plugin: str, function: Any, tables: frozenset[str]) -> Step:
    """Return a Lua function as a step; it fails when it raises, or returns a second value."""

    def first_needed(sql: Any) -> str | None:
        needed = needed_statements(text_from_lua(str(sql)), tables)
        return needed[0][:_LONGEST_STATEMENT] if needed else None

    def run(_operations: Any) -> None:
        connector = machine.require("headgate.connector")(machine.bridge.raw(first_needed))
        values = machine.call(plugin, function, connector)
        if hasattr(values, "close"):
            values.close()
            raise MigrationError("a migration cannot wait")
        if values is not None and len(values) > 1 and values[1] is not None:
            raise MigrationError(text_from_lua(str(values[1])))

    return run
