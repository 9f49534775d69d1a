"""`ngx.shared`: dictionaries in the node's memory, over the PDK's; lists and booleans are kept as texts with a mark.

Every name is a dictionary: there is no directive that declares them. What OpenResty's return values say is kept.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headgate.lua.values import bytes_from_lua, text_from_lua
from headgate.pdk.shared_dict import SharedDict, memory_sizes

if TYPE_CHECKING:
    from headgate.lua.vm import Vm

_PREFIX = "ngx."
_BOOLEANS = {True: b"\0true", False: b"\0false"}
_FROM_MARK: dict[bytes, bool] = {mark: value for value, mark in _BOOLEANS.items()}


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


def _stored(value: Any) -> Any:
    if isinstance(value, bool):
        return _BOOLEANS[value]
    if isinstance(value, str):
        return bytes_from_lua(value)
    if isinstance(value, int | float):
        return value
    raise TypeError("bad value type")


def _shown(value: Any) -> Any:
    return _FROM_MARK.get(value, value) if isinstance(value, bytes) else value


def get(name: str, key: Any) -> Any:
    """Return a value; None when absent."""
    return _shown(_dict(name).get(_key(key)))


def set_value(name: str, key: Any, value: Any, ttl_s: Any = 0) -> Any:
    """Store a value, or remove it for nil; (True, None, False) as OpenResty says."""
    if value is None:
        _dict(name).delete(_key(key))
        return True
    try:
        _dict(name).set(_key(key), _stored(value), ttl_s or 0)
    except ValueError as error:
        return (False, str(error), False)
    return True


def add(name: str, key: Any, value: Any, ttl_s: Any = 0) -> Any:
    """Store a value that is not there yet."""
    return True if _dict(name).add(_key(key), _stored(value), ttl_s or 0) else (False, "exists")


def replace(name: str, key: Any, value: Any, ttl_s: Any = 0) -> Any:
    """Store a value in place of an earlier one."""
    shared = _dict(name)
    if shared.get(_key(key)) is None:
        return (False, "not found")
    shared.set(_key(key), _stored(value), ttl_s or 0)
    return True


def incr(name: str, key: Any, amount: Any, init: Any = None, init_ttl_s: Any = 0) -> Any:
    """Add to a number and return it; without `init` an absent one is not made."""
    shared, text = _dict(name), _key(key)
    if init is None and shared.get(text) is None:
        return (None, "not found")
    try:
        return shared.incr(text, amount, init or 0, init_ttl_s or 0)
    except TypeError:
        return (None, "not a number")


def ttl(name: str, key: Any) -> Any:
    """Return the seconds that a key has left; 0 for ever."""
    seconds = _dict(name).ttl_s(_key(key))
    return (None, "not found") if seconds is None else seconds


def expire(name: str, key: Any, ttl_s: Any) -> Any:
    """Give a key another time to live."""
    shared, text = _dict(name), _key(key)
    value = shared.get(text)
    if value is None:
        return (None, "not found")
    shared.set(text, value, ttl_s or 0)
    return True
