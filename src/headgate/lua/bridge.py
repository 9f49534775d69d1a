"""How a Python function becomes a Lua one: arguments in, values out, faults as Lua expects them.

The conventions, in one place: what raises TypeError, ValueError or PhaseError raises in Lua, at the caller; another
error of the gateway's is `nil, text`; `Exit` ends the Lua handler where it stands. `library/headgate/host.lua` has the
other half.
"""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from headgate.errors import GatewayError, PhaseError
from headgate.lua.values import LuaTable, Values, text_from_lua, text_to_lua
from headgate.pdk._call import current_call
from headgate.pdk._exit import Exit
from headgate.pdk._headers import HeaderMap
from headgate.pdk._query import Arguments
from headgate.pdk.request import UriCaptures

RAISE, EXIT = "\0raise", "\0exit"
_RAISED = (TypeError, ValueError, PhaseError, AttributeError, LookupError, RuntimeError)
_ATOMS = frozenset((int, float, bool, type(None)))

_TEXTS = (str, bytes)
MARGIN_BYTES = 32 * 1024 * 1024
NO_LIMIT = 2**62

Function = Callable[..., Any]
get_call = current_call.get


class MemoryLimit:
    """The machine's own limit of memory: in force while a bounded call runs Lua, and not while it runs Python.

    Met within Python, it would leave there without the interpreter's knowing, and the process would never go on.
    """

    __slots__ = ("bytes", "set_most", "used")

    def __init__(self, runtime: Any) -> None:
        self.set_most: Callable[[int], None] = runtime.set_max_memory
        self.used: Callable[[], int] = runtime.get_memory_used
        self.bytes = 0
        self.end()

    def begin(self, more_bytes: float) -> None:
        """Let so much be taken from now on, and `MARGIN_BYTES`, which Lua code finds when it calls Python."""
        self.bytes = self.used() + int(more_bytes) + MARGIN_BYTES
        self.set_most(self.bytes)

    def end(self) -> None:
        """Have no limit."""
        self.bytes = 0
        self.set_most(NO_LIMIT)

    def lift(self) -> None:
        """Have none while a function in Python runs."""
        self.set_most(NO_LIMIT)

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a Lua function for Python code: it has the limit where a bounded call calls it."""

        def run(*arguments: Any) -> Any:
            if not self.bytes:
                return function(*arguments)
            self.restore(None)
            try:
                return function(*arguments)
            finally:
                if self.bytes:
                    self.lift()

        return run

    def restore(self, value: Any) -> None:
        """Have it again, with room for what the function returns."""
        room_bytes = sum(
            len(one) for one in (value if value.__class__ is tuple else (value,)) if one.__class__ in _TEXTS
        )
        self.set_most(max(self.bytes, self.used() + 2 * room_bytes + MARGIN_BYTES))


class Bridge:
    """Makes Lua functions of Python ones, for one machine."""

    def __init__(self, values: Values, host: Any, memory: MemoryLimit) -> None:
        self.values = values
        self._memory = memory
        self._wrap = host["wrap"]
        self._wraps = {count: host[f"wrap{count}"] for count in range(4)}
        self._wrap_heavy = host["wrap_heavy"]
        self._wrap_waiting = host["wrap_waiting"]
        self._mark_headers = host["mark_headers"]

    def function(self, function: Function, *, defaults: tuple[Any, ...] | None = None) -> Any:
        """Return the Lua function for a Python one; `async def` ones wait.

        Positional parameters that Lua leaves out, or gives as nil, get their defaults; more arguments than there are
        parameters are dropped.
        """
        if inspect.iscoroutinefunction(function):
            return self._wrap_waiting(self._starting(function))
        count = _parameter_count(function)
        called = self._converting(function, count)
        return self._wraps.get(-1 if count is None else count, self._wrap)(called)

    def waiting(self, function: Callable[..., Awaitable[Any] | tuple[Any, ...]]) -> Any:
        """Return the Lua function for a Python one that returns an awaitable of Lua values; arguments come as Lua's."""
        return self._wrap_waiting(self._raw(function))

    def raw(self, function: Function) -> Any:
        """Return the Lua function for a Python one that takes and returns Lua's values itself."""
        return self._wrap(self._raw(function))

    def heavy(self, function: Function) -> Any:
        """Return as `raw` the Lua function for a Python one that can take long: its time counts in budgets."""
        return self._wrap_heavy(self._raw(function))

    def result(self, value: Any) -> Any:
        """Return what a PDK function returned as Lua gets it: (values, …) where it is more than one."""
        kind = value.__class__
        if kind is str:
            return value if value.isascii() else text_to_lua(value)
        if kind in _ATOMS or kind is bytes:
            return value
        if kind is HeaderMap:
            table = self._mark_headers(self.values.to_lua(dict(value)))
            return (table, "truncated") if value.truncated else table
        if kind is Arguments:
            table = self.values.to_lua(dict(value))
            return (table, "truncated") if value.truncated else table
        if isinstance(value, tuple):
            return tuple(self.result(item) for item in value)
        if kind is UriCaptures:
            return self._captures(value)
        return self.values.to_lua(value)

    def _captures(self, captures: UriCaptures) -> Any:
        """Return the captures of a path: the whole match is `unnamed[0]`, groups follow."""
        unnamed = self.values.to_lua([])
        for position, text in enumerate(captures.unnamed):
            unnamed[position] = self.values.to_lua(text)
        table = self.values.to_lua({"named": captures.named})
        table["unnamed"] = unnamed
        return table

    def fault(self, error: BaseException) -> tuple[Any, ...]:
        """Return what the Lua half makes of an exception."""
        if isinstance(error, Exit):
            return (None, None, EXIT)
        text = text_to_lua(str(error) or type(error).__name__)
        if isinstance(error, _RAISED):
            return (None, text, RAISE)
        if isinstance(error, GatewayError):
            mime = getattr(error, "mime", None)
            return (None, text, mime) if mime is not None else (None, text)
        return (None, f"{type(error).__name__}: {text}", RAISE)

    def _raw(self, function: Function) -> Function:
        fault, memory = self.fault, self._memory
        count = _parameter_count(function)
        least = _required_count(function)

        def called(*arguments: Any) -> Any:
            if memory.bytes:
                return unlimited(*arguments)
            try:
                if len(arguments) < least:
                    # What Lua leaves out is nil.
                    arguments += (None,) * (least - len(arguments))
                return function(*arguments[:count])
            except (Exception, Exit) as error:
                return fault(error)

        def unlimited(*arguments: Any) -> Any:
            memory.lift()
            value = None
            try:
                value = function(*arguments[:count])
            except (Exception, Exit) as error:
                value = fault(error)
            finally:
                memory.restore(value)
            return value

        return called

    def _converting(self, function: Function, count: int | None) -> Function:
        fault, result, from_lua, memory = self.fault, self.result, self.values.from_lua, self._memory
        defaults = _defaults(function)
        least = _required_count(function)

        def called(*arguments: Any) -> Any:
            if not memory.bytes:
                return unlimited(*arguments)
            memory.lift()
            value = None
            try:
                value = unlimited(*arguments)
            finally:
                memory.restore(value)
            return value

        def unlimited(*arguments: Any) -> Any:
            try:
                given = [
                    argument
                    if argument.__class__ in _ATOMS
                    else (
                        (argument if argument.isascii() else text_from_lua(argument))
                        if argument.__class__ is str
                        else from_lua(argument)
                    )
                    for argument in arguments[:count]
                ]
                if len(given) < least:
                    given += [None] * (least - len(given))
                if defaults and None in given:
                    given = [
                        defaults.get(position) if argument is None else argument
                        for position, argument in enumerate(given)
                    ]
                value = function(*given)
            except (Exception, Exit) as error:
                return fault(error)
            if value.__class__ is str and value.isascii():
                return value
            return result(value)

        # The common cases check the phase themselves: one frame less than the guard of the function has.
        inner, owner, mask = _unguarded(function)

        def without_arguments(*_: Any) -> Any:
            call = get_call()
            if call is None or not call.phase & mask:
                return called()
            try:
                value = inner(owner, call)
            except (Exception, Exit) as error:
                return fault(error)
            if value.__class__ is str and value.isascii():
                return value
            return result(value)

        def one_text(argument: Any = None, *_: Any) -> Any:
            call = get_call()
            if argument.__class__ is not str or not argument.isascii() or call is None or not call.phase & mask:
                return called(argument)
            try:
                value = inner(owner, call, argument)
            except (Exception, Exit) as error:
                return fault(error)
            if value.__class__ is str and value.isascii():
                return value
            return result(value)

        def two_texts(first: Any = None, second: Any = None, *rest: Any) -> Any:
            call = get_call()
            if (
                not (first.__class__ is str and second.__class__ is str and first.isascii() and second.isascii())
                or call is None
                or not call.phase & mask
            ):
                return called(first, second, *rest)
            try:
                value = inner(owner, call, first, second)
            except (Exception, Exit) as error:
                return fault(error)
            if value is None or (value.__class__ is str and value.isascii()):
                return value
            return result(value)

        return {0: without_arguments, 1: one_text, 2: two_texts}.get(-1 if count is None else count, called)

    def _starting(self, function: Callable[..., Awaitable[Any]]) -> Function:
        from_lua, fault, result = self.values.from_lua, self.fault, self.result
        count = _parameter_count(function)

        async def run(arguments: tuple[Any, ...]) -> Any:
            try:
                return result(await function(*arguments))
            except (Exception, Exit) as error:
                return fault(error)

        def start(*arguments: Any) -> Any:
            try:
                return run(tuple(from_lua(argument) for argument in arguments[:count]))
            except ValueError as error:
                return fault(error)

        return start


def _unguarded(function: Function) -> tuple[Function, Any, int]:
    """Return the function behind a guard, the object it belongs to, and the phases it may be called in.

    Of a function without a guard that mask is 0: the guarded way is taken.
    """
    inner = getattr(function, "__unguarded__", None)
    if inner is None or not inspect.ismethod(function):
        return function, None, 0
    return inner, function.__self__, int(function.__mask__)  # type: ignore[attr-defined]


def _parameter_count(function: Function) -> int | None:
    """Return how many positional arguments a function takes; None for any number."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return None
    if any(one.kind is one.VAR_POSITIONAL for one in parameters):
        return None
    return len(parameters)


def _required_count(function: Function) -> int:
    """Return how many positional arguments a function cannot do without."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return 0
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in kinds and one.default is one.empty for one in parameters)


def _defaults(function: Function) -> dict[int, Any]:
    """Return the defaults that are not None, by position."""
    return {
        position: one.default
        for position, one in enumerate(inspect.signature(function).parameters.values())
        if one.default is not one.empty and one.default is not None
    }


def is_table(value: Any) -> bool:
    """Tell whether a value is a Lua table."""
    return value.__class__ is LuaTable
