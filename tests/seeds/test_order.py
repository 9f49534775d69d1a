"""What the plugin pages say of order: priorities, the ordering examples, precedence and the tie of groups."""

from typing import Any

import pytest

from headgate.config.general import LEGACY
from headgate.pdk import Plugin, kong
from headgate.pdk.plugin import instance_of
from headgate.policy import chain
from headgate.policy.catalog import load_catalog
from headgate.policy.compile import compile_plan
from headgate.policy.configuration import load_configuration
from headgate.policy.ordering_check import check_ordering
from headgate.policy.precedence import LEVELS
from headgate.testing import Request
from tests.policy.plans import Config, World, exchange, reference
from tests.policy.test_runner import drive, run, runtime_of

seen: list[str] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    seen.clear()


class Recording(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 100

    def access(self, conf: Config) -> None:
        seen.append(f"access {instance_of(conf).name}")

    def header_filter(self, conf: Config) -> None:
        seen.append(f"header_filter {instance_of(conf).name}")

    def log(self, conf: Config) -> None:
        seen.append(f"log {instance_of(conf).name} {conf.label}")


class Higher(Recording):
    PRIORITY = 200


class Authenticating(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 1250

    def access(self, conf: Config) -> None:
        kong.client.authenticate(kong.db.consumers.select_by_username("anna"), None)


def world_of(**handlers: type[Plugin[Any]]) -> World:
    world = World()
    world.route()
    for name, handler in handlers.items():
        world.install(name.replace("_", "-"), handler)
    return world


def access_order(text: str) -> list[str]:
    catalog = load_catalog(["bundled"])
    plan = compile_plan(load_configuration(text, catalog), catalog)
    return [one.name for one in plan.chains[0].access_order()]


def test_the_higher_priority_runs_first_in_every_phase() -> None:
    world = world_of(low=Recording, high=Higher)
    world.plugin("low")
    world.plugin("high")
    run(world)
    assert [line.split()[:2] for line in seen] == [
        [phase, name] for phase in ("access", "header_filter", "log") for name in ("high", "low")
    ]


def test_equal_priorities_run_by_name_in_descending_order() -> None:
    world = world_of(key_auth=Recording, key_auth_enc=Recording)
    world.plugin("key-auth")
    world.plugin("key-auth-enc")
    run(world)
    assert seen[:2] == ["access key-auth-enc", "access key-auth"]


ROUTED = """
_format_version: "3.0"
services:
- name: s
  host: example.test
  routes:
  - {name: r, paths: [/]}
plugins:
"""


def test_ordering_before_runs_rate_limiting_before_authentication() -> None:
    plugins = "- name: key-auth\n- {name: rate-limiting, config: {minute: 5, policy: local, limit_by: ip}"
    assert access_order(f"{ROUTED}{plugins}}}") == ["key-auth", "rate-limiting"]
    ordered = f"{plugins}, ordering: {{before: {{access: [key-auth]}}}}}}"
    assert access_order(f"{ROUTED}{ordered}") == ["rate-limiting", "key-auth"]


def test_ordering_after_runs_authentication_after_the_transformation() -> None:
    plugins = "- name: request-transformer\n- {name: key-auth"
    assert access_order(f"{ROUTED}{plugins}}}") == ["key-auth", "request-transformer"]
    ordered = f"{plugins}, ordering: {{after: {{access: [request-transformer]}}}}}}"
    assert access_order(f"{ROUTED}{ordered}") == ["request-transformer", "key-auth"]


def test_ordering_changes_the_access_phase_only() -> None:
    world = world_of(low=Recording, high=Higher)
    world.plugin("low", ordering={"before": {"access": ["high"]}})
    world.plugin("high")
    run(world)
    assert seen == [
        "access low",
        "access high",
        "header_filter high",
        "header_filter low",
        "log high default",
        "log low default",
    ]


def test_ordering_works_together_with_consumer_scoped_plugins() -> None:
    world = world_of(auth=Authenticating, low=Recording, high=Higher)
    anna = world.add("consumers", username="anna")
    world.plugin("auth")
    world.plugin("low")
    world.plugin("high", {"label": "everybody"})
    world.plugin("high", {"label": "anna"}, ordering={"after": {"access": ["low"]}}, consumer=anna)
    run(world)
    assert seen[:2] == ["access low", "access high"]
    assert "log high anna" in seen


def test_the_levels_of_precedence_are_the_published_ones() -> None:
    written = [
        "consumer route service",
        "consumer_group service route",
        "consumer route",
        "consumer service",
        "consumer_group route",
        "consumer_group service",
        "route service",
        "consumer",
        "consumer_group",
        "route",
        "service",
        "",
    ]
    levels = [{name for name, is_set in level._asdict().items() if is_set} for level in LEVELS]
    assert levels == [set(line.split()) for line in written]


@pytest.mark.parametrize("names", [("A", "B"), ("B", "A")])
def test_of_two_consumer_groups_the_alphabetically_first_ones_instance_runs_alone(names: tuple[str, str]) -> None:
    world = world_of(auth=Authenticating, limit=Recording)
    anna = world.add("consumers", username="anna")
    world.plugin("auth")
    for name in names:
        group = world.add("consumer_groups", name=name)
        world.add("consumer_group_consumers", consumer=reference(anna), consumer_group=reference(group))
        world.plugin("limit", {"label": name}, consumer_group=group)
    run(world, Request())
    assert [line for line in seen if line.startswith("log limit")] == ["log limit A"]


def test_a_member_gets_its_groups_instance_and_others_the_general_one() -> None:
    world = world_of(auth=Authenticating, limit=Recording)
    anna = world.add("consumers", username="anna")
    group = world.add("consumer_groups", name="gold")
    world.plugin("auth")
    world.plugin("limit", {"label": "general"})
    world.plugin("limit", {"label": "gold"}, consumer_group=group)
    run(world)
    assert seen[-1] == "log limit general"
    world.add("consumer_group_consumers", consumer=reference(anna), consumer_group=reference(group))
    run(world)
    assert seen[-1] == "log limit gold"
    world.plugin("limit", {"label": "anna herself"}, consumer=anna)
    run(world)
    assert seen[-1] == "log limit anna herself"


def test_no_request_sorts_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_of(auth=Authenticating, low=Recording, high=Higher)
    anna = world.add("consumers", username="anna")
    world.plugin("auth")
    world.plugin("low", ordering={"before": {"access": ["high"]}}, consumer=anna)
    world.plugin("high")
    plan = world.plan()
    chain_of_route = plan.chains[0]
    chain_of_route.resolution(anna, None)
    chain_of_route.resolution(None, None)
    monkeypatch.setattr(chain, "sort_names", None)
    monkeypatch.setattr(chain, "sort_for_unknown_client", None)
    drive(runtime_of(world), plan, exchange(plan))
    assert seen[:2] == ["access low", "access high"]


def test_a_global_plugin_runs_on_every_request_once() -> None:
    world = world_of(auth=Authenticating, limit=Recording)
    other = world.route(world.service(name="second"), name="other", paths=["/other"])
    world.plugin("limit", {"label": "everywhere"})
    world.plugin("limit", {"label": "of the other route"}, route=other)
    plan = world.plan()
    for position in range(2):
        seen.clear()
        drive(runtime_of(world), plan, exchange(plan, position))
        label = "of the other route" if plan.route(position)["id"] == other["id"] else "everywhere"
        assert seen == ["access limit", "header_filter limit", f"log limit {label}"]


def test_deleted_and_unknown_names_of_ordering_are_warned_of() -> None:
    catalog = load_catalog(["bundled"])
    text = f"{ROUTED}- {{name: key-auth, ordering: {{after: {{access: [request-transformer, no-such]}}}}}}"
    warnings = check_ordering(load_configuration(text, catalog), catalog, LEGACY).warnings
    assert any("request-transformer" in one for one in warnings)
    assert any("no-such" in one for one in warnings)
