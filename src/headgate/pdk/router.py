"""`kong.router`: the matched route and its service, as entities.

Routing is the engine's; it reports the route's position in the plan, and the plan has the entities.
"""

from typing import Any, Protocol

from headgate.pdk._call import Call
from headgate.pdk._exchange import Exchange
from headgate.pdk._node import SnapshotView
from headgate.pdk._phase import AUTHENTICATED, phases


class RoutedPlan(Protocol):
    """The part of a plan that the PDK reads: entities by route position (a route's service may be None), the
    snapshot.
    """

    @property
    def snapshot(self) -> SnapshotView: ...
    def route(self, index: int) -> dict[str, Any]: ...
    def service(self, index: int) -> dict[str, Any] | None: ...


def matched_route(exchange: Exchange) -> dict[str, Any] | None:
    """Return the route entity of a request, None without a match."""
    index = exchange.route_index
    if index is None:
        return None
    plan: RoutedPlan = exchange.plan
    return plan.route(index)


def matched_service(exchange: Exchange) -> dict[str, Any] | None:
    """Return the service entity of a request's route, None without one."""
    index = exchange.route_index
    if index is None:
        return None
    plan: RoutedPlan = exchange.plan
    return plan.service(index)


class Router:
    """`kong.router`."""

    __slots__ = ()

    @phases(AUTHENTICATED, is_for_streams=True)
    def get_route(self, call: Call) -> dict[str, Any] | None:
        """Return the matched route as the Admin API shows it; None without a match. Shared: do not change it."""
        return matched_route(call.exchange)

    @phases(AUTHENTICATED, is_for_streams=True)
    def get_service(self, call: Call) -> dict[str, Any] | None:
        """Return the matched route's service as the Admin API shows it; None without one. Shared: do not change it."""
        return matched_service(call.exchange)


router = Router()
