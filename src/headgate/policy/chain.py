"""The order of plugins and, per route, which instance of each runs.

A chain has one slot per plugin name, in static order. Where no consumer- or group-scoped instance can apply, the slot's
instance is known when the plan is compiled; otherwise it is picked when the access pass reaches the slot, with the
consumer known by then, and the pick is kept per consumer and groups. Routes for which the same instances apply share
one
chain.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from headgate.pdk._call import Call
from headgate.pdk.plugin import InstanceInfo, Plugin
from headgate.phases import Phase
from headgate.policy.precedence import Scope, choose

LATER_PHASES = (Phase.RESPONSE, Phase.HEADER_FILTER, Phase.BODY_FILTER, Phase.LOG)
"""Phases that run what the access pass collected."""
GLOBAL_PHASES = (Phase.CERTIFICATE, Phase.REWRITE, Phase.HEADER_FILTER, Phase.BODY_FILTER, Phase.LOG)
"""Phases that run global instances: the early ones always, the others for requests that never reached access."""

MOST_COLLECTIONS = 4096
"""Combinations of picked instances that a chain remembers; beyond, it starts anew (own choice: a few MB at most)."""

Handle: TypeAlias = Callable[[Any], Any]


class PluginInstance:
    """One configuration of a plugin, with the handler's methods bound once; None for a phase the plugin does not
    have.
    """

    __slots__ = (
        "access",
        "body_filter",
        "certificate",
        "config",
        "entity",
        "handler",
        "header_filter",
        "id",
        "info",
        "log",
        "name",
        "phases",
        "response",
        "rewrite",
        "scope",
    )

    certificate: Handle | None
    rewrite: Handle | None
    access: Handle | None
    response: Handle | None
    header_filter: Handle | None
    body_filter: Handle | None
    log: Handle | None

    def __init__(
        self, info: InstanceInfo, scope: Scope, config: Any, handler: Plugin[Any], entity: Mapping[str, Any]
    ) -> None:
        self.id = info.id
        self.name = info.name
        self.info = info
        self.scope = scope
        self.config = config
        self.handler = handler
        self.entity = entity
        mask = 0
        for phase in (Phase.ACCESS, Phase.RESPONSE, *GLOBAL_PHASES):
            handle: Handle | None = getattr(handler, phase.label, None)
            setattr(self, phase.label, handle)
            if handle is not None:
                mask |= phase.value
        self.phases = mask


Step: TypeAlias = tuple[PluginInstance, Handle, Any]
"""One handler to call: the instance, its bound method, its configuration; unpacked without attribute reads."""


def steps_of(instances: Iterable[PluginInstance], phase: Phase) -> tuple[Step, ...]:
    """Return the handlers of a phase, in the order of the instances."""
    return tuple((one, handle, one.config) for one in instances if (handle := getattr(one, phase.label)) is not None)


class Collected:
    """What later phases run, per phase in order; `mask` says which of them have handlers at all."""

    __slots__ = ("body_filter", "header_filter", "log", "mask", "response")

    def __init__(self, instances: Iterable[PluginInstance]) -> None:
        chosen = tuple(instances)
        self.response = steps_of(chosen, Phase.RESPONSE)
        self.header_filter = steps_of(chosen, Phase.HEADER_FILTER)
        self.body_filter = steps_of(chosen, Phase.BODY_FILTER)
        self.log = steps_of(chosen, Phase.LOG)
        self.mask = mask_of(chosen, LATER_PHASES)


class Globals(Collected):
    """Global instances: `certificate` and `rewrite`, and the later phases of requests that never reached access."""

    __slots__ = ("certificate", "rewrite")

    def __init__(self, instances: Iterable[PluginInstance]) -> None:
        chosen = tuple(instances)
        super().__init__(chosen)
        self.certificate = steps_of(chosen, Phase.CERTIFICATE)
        self.rewrite = steps_of(chosen, Phase.REWRITE)
        self.mask = mask_of(chosen, GLOBAL_PHASES)


class Candidates:
    """All instances of one plugin name, by scope, and what tells whether the client matters for a route."""

    __slots__ = ("_client_places", "by_scope", "consumers", "groups", "phases")

    def __init__(self, by_scope: Mapping[Scope, PluginInstance]) -> None:
        self.by_scope = by_scope
        self.consumers = frozenset(scope.consumer for scope in by_scope if scope.consumer is not None)
        self.groups = frozenset(scope.consumer_group for scope in by_scope if scope.consumer_group is not None)
        # One handler serves all instances of a name.
        self.phases = next(iter(by_scope.values())).phases
        self._client_places = frozenset(
            (scope.route, scope.service)
            for scope in by_scope
            if scope.consumer is not None or scope.consumer_group is not None
        )

    def depends_on_client(self, route: str | None, service: str | None) -> bool:
        """Say whether a consumer- or group-scoped instance may apply to this route and service."""
        places = self._client_places
        return bool(places) and any(
            place in places for place in ((None, None), (route, None), (None, service), (route, service))
        )


class LateSlot:
    """One plugin name whose instance depends on the consumer or its groups."""

    __slots__ = ("_candidates", "_picks", "_plain", "_route", "_service", "phases")

    def __init__(self, candidates: Candidates, route: str | None, service: str | None) -> None:
        self._candidates = candidates
        self._route = route
        self._service = service
        self._plain = choose(candidates.by_scope, route, service)
        self.phases = candidates.phases
        # Only consumers and groups that instances name get in, so it cannot outgrow the configuration by much.
        self._picks: dict[tuple[str | None, tuple[str, ...]], PluginInstance | None] = {}

    def pick(self, call: Call) -> PluginInstance | None:
        """Return the instance for the consumer and groups that the call has now."""
        candidates = self._candidates
        consumer = call.consumer
        consumer_id = None if consumer is None else consumer.get("id")
        if consumer_id not in candidates.consumers:
            consumer_id = None
        groups: tuple[str, ...] = ()
        if candidates.groups and call.consumer_groups:
            groups = tuple(group["id"] for group in call.consumer_groups if group["id"] in candidates.groups)
        if consumer_id is None and not groups:
            return self._plain
        key = (consumer_id, groups)
        try:
            return self._picks[key]
        except KeyError:
            picked = choose(candidates.by_scope, self._route, self._service, consumer_id, groups)
            self._picks[key] = picked
            return picked


class Chain:
    """The plugins of a route.

    `access` and `collected` hold all of it when nothing depends on the consumer (`is_static`); otherwise the access
    pass
    takes its steps from `late_steps`.
    """

    __slots__ = ("_collections", "access", "collected", "is_static", "phases", "slots")

    def __init__(self, slots: Sequence[PluginInstance | LateSlot]) -> None:
        self.slots = tuple(slots)
        fixed = [slot for slot in slots if isinstance(slot, PluginInstance)]
        self.is_static = len(fixed) == len(slots)
        self.access = steps_of(fixed, Phase.ACCESS)
        self.collected = Collected(fixed)
        self._collections: dict[tuple[PluginInstance, ...], Collected] = {}
        mask = mask_of(slots, (Phase.ACCESS, *LATER_PHASES))
        # The access pass also collects, so it runs for every route that has anything to collect.
        self.phases = mask | Phase.ACCESS.value if mask else 0

    def late_steps(self, call: Call, chosen: list[PluginInstance]) -> Iterator[Step]:
        """Yield the access handlers, each instance picked when its turn comes; every picked one is added to
        `chosen`.
        """
        for slot in self.slots:
            instance = slot if isinstance(slot, PluginInstance) else slot.pick(call)
            if instance is not None:
                chosen.append(instance)
                if instance.access is not None:
                    yield instance, instance.access, instance.config

    def collect(self, chosen: list[PluginInstance]) -> Collected:
        """Return what later phases run after the access pass picked these instances."""
        key = tuple(chosen)
        collected = self._collections.get(key)
        if collected is None:
            if len(self._collections) >= MOST_COLLECTIONS:
                self._collections.clear()
            collected = self._collections[key] = Collected(key)
        return collected


class ChainBuilder:
    """Makes the chains of one plan; routes for which the same instances apply get the same object."""

    def __init__(self, instances: Mapping[str, Mapping[Scope, PluginInstance]]) -> None:
        """Args: instances by plugin name, in the order of running, then by scope; no name without any."""
        self._candidates = [Candidates(by_scope) for by_scope in instances.values()]
        scopes = [scope for by_scope in instances.values() for scope in by_scope]
        self._routes = frozenset(scope.route for scope in scopes)
        self._services = frozenset(scope.service for scope in scopes)
        self._chains: dict[tuple[str | None, str | None], Chain] = {}

    def chain(self, route: str | None, service: str | None) -> Chain:
        """Return the chain of a route and its service."""
        key = (route if route in self._routes else None, service if service in self._services else None)
        chain = self._chains.get(key)
        if chain is None:
            chain = self._chains[key] = Chain(list(self._slots(*key)))
        return chain

    def _slots(self, route: str | None, service: str | None) -> Iterable[PluginInstance | LateSlot]:
        for candidates in self._candidates:
            if candidates.depends_on_client(route, service):
                yield LateSlot(candidates, route, service)
            else:
                plain = choose(candidates.by_scope, route, service)
                if plain is not None:
                    yield plain


def mask_of(slots: Iterable[PluginInstance | LateSlot], phases: Iterable[Phase]) -> int:
    """Return the bits of those `phases` for which any instance has a handler."""
    mask = 0
    for slot in slots:
        mask |= slot.phases
    allowed = 0
    for phase in phases:
        allowed |= phase.value
    return mask & allowed
