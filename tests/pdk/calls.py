"""Run PDK functions in a phase of a request in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from headgate.pdk._call import Call, current_call
from headgate.pdk._node import node
from headgate.phases import Phase
from headgate.testing import MemoryExchange, Request, Upstream
from headgate.testing.plan import MemoryPlan, MemorySnapshot


@contextmanager
def phase(
    name: str,
    request: Request | None = None,
    response: Upstream | None = None,
    *,
    entities: dict[str, list[dict[str, Any]]] | None = None,
    route: dict[str, Any] | None = None,
    service: dict[str, Any] | None = None,
) -> Iterator[MemoryExchange]:
    """Enter a phase of a new request."""
    plan = MemoryPlan(MemorySnapshot(entities or {}), route, service)
    # As in a worker: the request's snapshot is the one in force, whatever a test before left there.
    node.snapshot = plan.snapshot
    exchange = MemoryExchange(request or Request(), response, plan, 0)
    with continued(exchange, name):
        yield exchange


@contextmanager
def continued(exchange: MemoryExchange, name: str) -> Iterator[Call]:
    """Enter the next phase of a request."""
    bit = Phase[name.upper()].value
    call = exchange.state or Call(exchange, bit)
    exchange.state = call
    exchange.phase = call.phase = bit
    call.suspend = exchange.read_body_now
    token = current_call.set(call)
    try:
        yield call
    finally:
        current_call.reset(token)
        exchange.end_phase()
