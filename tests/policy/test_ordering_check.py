"""What the look over a configuration's order finds: circles, names without meaning, rules that come too late."""

import pytest

from headgate.pdk import Plugin
from headgate.policy.catalog import Catalog
from headgate.policy.order import CYCLE
from headgate.policy.ordering_check import OrderingReport, check_ordering
from headgate.store.snapshot import Snapshot
from tests.policy.plans import Config, Entity, World, reference


class Accessing(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 10

    def access(self, conf: Config) -> None: ...


class Authenticating(Accessing):
    PRIORITY = 1000
    IDENTIFIES_CONSUMER = True


class Early(Accessing):
    PRIORITY = 2000


def before(*names: str) -> Entity:
    return {"before": {"access": list(names)}}


def world() -> World:
    one = World()
    one.route(one.service())
    for name in ("a", "b", "c"):
        one.install(name, Accessing)
    one.install("auth", Authenticating)
    one.install("early", Early)
    return one


def check(one: World) -> OrderingReport:
    return check_ordering(Snapshot(one.entities, revision=1), Catalog(one.types))


def test_a_circle_is_a_fault_of_every_instance_that_makes_it() -> None:
    one = world()
    first, second = one.plugin("a", ordering=before("b")), one.plugin("b", ordering=before("a"))
    one.plugin("c", ordering=before("b"))
    report = check(one)
    assert set(report.faults) == {first["id"], second["id"]}
    assert report.faults[first["id"]].startswith(CYCLE)


def test_rules_that_never_apply_together_are_no_circle() -> None:
    one = world()
    [service] = one.entities["services"].values()
    other = one.route(service, name="other")
    route = next(iter(one.entities["routes"].values()))
    one.plugin("a", ordering=before("b"), route=route)
    one.plugin("b", ordering=before("a"), route=other)
    one.plugin("b")
    one.plugin("a")
    assert check(one).faults == {}


def test_a_circle_of_one_consumers_instances_is_found_with_the_consumers_groups() -> None:
    one = world()
    anna, group = one.add("consumers", username="anna"), one.add("consumer_groups", name="gold")
    one.plugin("a")
    of_anna = one.plugin("a", ordering=before("b"), consumer=anna)
    of_group = one.plugin("b", ordering=before("a"), consumer_group=group)
    assert check(one).faults == {}
    one.add("consumer_group_consumers", consumer=reference(anna), consumer_group=reference(group))
    assert set(check(one).faults) == {of_anna["id"], of_group["id"]}


def test_a_disabled_instance_makes_no_circle() -> None:
    one = world()
    one.plugin("a", ordering=before("b"))
    one.plugin("b", ordering=before("a"), enabled=False)
    assert check(one).faults == {}


@pytest.mark.parametrize(
    ("name", "text"), [("c", "on 'c', which is configured nowhere"), ("gone", "on 'gone', which is no plugin of")]
)
def test_a_name_without_meaning_is_warned_of(name: str, text: str) -> None:
    one = world()
    plugin = one.plugin("a", ordering=before(name))
    [warning] = check(one).warnings
    assert text in warning
    assert plugin["id"] in warning


def test_a_consumer_scoped_instance_before_authentication_is_warned_of() -> None:
    one = world()
    one.plugin("auth")
    scoped = one.plugin("early", consumer=one.add("consumers", username="anna"))
    [warning] = check(one).warnings
    assert "'early' runs before 'auth', which identifies the consumer" in warning
    assert scoped["id"] in warning


def test_ordering_a_plugin_before_authentication_takes_its_consumer_scoped_instances_away() -> None:
    one = world()
    one.plugin("auth")
    one.plugin("a", ordering=before("auth"))
    one.plugin("a", consumer_group=one.add("consumer_groups", name="gold"))
    [warning] = check(one).warnings
    assert "'a' runs before 'auth'" in warning
    assert "scoped to a consumer group" in warning


def test_a_rule_of_a_consumer_scoped_instance_that_comes_too_late_is_warned_of() -> None:
    one = world()
    one.plugin("auth")
    one.plugin("a")
    one.plugin("a", ordering=before("auth"), consumer=one.add("consumers", username="anna"))
    [warning] = check(one).warnings
    assert "'a' cannot run before 'auth'" in warning


def test_a_sound_configuration_gives_neither() -> None:
    one = world()
    one.plugin("auth")
    one.plugin("a", ordering=before("b"))
    one.plugin("b")
    one.plugin("b", consumer=one.add("consumers", username="anna"))
    assert check(one) == OrderingReport()
