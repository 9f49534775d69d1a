"""Functions in Python, for pre-function and post-function: compiled once, run by the phases.

A chunk is the body of a module that sees `kong` and what its mode allows. When it defines a function `handler`, the
chunk runs once and `handler()` at each request, so that its globals keep values between requests; otherwise the whole
chunk runs each time. `handler` may be `async def`.

The restricted modes (`strict`, `lax`, `sandbox`) compile with RestrictedPython: a guard rail against mistakes and
simple misuse, not a security boundary. Python has none inside of one process; nobody who must not run code on the
gateway may be let write these functions.
"""

import builtins
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import CodeType
from typing import Any

from headgate import kong

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
    result = compile_restricted_exec(source, filename="<function>", policy=policy)
    if result.errors:
        raise ValueError("; ".join(result.errors))
    if result.code is None:
        raise ValueError("nothing to run")
    return result.code


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
        return __import__(name)

    names = dict(safe_builtins) | dict(limited_builtins)
    names |= {
        name: getattr(builtins, name)
        for name in ("all", "any", "bytearray", "dict", "enumerate", "filter", "list", "map", "max", "min", "next")
    }
    names |= {name: getattr(builtins, name) for name in ("reversed", "set", "frozenset", "sum", "iter")}
    names["__import__"] = importer
    return {
        "__builtins__": names,
        "__name__": "function",
        "__metaclass__": type,
        "kong": _Shown(kong),
        "_getattr_": safer_getattr,
        "_getitem_": default_guarded_getitem,
        "_getiter_": default_guarded_getiter,
        "_iter_unpack_sequence_": guarded_iter_unpack_sequence,
        "_unpack_sequence_": guarded_iter_unpack_sequence,
        "_inplacevar_": _in_place,
        "_write_": _writable,
        "_print_": full_write_guard,
    }


class _Shown:
    """`kong` without what a function of the configuration must not see: secret settings."""

    __slots__ = ("_real",)

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        if name == "configuration":
            return self._real.configuration.remove_sensitive()
        return getattr(self._real, name)


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
        "*=": lambda a, b: a * b,
        "/=": lambda a, b: a / b,
        "//=": lambda a, b: a // b,
        "%=": lambda a, b: a % b,
        "**=": lambda a, b: a**b,
        "|=": lambda a, b: a | b,
        "&=": lambda a, b: a & b,
        "^=": lambda a, b: a ^ b,
        "<<=": lambda a, b: a << b,
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
