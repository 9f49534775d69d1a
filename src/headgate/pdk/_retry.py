"""What runs between two tries at an upstream: a plugin's callback, asked for another target (PDK reference 5).

The engine holds the request meanwhile, so that the callback sees a stand-in: it takes `kong.service.set_target` and has
the configuration for `kong.db`; all else of the request is refused with a clear text.
"""

from collections.abc import Callable
from typing import Any, NoReturn, cast

from headgate.errors import GatewayError
from headgate.pdk._call import Call, current_call
from headgate.pdk._exchange import Exchange
from headgate.phases import Phase


class RetryError(GatewayError):
    """The callback has no target; the text is for the log."""


class _BetweenTries:
    """Stands for the exchange."""

    def __init__(self, plan: Any) -> None:
        self.plan = plan
        self.target: tuple[str, int] | None = None

    def set_target(self, host: str, port: int) -> None:
        self.target = (host, port)

    def __getattr__(self, name: str) -> NoReturn:
        raise RetryError(f"between tries only kong.service.set_target and kong.db can be called ({name})")


def target_asker(call: Call, callback: Callable[[], Any]) -> Callable[[], tuple[str, int] | None]:
    """Return what the engine calls before each retry: the next target, or None to try the same one again.

    The callback's `set_target` counts, else the host and port that it returns.
    Raises (the returned function): RetryError without a target; what the callback raises.
    """
    plan, instance = call.exchange.plan, call.instance

    def ask() -> tuple[str, int] | None:
        between = _BetweenTries(plan)
        own = Call(cast(Exchange, between), Phase.BALANCER.value)
        own.instance = instance
        token = current_call.set(own)
        try:
            answer = callback()
        finally:
            current_call.reset(token)
            own.phase = 0
        host, port, fault = (*answer, None, None)[:3] if isinstance(answer, tuple) else (answer, None, None)
        if not host:
            raise RetryError(str(fault) if fault else "the callback gave no target")
        if between.target is not None:
            return between.target
        return (host, port) if isinstance(host, str) and isinstance(port, int) else None

    return ask
