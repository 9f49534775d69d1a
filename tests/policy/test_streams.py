"""Stream routes in a plan: behind the others, with chains and global instances of their own."""

import json
from typing import Any

from headgate.pdk import Plugin
from headgate.phases import Phase
from tests.policy.plans import Config, World

STREAMS = ["tcp", "tls", "tls_passthrough", "udp"]


class Handler(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 10

    def certificate(self, conf: Config) -> None: ...

    def access(self, conf: Config) -> None: ...

    def preread(self, conf: Config) -> None: ...

    def log(self, conf: Config) -> None: ...


class Quiet(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 20

    def access(self, conf: Config) -> None: ...


def world_with(*plugins: str) -> World:
    world = World()
    for name in plugins:
        world.install(name, Quiet if name == "quiet" else Handler)
    return world


def stream_route(world: World, **fields: Any) -> Any:
    defaults = {"protocols": ["tcp"], "paths": None, "sources": [{"ip": "10.0.0.0/8"}]}
    return world.route(fields.pop("service", None), **defaults | fields)


def test_stream_routes_follow_the_others_and_keep_their_attributes() -> None:
    world = world_with()
    service = world.service(protocol="tls", name="database", port=5432)
    stream = stream_route(world, name="stream", service=service, snis=["a.test"], destinations=[{"port": 9000}])
    http = world.route(name="web")
    plan = world.plan()
    assert [plan.route(0)["id"], plan.route(1)["id"]] == [http["id"], stream["id"]]
    [_, planned] = json.loads(plan.engine_plan())["routes"]
    assert planned["sources"] == [{"ip": "10.0.0.0/8"}]
    assert (planned["destinations"], planned["snis"]) == ([{"port": 9000}], ["a.test"])
    assert planned["protocols"] == ["tcp"]
    assert (len(plan.chains), len(plan.stream_chains)) == (1, 1)
    assert plan.stream_chain(1) is plan.stream_chains[0]


def test_subsystems_do_not_share_instances() -> None:
    world = world_with("p")
    route = stream_route(world)
    world.plugin("p", protocols=["http"])
    mine = world.plugin("p", protocols=["udp"], route=route)
    plan = world.plan()
    assert [one.id for one in plan.stream_chains[0].instances] == [mine["id"]]
    assert plan.stream_globals.mask == 0
    assert plan.globals.mask == Phase.CERTIFICATE | Phase.LOG


def test_the_most_specific_instance_runs_and_consumers_do_not_count() -> None:
    world = world_with("p")
    route = stream_route(world)
    world.plugin("p", protocols=STREAMS)
    world.plugin("p", protocols=STREAMS, route=route, consumer=world.add("consumers", username="anna"))
    specific = world.plugin("p", protocols=STREAMS, route=route)
    plan = world.plan()
    assert [one.id for one in plan.stream_chains[0].instances] == [specific["id"]]
    assert plan.stream_globals.mask == Phase.CERTIFICATE | Phase.LOG


def test_routes_whose_plugins_have_no_stream_phase_call_nobody() -> None:
    world = world_with("quiet")
    stream_route(world)
    world.plugin("quiet", protocols=STREAMS)
    plan = world.plan()
    assert plan.stream_chains[0].phases == 0
    assert json.loads(plan.engine_plan())["stream_global_phases"] == 0


def test_routes_of_a_disabled_service_are_left_out() -> None:
    world = world_with()
    stream_route(world, service=world.service(protocol="tcp", enabled=False))
    assert json.loads(world.plan().engine_plan())["routes"] == []
