"""Functions in Python, for pre-function and post-function: compiled once, run by the phases.

A chunk is the body of a module that sees `kong` and what its mode allows. When it defines a function `handler`, the
chunk runs once and `handler()` at each request, so that its globals keep values between requests; otherwise the whole
chunk runs each time. `handler` may be `async def`.

The restricted modes (`strict`, `lax`, `sandbox`) compile with RestrictedPython, and what is compiled counts its rounds
and calls (`_python_budget`) and looks at sizes (`_python_memory`): a guard rail against mistakes and simple misuse, not
a security boundary. Python has none inside of one process; nobody who must not run code on the gateway may be let write
these functions.
"""

import ast
import builtins
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import CodeType
from typing import Any

from headgate import kong
from headgate.pdk._namespace import Namespace
from headgate.plugins import _python_budget as budget
from headgate.plugins import _python_memory as memory
from headgate.plugins import _python_modules as modules

OFF = "loading of untrusted code disabled because 'untrusted_lua' config option is set to 'off'"

_MODULES: Mapping[str, tuple[str, ...]] = {
    "strict": ("base64", "hashlib", "hmac", "json", "math", "re", "string", "time"),
    "lax": ("base64", "datetime", "hashlib", "hmac", "json", "math", "random", "re", "string", "time", "uuid"),
}
"""What functions may import without being told otherwise; in the mode sandbox the setting lists it."""


def _mode() -> str:
    return str(kong.configuration["untrusted_lua"] or "sandbox")


def python_fault(source: str) -> str | None:
    """Return the faults of a source that is no Python, or none that restricted modes take; None when it is fine."""
    try:
        _compiled(source, _mode())
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}" if error.lineno else str(error.msg)
    except ValueError as error:
        return str(error)
    return None


def _compiled(source: str, mode: str) -> CodeType:
    """Return the code of a chunk.

    Raises: SyntaxError; ValueError for null bytes, and for what a restricted mode does not take.
    """
    if mode in ("on", "off"):
        return compile(source, "<function>", "exec", dont_inherit=True)
    from RestrictedPython.compile import compile_restricted_exec
    from RestrictedPython.transformer import RestrictingNodeTransformer

    def contents(self: Any, node: Any) -> Any:
        return self.node_contents_visit(node)

    def function(self: Any, node: Any) -> Any:
        return self.visit_FunctionDef(node)

    # Restricted Python with `async def`, which handlers need in order to wait, and with annotations.
    policy = type(
        "Policy",
        (RestrictingNodeTransformer,),
        {"visit_AsyncFunctionDef": function, "visit_Await": contents, "visit_AnnAssign": contents},
    )
    compile(source, "<function>", "exec", dont_inherit=True)
    tree = ast.parse(source, "<function>")
    result = compile_restricted_exec(tree, filename="<function>", policy=policy)
    if result.errors:
        raise ValueError("; ".join(result.errors))
    if result.code is None:
        raise ValueError("nothing to run")
    # The policy has rewritten the tree in place. What counts comes after that, under names that no source may use.
    counting = ast.fix_missing_locations(budget.Counting().visit(tree))
    return compile(counting, "<function>", "exec", dont_inherit=True)


def _globals(mode: str) -> dict[str, Any]:
    """Return the names that a chunk sees."""
    if mode == "on":
        return {"__builtins__": builtins, "__name__": "function", "kong": kong}
    from RestrictedPython.Guards import (
        full_write_guard,
        guarded_iter_unpack_sequence,
        raise_,
        safe_builtins,
        safer_getattr,
    )

    allowed = _MODULES.get(mode)
    if allowed is None:
        allowed = tuple(kong.configuration["untrusted_lua_sandbox_requires"] or ())

    def safe_attribute(owner: Any, name: str) -> Any:
        return safer_getattr(owner, name, raise_)  # type: ignore[no-untyped-call]

    def importer(name: str, _globals: Any = None, _locals: Any = None, members: Any = (), _level: int = 0) -> Any:
        if name not in allowed:
            raise ImportError(f"import of '{name}' not allowed within sandbox")
        if "." in name and not members:
            raise ImportError(f"'{name}' is imported by its members: from {name} import …")
        return modules.view(name)

    names = dict(safe_builtins) | dict(memory.NAMES)
    # A slice is written as one, so that it can be seen.
    del names["slice"]
    names["__import__"] = importer
    return {
        "__builtins__": names,
        "__name__": "function",
        "__metaclass__": type,
        "kong": _Shown(kong),
        "_getattr_": lambda owner, name: memory.attribute(owner, name, safe_attribute),
        "_getitem_": memory.item,
        "_getiter_": budget.counted,
        "_apply_": lambda function, *given, **named: function(*given, **named),
        "_iter_unpack_sequence_": guarded_iter_unpack_sequence,
        "_unpack_sequence_": guarded_iter_unpack_sequence,
        "_inplacevar_": memory.in_place,
        "_write_": _writable,
        "_print_": full_write_guard,
        "_step_": budget.step,
        "_waited_": budget.waited,
        "_added_": memory.added,
        "_multiplied_": memory.multiplied,
        "_powered_": memory.powered,
        "_shifted_": memory.shifted,
        "_remainder_": memory.remainder,
        "_formatted_": memory.formatted,
        "_joined_": memory.joined,
        "_starred_": memory.starred,
        "_sliced_in_": memory.sliced_in,
    }


