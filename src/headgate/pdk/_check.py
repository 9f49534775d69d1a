"""Argument checks of PDK functions and the names their texts use for types.

Wrong types raise TypeError, wrong values ValueError, with the texts of the PDK reference. Types are named as Kong names
them (`nil`, `table`, …), because plugin authors compare texts.
"""

from collections.abc import Mapping
from typing import Any

MOST_ENTRIES = 1000
"""Largest number of arguments or headers that a getter returns (PDK reference 3.3, 3.4)."""


def type_name(value: object) -> str:
    """Return Kong's name of a value's type; `bytes` and foreign types keep their Python name."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return "table"
    if callable(value):
        return "function"
    return type(value).__name__


def is_number(value: object) -> bool:
    """Say whether `value` is a number (a bool is none)."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_table(value: object) -> bool:
    """Say whether `value` is a mapping or an array."""
    return isinstance(value, Mapping | list | tuple)


def number_text(value: int | float) -> str:
    """Return a number as header and query values show it: 14 significant digits, no `.0`."""
    return str(value) if isinstance(value, int) else f"{value:.14g}"


def scalar_text(value: str | int | float | bool) -> str:
    """Return a string, number or boolean as text."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return number_text(value)


def need_string(value: object, what: str) -> None:
    """Raise TypeError `<what> must be a string` unless it is one."""
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a string")


def need_integer(value: Any, what: str, least: int, most: int) -> int:
    """Return `value` as int; raise with the texts of `set_target` and `set_timeouts` unless it is one in the range."""
    if not is_number(value) or value != value // 1:
        raise TypeError(f"{what} must be an integer")
    if not least <= value <= most:
        raise ValueError(f"{what} must be an integer between {least} and {most}: given {number_text(value)}")
    return int(value)


def need_limit(value: Any, what: str, default: int) -> int:
    """Return the number of entries to read at most: `value` checked (1 to 1000), or the default for None."""
    if value is None:
        return default
    if not is_number(value):
        raise TypeError(f"{what} must be a number")
    if value < 1:
        raise ValueError(f"{what} must be >= 1")
    if value > MOST_ENTRIES:
        raise ValueError(f"{what} must be <= {MOST_ENTRIES}")
    return int(value)
