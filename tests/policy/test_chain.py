"""Order of plugins, sharing of chains, late picks; precedence and order against a slow, obvious model."""

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.errors import PlanError
from headgate.pdk import Plugin
from headgate.pdk._call import Call
from headgate.phases import Phase
from headgate.policy.chain import LateSlot, PluginInstance
from headgate.policy.order import CycleError, rules_of, sort_names
from tests.policy.plans import Config, World, exchange


class Accessing(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 10

    def access(self, conf: Config) -> None: ...


class Early(Accessing):
    PRIORITY = 2000


class Authenticating(Accessing):
    PRIORITY = 1000


class Logging(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 20

    def log(self, conf: Config) -> None: ...


def test_plugins_run_by_priority_then_by_name_both_descending() -> None:
    world = World()
    for name in ("key-auth", "zzz", "key-auth-enc"):
        world.install(name, Accessing)
        world.plugin(name)
    world.install("logger", Logging)
    world.plugin("logger")
    world.route()
    names = [slot.name for slot in world.plan().chains[0].slots if isinstance(slot, PluginInstance)]
    assert names == ["logger", "zzz", "key-auth-enc", "key-auth"]


def test_routes_with_the_same_instances_share_one_chain() -> None:
    world = World()
    world.install("a", Accessing)
    world.plugin("a")
    first, second, special = world.route(name="1"), world.route(name="2"), world.route(name="3")
    world.plugin("a", route=special)
    plan = world.plan()
    chains = {plan.route(index)["id"]: chain for index, chain in enumerate(plan.chains)}
    assert chains[first["id"]] is chains[second["id"]]
    assert chains[special["id"]] is not chains[first["id"]]


def test_only_routes_that_a_consumer_scoped_instance_can_meet_are_late() -> None:
    world = World()
    world.install("a", Accessing)
    consumer = world.add("consumers", username="anna")
    near, far = world.route(name="near"), world.route(name="far")
    world.plugin("a", consumer=consumer, route=near)
    world.plugin("a")
    plan = world.plan()
    is_static = {plan.route(index)["id"]: chain.is_static for index, chain in enumerate(plan.chains)}
    assert is_static == {near["id"]: False, far["id"]: True}


def test_a_late_chain_is_resolved_by_the_consumer_and_falls_back_for_others() -> None:
    world = World()
    world.install("a", Accessing)
    consumer = world.add("consumers", username="anna")
    world.route()
    special = world.plugin("a", consumer=consumer)
    general = world.plugin("a")
    chain = world.plan().chains[0]
    assert isinstance(chain.slots[0], LateSlot)
    picked = [chain.access_order(who)[0].id for who in (None, consumer, {"id": "somebody else"}, consumer)]
    assert picked == [general["id"], special["id"], general["id"], special["id"]]
    assert chain.resolution(consumer, None) is chain.resolution(dict(consumer), [])


def test_a_route_with_something_to_collect_has_the_access_phase() -> None:
    world = World()
    world.install("logger", Logging)
    world.plugin("logger")
    world.route()
    assert world.plan().chains[0].phases == Phase.ACCESS | Phase.LOG


def test_a_route_without_plugins_has_no_phase() -> None:
    world = World()
    world.route()
    assert world.plan().chains[0].phases == 0


def test_access_order_follows_rules_and_later_phases_do_not() -> None:
    world = World()
    for name in ("c", "b", "a"):
        world.install(name, Accessing)
        world.plugin(name, ordering={"before": {"access": ["c"]}} if name == "a" else None)
    world.route()
    chain = world.plan().chains[0]
    assert [step[0].name for step in chain.access] == ["a", "c", "b"]
    assert [one.name for one in chain.static_order()] == ["c", "b", "a"]
    assert [one.name for one in chain.access_order()] == ["a", "c", "b"]


def test_contradicting_rules_refuse_the_plan_with_names_and_route() -> None:
    world = World()
    for name, other in (("a", "b"), ("b", "a")):
        world.install(name, Accessing)
        world.plugin(name, ordering={"before": {"access": [other]}})
    world.route(name="somewhere")
    with pytest.raises(PlanError, match=r"route somewhere: There is a circular dependency .* \(a before b before a\)"):
        world.plan()


def test_rules_that_only_one_client_brings_into_a_circle_refuse_that_client() -> None:
    world = World()
    anna = world.add("consumers", username="anna")
    for name, other in (("a", "b"), ("b", "a")):
        world.install(name, Accessing)
        world.plugin(name)
        world.plugin(name, ordering={"before": {"access": [other]}}, consumer=anna)
    world.route()
    plan = world.plan()
    call = Call(exchange(plan), Phase.ACCESS)
    call.consumer = anna
    _, handle, config = next(plan.chains[0].late_steps(call, [None, None]))
    with pytest.raises(CycleError):
        handle(config)


def test_who_must_run_after_a_consumer_scoped_instance_waits_for_it() -> None:
    world = World()
    anna = world.add("consumers", username="anna")
    world.route()
    for name, handler in (("first", Early), ("auth", Authenticating), ("late", Accessing)):
        world.install(name, handler)
    world.plugin("first", ordering={"after": {"access": ["late"]}})
    world.plugin("auth")
    world.plugin("late", consumer=anna)
    plan = world.plan()
    call = Call(exchange(plan), Phase.ACCESS)
    chosen: list[PluginInstance | None] = [None, None, None]
    ran = []
    for instance, _, _ in plan.chains[0].late_steps(call, chosen):
        ran.append(instance.name)
        if instance.name == "auth":
            call.consumer = anna
    assert ran == ["auth", "late", "first"]
    assert [one and one.name for one in chosen] == ["first", "auth", "late"]


PLUGINS = ("early", "auth", "b", "a")
"""In static order."""
rules = st.none() | st.builds(
    lambda side, names: {side: {"access": names}},
    st.sampled_from(["before", "after"]),
    st.lists(st.sampled_from([*PLUGINS, "unknown"]), min_size=1, max_size=2, unique=True),
)
scopes = st.fixed_dictionaries(
    {
        "name": st.sampled_from(PLUGINS),
        "consumer": st.sampled_from([None, None, "anna", "berta"]),
        "consumer_group": st.sampled_from([None, None, "gold", "silver"]),
        "route": st.booleans(),
        "service": st.booleans(),
        "ordering": rules,
    }
).filter(lambda one: not (one["consumer"] and one["consumer_group"]))


def obvious_pick(
    plugins: list[dict[str, Any]], name: str, consumer: str | None, groups: list[str]
) -> dict[str, Any] | None:
    """Of all instances that match the request the one that names most, by the published table."""
    table = ["crs", "grs", "cr", "cs", "gr", "gs", "rs", "c", "g", "r", "s", ""]

    def level(one: dict[str, Any]) -> tuple[int, int]:
        letters = "".join(
            letter
            for letter, is_set in zip(
                "cgrs", (one["consumer"], one["consumer_group"], one["route"], one["service"]), strict=True
            )
            if is_set
        )
        return table.index(letters), groups.index(one["consumer_group"]) if one["consumer_group"] else 0

    matching = [
        one
        for one in plugins
        if one["name"] == name
        and one["consumer"] in (None, consumer)
        and (one["consumer_group"] is None or one["consumer_group"] in groups)
    ]
    return min(matching, key=level, default=None)


def obvious_order(picked: dict[str, dict[str, Any]], names: list[str], algorithm: str) -> list[str] | None:
    pairs = []
    for name, one in picked.items():
        for side, named in (one["ordering"] or {}).items():
            pairs += [(name, other) if side == "before" else (other, name) for other in named["access"]]
    pairs = [(earlier, later) for earlier, later in pairs if earlier in names and later in names]
    possible = [
        order
        for order in permutations(names)
        if all(order.index(earlier) < order.index(later) for earlier, later in pairs)
    ]
    if not possible or any(earlier == later for earlier, later in pairs):
        return None
    if algorithm == "priority_preserving":
        return list(min(possible, key=lambda order: [names.index(name) for name in order]))
    order: list[str] = []
    for name in names:
        # All that must come before, before that too; among them by the same rule.
        before, grown = {name}, True
        while grown:
            more = {earlier for earlier, later in pairs if later in before}
            grown = not more <= before
            before |= more
        missing = [one for one in names if one in before and one not in order]
        order += obvious_walk(missing, pairs, name)
    return order


def obvious_walk(missing: list[str], pairs: list[tuple[str, str]], last: str) -> list[str]:
    if last not in missing:
        return []
    walked: list[str] = []
    for need in missing:
        if (need, last) in pairs:
            walked += [one for one in obvious_walk(missing, pairs, need) if one not in walked]
    return [*walked, last]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        scopes, max_size=10, unique_by=lambda one: tuple(value for key, value in one.items() if key != "ordering")
    ),
    st.sampled_from([None, "anna", "berta", "carla"]),
    st.lists(st.sampled_from(["gold", "silver"]), unique=True).map(sorted),
    st.sampled_from(["legacy", "priority_preserving"]),
)
def test_precedence_and_order_are_those_of_the_obvious_model(
    plugins: list[dict[str, Any]], consumer: str | None, groups: list[str], algorithm: str
) -> None:
    world = World()
    service = world.service()
    route = world.route(service)
    clients = {name: world.add("consumers", username=name) for name in ("anna", "berta", "carla")}
    members = {name: world.add("consumer_groups", name=name) for name in ("gold", "silver")}
    for name, handler in (("early", Early), ("auth", Authenticating), ("b", Accessing), ("a", Accessing)):
        world.install(name, handler)
    ids = {}
    for one in plugins:
        entity = world.plugin(
            one["name"],
            consumer=clients.get(one["consumer"]),
            consumer_group=members.get(one["consumer_group"]),
            route=route if one["route"] else None,
            service=service if one["service"] else None,
            ordering=one["ordering"],
        )
        ids[entity["id"]] = one

    there = [name for name in PLUGINS if any(one["name"] == name for one in plugins)]

    def resolved(who: str | None, of: list[str]) -> tuple[dict[str, dict[str, Any]], list[str] | None]:
        picked = {name: one for name in there if (one := obvious_pick(plugins, name, who, of)) is not None}
        alone = obvious_order(picked, list(picked), algorithm)
        if alone is None:
            return picked, None
        # Where a plugin without an instance stands only matters to which turns are over: as if it had no rules.
        known = {name: found for name, one in picked.items() if (found := rules_of(one)) is not None}
        order: list[str] = sort_names(there, known, algorithm, picked)
        assert [name for name in order if name in picked] == alone
        if who is None and not of:
            # Whoever must run after one that may still come waits for it.
            order = obvious_order(picked, order, "priority_preserving") or order
        return picked, order

    expected: list[dict[str, Any]] | None = []
    over: set[str] = set()
    who: str | None = None
    of: list[str] = []
    while expected is not None:
        picked, order = resolved(who, of)
        if order is None:
            expected = None
            break
        turn = next((name for name in order if name not in over), None)
        if turn is None:
            break
        over.add(turn)
        if turn in picked:
            expected.append(picked[turn])
            if turn == "auth":
                who, of = consumer, groups

    try:
        plan = world.plan(ordering_algorithm=algorithm)
    except PlanError:
        assert expected is None
        return
    chain = plan.chains[0]
    call = Call(exchange(plan), Phase.ACCESS)
    ran: list[dict[str, Any]] | None = []
    chosen: list[PluginInstance | None] = [None] * len(chain.slots)
    for instance, handle, config in chain.access if chain.is_static else chain.late_steps(call, chosen):
        try:
            handle(config)
        except CycleError:
            ran = None
            break
        assert ran is not None
        ran.append(ids[instance.id])
        if instance.name == "auth":
            call.consumer = None if consumer is None else clients[consumer]
            call.consumer_groups = [members[name] for name in groups] or None
    assert ran == expected
    if ran is not None and not chain.is_static:
        assert [ids[one.id] for one in chosen if one is not None] == sorted(
            ran, key=lambda one: PLUGINS.index(one["name"])
        )
