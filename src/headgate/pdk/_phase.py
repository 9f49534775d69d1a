"""The phase guard: where a PDK function may be called, declared once.

Owns `phases`, the decorator from which the guard, the docstring's `Phases:` line and `__phases__` (phase matrix test)
come, and the texts of refused calls (PDK reference 1.3). A decorated method receives the current `Call` as its first
argument after `self`; callers do not see it.

The wrapper is generated with the exact signature of the function: a `*args, **kwargs` closure costs about twice as much
on every PDK call.
"""

import inspect
from collections.abc import Callable
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar

from headgate.errors import PhaseError
from headgate.pdk._call import Call, current_call
from headgate.phases import STREAM_LOG, Phase

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
F = TypeVar("F", bound=Callable[..., Any])

EVERY_PHASE = Phase(sum(Phase))

WS_FRAMES = Phase.WS_CLIENT_FRAME | Phase.WS_UPSTREAM_FRAME
WEBSOCKET = Phase.WS_HANDSHAKE | WS_FRAMES | Phase.WS_CLOSE
"""What a request to a WebSocket service goes through instead of access to log (reference: phases 18.2)."""

REQUEST = (
    Phase.REWRITE
    | Phase.ACCESS
    | Phase.BALANCER
    | Phase.RESPONSE
    | Phase.CLUSTER_LISTENER
    | Phase.HEADER_FILTER
    | Phase.BODY_FILTER
    | Phase.LOG
    | Phase.ERROR
    | Phase.ADMIN_API
    | WEBSOCKET
)
AUTHENTICATED = Phase.ACCESS | Phase.RESPONSE | Phase.HEADER_FILTER | Phase.BODY_FILTER | Phase.LOG | WEBSOCKET
ACCESS = Phase.ACCESS | Phase.WS_HANDSHAKE
REWRITE_ACCESS = Phase.REWRITE | ACCESS
REWRITE_ACCESS_BALANCER = REWRITE_ACCESS | Phase.BALANCER
BODY_REWRITE_ACCESS = Phase.REWRITE | Phase.ACCESS
"""A WebSocket handshake is a GET without a body, and its answer has none to wait for."""
BODY_REWRITE_ACCESS_BALANCER = BODY_REWRITE_ACCESS | Phase.BALANCER
SERVICE_SETTERS = REWRITE_ACCESS_BALANCER | Phase.PREREAD
REQUEST_BODY = Phase.REWRITE | Phase.ACCESS | Phase.RESPONSE | Phase.ERROR | Phase.ADMIN_API
FINISHED = Phase.LOG | Phase.WS_CLOSE
RESPONSE_GETTERS = Phase.RESPONSE | Phase.HEADER_FILTER | Phase.BODY_FILTER | Phase.ERROR | Phase.ADMIN_API | FINISHED
RESPONSE_SETTERS = REWRITE_ACCESS_BALANCER | Phase.RESPONSE | Phase.HEADER_FILTER | Phase.ERROR | Phase.ADMIN_API
SERVICE_RESPONSE = Phase.RESPONSE | Phase.HEADER_FILTER | Phase.BODY_FILTER | FINISHED


def labels(mask: int) -> str:
    """Return the names of the phases in `mask`, comma separated, in the order of the list."""
    return ", ".join(phase.label for phase in Phase if phase & mask)


def phase_label(bit: int) -> str:
    """Return the name of one phase bit as error texts print it."""
    if bit == STREAM_LOG:
        return Phase.LOG.label
    return next((phase.label for phase in Phase if phase.value == bit), "'unknown phase'")


