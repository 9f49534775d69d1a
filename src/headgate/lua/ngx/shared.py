"""`ngx.shared`: dictionaries in the node's memory, over the PDK's. What OpenResty's return values say is kept.

Every name is a dictionary: there is no directive that declares them. Texts and numbers are stored as they are; what the
PDK's dictionaries do not have (flags, lists) as a marked text, and booleans and texts that begin like one too. Each
function is one step on the node.
"""

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headgate.lua.values import bytes_from_lua, text_from_lua
from headgate.pdk.shared_dict import SharedDict, Value, memory_sizes

if TYPE_CHECKING:
    from headgate.lua.vm import Vm

MOST_KEYS = 1024
"""Of `get_keys` without a number (OpenResty's default)."""

_PREFIX = "ngx."
_MARK = b"\0"
_NO_LIST = (None, "value not a list")


class _RefusedError(Exception):
    """Nothing is changed; `args` is what the Lua function returns."""


def functions(vm: "Vm") -> dict[str, Any]:
    """Return the functions by name; each takes the dictionary's name first."""
    plain: dict[str, Callable[..., Any]] = {
        "shared_get": get,
        "shared_set": set_value,
        "shared_add": add,
        "shared_replace": replace,
        "shared_incr": incr,
        "shared_delete": lambda name, key: _dict(name).delete(_key(key)),
        "shared_ttl": ttl,
        "shared_expire": expire,
        "shared_push": push,
        "shared_pop": pop,
        "shared_length": length,
        "shared_keys": lambda name, most=None: vm.values.to_lua(keys(name, most)),
        "shared_flush": lambda name: _dict(name).clear(),
        "shared_capacity": lambda: memory_sizes()[0],
        "shared_free": lambda: memory_sizes()[0] - memory_sizes()[1],
    }
    return {name: vm.bridge.raw(function) for name, function in plain.items()}


def _dict(name: str) -> SharedDict:
    return SharedDict(_PREFIX + name)


def _key(key: Any) -> str:
    if isinstance(key, bool) or not isinstance(key, str | int | float):
        raise TypeError("nil key" if key is None else "not a valid key")
    return text_from_lua(str(key))


def _stored(value: Any, flags: Any = None) -> Value:
    """Return a value of Lua's as it is stored.

    Raises: TypeError for a table, a function and the like.
    """
    if not isinstance(value, str | bool | int | float | list):
        raise TypeError("bad value type")
    if isinstance(value, str):
        raw = bytes_from_lua(value)
        if not flags and not raw.startswith(_MARK):
            return raw
    elif not flags and not isinstance(value, bool | list):
        return value
    return _MARK + json.dumps([value, flags or 0]).encode()


def _read(stored: Value | None) -> tuple[Any, int]:
    """Return a value as Lua gets it, a list for one, and its flags."""
    if not isinstance(stored, bytes):
        return stored, 0
    if not stored.startswith(_MARK):
        return stored, 0
    value, flags = json.loads(stored[len(_MARK) :])
    return (value.encode("latin-1") if isinstance(value, str) else value), flags


def get(name: str, key: Any) -> Any:
    """Return a value, and its flags where they are not 0; None when absent."""
    value, flags = _read(_dict(name).get(_key(key)))
    if isinstance(value, list):
        return (None, "value is a list")
    return (value, flags) if flags else value


def set_value(name: str, key: Any, value: Any, ttl_s: Any = None, flags: Any = None) -> Any:
    """Store a value, or remove it for nil; (True, None, False) as OpenResty says."""
    if value is None:
        _dict(name).delete(_key(key))
        return True
    try:
        _dict(name).set(_key(key), _stored(value, flags), ttl_s or 0)
    except ValueError:
        return (False, "no memory", False)
    return True


def add(name: str, key: Any, value: Any, ttl_s: Any = None, flags: Any = None) -> Any:
    """Store a value that is not there yet."""
    return True if _dict(name).add(_key(key), _stored(value, flags), ttl_s or 0) else (False, "exists")


def replace(name: str, key: Any, value: Any, ttl_s: Any = None, flags: Any = None) -> Any:
    """Store a value in place of an earlier one."""

    def replaced(earlier: Value | None) -> Value:
        if earlier is None:
            raise _RefusedError(False, "not found")
        return _stored(value, flags)

    return _changed(name, key, replaced, ttl_s or 0, lambda: True)


def incr(name: str, key: Any, amount: Any, init: Any = None, init_ttl_s: Any = None) -> Any:
    """Add to a number and return it; without `init` an absent one is not made."""
    if init is not None:
        try:
            return _dict(name).incr(_key(key), amount, init, init_ttl_s or 0)
        except TypeError:
            return (None, "not a number")
    total: list[Any] = []

    def increased(earlier: Value | None) -> Value:
        value, flags = _read(earlier)
        if value is None:
            raise _RefusedError(None, "not found")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _RefusedError(None, "not a number")
        total[:] = [value + amount]
        return _stored(total[0], flags)

    return _changed(name, key, increased, None, lambda: total[0])


def ttl(name: str, key: Any) -> Any:
    """Return the seconds that a key has left; 0 for ever."""
    seconds = _dict(name).ttl_s(_key(key))
    return (None, "not found") if seconds is None else seconds


def expire(name: str, key: Any, ttl_s: Any) -> Any:
    """Give a key another time to live."""

    def same(earlier: Value | None) -> Value:
        if earlier is None:
            raise _RefusedError(None, "not found")
        return earlier

    return _changed(name, key, same, ttl_s or 0, lambda: True)


def push(name: str, key: Any, value: Any, is_first: bool) -> Any:
    """Add a text or number to the front or the end of a list; return how many it has then."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError("bad value type")
    items: list[Any] = []

    def longer(earlier: Value | None) -> Value:
        known = _list(earlier)
        items[:] = [value, *known] if is_first else [*known, value]
        return _stored(items)

    return _changed(name, key, longer, None, lambda: len(items))


def pop(name: str, key: Any, is_first: bool) -> Any:
    """Remove the first or last of a list and return it; an empty list is none. None when absent."""
    taken: list[Any] = [None]

    def shorter(earlier: Value | None) -> Value | None:
        items = _list(earlier)
        if items:
            taken[:] = [items.pop(0 if is_first else -1)]
        return _stored(items) if items else None

    return _changed(name, key, shorter, None, lambda: taken[0])


def length(name: str, key: Any) -> Any:
    """Return how many a list has; 0 when absent."""
    try:
        return len(_list(_dict(name).get(_key(key))))
    except _RefusedError as refused:
        return refused.args


def keys(name: str, most: Any = None) -> list[str]:
    """Return the keys; `most` of them, 0: all."""
    limit = MOST_KEYS if most is None else int(most) or sys.maxsize
    return _dict(name).keys(limit)


def _list(stored: Value | None) -> list[Any]:
    if stored is None:
        return []
    value, _ = _read(stored)
    if not isinstance(value, list):
        raise _RefusedError(*_NO_LIST)
    return value


def _changed(
    name: str, key: Any, change: Callable[[Value | None], Value | None], ttl_s: float | None, result: Callable[[], Any]
) -> Any:
    """Change a value in one step; return the result, or what a refusal says."""
    try:
        _dict(name).update(_key(key), change, ttl_s)
    except _RefusedError as refused:
        return refused.args
    except ValueError:
        return (None, "no memory")
    return result()
