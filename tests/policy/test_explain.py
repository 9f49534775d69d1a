"""Every candidate gets a reason, and the one that wins is the one that runs."""

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.pdk import Plugin
from headgate.policy.explain import Explanation, RouteMatch, explain, find_consumer
from tests.policy.plans import Config, Entity, World, reference

MATCHED = RouteMatch(0, "/")
NOTHING = RouteMatch(None, "/")


class First(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 20

    def rewrite(self, conf: Config) -> None: ...

    def access(self, conf: Config) -> None: ...

    def log(self, conf: Config) -> None: ...


class Second(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 10

    def certificate(self, conf: Config) -> None: ...

    def access(self, conf: Config) -> None: ...

    def header_filter(self, conf: Config) -> None: ...


@pytest.fixture
def world() -> World:
    world = World()
    world.install("first", First)
    world.install("second", Second)
    return world


def join(world: World, consumer: Entity, group: Entity) -> None:
    world.add("consumer_group_consumers", consumer=reference(consumer), consumer_group=reference(group))


def told(world: World, match: RouteMatch = MATCHED, **options: Any) -> Explanation:
    plan = world.plan()
    return explain(plan.snapshot, plan, match, **options)


def reasons(result: Explanation, plugin: str = "first") -> dict[str, str]:
    choice = next(one for one in result.plugins if one.name == plugin)
    return {one.instance_name or "": one.reason for one in choice.candidates}


def order(result: Explanation) -> dict[str, list[str]]:
    return {phase: [turn.plugin for turn in turns] for phase, turns in result.order.items()}


def test_every_reason_has_its_words(world: World) -> None:
    route = world.route(world.service())
    other = world.route(name="other")
    anna, bert = world.add("consumers", username="anna"), world.add("consumers", username="bert")
    basic, gold, none = (world.add("consumer_groups", name=name) for name in ("basic", "gold", "none"))
    join(world, anna, gold)
    join(world, anna, basic)
    world.plugin("first", instance_name="wins", consumer_group=basic)
    world.plugin("first", instance_name="later group", consumer_group=gold)
    world.plugin("first", instance_name="route", route=route)
    world.plugin("first", instance_name="global")
    world.plugin("first", instance_name="other route", route=other)
    world.plugin("first", instance_name="other consumer", consumer=bert)
    world.plugin("first", instance_name="other group", consumer_group=none)
    world.plugin("first", instance_name="disabled", enabled=False)
    world.plugin("first", instance_name="stream", protocols=["tcp"])
    assert reasons(told(world, consumer=anna)) == {
        "wins": "runs: level 9 (consumer group) is the most specific level that applies",
        "later group": "is not run: on the same level the group basic comes first by name",
        "route": "is not run: level 10 (route) comes after level 9 (consumer group)",
        "global": "is not run: level 12 (global) comes after level 9 (consumer group)",
        "other route": "is for the route other",
        "other consumer": "is for the consumer bert",
        "other group": "is for the consumer group none, which the client is not in",
        "disabled": "is disabled",
        "stream": "is for other protocols: tcp",
    }
    unknown = told(world)
    assert reasons(unknown)["other consumer"] == "is for the consumer bert; the client is not known"
    assert unknown.notes == (
        "For some consumers another instance runs of: first. Give a consumer to see what that one gets.",
    )


def test_order_is_told_per_phase_with_the_rules_of_access(world: World) -> None:
    world.route(world.service())
    world.plugin("first")
    world.plugin("second", ordering={"before": {"access": ["first"]}})
    result = told(world, is_tls=True)
    assert order(result) == {
        "certificate": ["second"],
        "rewrite": ["first"],
        "access": ["second", "first"],
        "header_filter": ["second"],
        "log": ["first"],
    }
    assert list(result.order) == ["certificate", "rewrite", "access", "header_filter", "log"]
    assert "certificate" not in told(world).order


def test_without_a_route_only_global_instances_run(world: World) -> None:
    route = world.route(world.service())
    world.plugin("first")
    world.plugin("second", instance_name="bound", route=route)
    result = told(world, NOTHING)
    assert order(result) == {"rewrite": ["first"], "log": ["first"]}
    assert reasons(result, "second") == {"bound": "is for the route route"}
    assert (result.route, result.plugins[1].winner) == (None, None)
    assert result.notes[0].startswith("No route matched")


def test_early_phases_run_the_global_instance_beside_a_more_specific_one(world: World) -> None:
    route = world.route(world.service())
    wide, narrow = world.plugin("first"), world.plugin("first", route=route)
    result = told(world)
    assert [turn.instance for turn in result.order["rewrite"]] == [wide["id"]]
    assert [turn.instance for turn in result.order["access"]] == [narrow["id"]]


def test_consumer_is_found_by_each_of_its_names(world: World) -> None:
    anna = world.add("consumers", username="anna", custom_id="a-1")
    snapshot = world.plan().snapshot
    assert [find_consumer(snapshot, text) for text in ("anna", "a-1", anna["id"])] == [anna] * 3
    assert find_consumer(snapshot, str(uuid.uuid4())) is None


@given(st.data())
def test_the_winner_has_the_lowest_level_of_all_that_apply(data: st.DataObject) -> None:
    world = World()
    world.install("first", First)
    routes = [world.route(world.service(), name=f"r{number}") for number in range(2)]
    consumers = [world.add("consumers", username=f"c{number}") for number in range(2)]
    groups = [world.add("consumer_groups", name=f"g{number}") for number in range(2)]
    for group in groups:
        if data.draw(st.booleans()):
            join(world, consumers[0], group)
    for _ in range(data.draw(st.integers(0, 8))):
        world.plugin(
            "first",
            route=data.draw(st.sampled_from([None, *routes])),
            consumer=data.draw(st.sampled_from([None, *consumers])),
            consumer_group=data.draw(st.sampled_from([None, *groups])),
        )
    plan = world.plan()
    index = next(place for place in range(2) if plan.route(place)["id"] == routes[0]["id"])
    result = explain(plan.snapshot, plan, RouteMatch(index, "/"), consumer=consumers[0])
    for choice in result.plugins:
        levels = [one.level for one in choice.candidates if one.level is not None]
        assert [one.level for one in choice.candidates if one.is_winner] == sorted(levels)[:1]
        runs = {turn.instance for turn in result.order.get("access", ())}
        assert runs == ({choice.winner} if choice.winner else set())
