"""Why a request is handled as it is: its route, which instance of each plugin runs, and in which order.

Owns the record that `headgate explain` prints and the Admin API serves, and the words for every reason. It decides
nothing: the route is the router's answer (`engine.find_route`), instances and orders are those of the compiled
chain. Called for people, never while serving.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headgate.phases import Phase
from headgate.policy.chain import GLOBAL_PHASES, WEBSOCKET_PHASES, Chain, LateSlot, PluginInstance
from headgate.policy.compile import HTTP_SUBSYSTEM, STREAM_SUBSYSTEM, CompiledPlan
from headgate.policy.description import RouteMatch
from headgate.policy.precedence import LEVELS, Level, Scope
from headgate.store.snapshot import Snapshot

_ORDERED_PHASES = (
    Phase.CERTIFICATE,
    Phase.REWRITE,
    Phase.ACCESS,
    Phase.RESPONSE,
    Phase.HEADER_FILTER,
    Phase.BODY_FILTER,
    Phase.LOG,
)
_WEBSOCKET_ORDER = (Phase.CERTIFICATE, Phase.REWRITE, Phase.WS_HANDSHAKE, *WEBSOCKET_PHASES)
_KINDS = {"consumer": "consumers", "consumer_group": "consumer_groups", "route": "routes", "service": "services"}


@dataclass(frozen=True)
class NamedEntity:
    """An entity as a person recognises it."""

    id: str
    name: str | None

    def __str__(self) -> str:
        return self.name or self.id


@dataclass(frozen=True)
class Candidate:
    """One instance of a plugin. `level`: its place in the precedence from 1 (most specific) to 12 (global), None when
    it does not apply; `reason`: why it runs or not.
    """

    id: str
    instance_name: str | None
    scope: Mapping[str, NamedEntity]
    level: int | None
    is_winner: bool
    reason: str

    @property
    def scope_text(self) -> str:
        """`route all, consumer anna`, or `global`."""
        return ", ".join(f"{kind} {entity}" for kind, entity in self.scope.items()) or "global"


@dataclass(frozen=True)
class PluginChoice:
    """All instances of one plugin; `winner` is the id of the one that runs for the request, None when none does."""

    name: str
    winner: str | None
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class Turn:
    """One handler in the order of a phase."""

    plugin: str
    instance: str


@dataclass(frozen=True)
class Explanation:
    """The whole answer; `order` has every phase that runs something, in the order of a request's way."""

    match: RouteMatch
    route: NamedEntity | None
    service: NamedEntity | None
    consumer: NamedEntity | None
    consumer_groups: tuple[NamedEntity, ...]
    plugins: tuple[PluginChoice, ...]
    order: Mapping[str, tuple[Turn, ...]]
    notes: tuple[str, ...]


def find_consumer(snapshot: Snapshot, text: str) -> dict[str, Any] | None:
    """Return the consumer with this id, username or custom id."""
    return (
        snapshot.get("consumers", text)
        or snapshot.by("consumers", "username", text)
        or snapshot.by("consumers", "custom_id", text)
    )


