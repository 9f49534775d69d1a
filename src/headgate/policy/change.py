"""From the plan in force to the next one where few entities changed: what they do not touch is shared, not compiled.

Owns which changes can be taken so, and the JSON of a change, whose form is `PlanChange` of
`crates/engine/src/plan.rs`. Routes of HTTP keep their positions: a new one gets the next, the last takes the place of
one that goes; those of streams follow them as they are. The rule to keep: the outcome serves exactly as `compile_plan`
of the whole snapshot would.
"""

from collections.abc import Mapping, Set
from typing import Any, Final

import orjson

from headgate.errors import PlanError
from headgate.policy.catalog import Catalog
from headgate.policy.chain import ChainBuilder, Globals
from headgate.policy.compile import (
    HTTP_SUBSYSTEM,
    CompiledPlan,
    ServedRoute,
    chain_of,
    named,
    plugin_parts,
    served_route,
)
from headgate.policy.order import CycleError
from headgate.store.delta import Delta
from headgate.store.snapshot import Snapshot

_WHOLE: Final = frozenset(("services", "upstreams", "targets", "certificates", "snis", "ca_certificates", "vaults"))
"""Types of which a change means compiling everything: others refer to them by position, or their secrets change."""


def compile_change(
    previous: CompiledPlan,
    snapshot: Snapshot,
    delta: Delta,
    catalog: Catalog,
    *,
    ordering_algorithm: str,
    is_broken_allowed: bool = False,
) -> tuple[CompiledPlan, bytes] | None:
    """Return the plan of a snapshot that a delta makes of the previous plan's, and the JSON of the change.

    None: the change concerns too much, compile the whole.
    Raises: PlanError with all faults.
    """
    types = delta.types
    changed, removed = delta.of_type("routes")
    if not types.isdisjoint(_WHOLE) or _concerns_streams(previous, changed, removed, types):
        return None
    table = _Routes(previous)
    instances, builder, global_instances = previous._instances, previous._builder, previous.globals
    stream_globals = previous.stream_globals
    if "plugins" in types:
        parts = plugin_parts(snapshot, catalog, previous, ordering_algorithm, is_broken_allowed=is_broken_allowed)
        if parts.stream_globals.mask != stream_globals.mask:
            return None
        instances, builder, global_instances = parts.instances, parts.builder, parts.globals
        stream_globals = parts.stream_globals
    for identifier in sorted(removed):
        table.remove(identifier)
    for identifier in sorted(changed):
        table.put(changed[identifier], snapshot, previous._service_positions, builder)
    if "plugins" in types:
        table.take_chains(builder)
    if table.faults:
        raise PlanError(table.faults)
    count = len(previous.chains)
    engine_plan = previous._engine_plan | {
        "revision": snapshot.revision,
        "global_phases": global_instances.mask,
        "routes": table.plans + previous._engine_plan["routes"][count:],
    }
    plan = CompiledPlan(
        snapshot,
        instances,
        table.chains,
        table.routes + previous._routes[count:],
        table.services + previous._services[count:],
        global_instances,
        engine_plan,
        builder,
        previous._service_positions,
        stream_chains=previous.stream_chains,
        stream_globals=stream_globals,
        holds_references=previous.holds_references,
    )
    plan._positions = table.positions
    return plan, table.change(previous.revision, snapshot.revision, global_instances)


def _concerns_streams(
    previous: CompiledPlan, changed: Mapping[str, dict[str, Any]], removed: Set[str], types: Set[str]
) -> bool:
    """Say whether a change concerns routes of streams: one of them, what becomes one, or the plugins of all."""
    if any(HTTP_SUBSYSTEM.isdisjoint(route["protocols"]) for route in changed.values()):
        return True
    stream_routes = previous._routes[len(previous.chains) :]
    return bool(stream_routes) and (
        "plugins" in types or any(route["id"] in changed or route["id"] in removed for route in stream_routes)
    )


class _Routes:
    """The routes of HTTP of a plan while they change."""

    def __init__(self, previous: CompiledPlan) -> None:
        count = len(previous.chains)
        self.chains = list(previous.chains)
        self.routes = previous._routes[:count]
        self.services = previous._services[:count]
        self.plans: list[dict[str, Any]] = previous._engine_plan["routes"][:count]
        known = previous._positions
        self.positions = (
            {route["id"]: position for position, route in enumerate(self.routes)} if known is None else dict(known)
        )
        self.faults: list[str] = []
        self._touched: set[int] = set()

    def take_chains(self, builder: ChainBuilder) -> None:
        """Give every route the chain that the plugin instances make now."""
        for position, route in enumerate(self.routes):
            try:
                chain = chain_of(route, self.services[position], builder)
            except CycleError as error:
                self.faults.append(f"route {named(route)}: {error}")
                continue
            if chain.phases != self.plans[position]["phases"]:
                self.plans[position] = self.plans[position] | {"phases": chain.phases}
                self._touched.add(position)
            self.chains[position] = chain

    def put(
        self, route: dict[str, Any], snapshot: Snapshot, service_positions: Mapping[str, int], builder: ChainBuilder
    ) -> None:
        """Take a new or changed route in; one that is not served any more goes."""
        protocols = [protocol for protocol in route["protocols"] if protocol in HTTP_SUBSYSTEM]
        try:
            served = served_route(route, protocols, snapshot, service_positions, builder)
        except CycleError as error:
            self.faults.append(f"route {named(route)}: {error}")
            return
        if served is None:
            self.remove(route["id"])
            return
        position = self.positions.setdefault(route["id"], len(self.routes))
        if position == len(self.routes):
            self.chains.append(served.chain)
            self.routes.append(route)
            self.services.append(served.service)
            self.plans.append(served.plan)
        else:
            self._set(position, route, served)
        self._touched.add(position)

    def remove(self, identifier: str) -> None:
        """Let a route go; the last one takes its place."""
        position = self.positions.pop(identifier, None)
        if position is None:
            return
        last = self.routes.pop()
        served = ServedRoute(self.chains.pop(), self.services.pop(), self.plans.pop())
        self._touched.discard(len(self.routes))
        if position < len(self.routes):
            self._set(position, last, served)
            self.positions[last["id"]] = position
            self._touched.add(position)

    def _set(self, position: int, route: dict[str, Any], served: ServedRoute) -> None:
        self.routes[position] = route
        self.chains[position], self.services[position], self.plans[position] = served

    def change(self, base: int, revision: int, global_instances: Globals) -> bytes:
        """Return the JSON for the engine: what is at each position that was touched, in ascending order."""
        return orjson.dumps(
            {
                "base": base,
                "revision": revision,
                "global_phases": global_instances.mask,
                "routes": [(position, self.plans[position]) for position in sorted(self._touched)],
                "route_count": len(self.routes),
            }
        )
