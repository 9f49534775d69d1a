"""What is wrong, or cannot have the effect that was wanted, with the order that a configuration asks for.

Owns the look over a whole configuration, before it is published: circles, names that mean nothing, and consumer-scoped
instances that come before the plugin that identifies the consumer. Called by control for each new configuration, once
per node; workers compile without it. It needs entities only, no handlers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from headgate.config.general import LEGACY
from headgate.policy.catalog import Catalog
from headgate.policy.order import CycleError, Rules, find_cycle, requirements, rules_of, sort_for_unknown_client
from headgate.policy.precedence import Scope, choose
from headgate.store.snapshot import Snapshot

Place = tuple[str | None, str | None]
"""Route and service."""


@dataclass
class OrderingReport:
    """`faults`: texts by id of the plugin instance, for which the configuration is refused; `warnings`: texts."""

    faults: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Instance:
    id: str
    name: str
    scope: Scope
    rules: Rules | None


def check_ordering(snapshot: Snapshot, catalog: Catalog, algorithm: str = LEGACY) -> OrderingReport:
    """Look over the order of access handlers of every route and every client that the configuration knows."""
    report = OrderingReport()
    instances = [one for entity in snapshot.all("plugins") if (one := _instance(entity, catalog)) is not None]
    if not any(one.rules is not None or one.scope.consumer or one.scope.consumer_group for one in instances):
        return report
    _check_names(instances, catalog, report)
    check = _Check(snapshot, catalog, instances, algorithm, report)
    for place in check.places():
        check.place(*place)
    return report


def _instance(entity: Mapping[str, Any], catalog: Catalog) -> _Instance | None:
    plugin = catalog.get(entity["name"])
    if plugin is None or not entity.get("enabled", True):
        return None
    scope = Scope(
        **{
            kind: entity[kind]["id"]
            if entity.get(kind) and not getattr(plugin.config_model, f"no_{kind}", False)
            else None
            for kind in Scope._fields
        }
    )
    return _Instance(entity["id"], entity["name"], scope, rules_of(entity))


def _check_names(instances: Sequence[_Instance], catalog: Catalog, report: OrderingReport) -> None:
    configured = {one.name for one in instances}
    for one in instances:
        for name in dict.fromkeys((one.rules.before + one.rules.after) if one.rules is not None else ()):
            if name in configured:
                continue
            what = "is configured nowhere" if name in catalog else "is no plugin of this node"
            report.warnings.append(
                f"ordering of plugin '{one.name}' ({one.id}) has no effect on '{name}', which {what}"
            )


class _Group:
    """The instances of one route and service, summed up: places have few of these, and instances may be many."""

    def __init__(self) -> None:
        self.instances: list[_Instance] = []
        self.names: set[str] = set()
        self.rules: dict[str, Rules] = {}
        # Those scoped to consumers or their groups: by name, and by name and what they want to come before.
        self.of_clients: dict[str, list[_Instance]] = {}
        self.wishes: dict[tuple[str, tuple[str, ...]], _Instance] = {}

    def add(self, one: _Instance) -> None:
        self.instances.append(one)
        self.names.add(one.name)
        if one.rules is not None:
            known = self.rules.get(one.name, Rules())
            self.rules[one.name] = Rules(
                tuple(dict.fromkeys(known.before + one.rules.before)),
                tuple(dict.fromkeys(known.after + one.rules.after)),
            )
        if one.scope.consumer is not None or one.scope.consumer_group is not None:
            self.of_clients.setdefault(one.name, []).append(one)
            if one.rules is not None and one.rules.before:
                self.wishes.setdefault((one.name, one.rules.before), one)


class _Check:
    """One look over all places and clients."""

    def __init__(
        self,
        snapshot: Snapshot,
        catalog: Catalog,
        instances: Sequence[_Instance],
        algorithm: str,
        report: OrderingReport,
    ) -> None:
        self._snapshot = snapshot
        self._catalog = catalog
        self._algorithm = algorithm
        self._report = report
        self._by_place: dict[Place, _Group] = {}
        self._by_name: dict[str, dict[Scope, _Instance]] = {name: {} for name in catalog}
        for one in instances:
            self._by_place.setdefault((one.scope.route, one.scope.service), _Group()).add(one)
            self._by_name[one.name].setdefault(one.scope, one)
        self._told: set[tuple[str, str]] = set()

    def places(self) -> Iterator[Place]:
        """Yield each pair of route and service that instances tell apart, once."""
        routes = {route for route, _ in self._by_place}
        services = {service for _, service in self._by_place}
        seen: set[Place] = set()
        for route in self._snapshot.all("routes"):
            service_id = route["service"]["id"] if route.get("service") else None
            place = (
                route["id"] if route["id"] in routes else None,
                service_id if service_id in services else None,
            )
            if place not in seen:
                seen.add(place)
                yield place

    def place(self, route: str | None, service: str | None) -> None:
        """Check what may apply to the requests of one place."""
        keys = dict.fromkeys(((None, None), (route, None), (None, service), (route, service)))
        groups = [group for key in keys if (group := self._by_place.get(key)) is not None]
        names = {name for group in groups for name in group.names}
        # Fewer rules make no circle: only where all rules together make one, clients are tried one by one.
        together: dict[str, Rules] = {}
        for group in groups:
            for name, rules in group.rules.items():
                known = together.get(name, Rules())
                together[name] = Rules(known.before + rules.before, known.after + rules.after)
        if together and find_cycle(requirements(together, names)) is not None:
            here = [one for group in groups for one in group.instances]
            for consumer, consumer_groups in self._clients(here):
                self._find_circle(names, route, service, consumer, consumer_groups)
        if any(group.of_clients for group in groups):
            self._check_clients(names, groups, route, service)

    def _clients(self, here: Sequence[_Instance]) -> Iterator[tuple[str | None, tuple[str, ...]]]:
        """Yield the clients that the instances tell apart: nobody, every group, every consumer with its groups."""
        yield None, ()
        consumers = {one.scope.consumer for one in here if one.scope.consumer is not None}
        groups = {one.scope.consumer_group for one in here if one.scope.consumer_group is not None}
        group_names = {
            group: str(self._snapshot.get("consumer_groups", group)["name"])  # type: ignore[index]
            for group in groups
            if self._snapshot.get("consumer_groups", group) is not None
        }
        for group in sorted(group_names):
            yield None, (group,)
        members: dict[str, list[str]] = {consumer: [] for consumer in consumers}
        for membership in self._snapshot.all("consumer_group_consumers"):
            if membership["consumer_group"]["id"] in group_names:
                members.setdefault(membership["consumer"]["id"], []).append(membership["consumer_group"]["id"])
        clients = {
            (consumer if consumer in consumers else None, tuple(sorted(own, key=group_names.__getitem__)))
            for consumer, own in members.items()
        }
        yield from sorted(clients, key=str)

    def _picked(
        self, names: set[str], route: str | None, service: str | None, consumer: str | None, groups: Sequence[str]
    ) -> dict[str, _Instance]:
        """Return the instances for a client by name, in static order."""
        return {
            name: one
            for name, by_scope in self._by_name.items()
            if name in names and (one := choose(by_scope, route, service, consumer, groups)) is not None
        }

    def _find_circle(
        self, names: set[str], route: str | None, service: str | None, consumer: str | None, groups: Sequence[str]
    ) -> None:
        picked = self._picked(names, route, service, consumer, groups)
        rules = {name: one.rules for name, one in picked.items() if one.rules is not None}
        cycle = find_cycle(requirements(rules, picked))
        if cycle is None:
            return
        for earlier, later in pairwise(cycle):
            for owner, other, side in ((earlier, later, "before"), (later, earlier, "after")):
                own = rules.get(owner)
                if own is not None and other in getattr(own, side):
                    self._report.faults.setdefault(picked[owner].id, str(CycleError(cycle)))

    def _check_clients(self, names: set[str], groups: Sequence[_Group], route: str | None, service: str | None) -> None:
        """Warn of what comes before the consumer is known, though it depends on the consumer."""
        picked = self._picked(names, route, service, None, ())
        static = [name for name in self._by_name if name in names]
        rules = {name: one.rules for name, one in picked.items() if one.rules is not None}
        try:
            order = sort_for_unknown_client(static, rules, self._algorithm, picked)
        except CycleError:
            return
        turn = {name: position for position, name in enumerate(order)}
        identifying = next((name for name in order if name in picked and self._identifies(name)), None)
        if identifying is None:
            return
        for group in groups:
            for name, instances in group.of_clients.items():
                if turn[name] < turn[identifying]:
                    more = f" and {len(instances) - 1} more" if len(instances) > 1 else ""
                    self._warn(
                        instances[0],
                        identifying,
                        f"plugin '{name}' runs before '{identifying}', which identifies the consumer: its instance "
                        f"{instances[0].id}{more}, scoped to a {_kind(instances[0])}, does not apply",
                    )
            for (name, before), one in group.wishes.items():
                for other in before:
                    if other in turn and turn[other] <= turn[identifying] < turn[name]:
                        self._warn(
                            one,
                            other,
                            f"plugin '{name}' cannot run before '{other}' for the {_kind(one)} of its instance "
                            f"{one.id}: the consumer is only known after '{identifying}'",
                        )

    def _identifies(self, name: str) -> bool:
        return self._catalog[name].handler.IDENTIFIES_CONSUMER

    def _warn(self, one: _Instance, about: str, text: str) -> None:
        """Tell an instance's trouble once, however many places have it."""
        if (one.id, about) not in self._told:
            self._told.add((one.id, about))
            self._report.warnings.append(text)


def _kind(one: _Instance) -> str:
    return "consumer" if one.scope.consumer is not None else "consumer group"
