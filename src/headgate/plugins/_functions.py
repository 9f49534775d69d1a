"""What pre-function and post-function share: the configuration and the handler of functions given in it.

Functions are Lua (`headgate.lua.functions`) or, with `language: python`, Python (`headgate.plugins._python_functions`).
Every fault of every function is told when the configuration is stored; nothing runs then.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from headgate import PluginConfig
from headgate.lua.functions import FunctionSet, syntax_fault
from headgate.plugins._python_functions import PythonFunctionSet, python_fault
from headgate.schema import ALL_PROTOCOLS, WEBSOCKET_PROTOCOLS, checks, field

PHASES = (
    *("certificate", "rewrite", "access", "header_filter", "body_filter", "log"),
    *("ws_handshake", "ws_client_frame", "ws_upstream_frame", "ws_close"),
    "preread",
)


def _fields() -> Any:
    return field(default_factory=list, elements=field(len_min=1))


def syntax_check(plugin: str) -> Any:
    """Return the check that compiles every function, told at its position."""

    def run(entity: dict[str, Any]) -> Mapping[str, Any]:
        config = entity["config"]
        fault_of: Callable[[str], str | None] = python_fault if config.get("language") == "python" else syntax_fault
        faults: dict[str, Any] = {}
        for phase in PHASES:
            sources = config.get(phase)
            if not isinstance(sources, list):
                continue
            texts: list[str | None] = []
            for source in sources:
                text = fault_of(source) if isinstance(source, str) and source else None
                texts.append(None if text is None else f"error parsing {plugin}: {text}")
            if any(texts):
                while texts[-1] is None:
                    texts.pop()
                faults[f"config.{phase}"] = texts
        return faults

    return checks.custom(
        [f"config.{name}" for name in ("language", *PHASES)],
        run,
        run_with_missing_fields=True,
        run_with_invalid_fields=True,
        is_published=False,
    )


class FunctionsConfig(PluginConfig):
    """Lists of functions by phase."""

    protocols = ALL_PROTOCOLS + WEBSOCKET_PROTOCOLS
    no_consumer = True
    no_consumer_group = True

    certificate: list[str] = _fields()
    rewrite: list[str] = _fields()
    access: list[str] = _fields()
    header_filter: list[str] = _fields()
    body_filter: list[str] = _fields()
    log: list[str] = _fields()
    ws_handshake: list[str] = _fields()
    ws_client_frame: list[str] = _fields()
    ws_upstream_frame: list[str] = _fields()
    ws_close: list[str] = _fields()
    preread: list[str] = _fields()
    language: Literal["lua", "python"] = field("lua", description="The language that the functions are written in.")


AT_LEAST_ONE = checks.at_least_one_of(*(f"config.{phase}" for phase in PHASES))


def _phase(label: str) -> Callable[..., Any]:
    def handle(self: Any, argument: "FunctionSet | PythonFunctionSet") -> Any:
        return argument.run(label)

    handle.__name__ = label
    return handle


class FunctionsHandler:
    """Runs the functions of a configuration, phase by phase; the half of a handler that both plugins share."""

    NAME: ClassVar[str]

    certificate = _phase("certificate")
    rewrite = _phase("rewrite")
    access = _phase("access")
    header_filter = _phase("header_filter")
    body_filter = _phase("body_filter")
    log = _phase("log")
    ws_handshake = _phase("ws_handshake")
    ws_client_frame = _phase("ws_client_frame")
    ws_upstream_frame = _phase("ws_upstream_frame")
    ws_close = _phase("ws_close")
    preread = _phase("preread")

    def adapt_config(self, config: FunctionsConfig, info: Any) -> "FunctionSet | PythonFunctionSet":
        """Return the functions of a configuration, which are what the phases get."""
        sources = {phase: getattr(config, phase) for phase in PHASES}
        if config.language == "python":
            return PythonFunctionSet(self.NAME, sources)
        return FunctionSet(self.NAME, sources)

    def used_phases(self, config: FunctionsConfig) -> frozenset[str]:
        """Return the phases that have functions: the others cost nothing."""
        return frozenset(phase for phase in PHASES if getattr(config, phase))