def groups_of(snapshot: Snapshot, consumer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the groups of a consumer in the order in which they are tried: by name."""
    memberships = snapshot.children("consumer_group_consumers", "consumer", consumer["id"])
    found = [snapshot.get("consumer_groups", membership["consumer_group"]["id"]) for membership in memberships]
    return sorted((group for group in found if group is not None), key=lambda group: str(group.get("name") or ""))


def explain(
    snapshot: Snapshot,
    plan: CompiledPlan,
    match: RouteMatch,
    *,
    consumer: Mapping[str, Any] | None = None,
    is_tls: bool = False,
    is_stream: bool = False,
) -> Explanation:
    """Explain a request or a stream that the router has matched.

    Args: `plan` compiled from `snapshot`; `consumer`: who the client is, taken as known from the start of access;
        `is_tls`: whether a TLS handshake comes first.
    """
    if is_stream:
        return _explain_stream(snapshot, plan, match, is_tls=is_tls)
    groups = groups_of(snapshot, consumer) if consumer is not None else []
    route = service = None
    chain: Chain | None = None
    if match.route is not None:
        route, service, chain = plan.route(match.route), plan.service(match.route), plan.chains[match.route]
    notes: list[str] = []
    if chain is None:
        notes.append("No route matched: only global instances run, in the phases that take part in such an answer.")
    else:
        notes += _client_notes(chain, consumer, groups)
    orders = _orders(plan, chain, consumer, groups, is_tls)
    winners = _winners(plan, chain, consumer, groups)
    request = _Request(snapshot, plan, route, service, consumer, groups)
    return Explanation(
        match,
        _named(route),
        _named(service),
        _named(consumer),
        tuple(_entity(group) for group in groups),
        tuple(request.choices(winners)),
        {phase.label: turns for phase, turns in orders.items() if turns},
        tuple(notes),
    )


def _explain_stream(snapshot: Snapshot, plan: CompiledPlan, match: RouteMatch, *, is_tls: bool) -> Explanation:
    route = service = None
    order: dict[str, tuple[Turn, ...]] = {}
    notes: tuple[str, ...] = ()
    if match.route is None:
        notes = ("No route matched: only global instances run, in log; the stream is closed.",)
        steps = {Phase.LOG: plan.stream_globals.log}
    else:
        route, service, chain = plan.route(match.route), plan.service(match.route), plan.stream_chain(match.route)
        steps = {Phase.PREREAD: chain.preread, Phase.LOG: chain.log}
        if is_tls and "tls_passthrough" not in route["protocols"]:
            steps = {Phase.CERTIFICATE: plan.stream_globals.certificate, **steps}
    for phase, taken in steps.items():
        if taken:
            order[phase.label] = tuple(Turn(step[0].name, step[0].id) for step in taken)
    running = plan.stream_chain(match.route).instances if match.route is not None else ()
    winners = {one.name: one for one in running} or {step[0].name: step[0] for step in steps[Phase.LOG]}
    stream = _Request(snapshot, plan, route, service, None, (), is_stream=True)
    choices = tuple(stream.choices(winners))
    return Explanation(match, _named(route), _named(service), None, (), choices, order, notes)


def _client_notes(chain: Chain, consumer: Mapping[str, Any] | None, groups: Sequence[Mapping[str, Any]]) -> list[str]:
    late = [slot.name for slot in chain.slots if isinstance(slot, LateSlot)]
    notes = []
    if late and consumer is None:
        notes.append(
            f"For some consumers another instance runs of: {', '.join(late)}. "
            "Give a consumer to see what that one gets."
        )
    elif late:
        notes.append(
            "The consumer is taken as known from the start; plugins whose turn comes before it is identified "
            "run as for an unknown client."
        )
    cycle = chain.resolution(consumer, groups).cycle
    if cycle is not None:
        notes.append(f"Requests of this client are answered 500: {cycle}")
    return notes


def _winners(
    plan: CompiledPlan,
    chain: Chain | None,
    consumer: Mapping[str, Any] | None,
    groups: Sequence[Mapping[str, Any]],
) -> dict[str, PluginInstance]:
    if chain is not None:
        return {one.name: one for one in chain.static_order(consumer, groups)}
    return {step[0].name: step[0] for phase in GLOBAL_PHASES for step in getattr(plan.globals, phase.label)}


def _orders(
    plan: CompiledPlan,
    chain: Chain | None,
    consumer: Mapping[str, Any] | None,
    groups: Sequence[Mapping[str, Any]],
    is_tls: bool,
) -> dict[Phase, tuple[Turn, ...]]:
    orders: dict[Phase, tuple[Turn, ...]] = {}
    is_websocket = chain is not None and chain.is_websocket
    for phase in _WEBSOCKET_ORDER if is_websocket else _ORDERED_PHASES:
        instances: list[PluginInstance]
        if phase is Phase.CERTIFICATE and not is_tls:
            continue
        if phase in (Phase.CERTIFICATE, Phase.REWRITE) or (chain is None and phase in GLOBAL_PHASES):
            instances = [step[0] for step in getattr(plan.globals, phase.label)]
        elif chain is None:
            instances = []
        elif phase in (Phase.ACCESS, Phase.WS_HANDSHAKE):
            instances = chain.access_order(consumer, groups)
        else:
            instances = chain.static_order(consumer, groups)
        orders[phase] = tuple(Turn(one.name, one.id) for one in instances if getattr(one, phase.label) is not None)
    return orders


class _Request:
    """What candidates are held against."""

    def __init__(
        self,
        snapshot: Snapshot,
        plan: CompiledPlan,
        route: Mapping[str, Any] | None,
        service: Mapping[str, Any] | None,
        consumer: Mapping[str, Any] | None,
        groups: Sequence[Mapping[str, Any]],
        *,
        is_stream: bool = False,
    ) -> None:
        self._snapshot = snapshot
        self._plan = plan
        self._is_stream = is_stream
        self._ids = {
            "route": {route["id"]} if route is not None else set(),
            "service": {service["id"]} if service is not None else set(),
            "consumer": {consumer["id"]} if consumer is not None else set(),
            "consumer_group": {group["id"] for group in groups},
        }

    @property
    def _subsystem(self) -> frozenset[str]:
        return STREAM_SUBSYSTEM if self._is_stream else HTTP_SUBSYSTEM

    def choices(self, winners: Mapping[str, PluginInstance]) -> list[PluginChoice]:
        """Return every plugin with instances; those that run first, in their order, then the others by name."""
        by_name: dict[str, list[Mapping[str, Any]]] = {name: [] for name in winners}
        for entity in sorted(self._snapshot.all("plugins"), key=lambda one: str(one["name"])):
            by_name.setdefault(entity["name"], []).append(entity)
        found = []
        for name, entities in by_name.items():
            winner = winners.get(name)
            candidates = [self._candidate(entity, winner) for entity in entities]
            candidates.sort(key=lambda one: (not one.is_winner, one.level or len(LEVELS) + 1, one.scope_text, one.id))
            found.append(PluginChoice(name, winner.id if winner is not None else None, tuple(candidates)))
        return found

    def _candidate(self, entity: Mapping[str, Any], winner: PluginInstance | None) -> Candidate:
        instance = self._plan.instance(entity["id"])
        is_winner = instance is not None and winner is not None and instance.id == winner.id
        scope = instance.scope if instance is not None else _scope(entity)
        level: int | None = None
        if not entity.get("enabled", True):
            reason = "is disabled"
        elif self._subsystem.isdisjoint(entity.get("protocols") or HTTP_SUBSYSTEM):
            reason = f"is for other protocols: {', '.join(entity['protocols'])}"
        elif instance is None:
            reason = "is not part of the plan"
        elif (fault := self._mismatch(scope)) is not None:
            reason = fault
        else:
            level = _level(scope)
            reason = self._outcome(instance, level, winner)
        return Candidate(
            entity["id"],
            entity.get("instance_name"),
            {kind: self._reference(kind, one) for kind, one in zip(scope._fields, scope, strict=True) if one},
            level,
            is_winner,
            reason,
        )

    def _mismatch(self, scope: Scope) -> str | None:
        """Say which part of a scope the request does not have; None when it has all of them."""
        if scope.consumer is not None and scope.consumer_group is not None:
            return "has a consumer and a consumer group: no level of the precedence has both"
        for kind, wanted in zip(scope._fields, scope, strict=True):
            if wanted is None or wanted in self._ids[kind]:
                continue
            entity = self._reference(kind, wanted)
            if kind == "consumer_group":
                return f"is for the consumer group {entity}, which the client is not in"
            if kind == "consumer" and self._is_stream:
                return f"is for the consumer {entity}; a stream has none"
            if kind == "consumer" and not self._ids[kind]:
                return f"is for the consumer {entity}; the client is not known"
            return f"is for the {kind} {entity}"
        return None

    def _outcome(self, instance: PluginInstance, level: int | None, winner: PluginInstance | None) -> str:
        own = _level_text(level)
        if winner is None:
            return f"runs in no phase of a {'stream' if self._is_stream else 'request'} without a route"
        if instance.id == winner.id:
            return f"runs: {own} is the most specific level that applies"
        if instance.scope == winner.scope:
            return f"is not run: {winner.id} has the same scope"
        other = _level(winner.scope)
        if other == level:
            group = self._reference("consumer_group", winner.scope.consumer_group or "")
            return f"is not run: on the same level the group {group} comes first by name"
        return f"is not run: {own} comes after {_level_text(other)}"

    def _reference(self, kind: str, entity_id: str) -> NamedEntity:
        entity = self._snapshot.get(_KINDS[kind], entity_id)
        return _entity(entity) if entity is not None else NamedEntity(entity_id, None)


def _scope(entity: Mapping[str, Any]) -> Scope:
    return Scope(**{kind: entity[kind]["id"] if entity.get(kind) else None for kind in _KINDS})


def _level(scope: Scope) -> int | None:
    level = Level(**{kind: one is not None for kind, one in zip(scope._fields, scope, strict=True)})
    return LEVELS.index(level) + 1 if level in LEVELS else None


def _level_text(level: int | None) -> str:
    if level is None:
        return "no level"
    parts = [kind.replace("_", " ") for kind, is_set in zip(Level._fields, LEVELS[level - 1], strict=True) if is_set]
    return f"level {level} ({' + '.join(parts) or 'global'})"


def _named(entity: Mapping[str, Any] | None) -> NamedEntity | None:
    return None if entity is None else _entity(entity)


def _entity(entity: Mapping[str, Any]) -> NamedEntity:
    return NamedEntity(entity["id"], entity.get("name") or entity.get("username") or entity.get("custom_id"))
