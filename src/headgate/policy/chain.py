"""The order of plugins and, per route, which instance of each runs.

A chain has one slot per plugin name, in static order. Where no consumer- or group-scoped instance can apply, the slot's
instance is known when the plan is compiled. Otherwise the chain is resolved per client: which instance each slot has
for a consumer and its groups, and the order of access handlers that the rules of these instances make. A resolution is
kept; the access pass takes a new one when a handler changes the client. Routes for which the same instances apply share
one chain.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from headgate.config.general import LEGACY
from headgate.pdk._call import Call
from headgate.pdk.plugin import InstanceInfo, Plugin
from headgate.pdk.tracing import traced
from headgate.phases import Phase
from headgate.policy.blocking import bound
from headgate.policy.order import CycleError, Rules, rules_of, sort_for_unknown_client, sort_names
from headgate.policy.precedence import Scope, choose

LATER_PHASES = (Phase.RESPONSE, Phase.HEADER_FILTER, Phase.BODY_FILTER, Phase.LOG)
"""Phases that run what the access pass collected."""
WEBSOCKET_PHASES = (Phase.WS_CLIENT_FRAME, Phase.WS_UPSTREAM_FRAME, Phase.WS_CLOSE)
"""The same of a WebSocket service, whose `ws_handshake` takes the place of access."""
GLOBAL_PHASES = (Phase.CERTIFICATE, Phase.REWRITE, Phase.HEADER_FILTER, Phase.BODY_FILTER, Phase.LOG)
"""Phases that run global instances: the early ones always, the others for requests that never reached access."""

HANDLED_PHASES = (
    Phase.ACCESS,
    Phase.PREREAD,
    Phase.RESPONSE,
    *GLOBAL_PHASES,
    Phase.WS_HANDSHAKE,
    *WEBSOCKET_PHASES,
)

MOST_REMEMBERED = 4096
"""Clients, and combinations of picked instances, that a chain remembers; beyond, it starts anew (own choice: a few MB
at most).
"""

Handle: TypeAlias = Callable[[Any], Any]


class PluginInstance:
    """One configuration of a plugin, with the handler's methods bound once; None for a phase the plugin does not
    have.
    """

    __slots__ = (
        "access",
        "argument",
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
        "preread",
        "response",
        "rewrite",
        "rules",
        "scope",
        "ws_client_frame",
        "ws_close",
        "ws_handshake",
        "ws_upstream_frame",
    )

    is_plugin_broken = False
    """The plugin itself could not be loaded, so that its place in the order is unknown."""

    certificate: Handle | None
    rewrite: Handle | None
    access: Handle | None
    preread: Handle | None
    response: Handle | None
    header_filter: Handle | None
    body_filter: Handle | None
    log: Handle | None
    ws_handshake: Handle | None
    ws_client_frame: Handle | None
    ws_upstream_frame: Handle | None
    ws_close: Handle | None

    def __init__(
        self, info: InstanceInfo, scope: Scope, config: Any, handler: Plugin[Any], entity: Mapping[str, Any]
    ) -> None:
        self.id = info.id
        self.name = info.name
        self.info = info
        self.scope = scope
        self.config = config
        adapt = getattr(handler, "adapt_config", None)
        self.argument = config if adapt is None else adapt(config, info)
        """What the handlers get: the configuration, or what another kind of handler makes of it."""
        self.handler = handler
        self.entity = entity
        self.rules = rules_of(entity)
        mask = 0
        used = getattr(handler, "used_phases", None)
        used_labels = None if used is None else used(config)
        for phase in HANDLED_PHASES:
            is_used = used_labels is None or phase.label in used_labels
            handle = bound(handler, phase.label) if is_used else None
            if handle is not None:
                handle = traced(handle, phase.label, info.name)
            setattr(self, phase.label, handle)
            if handle is not None:
                mask |= phase.value
        self.phases = mask


Step: TypeAlias = tuple[PluginInstance, Handle, Any]
"""One handler to call: the instance, its bound method, its argument; unpacked without attribute reads."""


def steps_of(instances: Iterable[PluginInstance], phase: Phase) -> tuple[Step, ...]:
    """Return the handlers of a phase, in the order of the instances."""
    return tuple((one, handle, one.argument) for one in instances if (handle := getattr(one, phase.label)) is not None)


class Collected:
    """What later phases run, per phase in order; `mask` says which of `later` have handlers at all."""

    __slots__ = (
        "body_filter",
        "header_filter",
        "log",
        "mask",
        "response",
        "ws_client_frame",
        "ws_close",
        "ws_upstream_frame",
    )

    def __init__(self, instances: Iterable[PluginInstance], later: Iterable[Phase] = LATER_PHASES) -> None:
        chosen = tuple(instances)
        self.response = steps_of(chosen, Phase.RESPONSE)
        self.header_filter = steps_of(chosen, Phase.HEADER_FILTER)
        self.body_filter = steps_of(chosen, Phase.BODY_FILTER)
        self.log = steps_of(chosen, Phase.LOG)
        self.ws_client_frame = steps_of(chosen, Phase.WS_CLIENT_FRAME)
        self.ws_upstream_frame = steps_of(chosen, Phase.WS_UPSTREAM_FRAME)
        self.ws_close = steps_of(chosen, Phase.WS_CLOSE)
        self.mask = mask_of(chosen, later)


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
        self.phases = mask_of(by_scope.values(), HANDLED_PHASES)
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

    __slots__ = ("_candidates", "_route", "_service", "consumers", "groups", "is_plugin_broken", "name", "phases")

    def __init__(self, candidates: Candidates, route: str | None, service: str | None) -> None:
        self._candidates = candidates
        self._route = route
        self._service = service
        one = next(iter(candidates.by_scope.values()))
        self.name = one.name
        self.is_plugin_broken = one.is_plugin_broken
        self.phases = candidates.phases
        self.consumers = candidates.consumers
        self.groups = candidates.groups

    def pick(self, consumer: str | None = None, groups: Sequence[str] = ()) -> PluginInstance | None:
        """Return the instance for a consumer and its groups, by ids; groups in the order of their names."""
        return choose(self._candidates.by_scope, self._route, self._service, consumer, groups)


class Resolution:
    """A chain for one client: `turns` has every slot's position and instance (None: none) in the order of access.

    `cycle`: the rules of these instances contradict each other; nothing may run then.
    """

    __slots__ = ("cycle", "turns")

    def __init__(self, turns: tuple[tuple[int, PluginInstance | None], ...], cycle: CycleError | None = None) -> None:
        self.turns = turns
        self.cycle = cycle


class Chain:
    """The plugins of a route.

    `access` and `collected` hold all of it when nothing depends on the consumer (`is_static`); otherwise the access
    pass takes its steps from `late_steps`. For a WebSocket service (`is_websocket`) the access pass runs the
    `ws_handshake` handlers, and what is collected are its own later phases.

    Args: `clients`: ids of the consumers and of the groups that instances of late slots are scoped to.
    Raises: CycleError, when rules that apply without any client contradict each other.
    """

    __slots__ = (
        "_algorithm",
        "_collections",
        "_consumers",
        "_groups",
        "_has_rules",
        "_later",
        "_pass",
        "_resolutions",
        "access",
        "collected",
        "is_static",
        "is_websocket",
        "phases",
        "slots",
    )

    def __init__(
        self,
        slots: Sequence[PluginInstance | LateSlot],
        algorithm: str,
        clients: tuple[frozenset[str], frozenset[str]],
        *,
        has_rules: bool,
        is_websocket: bool = False,
    ) -> None:
        self.slots = tuple(slots)
        self.is_websocket = is_websocket
        self._pass = Phase.WS_HANDSHAKE if is_websocket else Phase.ACCESS
        self._later = WEBSOCKET_PHASES if is_websocket else LATER_PHASES
        self._algorithm = algorithm
        self._has_rules = has_rules
        late = [slot for slot in slots if isinstance(slot, LateSlot)]
        fixed = [slot for slot in slots if isinstance(slot, PluginInstance)]
        self.is_static = not late
        self._consumers, self._groups = clients
        self._resolutions: dict[tuple[str | None, tuple[str, ...], bool], Resolution] = {}
        self._collections: dict[tuple[PluginInstance | None, ...], Collected] = {}
        unknown = self.resolution(None, None)
        if unknown.cycle is not None:
            raise unknown.cycle
        self.access = steps_of((one for _, one in unknown.turns if one is not None), self._pass)
        self.collected = Collected(fixed, self._later)
        mask = mask_of(slots, (self._pass, *self._later))
        # The access pass also collects, so it runs for every route that has anything to collect.
        self.phases = mask | self._pass.value if mask else 0

    def resolution(self, consumer: Mapping[str, Any] | None, groups: Sequence[Mapping[str, Any]] | None) -> Resolution:
        """Return the chain for a client: entities, None for what is not known; groups in the order of their names."""
        consumer_id = None if consumer is None else consumer.get("id")
        if consumer_id not in self._consumers:
            consumer_id = None
        group_ids: tuple[str, ...] = ()
        if groups and self._groups:
            group_ids = tuple(group["id"] for group in groups if group["id"] in self._groups)
        key = (consumer_id, group_ids, self._has_rules and (consumer is not None or bool(groups)))
        resolution = self._resolutions.get(key)
        if resolution is None:
            if len(self._resolutions) >= MOST_REMEMBERED:
                self._resolutions.clear()
            resolution = self._resolutions[key] = self._resolve(*key)
        return resolution

    def _resolve(self, consumer: str | None, groups: tuple[str, ...], is_client_known: bool) -> Resolution:
        picked = [slot if isinstance(slot, PluginInstance) else slot.pick(consumer, groups) for slot in self.slots]
        turns = tuple(enumerate(picked))
        rules: dict[str, Rules] = {one.name: one.rules for one in picked if one is not None and one.rules is not None}
        if not rules:
            return Resolution(turns)
        names = [slot.name for slot in self.slots]
        present = {one.name for one in picked if one is not None}
        sort = sort_names if is_client_known else sort_for_unknown_client
        try:
            order = sort(names, rules, self._algorithm, present)
        except CycleError as error:
            return Resolution(turns, error)
        by_name = dict(zip(names, turns, strict=True))
        return Resolution(tuple(by_name[name] for name in order))

    def access_order(
        self, consumer: Mapping[str, Any] | None = None, groups: Sequence[Mapping[str, Any]] | None = None
    ) -> list[PluginInstance]:
        """Return the instances of a client in the order of their access handlers' turns."""
        return [one for _, one in self.resolution(consumer, groups).turns if one is not None]

    def static_order(
        self, consumer: Mapping[str, Any] | None = None, groups: Sequence[Mapping[str, Any]] | None = None
    ) -> list[PluginInstance]:
        """Return the instances of a client in the order of every other phase."""
        return [one for _, one in sorted(self.resolution(consumer, groups).turns, key=_position) if one is not None]

    def late_steps(self, call: Call, chosen: list[PluginInstance | None]) -> Iterator[Step]:
        """Yield the access handlers, each instance picked with the client known when its turn comes.

        A slot whose turn has passed stays as it was. Picked instances are put into `chosen` at their slots' positions.
        """
        slots = self.slots
        label = self._pass.label
        is_over = [False] * len(slots)
        while True:
            consumer, groups = call.consumer, call.consumer_groups
            resolution = self.resolution(consumer, groups)
            if resolution.cycle is not None:
                refusing = next(one for _, one in resolution.turns if one is not None)
                yield refusing, _refusing(resolution.cycle), None
            for position, instance in resolution.turns:
                if is_over[position]:
                    continue
                if instance is None:
                    # A plugin that could not be loaded has no place in the order: no client may slip past it.
                    is_over[position] = not slots[position].is_plugin_broken
                    continue
                is_over[position] = True
                chosen[position] = instance
                handle = getattr(instance, label)
                if handle is not None:
                    yield instance, handle, instance.argument
                    if call.consumer is not consumer or call.consumer_groups is not groups:
                        break
            else:
                return

    def collect(self, chosen: Sequence[PluginInstance | None]) -> Collected:
        """Return what later phases run after the access pass picked these instances, one place per slot."""
        key = tuple(chosen)
        collected = self._collections.get(key)
        if collected is None:
            if len(self._collections) >= MOST_REMEMBERED:
                self._collections.clear()
            collected = self._collections[key] = Collected((one for one in key if one is not None), self._later)
        return collected


