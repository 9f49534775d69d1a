"""What a call of a function in Python may take: rounds of loops, calls, time and memory.

Memory is that of the process (`/proc/self/statm`, where there is one): a call must not see it grow by more than the
limit, and asks before something large is made (`reserve`). Owns the counting and how sources are made to count: each
round of a loop, each call of a function or lambda of theirs is one step. A call that is over its budget ends with
`BudgetError`, which no `except Exception` of the source catches and which is raised anew at each further step. What
runs in one piece outside of the source (a sort, a comparison of large values) is not interrupted; sizes of results are
the matter of `_python_memory`.
"""

import ast
import inspect
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Protocol

from headgate.lua.limits import MOST_SECONDS, instructions_of, memory_of

INSTRUCTIONS_OF_A_STEP = 10
"""A step of Python stands for so many instructions of the setting `untrusted_lua_instructions` (own choice)."""

LARGE_BYTES = 64 * 1024
"""From which on something that is made is asked for (own choice)."""

_STEPS_PER_LOOK = 64
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_STATM = "/proc/self/statm"


class BudgetError(BaseException):
    """A call took more than it may; it is told as a RuntimeError when it has left the source."""


class Settings(Protocol):
    """The node's settings by name; None for what is not set."""

    def __getitem__(self, name: str, /) -> Any: ...


def _open_statm() -> int:
    try:
        return os.open(_STATM, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


class _Resident:
    """The memory of this process; the file is opened by each process, since it is about who opened it."""

    __slots__ = ("_file", "_process")

    def __init__(self) -> None:
        self._file, self._process = -1, 0

    def bytes(self) -> int:
        """Return how much there is; 0 where the system does not tell."""
        if self._process != os.getpid():
            self._file, self._process = _open_statm(), os.getpid()
        if self._file < 0:
            return 0
        return int(os.pread(self._file, 64, 0).split()[1]) * _PAGE_BYTES


_resident = _Resident()


class Budget:
    """What is left for one call; `steps` 0 is no limit of steps."""

    __slots__ = ("_has_limit", "_left", "_memory_bytes", "_resident_bytes", "_started_s", "_text")

    def __init__(self, steps: int, memory_bytes: int) -> None:
        self._has_limit = steps > 0
        self._left = steps
        self._memory_bytes = memory_bytes
        self._resident_bytes = _resident.bytes()
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
            elif self._grown() > self._memory_bytes:
                self._text = self._too_much()
        if self._text is not None:
            raise BudgetError(self._text)

    def _grown(self) -> int:
        return _resident.bytes() - self._resident_bytes

    def _too_much(self) -> str:
        return f"the function took more than {self._memory_bytes} bytes of memory"

    def look(self) -> None:
        """Look at time and memory. Raises: BudgetError."""
        self._look()

    def reserve(self, size_bytes: int) -> None:
        """Ask for the memory of something large. Raises: BudgetError."""
        if size_bytes > self._memory_bytes or self._grown() + size_bytes > self._memory_bytes:
            self._text = self._text or self._too_much()
        self._look()

    def seconds_left(self) -> float:
        """Return how long the call may go on. Raises: BudgetError."""
        self._look()
        return max(0.001, MOST_SECONDS - (time.perf_counter() - self._started_s))

    def now(self) -> tuple[float, int]:
        """Return what `leave_out` wants to know of the time before."""
        return time.perf_counter(), _resident.bytes()

    def leave_out(self, since: tuple[float, int]) -> None:
        """Do not count a time of waiting, nor what others took in it."""
        self._started_s += time.perf_counter() - since[0]
        self._resident_bytes += _resident.bytes() - since[1]

    def leave_out_start(self) -> None:
        """Do not count what was until now."""
        self._started_s = time.perf_counter()
        self._resident_bytes = _resident.bytes()


_current: ContextVar[Budget | None] = ContextVar("python_function_budget", default=None)


def budget_of(configuration: Settings) -> Budget:
    """Return a new budget by the node's settings."""
    instructions = instructions_of(configuration["untrusted_lua_instructions"])
    memory_bytes = memory_of(configuration["untrusted_lua_memory"])
    return Budget(-(-instructions // INSTRUCTIONS_OF_A_STEP), memory_bytes)


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
    budget.leave_out_start()
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


def reserve(size_bytes: int) -> None:
    """Ask for the memory of what is about to be made, where that is large. Raises: BudgetError."""
    if size_bytes > LARGE_BYTES:
        budget = _current.get()
        if budget is not None:
            budget.reserve(size_bytes)


def look() -> None:
    """Look at time and memory of the running function. Raises: BudgetError."""
    budget = _current.get()
    if budget is not None:
        budget.look()


def seconds_left() -> float:
    """Return how long the running function may go on. Raises: BudgetError."""
    budget = _current.get()
    return MOST_SECONDS if budget is None else budget.seconds_left()


def counted(iterable: Iterable[Any]) -> Iterator[Any]:
    """Yield what an iterable has, one step for each."""
    for item in iterable:
        step()
        yield item


async def waited(awaitable: Any) -> Any:
    """Await something without counting the time."""
    budget = _current.get()
    since = None if budget is None else budget.now()
    try:
        return await awaitable
    finally:
        if budget is not None and since is not None:
            budget.leave_out(since)


def uncounted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function whose time is not counted: it may wait for a body."""

    def run(*arguments: Any, **named: Any) -> Any:
        budget = _current.get()
        since = None if budget is None else budget.now()
        try:
            return function(*arguments, **named)
        finally:
            if budget is not None and since is not None:
                budget.leave_out(since)

    return run


_OPERATIONS: Mapping[type[ast.operator], str] = {
    ast.Add: "_added_",
    ast.Mult: "_multiplied_",
    ast.Pow: "_powered_",
    ast.LShift: "_shifted_",
    ast.Mod: "_remainder_",
}
"""Names that sources find for what is put in place of their operators; `_python_functions` gives them."""


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
        elif isinstance(node, ast.FormattedValue):
            form = [node.format_spec] if node.format_spec is not None else []
            return _call("_formatted_", node.value, ast.Constant(node.conversion), *form)
        elif isinstance(node, ast.JoinedStr):
            return _call("_joined_", *node.values)
        elif isinstance(node, ast.Starred) and isinstance(node.ctx, ast.Load):
            node.value = _call("_starred_", node.value)
        elif isinstance(node, ast.Assign) and any(_is_slice(target) for target in node.targets):
            node.value = _call("_sliced_in_", node.value)
        return node


def _is_slice(target: ast.expr) -> bool:
    if isinstance(target, (ast.Tuple, ast.List)):
        return any(_is_slice(one) for one in target.elts)
    return isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Slice)


def _call(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(func=ast.Name(id=name, ctx=ast.Load()), args=list(arguments), keywords=[])
