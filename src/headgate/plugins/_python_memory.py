"""What functions in Python may make in one piece: what makes something large looks at its size first.

Owns the rules by which sizes are known beforehand, and what restricted sources get in place of `list`, `str.join`, `*`
and their like. Sizes are estimates in bytes; what is made item by item is counted in steps (`_python_budget`), and the
worker's memory is looked at on the way. Nothing here keeps anybody from anything but filling the memory.
"""

import builtins
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from headgate.plugins._python_budget import LARGE_BYTES, counted, look, reserve, step

_ITEM_BYTES = 8
_ENTRY_BYTES = 100
_PIECE_BYTES = 60
MOST_BITS = 1_000_000
"""Of a whole number that an operator makes (own choice): more take long as well."""

_TEXTS = (str, bytes, bytearray)
_LISTS = (list, tuple)
_TABLES = (dict, set, frozenset)
_SIZED = (*_TEXTS, *_LISTS, *_TABLES)
_NUMBERS = frozenset((int, float, bool))


def size_of(value: Any) -> int:
    """Return how many bytes a copy of a value takes, without what it holds."""
    if isinstance(value, str):
        return len(value) if value.isascii() else 4 * len(value)
    if isinstance(value, (bytes, bytearray)):
        return len(value)
    if isinstance(value, (*_LISTS, range)):
        return _ITEM_BYTES * len(value)
    if isinstance(value, _TABLES):
        return _ENTRY_BYTES * len(value)
    return 0


def walked(value: Any) -> Any:
    """Count all that a value holds, as often as it would be written out: one step each. Returns the value."""
    stack = [value]
    size = 0
    while stack:
        one = stack.pop()
        if isinstance(one, dict):
            stack += one
            stack += one.values()
        elif isinstance(one, (list, tuple, set, frozenset)):
            stack += one
        else:
            size += size_of(one)
            if one is value:
                break
        if len(stack) > 1_000_000:
            reserve(_ITEM_BYTES * len(stack))
        step()
    reserve(size)
    return value


# -- operators --------------------------------------------------------------------------------------------------------


def added(first: Any, second: Any) -> Any:
    """Return `first + second`."""
    if first.__class__ not in _NUMBERS:
        size = size_of(first) + size_of(second)
        if size > LARGE_BYTES:
            reserve(size)
    return first + second


def multiplied(first: Any, second: Any) -> Any:
    """Return `first * second`."""
    for many, times in ((first, second), (second, first)):
        if isinstance(times, int) and isinstance(many, _SIZED):
            reserve(size_of(many) * times)
    if isinstance(first, int) and isinstance(second, int):
        _check_bits(first.bit_length() + second.bit_length())
    return first * second