_TAKING_FUNCTIONS = ("cache", "cluster_events", "core_cache", "timer", "worker_events")
_WRITING = ("request", "response", "service", "client", "websocket")
_READING_BODIES = ("get_body", "get_raw_body", "read_raw_body")


def _new_budget() -> budget.Budget:
    return budget.budget_of(kong.configuration)


class _Wrapped:
    """A part of `kong` whose functions are changed on their way out."""

    __slots__ = ("_change", "_real")

    def __init__(self, real: Any, change: Callable[[str, Any], Any]) -> None:
        self._real = real
        self._change = change

    def __getattr__(self, name: str) -> Any:
        part = getattr(self._real, name)
        is_part = type(part).__module__.startswith("headgate.pdk.") and not inspect.isroutine(part)
        return _Wrapped(part, self._change) if is_part else self._change(name, part)


def _giving_budgets(_: str, function: Any) -> Any:
    """Return a function of the PDK that gives each function it is handed a budget of its own."""

    def run(*arguments: Any, **named: Any) -> Any:
        own = [budget.bounded(one, _new_budget) if inspect.isroutine(one) else one for one in arguments]
        return function(*own, **named)

    return run if callable(function) else function


def _looking_at_sizes(name: str, function: Any) -> Any:
    """Return a function of the PDK that writes nothing out that is larger than a call may be."""
    if not callable(function):
        return function
    if name in _READING_BODIES:
        return budget.uncounted(function)

    def run(*arguments: Any, **named: Any) -> Any:
        for one in arguments:
            if isinstance(one, (list, dict, tuple, set)):
                memory.walked(one)
        return function(*arguments, **named)

    return run


class _Shown:
    """`kong` without what a function of the configuration must not see: secret settings."""

    __slots__ = ("_real",)

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        if name == "configuration":
            return self._real.configuration.remove_sensitive()
        part = getattr(self._real, name)
        if name in _TAKING_FUNCTIONS:
            return _Wrapped(part, _giving_budgets)
        return _Wrapped(part, _looking_at_sizes) if name in _WRITING else part


def _writable(target: Any) -> Any:
    """Let values be put into containers and into what the PDK gives out for it."""
    from RestrictedPython.Guards import full_write_guard

    return target if isinstance(target, dict | list | Namespace) else full_write_guard(target)


class _Element:
    """One chunk: what it defines first is kept."""

    __slots__ = ("_code", "_handler", "_is_first", "_mode")

    def __init__(self, source: str, mode: str) -> None:
        self._code = _compiled(source, mode)
        self._mode = mode
        self._handler: Callable[[], Any] | None = None
        self._is_first = True

    def run(self) -> Any:
        if self._handler is not None:
            return self._handler()
        names = _globals(self._mode)
        is_first, self._is_first = self._is_first, False
        exec(self._code, names)
        handler = names.get("handler")
        if callable(handler) and is_first:
            self._handler = handler
            return handler()
        return None


class PythonFunctionSet:
    """The Python functions of one plugin instance, compiled when any phase first runs."""

    def __init__(self, name: str, sources: Mapping[str, Sequence[str]]) -> None:
        self._name = name
        self._sources = {phase: list(chunks) for phase, chunks in sources.items() if chunks}
        self._elements: dict[str, list[_Element]] | None = None
        self._start: Callable[[str], Any] = self._run

    def run(self, phase: str) -> Any:
        """Run the chunks of a phase; returns None, or a coroutine when one waits.

        Raises: RuntimeError in the mode off; whatever a chunk raises.
        """
        if self._elements is None:
            mode = _mode()
            if mode == "off":
                raise RuntimeError(OFF)
            self._elements = {
                one: [_Element(source, mode) for source in chunks] for one, chunks in self._sources.items()
            }
            self._start = self._run if mode == "on" else budget.bounded(self._run, _new_budget)
        return self._start(phase)

    def _run(self, phase: str) -> Any:
        assert self._elements is not None
        elements = self._elements[phase]
        for position, element in enumerate(elements, 1):
            returned = element.run()
            if inspect.isawaitable(returned):
                return self._later(returned, elements[position:])
        return None

    async def _later(self, returned: Any, rest: list[_Element]) -> None:
        await returned
        for element in rest:
            again = element.run()
            if inspect.isawaitable(again):
                await again
