"""The attributes that a field of `schema.lua` and `daos.lua` can have, and what their values must be.

Owns the vocabulary and its faults, as texts behind the field's path. What attributes mean is `headgate.schema`'s.
"""

from collections.abc import Mapping
from typing import Any

import lupa.luajit21 as lupa

from headgate.lua.values import LuaTable

TYPES = ("string", "number", "integer", "boolean", "array", "set", "map", "record", "foreign", "function", "json")
STRUCTURE = {
    "array": ("elements",),
    "set": ("elements",),
    "map": ("keys", "values"),
    "record": ("fields",),
    "json": ("json_schema",),
}
COPIED = (
    *("eq", "ne", "gt", "timestamp", "uuid", "is_regex", "len_eq", "len_min", "len_max", "starts_with", "contains"),
    *("err", "unique", "auto", "immutable", "referenceable", "encrypted", "transient", "description"),
    *("reference", "on_delete"),
)
LISTS = ("one_of", "not_one_of", "between", "mutually_exclusive_subsets")
PATTERNS = ("match", "not_match", "match_all", "match_none", "match_any")
PUBLISHED_ONLY = ("examples", "abstract", "generate_admin_api", "indexed", "cache_key")
KNOWN = frozenset(
    (
        *COPIED,
        *LISTS,
        *PATTERNS,
        *PUBLISHED_ONLY,
        *("type", "required", "default", "elements", "keys", "values", "fields", "entity_checks", "json_schema"),
        *("shorthand_fields", "custom_validator", "unique_across_ws", "nilable", "deprecation"),
    )
)
SHORTHAND_TYPES = tuple(name for name in TYPES if name not in ("record", "foreign", "function"))
ON_DELETE = ("restrict", "cascade", "null")
_SHORTEST_DESCRIPTION, _LONGEST_DESCRIPTION = 10, 500
_KINDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "a boolean": (
        "boolean",
        (
            *("required", "unique", "unique_across_ws", "auto", "immutable", "referenceable", "encrypted", "transient"),
            *("timestamp", "uuid", "is_regex", "abstract", "generate_admin_api", "nilable"),
        ),
    ),
    "a number": ("number", ("gt", "len_eq", "len_min", "len_max")),
    "a string": ("string", ("match", "not_match", "starts_with", "err", "description", "reference", "on_delete")),
    "an array": ("table", (*LISTS, "match_all", "match_none", "examples", "entity_checks", "shorthand_fields")),
    "a record": ("table", ("match_any", "deprecation", "elements", "keys", "values", "json_schema")),
    "a function": ("function", ("custom_validator",)),
}
"""What attributes must be: the words of the fault, the type in Lua, the attributes."""


def check_attributes(definition: Any, kind: str, faults: list[str], path: str) -> None:
    """Put what is wrong with the values of attributes of a field of a type into the list."""
    for expected, (wanted, names) in _KINDS.items():
        for name in names:
            value = definition[name]
            if value is not None and lua_type_of(value) != wanted:
                faults.append(f"{path}: {name}: expected {expected}")
    if kind == "foreign" and definition["reference"] is None:
        faults.append(f"{path}: field of type 'foreign' must declare 'reference'")
    on_delete = definition["on_delete"]
    if isinstance(on_delete, str) and on_delete not in ON_DELETE:
        faults.append(f"{path}: on_delete: expected one of: {', '.join(ON_DELETE)}")
    description = definition["description"]
    if isinstance(description, str) and not _SHORTEST_DESCRIPTION <= len(description) <= _LONGEST_DESCRIPTION:
        is_short = len(description) < _SHORTEST_DESCRIPTION
        bound = f"at least {_SHORTEST_DESCRIPTION}" if is_short else f"at most {_LONGEST_DESCRIPTION}"
        faults.append(f"{path}: description: length must be {bound}")
    between = definition["between"]
    if between.__class__ is LuaTable and len(between) != 2:
        faults.append(f"{path}: between: length must be 2")
    if definition["unique_across_ws"] is True and definition["unique"] is not True:
        faults.append(f"{path}: unique: required field missing")
        faults.append(f"{path}: failed conditional validation given value of field 'unique_across_ws'")


def lua_type_of(value: Any) -> str:
    """Return what Lua's `type` says of a value."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return "string" if isinstance(value, (str, bytes)) else str(lupa.lua_type(value) or "nil")
