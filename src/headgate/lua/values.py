"""What crosses the border between Python and Lua.

Lua texts are bytes. The machine hands them over as `str` in Latin-1, one character per byte, which never fails; the
gateway's Python texts are UTF-8 with surrogate escapes for anything else. For ASCII both are the same object, so that
a header name costs one flag test. Tables are copied, and only when asked; nil and None are the same; JSON's null inside
of a table is `ngx.null`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import lupa.luajit21 as lupa

LuaTable = type(lupa.LuaRuntime().table())  # lupa exports no name for it
_MOST_DEPTH = 100
MOST_COPIED_BYTES = 128 * 1024 * 1024
"""Of one table that comes from Lua (own choice), counted as it is copied: a few tables that hold each other several
times would otherwise become more than any memory holds.
"""
_MEMBER_BYTES = 256
_BYTES_PER_LOOK = 1024 * 1024

MakeTable = Callable[[], Any]


def text_from_lua(text: str) -> str:
    """Return a text of Lua's as the gateway's texts are."""
    return text if text.isascii() else text.encode("latin-1").decode("utf-8", "surrogateescape")


def text_to_lua(text: str) -> str:
    """Return a text of the gateway's as Lua gets it."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("latin-1")


def bytes_from_lua(text: str) -> bytes:
    """Return the bytes of a Lua text."""
    return text.encode("latin-1")


class Values:
    """Copies tables of one machine, both ways."""

    def __init__(self, new_table: MakeTable, helpers: Any) -> None:
        self._new_table = new_table
        self._set_null: Callable[[Any, Any], None] = helpers["set_null"]
        self._is_array: Callable[[Any], bool] = helpers["is_array"]
        self._mark_array: Callable[[Any], None] = helpers["mark_array"]
        self._is_null: Callable[[Any], bool] = helpers["is_null"]
        self._charge: Callable[[], Any] = helpers["charge"]

    def to_lua(self, value: Any, *, keeps_null: bool = False) -> Any:
        """Return a value as Lua gets it; dicts, lists and records become tables.

        Args: keeps_null: None in a table is `ngx.null`; otherwise it is left out.
        """
        kind = value.__class__
        if kind is str:
            return value if value.isascii() else text_to_lua(value)
        if value is None or kind is int or kind is bool or kind is float or kind is bytes:
            return value
        if isinstance(value, bytearray | memoryview):
            return bytes(value)
        if isinstance(value, Mapping):
            table = self._new_table()
            for key, item in value.items():
                self._put(table, self.to_lua(key), item, keeps_null)
            return table
        if isinstance(value, list | tuple | set | frozenset):
            if hasattr(value, "_asdict"):
                return self.to_lua(value._asdict(), keeps_null=keeps_null)
            table = self._new_table()
            for position, item in enumerate(value, 1):
                self._put(table, position, item, True)
            self._mark_array(table)
            return table
        if isinstance(value, str):
            return text_to_lua(str(value))
        if isinstance(value, int):
            return int(value)
        return value

    def _put(self, table: Any, key: Any, item: Any, keeps_null: bool) -> None:
        if item is not None:
            table[key] = self.to_lua(item, keeps_null=keeps_null)
        elif keeps_null:
            self._set_null(table, key)

    def from_lua(self, value: Any) -> Any:
        """Return a value as Python gets it: tables with an element 1 or the array mark become lists, others dicts.

        Raises: ValueError for a table inside of itself (or 100 levels deep), or too large a one.
        """
        kind = value.__class__
        if kind is str:
            return value if value.isascii() else text_from_lua(value)
        if kind is not LuaTable:
            if lupa.lua_type(value) == "userdata" and self._is_null(value):
                return None
            return value
        return self._copied(value, 0, [MOST_COPIED_BYTES, MOST_COPIED_BYTES - _BYTES_PER_LOOK])

    def _copied(self, table: Any, depth: int, left: list[int]) -> Any:
        """Return a table as Python gets it. Args: left, how much may be copied, and where to look at the clock."""
        if depth > _MOST_DEPTH:
            raise ValueError("a table is nested too deeply")
        length = len(table)
        items = list(table.items())
        left[0] -= _MEMBER_BYTES * (len(items) + 1)
        if left[0] < 0:
            raise ValueError("a table is too large")
        if left[0] < left[1]:
            # A long copy looks at the clock of a bounded call now and then.
            left[1] = left[0] - _BYTES_PER_LOOK
            self._charge()
        if length and len(items) == length:
            items.sort(key=_first)
            return [self._member(item, depth + 1, left) for _, item in items]
        if not items and self._is_array(table):
            return []
        return {self._member(key, depth + 1, left): self._member(item, depth + 1, left) for key, item in items}

    def _member(self, value: Any, depth: int, left: list[int]) -> Any:
        kind = value.__class__
        if kind is LuaTable:
            return self._copied(value, depth, left)
        if kind is str:
            left[0] -= len(value)
            return value if value.isascii() else text_from_lua(value)
        if lupa.lua_type(value) == "userdata" and self._is_null(value):
            return None
        return value


def _first(pair: tuple[Any, Any]) -> Any:
    return pair[0]