def powered(first: Any, second: Any, modulus: Any = None) -> Any:
    """Return `first ** second`."""
    if isinstance(first, int) and isinstance(second, int):
        if modulus is None and second > 0:
            _check_bits(first.bit_length() * second)
        elif isinstance(modulus, int):
            # It takes time with the third power of its length.
            _check_bits(max(second.bit_length(), modulus.bit_length()) * (MOST_BITS // 16_384))
    return pow(first, second, modulus)


def shifted(first: Any, second: Any) -> Any:
    """Return `first << second`."""
    if isinstance(first, int) and isinstance(second, int):
        _check_bits(first.bit_length() + second)
    return first << second


def _check_bits(bits: int) -> None:
    if bits > MOST_BITS:
        reserve(1 << 62)


_DIGITS = re.compile(rb"\d+")


def remainder(first: Any, second: Any) -> Any:
    """Return `first % second`, which formats when the first is a text."""
    if isinstance(first, _TEXTS):
        raw = first.encode("utf-8", "replace") if isinstance(first, str) else bytes(first)
        values = (
            second if isinstance(second, tuple) else tuple(second.values()) if isinstance(second, dict) else (second,)
        )
        for one in values:
            if isinstance(one, (*_LISTS, *_TABLES)):
                walked(one)
        largest = max((size_of(one) for one in values), default=0)
        widths = sum(int(found[:12]) for found in _DIGITS.findall(raw))
        stars = sum(abs(one) for one in values if isinstance(one, int)) if b"*" in raw else 0
        reserve(len(raw) + widths + stars + raw.count(b"%") * largest)
    return first % second


def in_place(operation: str, target: Any, value: Any) -> Any:
    """Do an augmented assignment."""
    if operation == "+=" and isinstance(target, list):
        return extended(target, value)
    return _IN_PLACE[operation](target, value)


def extended(target: list[Any], values: Any) -> list[Any]:
    """Put values behind those of a list."""
    if isinstance(values, _SIZED):
        reserve(size_of(target) + _ITEM_BYTES * len(values))
        target.extend(values)
    else:
        target.extend(counted(values))
    return target


_IN_PLACE: Mapping[str, Callable[[Any, Any], Any]] = {
    "+=": added,
    "-=": lambda a, b: a - b,
    "*=": multiplied,
    "/=": lambda a, b: a / b,
    "//=": lambda a, b: a // b,
    "%=": remainder,
    "**=": powered,
    "|=": lambda a, b: a | b,
    "&=": lambda a, b: a & b,
    "^=": lambda a, b: a ^ b,
    "<<=": shifted,
    ">>=": lambda a, b: a >> b,
}


def formatted(value: Any, conversion: int, form: str = "") -> str:
    """Return a part of an f-string."""
    if isinstance(value, (*_LISTS, *_TABLES)):
        walked(value)
    reserve(sum(int(found[:12]) for found in re.findall(r"\d+", form)) + size_of(value))
    if conversion == ord("r"):
        value = builtins.repr(value)
    elif conversion == ord("s"):
        value = builtins.str(value)
    elif conversion == ord("a"):
        value = builtins.ascii(value)
    return format(value, form)


def joined(*parts: str) -> str:
    """Return an f-string."""
    reserve(sum(map(size_of, parts)))
    return "".join(parts)


def starred(values: Any) -> Any:
    """Return what `*` takes apart."""
    if isinstance(values, _SIZED):
        reserve(_ITEM_BYTES * len(values))
        return values
    return counted(values)


def sliced_in(value: Any) -> Any:
    """Return what is put into a slice."""
    if not isinstance(value, _SIZED):
        value = list(counted(value))
    reserve(2 * size_of(value))
    return value


def item(container: Any, index: Any) -> Any:
    """Return `container[index]`."""
    if index.__class__ is slice:
        reserve(size_of(container))
    return container[index]


# -- types and functions ----------------------------------------------------------------------------------------------


class GuardedType(type):
    """Of a class that stands for a built-in type: making one looks at the size, being one is being of the real type."""

    real: type
    make: Callable[..., Any]

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        return cls.make(*arguments, **named)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, cls.real)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(getattr(subclass, "real", subclass), cls.real)

    def __getitem__(cls, parameters: Any) -> Any:
        return cls.real[parameters]  # type: ignore[index]

    def __or__(cls, other: Any) -> Any:
        return object

    def __repr__(cls) -> str:
        return repr(cls.real)


def _guarded(real: type, make: Callable[..., Any]) -> GuardedType:
    return GuardedType(real.__name__, (), {"real": real, "make": staticmethod(make)})


def _sized(values: Any, bytes_of_each: int) -> Any:
    """Return values for a container that is about to be made of them."""
    if isinstance(values, (*_SIZED, range)):
        reserve(bytes_of_each * len(values))
        return values
    return counted(values)


def _collection(real: type, bytes_of_each: int) -> GuardedType:
    return _guarded(real, lambda *given: real(*(_sized(one, bytes_of_each) for one in given)))


def _octets(real: type) -> GuardedType:
    def make(source: Any = b"", *rest: Any) -> Any:
        if isinstance(source, int):
            reserve(source)
        elif isinstance(source, _TEXTS):
            reserve(4 * len(source))
        else:
            source = list(counted(source))
        return real(source, *rest)

    return _guarded(real, make)


def _dict(*given: Any, **named: Any) -> dict[Any, Any]:
    return dict(*(_sized(one, _ENTRY_BYTES) for one in given), **named)


def _str(value: Any = "", *rest: Any) -> str:
    if isinstance(value, (*_LISTS, *_TABLES)):
        walked(value)
    else:
        reserve(2 * size_of(value))
    return str(value, *rest)


def _repr(value: Any) -> str:
    if isinstance(value, (*_LISTS, *_TABLES)):
        walked(value)
    else:
        reserve(4 * size_of(value))
    return repr(value)


def _sum(values: Any, start: Any = 0) -> Any:
    total = start
    for one in counted(values):
        total = added(total, one)
    return total


def _sorted(values: Any, **named: Any) -> list[Any]:
    return sorted(_sized(values, _ITEM_BYTES), **named)


def _consuming(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that goes over an iterable, which is counted."""

    def run(*given: Any, **named: Any) -> Any:
        if len(given) == 1 and not isinstance(given[0], _SIZED):
            return function(counted(given[0]), **named)
        return function(*given, **named)

    return run


def _chained(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what makes an iterator: what the iterator gives is counted, also where the library goes over it."""

    def run(*given: Any, **named: Any) -> Iterator[Any]:
        return counted(function(*given, **named))

    return run


NAMES: Mapping[str, Any] = {
    "list": _collection(list, _ITEM_BYTES),
    "tuple": _collection(tuple, _ITEM_BYTES),
    "set": _collection(set, _ENTRY_BYTES),
    "frozenset": _collection(frozenset, _ENTRY_BYTES),
    "dict": _guarded(dict, _dict),
    "bytes": _octets(bytes),
    "bytearray": _octets(bytearray),
    "str": _guarded(str, _str),
    "range": range,
    "repr": _repr,
    "sum": _sum,
    "sorted": _sorted,
    "pow": powered,
    "any": _consuming(any),
    "all": _consuming(all),
    "max": _consuming(max),
    "min": _consuming(min),
    "map": _chained(map),
    "filter": _chained(filter),
    "zip": _chained(zip),
    "enumerate": _chained(enumerate),
    "reversed": reversed,
    "next": next,
    # With a function in place of a collection it would go on for ever where nothing counts.
    "iter": lambda values: iter(values),
}
"""What restricted sources find in place of the built-in functions and types."""


# -- methods ----------------------------------------------------------------------------------------------------------


def _joining(own: Any, values: Any) -> Any:
    items = values if isinstance(values, _LISTS) else list(counted(values))
    reserve(sum(map(size_of, items)) + size_of(own) * len(items))
    return own.join(items)


def _replacing(own: Any, old: Any, new: Any, most: int = -1) -> Any:
    count = own.count(old) if most < 0 else min(most, own.count(old))
    reserve(size_of(own) + count * size_of(new))
    return own.replace(old, new, most)


def _padding(name: str) -> Callable[..., Any]:
    def run(own: Any, width: int, *fill: Any) -> Any:
        reserve(4 * width)
        return getattr(own, name)(width, *fill)

    return run


def _expanding(own: Any, tabsize: int = 8) -> Any:
    tab: Any = "\t" if isinstance(own, str) else b"\t"
    reserve(size_of(own) + own.count(tab) * tabsize)
    return own.expandtabs(tabsize)


def _translating(own: Any, table: Any, *rest: Any) -> Any:
    largest = max((size_of(one) for one in table.values()), default=1) if isinstance(table, dict) else 1
    reserve(len(own) * max(4, largest))
    return own.translate(table, *rest)


def _splitting(name: str) -> Callable[..., Any]:
    def run(own: Any, separator: Any = None, *rest: Any, **named: Any) -> Any:
        spaces: tuple[Any, ...] = (" ", "\n", "\t", "\r") if isinstance(own, str) else (b" ", b"\n", b"\t", b"\r")
        marks = (separator,) if separator else spaces
        pieces = sum(own.count(mark) for mark in marks) + 1
        if name == "splitlines":
            return own.splitlines(*(() if separator is None else (separator,)), *rest, **named)
        reserve(size_of(own) + pieces * _PIECE_BYTES)
        return getattr(own, name)(separator, *rest, **named)

    return run


def _extending(own: Any, values: Any) -> None:
    extended(own, values)


def _updating(own: Any, *others: Any, **named: Any) -> None:
    own.update(*(_sized(one, _ENTRY_BYTES) for one in others), **named)


def _to_bytes(own: int, length: int = 1, *rest: Any, **named: Any) -> bytes:
    reserve(length)
    return own.to_bytes(length, *rest, **named)


def _of_text(method: Callable[..., Any]) -> dict[type, Callable[..., Any]]:
    return dict.fromkeys(_TEXTS, method)


_METHODS: Mapping[str, Mapping[type, Callable[..., Any]]] = {
    "join": _of_text(_joining),
    "replace": _of_text(_replacing),
    "expandtabs": _of_text(_expanding),
    "translate": _of_text(_translating),
    **{name: _of_text(_padding(name)) for name in ("center", "ljust", "rjust", "zfill")},
    **{name: _of_text(_splitting(name)) for name in ("split", "rsplit", "splitlines")},
    "extend": {list: _extending, bytearray: lambda own, values: own.extend(_sized(values, 1))},
    "update": {dict: _updating, set: _updating},
    "to_bytes": {int: _to_bytes, bool: _to_bytes},
}


def attribute(owner: Any, name: str, safe: Callable[[Any, str], Any]) -> Any:
    """Return an attribute; of the built-in types, methods that look at sizes first. Args: safe, what refuses names."""
    if owner.__class__ is GuardedType:
        real = owner.real
        value = safe(real, name)
        if name == "fromkeys":
            return lambda keys, *rest: value(_sized(keys, _ENTRY_BYTES), *rest)
        method = _METHODS.get(name, {}).get(real)
        return method or value
    kind = owner.__class__
    value = safe(owner, name)
    rules = _METHODS.get(name)
    if rules is not None and kind in rules:
        rule = rules[kind]
        return lambda *given, **named: rule(owner, *given, **named)
    if kind in _SIZED and len(owner) > LARGE_BYTES:
        # A copy, changed in one way or the other.
        reserve(4 * size_of(owner))
        look()
    return value


def json_dumps(value: Any, *given: Any, **named: Any) -> str:
    """Return JSON, with what it holds counted before."""
    walked(value)
    indent = named.get("indent")
    if (indent if isinstance(indent, int) else len(indent or "")) > 64:
        raise ValueError("indent is too large")
    return json.dumps(value, *given, **named)


def json_loads(text: Any, *given: Any, **named: Any) -> Any:
    """Return what a text of JSON says."""
    reserve(8 * len(text))
    try:
        return json.loads(text, *given, **named)
    finally:
        look()
