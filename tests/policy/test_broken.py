"""Instances that cannot be configured: their scope is refused, the rest is served, nothing is skipped."""

import logging
from dataclasses import replace

import pytest

from headgate.errors import PlanError
from headgate.pdk import Plugin, kong
from headgate.phases import Phase
from headgate.policy.catalog import Catalog, PluginType, load_catalog
from headgate.policy.compile import CompiledPlan, compile_plan
from headgate.policy.runner import Runtime
from headgate.schema import PluginConfig
from headgate.store.snapshot import Snapshot
from headgate.testing import MemoryExchange
from tests.policy.plans import Config, Entity, World, exchange
from tests.policy.test_runner import NeedBody, drive

WRONG = {"label": 5}
seen: list[str] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    seen.clear()


class Logging(Plugin[Config]):
    """Has no access handler of its own."""

    VERSION = "1.0.0"
    PRIORITY = 10

    def log(self, conf: Config) -> None:
        seen.append(conf.label)


class Authenticating(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 1000

    def access(self, conf: Config) -> None:
        seen.append("auth")
        kong.client.authenticate(kong.db.consumers.select_by_username("anna"), None)


class Answering(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 5000

    def access(self, conf: Config) -> None:
        kong.response.exit(200, "served")


def world() -> World:
    one = World()
    one.install("logger", Logging)
    one.install("auth", Authenticating)
    one.install("answer", Answering)
    one.route(name="r")
    return one


def broken_type(name: str) -> PluginType:
    fault = f"plugin '{name}' cannot be imported: ImportError: no module named redis"
    return PluginType(name, "unknown", 2**63 - 1, Plugin, PluginConfig, frozenset(), "test", fault=fault)


def compiled(one: World) -> CompiledPlan:
    return one.plan(is_broken_allowed=True)


def request(one: World, index: int | None = 0) -> MemoryExchange:
    plan = compiled(one)
    return drive(Runtime(Catalog(one.types), NeedBody), plan, exchange(plan, index))


def index_of(one: World, route: Entity) -> int:
    plan = compiled(one)
    return next(index for index in range(len(plan.chains)) if plan.route(index)["id"] == route["id"])


def test_without_the_setting_the_plan_is_refused_with_instance_and_fault() -> None:
    one = world()
    instance = one.plugin("logger", WRONG)
    with pytest.raises(PlanError) as caught:
        one.plan()
    assert instance["id"] in str(caught.value)
    assert "logger" in str(caught.value)


def test_its_route_answers_500_and_others_are_served(caplog: pytest.LogCaptureFixture) -> None:
    one = world()
    bad = one.route(name="bad")
    one.plugin("logger", {"label": "global"})
    instance = one.plugin("logger", WRONG, route=bad)
    assert request(one, index_of(one, bad)).response_status == 500
    assert seen == []
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert any("[logger]" in line and instance["id"] in line and "label" in line for line in lines)
    good = next(one_ for one_ in one.entities["routes"].values() if one_["name"] == "r")
    assert request(one, index_of(one, good)).response_status == 200
    assert seen == ["global"]


def test_a_broken_consumer_scoped_instance_refuses_that_consumer_only() -> None:
    one = world()
    anna = one.add("consumers", username="anna")
    one.plugin("logger", {"label": "everybody"})
    one.plugin("logger", WRONG, consumer=anna)
    assert request(one).response_status == 200
    one.plugin("auth")
    assert request(one).response_status == 500


def test_a_plugin_that_cannot_be_loaded_lets_nobody_answer_before_it() -> None:
    one = world()
    one.types.append(broken_type("gone"))
    one.plugin("gone")
    one.plugin("answer")
    assert request(one).response_status == 500


def test_a_global_instance_of_such_a_plugin_refuses_unmatched_requests_too() -> None:
    one = world()
    one.types.append(broken_type("gone"))
    one.plugin("gone")
    assert request(one, None).response_status == 500


def test_an_instance_whose_plugin_has_no_early_phase_leaves_unmatched_requests_alone() -> None:
    one = world()
    one.plugin("logger", WRONG)
    plan = compiled(one)
    assert plan.globals.mask == 0
    assert plan.chains[0].phases == Phase.ACCESS


def test_one_whose_plugin_sees_handshakes_refuses_requests_and_no_handshake() -> None:
    class Shaking(Logging):
        def certificate(self, conf: Config) -> None: ...

    one = world()
    one.install("shaking", Shaking)
    one.plugin("shaking", WRONG)
    assert compiled(one).globals.mask == Phase.REWRITE
    assert request(one, None).response_status == 500


def test_a_consumer_scoped_instance_of_such_a_plugin_is_not_slipped_past() -> None:
    one = world()
    anna = one.add("consumers", username="anna")
    one.types.append(broken_type("gone"))
    one.plugin("gone", consumer=anna)
    assert request(one).response_status == 200
    one.plugin("auth")
    assert request(one).response_status == 500
    assert seen == ["auth"]


def test_a_handler_that_cannot_be_made_breaks_its_instances_only() -> None:
    class Failing(Logging):
        def __init__(self) -> None:
            raise RuntimeError("no licence")

    one = world()
    one.install("failing", Failing)
    one.plugin("failing")
    plan = compiled(one)
    [broken] = plan.broken_instances
    assert "no licence" in broken.fault
    assert plan.instances("failing") == []


def test_a_broken_instance_is_none_of_configures_configurations() -> None:
    one = world()
    one.plugin("logger", WRONG, route=one.route(name="bad"))
    good = one.plugin("logger")
    assert [instance.id for instance in compiled(one).instances("logger")] == [good["id"]]


def test_a_repaired_instance_serves_again() -> None:
    one = world()
    instance = one.plugin("logger", WRONG)
    before = compiled(one)
    one.entities["plugins"][instance["id"]] = instance | {"config": {"label": "mended"}}
    plan = compile_plan(Snapshot(one.entities, revision=2), Catalog(one.types), previous=before, is_broken_allowed=True)
    assert plan.broken_instances == []


def test_load_catalog_keeps_a_plugin_that_cannot_be_loaded_with_its_fault() -> None:
    catalog = load_catalog(["bundled", "no-such-plugin"], is_broken_allowed=True)
    assert catalog["no-such-plugin"].fault is not None
    assert next(iter(catalog)) == "no-such-plugin"
    assert replace(catalog["acl"]).fault is None
