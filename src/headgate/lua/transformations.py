"""`transformations` of Lua schemas: what fields become when they are written and read, by functions of the schema.

Owns the reading of their tables; when they run is `headgate.schema`'s.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import lupa.luajit21 as lupa

from headgate.lua.values import LuaTable, text_from_lua
from headgate.schema import Transformation, transformation

if TYPE_CHECKING:
    from headgate.lua.vm import Vm

_KNOWN = ("input", "needs", "on_write", "on_read")


def transformations(machine: "Vm", given: Any, faults: list[str]) -> tuple[Transformation, ...]:
    """Return what the value of a schema's `transformations` declares; faults are put into the list."""
    if given is None:
        return ()
    if given.__class__ is not LuaTable or (not len(given) and list(given.keys())):
        faults.append("transformations: expected an array")
        return ()
    found: list[Transformation] = []
    for position in range(1, len(given) + 1):
        told: list[str] = []
        one = _transformation(machine, given[position], told)
        faults += [f"transformations: {position}: {text}" for text in told]
        if one is not None:
            found.append(one)
    return tuple(found)


def _transformation(machine: "Vm", table: Any, faults: list[str]) -> Transformation | None:
    if table.__class__ is not LuaTable:
        faults.append("expected a record")
        return None
    faults += [f"{key}: unknown field" for key in table if key not in _KNOWN]
    paths: dict[str, tuple[str, ...]] = {}
    for name in ("input", "needs"):
        value = machine.values.from_lua(table[name])
        if value is not None and not (isinstance(value, list) and all(isinstance(path, str) for path in value)):
            faults.append(f"{name}: expected an array of field names")
            continue
        paths[name] = tuple(value or ())
    functions: dict[str, Any] = {}
    for name in ("on_write", "on_read"):
        value = table[name]
        if value is None:
            continue
        if lupa.lua_type(value) != "function":
            faults.append(f"{name}: expected a function")
            continue
        functions[name] = _function(machine, value)
    if not faults and not functions:
        faults.append("at least one of these fields must be non-empty: 'on_write', 'on_read'")
    if faults:
        return None
    return transformation(input=paths["input"], needs=paths["needs"], **functions)


def _function(machine: "Vm", function: Any) -> Any:
    """Return the Python form of a function of the schema: it returns the changes, or raises ValueError with a text."""
    kept = machine.anchor(function)
    values = machine.values

    def run(*arguments: Any) -> Mapping[str, Any]:
        try:
            returned = kept(*(values.to_lua(argument, keeps_null=True) for argument in arguments))
        except lupa.LuaError as error:
            raise ValueError(text_from_lua(str(error)).partition("\nstack traceback:")[0]) from error
        changes, fault = (*returned, None)[:2] if isinstance(returned, tuple) else (returned, None)
        if fault is not None:
            raise ValueError(str(values.from_lua(fault)))
        plain = values.from_lua(changes)
        return plain if isinstance(plain, dict) else {}

    return run