def phases(
    allowed: Phase | None = None, *, rejected: Phase | None = None, is_for_streams: bool = False
) -> Callable[[Callable[Concatenate[S, Call, P], R]], Callable[Concatenate[S, P], R]]:
    """Declare the phases of a PDK method: those `allowed`, or all but the `rejected` ones.

    Args: exactly one of the two. `is_for_streams`: where `log` is allowed, that of streams is too; always so with
        `rejected`.
    Raises (the decorated method): PhaseError before any argument is looked at.
    """
    mask = int(allowed) if allowed is not None else int(EVERY_PHASE & ~(rejected or Phase(0)) & ~Phase.CONFIGURE)
    if mask & Phase.LOG and (is_for_streams or allowed is None):
        mask |= STREAM_LOG

    def refuse(call: Call | None) -> NoReturn:
        if call is None or not call.phase:
            need = f", (need one of {labels(mask)})" if allowed is not None else ""
            raise PhaseError(f"no phase in ngx.ctx.KONG_PHASE{need}")
        reason = (
            f"only in: {labels(mask)}"
            if allowed is not None
            else f"can be called in any phases except: {labels(int(rejected or 0))}"
        )
        if call.phase == STREAM_LOG and mask & Phase.LOG:
            raise PhaseError("function cannot be called in log phase of streams (only of http)")
        raise PhaseError(f"function cannot be called in {phase_label(call.phase)} phase ({reason})")

    def decorate(function: Callable[Concatenate[S, Call, P], R]) -> Callable[Concatenate[S, P], R]:
        guarded: Callable[Concatenate[S, P], R] = _guarded(function, mask, refuse)
        return guarded

    return decorate


def any_phase(function: F) -> F:
    """Declare that a PDK method has no phase check; it gets no wrapper."""
    function.__phases__ = EVERY_PHASE  # type: ignore[attr-defined]
    function.__doc__ = _documented(function.__doc__, "any")
    return function


def _guarded(function: Callable[..., Any], mask: int, refuse: Callable[[Call | None], NoReturn]) -> Callable[..., Any]:
    """Generate the wrapper: read the current call, check the phase bit, pass the call on."""
    signature = inspect.signature(function)
    self_, _call, *parameters = signature.parameters.values()
    public = signature.replace(parameters=[self_, *parameters])
    bare = public.replace(
        parameters=[
            # The placeholder only says that there is a default; the real ones are copied below.
            parameter.replace(annotation=parameter.empty, default=parameter.empty)
            if parameter.default is parameter.empty
            else parameter.replace(annotation=parameter.empty, default=None)
            for parameter in public.parameters.values()
        ],
        return_annotation=signature.empty,
    )
    passed = "".join(f", {_argument(parameter)}" for parameter in parameters)
    source = (
        f"def {function.__name__}{bare}:\n"
        f"    call = current()\n"
        f"    if call is None or not call.phase & {mask}:\n"
        f"        refuse(call)\n"
        f"    return function({self_.name}, call{passed})\n"
    )
    names: dict[str, Any] = {"current": current_call.get, "refuse": refuse, "function": function}
    exec(compile(source, f"<guard of {function.__qualname__}>", "exec"), names)
    wrapper: Any = names[function.__name__]
    wrapper.__defaults__ = function.__defaults__
    wrapper.__kwdefaults__ = function.__kwdefaults__
    wrapper.__annotations__ = {name: kind for name, kind in function.__annotations__.items() if name != _call.name}
    wrapper.__module__ = function.__module__
    wrapper.__qualname__ = function.__qualname__
    wrapper.__doc__ = _documented(function.__doc__, labels(mask))
    wrapper.__phases__ = Phase(mask & ~STREAM_LOG)
    wrapper.__is_for_streams__ = bool(mask & STREAM_LOG)
    # For who makes the same check itself (the bridge to Lua).
    wrapper.__unguarded__, wrapper.__mask__ = function, mask
    guarded: Callable[..., Any] = wrapper
    return guarded


def _argument(parameter: inspect.Parameter) -> str:
    if parameter.kind is parameter.VAR_POSITIONAL:
        return f"*{parameter.name}"
    if parameter.kind is parameter.VAR_KEYWORD:
        return f"**{parameter.name}"
    if parameter.kind is parameter.KEYWORD_ONLY:
        return f"{parameter.name}={parameter.name}"
    return parameter.name


def _documented(text: str | None, phase_names: str) -> str:
    return f"{inspect.cleandoc(text or '')}\n\nPhases: {phase_names}."
