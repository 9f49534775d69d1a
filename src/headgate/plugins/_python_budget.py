"""What a call of a function in Python may take: rounds of loops, calls, and time.

Owns the counting and how sources are made to count: each round of a loop, each call of a function or lambda of theirs
is one step. A call that is over its budget ends with `BudgetError`, which no `except Exception` of the source catches
and which is raised anew at each further step. What runs in one piece outside of the source (a regular expression, a
sort, a sleep) is not interrupted; results that would be huge are refused where an operator makes them.
"""

import ast
import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Protocol

from headgate.lua.limits import MOST_SECONDS, instructions_of

INSTRUCTIONS_OF_A_STEP = 10
"""A step of Python stands for so many instructions of the setting `untrusted_lua_instructions` (own choice)."""

MOST_ITEMS = 16 * 1024 * 1024
"""Of a text or list that an operator makes (own choice)."""

MOST_BITS = 1_000_000
"""Of a whole number that an operator makes (own choice)."""

_STEPS_PER_LOOK = 64


class BudgetError(BaseException):
    """A call took more than it may; it is told as a RuntimeError when it has left the source."""


class Settings(Protocol):
    """The node's settings by name; None for what is not set."""

    def __getitem__(self, name: str, /) -> Any: ...


class Budget:
    """What is left for one call; `steps` 0 is no limit of steps."""

    __slots__ = ("_has_limit", "_left", "_started_s", "_text")

    def __init__(self, steps: int) -> None:
        self._has_limit = steps > 0
        self._left = steps
        self._started_s = time.perf_counter()
        self._text: str | None = None

    def step(self) -> None:
        """Count one. Raises: BudgetError."""
        self._left -= 1
        if self._left % _STEPS_PER_LOOK == 0 or self._text is not None or self._left < 0:
            self._look()

    def _look(self) -> None:
        if self._text is None:
            if self._has_limit and self._left < 0:
                self._text = "the function took more steps than it may"
            elif time.perf_counter() - self._started_s > MOST_SECONDS:
                self._text = f"the function took more than {MOST_SECONDS:g} s"
        if self._text is not None:
            raise BudgetError(self._text)

    def leave_out(self, seconds: float) -> None:
        """Do not count a time of waiting."""
        self._started_s += seconds


_current: ContextVar[Budget | None] = ContextVar("python_function_budget", default=None)


def budget_of(configuration: Settings) -> Budget:
    """Return a new budget by the node's settings."""
    instructions = instructions_of(configuration["untrusted_lua_instructions"])
    return Budget(-(-instructions // INSTRUCTIONS_OF_A_STEP))


def bounded(function: Callable[..., Any], new_budget: Callable[[], Budget]) -> Callable[..., Any]:
    """Return a function that runs another one, or what it returns to be awaited, within a budget of its own."""

    def run(*arguments: Any, **named: Any) -> Any:
        budget = new_budget()
        token = _current.set(budget)
        try:
            returned = function(*arguments, **named)
        except BudgetError as error:
            raise RuntimeError(str(error)) from None
        finally:
            _current.reset(token)
        return _awaited(returned, budget) if inspect.isawaitable(returned) else returned

    return run


async def _awaited(awaitable: Any, budget: Budget) -> Any:
    token = _current.set(budget)
    # From the call to here it waited for the loop.
    budget.leave_out(time.perf_counter() - budget._started_s)
    try:
        return await awaitable
    except BudgetError as error:
        raise RuntimeError(str(error)) from None
    finally:
        _current.reset(token)


# -- what sources call ------------------------------------------------------------------------------------------------


def step() -> bool:
    """Count a round or call of the running function; True."""
    budget = _current.get()
    if budget is not None:
        budget.step()
    return True


def counted(iterable: Iterable[Any]) -> Iterator[Any]:
    """Yield what an iterable has, one step for each."""
    for item in iterable:
        step()
        yield item


async def waited(awaitable: Any) -> Any:
    """Await something without counting the time."""
    budget = _current.get()
    started_s = time.perf_counter()
    try:
        return await awaitable
    finally:
        if budget is not None:
            budget.leave_out(time.perf_counter() - started_s)


def uncounted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function whose time is not counted: it may wait for a body."""

    def run(*arguments: Any, **named: Any) -> Any:
        budget = _current.get()
        started_s = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            if budget is not None:
                budget.leave_out(time.perf_counter() - started_s)

    return run


def multiplied(first: Any, second: Any) -> Any:
    """Return `first * second`. Raises: ValueError for a result that is too large."""
    for many, times in ((first, second), (second, first)):
        if isinstance(times, int) and hasattr(many, "__len__") and len(many) * times > MOST_ITEMS:
            raise ValueError("the result is too large")
    if isinstance(first, int) and isinstance(second, int) and first.bit_length() + second.bit_length() > MOST_BITS:
        raise ValueError("the result is too large")
    return first * second


def powered(first: Any, second: Any, modulus: Any = None) -> Any:
    """Return `first ** second`. Raises: ValueError for a result that is too large."""
    is_whole = modulus is None and isinstance(first, int) and isinstance(second, int)
    if is_whole and second > 0 and first.bit_length() * second > MOST_BITS:
        raise ValueError("the result is too large")
    return pow(first, second, modulus)


def shifted(first: Any, second: Any) -> Any:
    """Return `first << second`. Raises: ValueError for a result that is too large."""
    if isinstance(first, int) and isinstance(second, int) and second > MOST_BITS:
        raise ValueError("the result is too large")
    return first << second


NAMES: Mapping[str, Any] = {
    "_step_": step,
    "_waited_": waited,
    "_multiplied_": multiplied,
    "_powered_": powered,
    "_shifted_": shifted,
}
"""What sources find for what is put into them."""

_OPERATIONS: Mapping[type[ast.operator], str] = {
    ast.Mult: "_multiplied_",
    ast.Pow: "_powered_",
    ast.LShift: "_shifted_",
}


class Counting(ast.NodeTransformer):
    """Puts the counting into a tree that the policy of restricted Python has passed."""

    def visit(self, node: ast.AST) -> Any:
        """Return a node with the counting in it and below it."""
        self.generic_visit(node)
        if isinstance(node, (ast.While, ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body.insert(0, ast.Expr(_call("_step_")))
        elif isinstance(node, ast.Lambda):
            node.body = ast.IfExp(test=_call("_step_"), body=node.body, orelse=ast.Constant(None))
        elif isinstance(node, ast.Await):
            node.value = _call("_waited_", node.value)
        elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
            return _call(_OPERATIONS[type(node.op)], node.left, node.right)
        return node


def _call(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(func=ast.Name(id=name, ctx=ast.Load()), args=list(arguments), keywords=[])
