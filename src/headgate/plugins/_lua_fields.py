"""`custom_fields_by_lua` of logging plugins: fields of the record that Lua code in the configuration gives."""

import weakref
from typing import Any, Protocol

from headgate import kong
from headgate.lua.functions import OFF, LuaValue, mode, syntax_fault


class HasLuaFields(Protocol):
    """A configuration with the field."""

    @property
    def custom_fields_by_lua(self) -> dict[str, str] | None: ...


_values: dict[int, tuple[weakref.ref[Any], dict[str, LuaValue]]] = {}


def lua_code_fault(source: str) -> str | None:
    """Check the code of one field."""
    fault = OFF if mode() == "off" else syntax_fault(source)
    return None if fault is None else f"Error parsing function: {fault}"


def set_lua_fields(conf: HasLuaFields) -> None:
    """Run the code of all fields and put the values into the record; None takes a field away.

    Raises: LuaFaultError.
    """
    if not conf.custom_fields_by_lua:
        return
    for name, value in _values_of(conf).items():
        kong.log.set_serialize_value(name, value.get())


def _values_of(conf: HasLuaFields) -> dict[str, LuaValue]:
    """Return the compiled code of a configuration, kept as long as it lives."""
    key = id(conf)
    known = _values.get(key)
    if known is not None and known[0]() is conf:
        return known[1]
    values = {name: LuaValue(source) for name, source in (conf.custom_fields_by_lua or {}).items()}
    _values[key] = (weakref.ref(conf, lambda _: _values.pop(key, None)), values)
    return values
