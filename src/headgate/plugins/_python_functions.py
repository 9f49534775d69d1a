"""Functions in Python, for pre-function and post-function: compiled once, run by the phases.

A chunk is the body of a module that sees `kong` and what its mode allows. When it defines a function `handler`, the
chunk runs once and `handler()` at each request, so that its globals keep values between requests; otherwise the whole
chunk runs each time. `handler` may be `async def`.

The restricted modes (`strict`, `lax`, `sandbox`) compile with RestrictedPython, and what is compiled counts its rounds
and calls (`_python_budget`): a guard rail against mistakes and simple misuse, not a security boundary. Python has none
inside of one process; nobody who must not run code on the gateway may be let write these functions.
"""

import ast
import builtins
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from types import CodeType, SimpleNamespace
from typing import Any

from headgate import kong
from headgate.plugins import _python_budget as budget

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
    from RestrictedPython.Eval import default_guarded_getitem, default_guarded_getiter
    from RestrictedPython.Guards import full_write_guard, guarded_iter_unpack_sequence, safe_builtins, safer_getattr
    from RestrictedPython.Limits import limited_builtins

    allowed = _MODULES.get(mode)
    if allowed is None:
        allowed = tuple(kong.configuration["untrusted_lua_sandbox_requires"] or ())

    def importer(name: str, *_: Any) -> Any:
        if name not in allowed:
            raise ImportError(f"import of '{name}' not allowed within sandbox")
        return _TIME if name == "time" else __import__(name)

    names = dict(safe_builtins) | dict(limited_builtins)
    names |= {
        name: getattr(builtins, name)
        for name in ("all", "any", "bytearray", "dict", "enumerate", "filter", "list", "map", "max", "min", "next")
    }
    names |= {name: getattr(builtins, name) for name in ("reversed", "set", "frozenset", "sum")}
    # With a function in place of a collection it would go on for ever where nothing counts.
    names |= {"iter": lambda values: iter(values), "pow": budget.powered}
    names["__import__"] = importer
    return {
        "__builtins__": names,
        "__name__": "function",
        "__metaclass__": type,
        "kong": _Shown(kong),
        "_getattr_": safer_getattr,
        "_getitem_": default_guarded_getitem,
        "_getiter_": lambda values: budget.counted(default_guarded_getiter(values)),
        "_iter_unpack_sequence_": guarded_iter_unpack_sequence,
        "_unpack_sequence_": guarded_iter_unpack_sequence,
        "_inplacevar_": _in_place,
        "_write_": _writable,
        "_print_": full_write_guard,
        **budget.NAMES,
    }


_TIME = SimpleNamespace(**{name: value for name, value in vars(time).items() if name[0] != "_" and name != "sleep"})
"""The module `time` without what holds the engine's thread."""

_TAKING_FUNCTIONS = ("cache", "cluster_events", "core_cache", "timer", "worker_events")
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
        return self._change(name, getattr(self._real, name))


def _giving_budgets(_: str, function: Any) -> Any:
    """Return a function of the PDK that gives each function it is handed a budget of its own."""

    def run(*arguments: Any, **named: Any) -> Any:
        own = [budget.bounded(one, _new_budget) if inspect.isroutine(one) else one for one in arguments]
        return function(*own, **named)

    return run if callable(function) else function


def _not_counted_where_it_waits(name: str, function: Any) -> Any:
    return budget.uncounted(function) if name in _READING_BODIES else function


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
        return _Wrapped(part, _not_counted_where_it_waits) if name == "request" else part


def _writable(target: Any) -> Any:
    """Let values be put into containers and into what the PDK gives out for it."""
    from RestrictedPython.Guards import full_write_guard

    from headgate.pdk._namespace import Namespace

    return target if isinstance(target, dict | list | Namespace) else full_write_guard(target)


def _in_place(operation: str, target: Any, value: Any) -> Any:
    """Do an augmented assignment."""
    operations: Mapping[str, Callable[[Any, Any], Any]] = {
        "+=": lambda a, b: a + b,
        "-=": lambda a, b: a - b,
        "*=": budget.multiplied,
        "/=": lambda a, b: a / b,
        "//=": lambda a, b: a // b,
        "%=": lambda a, b: a % b,
        "**=": budget.powered,
        "|=": lambda a, b: a | b,
        "&=": lambda a, b: a & b,
        "^=": lambda a, b: a ^ b,
        "<<=": budget.shifted,
        ">>=": lambda a, b: a >> b,
    }
    return operations[operation](target, value)


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
