"""What gets into a plan, and the JSON for the engine."""

import json
import logging
from typing import Any

import pytest

from headgate.entities.registry import ENTITY_TYPES
from headgate.errors import PlanError
from headgate.pdk import Plugin, instance_of
from headgate.phases import Phase
from headgate.policy.chain import PluginInstance
from tests.policy.plans import Config, World, reference


class Handler(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 10

    def rewrite(self, conf: Config) -> None: ...
    def access(self, conf: Config) -> None: ...
    def log(self, conf: Config) -> None: ...


class WithoutConsumer(Config):
    no_consumer = True


class ConsumerBlind(Plugin[WithoutConsumer]):
    VERSION = "1.0.0"
    PRIORITY = 10

    def access(self, conf: WithoutConsumer) -> None: ...


def chosen(world: World) -> str | None:
    slots = world.plan().chains[0].slots
    return slots[0].id if slots and isinstance(slots[0], PluginInstance) else None


def test_the_engine_plan_has_routes_services_and_phase_masks() -> None:
    world = World()
    service = world.service(path="/base", retries=2, connect_timeout=10, write_timeout=20, read_timeout=30)
    route = world.route(service, created_at=7, methods=["GET"], hosts=["a.test"], regex_priority=1, strip_path=False)
    world.install("p", Handler)
    world.plugin("p")
    plan = json.loads(world.plan().engine_plan())
    assert plan["revision"] == 1
    assert plan["router_flavor"] == "traditional_compatible"
    assert plan["global_phases"] == Phase.REWRITE | Phase.LOG
    assert plan["routes"] == [
        {
            "id": route["id"],
            "name": "route",
            "created_at": 7,
            "methods": ["GET"],
            "hosts": ["a.test"],
            "paths": ["/"],
            "regex_priority": 1,
            "strip_path": False,
            "protocols": ["http", "https"],
            "phases": Phase.ACCESS | Phase.LOG,
            "service": 0,
        }
    ]
    assert plan["services"] == [
        {
            "id": service["id"],
            "name": "service",
            "protocol": "http",
            "host": "upstream",
            "port": 80,
            "path": "/base",
            "retries": 2,
            "connect_timeout_ms": 10,
            "write_timeout_ms": 20,
            "read_timeout_ms": 30,
        }
    ]


def test_upstreams_certificates_and_snis_refer_to_one_another_by_position() -> None:
    world = World()
    certificate = world.add("certificates", cert="CERT", key="KEY", cert_alt=None, key_alt=None)
    world.add("snis", name="a.test", certificate=reference(certificate))
    world.add("ca_certificates", cert="CA")
    upstream = world.add("upstreams", name="u", algorithm="round-robin", client_certificate=reference(certificate))
    world.add("targets", target="[::1]:8080", weight=5, upstream=reference(upstream))
    plan = json.loads(world.plan().engine_plan())
    assert plan["certificates"] == [{"id": certificate["id"], "cert": "CERT", "key": "KEY"}]
    assert plan["snis"] == {"a.test": 0}
    assert list(plan["ca_certificates"].values()) == ["CA"]
    assert plan["upstreams"][0]["client_certificate"] == 0
    assert plan["upstreams"][0]["targets"] == [{"host": "::1", "port": 8080, "weight": 5}]


def upstream_plan(**given: Any) -> dict[str, Any]:
    entity, errors = ENTITY_TYPES["upstreams"].examine({"name": "u", **given}, now=1)
    assert errors == {}
    world = World()
    world.add("upstreams", **{name: value for name, value in entity.items() if name != "id"})
    plan: dict[str, Any] = json.loads(world.plan().engine_plan())["upstreams"][0]
    return plan


def test_what_an_upstream_hashes_on_reaches_the_engine() -> None:
    plan = upstream_plan(hash_on="header", hash_on_header="X-User", hash_fallback="cookie", hash_on_cookie="session")
    assert plan["algorithm"] == "consistent-hashing"
    assert plan["hash_on"] == {"input": "header", "name": "X-User"}
    assert plan["hash_fallback"] == {"input": "cookie", "name": "session", "path": "/"}
    assert plan["slots"] == 10_000
    assert upstream_plan(hash_on="ip")["hash_on"] == {"input": "ip"}
    assert "hash_on" not in upstream_plan()


def test_health_checks_reach_the_engine_only_when_there_is_a_checker() -> None:
    assert "passive_checks" not in upstream_plan()
    passive = {"unhealthy": {"tcp_failures": 2}, "healthy": {"successes": 3}}
    plan = upstream_plan(healthchecks={"passive": passive, "threshold": 40})
    assert plan["health_threshold_percent"] == 40
    assert plan["passive_checks"]["thresholds"] == {
        "successes": 3,
        "http_failures": 0,
        "tcp_failures": 2,
        "timeouts": 0,
    }
    active = upstream_plan(healthchecks={"active": {"healthy": {"interval": 1}}})
    assert set(active["passive_checks"]["thresholds"].values()) == {0}


def test_circuit_breaking_and_sticky_sessions_reach_the_engine() -> None:
    plan = upstream_plan(
        algorithm="sticky-sessions",
        sticky_sessions_cookie="at",
        circuit_breaking={"max_connections": 5, "outlier_ejection": {"consecutive_failures": 3}},
    )
    assert plan["sticky_cookie"] == {"name": "at", "path": "/"}
    assert plan["circuit_breaking"] == {
        "max_connections": 5,
        "max_pending_requests": 0,
        "outlier_ejection": {
            "consecutive_failures": 3,
            "ejection_time_ms": 30_000,
            "max_ejected_percent": 50,
        },
    }
    assert upstream_plan()["circuit_breaking"] == {"max_pending_requests": 0}


def test_routes_of_a_disabled_service_are_left_out() -> None:
    world = World()
    world.route(world.service(enabled=False))
    assert json.loads(world.plan().engine_plan())["routes"] == []


def test_a_route_of_another_protocol_is_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.route(protocols=["tcp"], name="streams")
    with caplog.at_level(logging.WARNING, "headgate.policy"):
        plan = world.plan(is_serving_streams=False)
    assert (plan.chains, plan.stream_chains) == ([], [])
    assert "route streams is not served: protocols tcp" in caplog.text


def test_a_route_whose_service_has_another_protocol_is_kept_without_service(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.route(world.service(protocol="tcp", name="database"), name="odd")
    with caplog.at_level(logging.WARNING, "headgate.policy"):
        plan = world.plan()
    assert plan.service(0) is None
    assert "service" not in json.loads(plan.engine_plan())["routes"][0]
    assert "route odd has no service: protocol tcp of database is not served" in caplog.text


def test_a_plugin_that_is_not_loaded_is_a_fault() -> None:
    world = World()
    world.plugin("ghost")
    world.plugin("ghost")
    with pytest.raises(PlanError) as caught:
        world.plan()
    assert caught.value.faults == ["ghost plugin is in use but not enabled"]


def test_all_faulty_configurations_are_reported_with_their_instance() -> None:
    world = World()
    world.install("p", Handler)
    first, second = world.plugin("p", {"label": 1}), world.plugin("p", {"unknown": True})
    with pytest.raises(PlanError) as caught:
        world.plan()
    assert [first["id"] in text or second["id"] in text for text in caught.value.faults] == [True, True]


def test_a_disabled_instance_gives_way_to_a_less_specific_one() -> None:
    world = World()
    world.install("p", Handler)
    route = world.route()
    world.plugin("p", route=route, enabled=False)
    general = world.plugin("p")
    assert chosen(world) == general["id"]


def test_protocols_count_by_subsystem_only() -> None:
    world = World()
    world.install("p", Handler)
    route = world.route(protocols=["http"])
    world.plugin("p", route=route, protocols=["tcp"])
    https_only = world.plugin("p", protocols=["https"])
    assert chosen(world) == https_only["id"]


def test_a_scope_that_the_schema_forbids_is_ignored() -> None:
    world = World()
    world.install("p", ConsumerBlind)
    world.route()
    instance = world.plugin("p", consumer=world.add("consumers", username="anna"))
    assert chosen(world) == instance["id"]


def test_configurations_know_their_instance() -> None:
    world = World()
    world.install("p", Handler)
    entity = world.plugin("p", {"label": "x"}, instance_name="mine")
    [instance] = world.plan().instances("p")
    info = instance_of(instance.config)
    assert (info.id, info.name, info.instance_name, info.route_id) == (entity["id"], "p", "mine", None)


def test_unchanged_instances_are_kept_from_the_previous_plan() -> None:
    world = World()
    world.install("p", Handler)
    same, changed = world.plugin("p", {"label": "same"}), world.plugin("p", {"label": "old"}, route=world.route())
    first = world.plan()
    world.entities["plugins"][changed["id"]] = changed | {"config": {"label": "new"}}
    second = world.plan(previous=first)
    assert second.instance(same["id"]) is first.instance(same["id"])
    assert second.instance(changed["id"]).config.label == "new"  # type: ignore[union-attr]


def test_ten_thousand_routes_compile() -> None:
    world = World()
    service = world.service()
    world.install("p", Handler)
    world.plugin("p")
    for number in range(10_000):
        world.route(service, name=f"r{number}", paths=[f"/{number}"])
    assert len(json.loads(world.plan().engine_plan())["routes"]) == 10_000
