"""Modules as functions in Python get them: functions, classes and values, and none of the modules that these import.

Owns the views, which keep a function from `re.enum.sys.modules`, and what stands in for the parts of a few modules that
would hold the engine's thread or fill its memory: `time.sleep`, expressions without end, factorials, JSON.
"""

import importlib
import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

import regex

from headgate.plugins import _python_budget as budget
from headgate.plugins import _python_memory as memory

_MOST_FACTORIAL = 20_000
_MOST_PATTERN = 4096


class Pattern:
    """A compiled expression whose calls end with the budget."""

    __slots__ = ("_compiled", "flags", "groupindex", "groups", "pattern")

    def __init__(self, source: Any, flags: int = 0) -> None:
        if len(source) > _MOST_PATTERN or _is_repeated_much(source):
            raise ValueError("the expression is too large")
        self._compiled = regex.compile(source, flags | regex.V0)
        self.pattern = source
        self.flags = flags
        self.groups: int = self._compiled.groups
        self.groupindex: Mapping[str, int] = dict(self._compiled.groupindex)

    def match(self, text: Any, *limits: int) -> Any:
        """Match at the start."""
        return self._compiled.match(text, *limits, timeout=budget.seconds_left())

    def fullmatch(self, text: Any, *limits: int) -> Any:
        """Match the whole text."""
        return self._compiled.fullmatch(text, *limits, timeout=budget.seconds_left())

    def search(self, text: Any, *limits: int) -> Any:
        """Find the first match."""
        return self._compiled.search(text, *limits, timeout=budget.seconds_left())

    def finditer(self, text: Any, *limits: int) -> Iterator[Any]:
        """Go over the matches."""
        return budget.counted(self._compiled.finditer(text, *limits, timeout=budget.seconds_left()))

    def findall(self, text: Any, *limits: int) -> list[Any]:
        """Return the texts of all matches."""
        if self.groups > 1:
            return [found.groups("") for found in self.finditer(text, *limits)]
        return [found.group(self.groups) or text[:0] for found in self.finditer(text, *limits)]

    def split(self, text: Any, maxsplit: int = 0) -> list[Any]:
        """Return what is between the matches."""
        return list(self._compiled.split(text, maxsplit, timeout=budget.seconds_left()))

    def sub(self, replacement: Any, text: Any, count: int = 0) -> Any:
        """Return the text with the matches replaced."""
        return self.subn(replacement, text, count)[0]

    def subn(self, replacement: Any, text: Any, count: int = 0) -> Any:
        """Return the text with the matches replaced, and how many there were."""
        if not callable(replacement) and len(replacement) > 1:
            matches = sum(1 for _ in self.finditer(text))
            budget.reserve(memory.size_of(text) + matches * len(replacement) * (1 + replacement.count(replacement[:0])))
        return self._compiled.subn(replacement, text, count, timeout=budget.seconds_left())


_REPEATS = re.compile(r"\{(\d*)(?:,(\d*))?\}")


def _is_repeated_much(source: Any) -> bool:
    """Say whether counted repetitions, were all of them within each other, would be more than 65,535."""
    text = source.decode("latin-1") if isinstance(source, bytes) else source
    product = 1
    for least, most in _REPEATS.findall(text):
        product *= max(1, int((least or "0")[:9]), int((most or "0")[:9]))
    return product > 65_535


@cache
def _compiled(source: Any, flags: int) -> Pattern:
    return Pattern(source, flags)


def _pattern(source: Any, flags: int = 0) -> Pattern:
    if isinstance(source, Pattern):
        return source
    if _compiled.cache_info().currsize > 1024:
        _compiled.cache_clear()
    return _compiled(source, int(flags))


def _expressions() -> Mapping[str, Any]:
    names: dict[str, Any] = {
        name: getattr(regex, name)
        for name in (*("I", "IGNORECASE", "M", "MULTILINE", "S", "DOTALL", "X", "VERBOSE", "A", "ASCII"), "escape")
    }
    for name in ("match", "fullmatch", "search", "finditer", "findall", "split", "sub", "subn"):
        names[name] = _by_source(name)
    return names | {"compile": _pattern, "error": regex.error}


def _by_source(name: str) -> Callable[..., Any]:
    def run(source: Any, *given: Any, flags: int = 0, **named: Any) -> Any:
        takes = 2 if name in ("sub", "subn") else 1
        if name not in ("split", "sub", "subn") and len(given) > takes:
            flags, given = given[takes], given[:takes]
        return getattr(_pattern(source, flags), name)(*given, **named)

    return run


def _whole(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*numbers: int) -> Any:
        if any(number > _MOST_FACTORIAL for number in numbers):
            budget.reserve(1 << 62)
        return function(*numbers)

    return run


_IN_PLACE: Mapping[str, Callable[[], Mapping[str, Any]]] = {
    "re": _expressions,
    "json": lambda: {
        "dumps": memory.json_dumps,
        "loads": memory.json_loads,
        "JSONDecodeError": json.JSONDecodeError,
    },
    "math": lambda: _public(math) | {name: _whole(getattr(math, name)) for name in ("factorial", "comb", "perm")},
    "time": lambda: {name: value for name, value in _public(time).items() if name != "sleep"},
    "string": lambda: {
        name: value for name, value in _public(importlib.import_module("string")).items() if isinstance(value, str)
    },
}


def _public(module: ModuleType) -> dict[str, Any]:
    names = getattr(module, "__all__", None) or [name for name in vars(module) if name[0] != "_"]
    return {
        name: value for name in names if name[0] != "_" and not isinstance(value := getattr(module, name), ModuleType)
    }


@cache
def view(name: str) -> SimpleNamespace:
    """Return what functions see of a module. Raises: ImportError."""
    own = _IN_PLACE.get(name)
    return SimpleNamespace(**(own() if own is not None else _public(importlib.import_module(name))))