def _position(turn: tuple[int, PluginInstance | None]) -> int:
    return turn[0]


def _refusing(error: Exception) -> Handle:
    def refuse(_: Any) -> None:
        raise error

    return refuse


class ChainBuilder:
    """Makes the chains of one plan; routes for which the same instances apply get the same object."""

    def __init__(self, instances: Mapping[str, Mapping[Scope, PluginInstance]], algorithm: str = LEGACY) -> None:
        """Args: instances by plugin name, in the order of running, then by scope; no name without any."""
        self._algorithm = algorithm
        self._has_rules = any(one.rules is not None for same in instances.values() for one in same.values())
        self._candidates = [Candidates(by_scope) for by_scope in instances.values()]
        scopes = [scope for by_scope in instances.values() for scope in by_scope]
        self._routes = frozenset(scope.route for scope in scopes)
        self._services = frozenset(scope.service for scope in scopes)
        self._chains: dict[tuple[str | None, str | None, bool], Chain] = {}
        self._clients_of: dict[tuple[str, ...], tuple[frozenset[str], frozenset[str]]] = {}

    def chain(self, route: str | None, service: str | None, *, is_websocket: bool = False) -> Chain:
        """Return the chain of a route and its service; `is_websocket`: the service is a WebSocket endpoint.

        Raises: CycleError.
        """
        route = route if route in self._routes else None
        service = service if service in self._services else None
        key = (route, service, is_websocket)
        chain = self._chains.get(key)
        if chain is None:
            slots = list(self._slots(route, service))
            chain = self._chains[key] = Chain(
                slots,
                self._algorithm,
                self._clients(slots),
                has_rules=self._has_rules,
                is_websocket=is_websocket,
            )
        return chain

    def _clients(self, slots: Sequence[PluginInstance | LateSlot]) -> tuple[frozenset[str], frozenset[str]]:
        """Return the clients of late slots; chains with the same ones share the sets, which may be large."""
        late = [slot for slot in slots if isinstance(slot, LateSlot)]
        key = tuple(slot.name for slot in late)
        clients = self._clients_of.get(key)
        if clients is None:
            consumers: frozenset[str] = frozenset().union(*(slot.consumers for slot in late))
            groups: frozenset[str] = frozenset().union(*(slot.groups for slot in late))
            clients = self._clients_of[key] = (consumers, groups)
        return clients

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
