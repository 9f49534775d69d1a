"""A changed plan serves as one that is compiled whole: routes, services, chains and phases, after any changes."""

import random
from typing import Any

import orjson
import pytest

from headgate.config.general import LEGACY
from headgate.errors import PlanError
from headgate.pdk import Plugin
from headgate.policy.catalog import Catalog
from headgate.policy.change import compile_change
from headgate.policy.compile import CompiledPlan, compile_plan
from headgate.store.delta import Delta
from headgate.store.snapshot import Snapshot
from tests.policy.plans import Config, World, reference


class Early(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 20

    def access(self, conf: Config) -> None: ...


class Late(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 10

    def rewrite(self, conf: Config) -> None: ...

    def header_filter(self, conf: Config) -> None: ...


def served(plan: CompiledPlan) -> dict[str, Any]:
    """Return what each route of a plan is, by id, whatever its position."""
    found = {}
    engine = orjson.loads(plan.engine_plan())
    for position, planned in enumerate(engine["routes"]):
        route, service, chain = plan.route(position), plan.service(position), plan.chains[position]
        assert planned["id"] == route["id"]
        service_id = None if "service" not in planned else engine["services"][planned["service"]]["id"]
        assert service_id == (None if service is None else service["id"])
        slots = [getattr(slot, "id", None) or (slot.name, "late") for slot in chain.slots]
        found[route["id"]] = (planned, service_id, slots, chain.phases)
    return found


class Node:
    """The plan of a worker, and the routes of its engine as changes make them."""

    def __init__(self, world: World) -> None:
        self.catalog = Catalog(world.types)
        self.world = world
        self.plan = compile_plan(self.snapshot(1), self.catalog)
        self.engine: list[Any] = self.planned()

    def planned(self) -> list[Any]:
        """The routes of the engine's plan, without those of streams, which stay behind the others."""
        found: list[Any] = orjson.loads(self.plan.engine_plan())["routes"]
        return found[: len(self.plan.chains)]

    def snapshot(self, revision: int) -> Snapshot:
        entities = {name: dict(sorted(rows.items())) for name, rows in self.world.entities.items()}
        return Snapshot(entities, revision=revision)

    def take(self, changed: dict[str, list[Any]], removed: dict[str, list[str]]) -> bool:
        delta = Delta("x", changed, removed)
        snapshot = self.plan.snapshot.after(delta, self.plan.revision + 1)
        made = compile_change(self.plan, snapshot, delta, self.catalog, ordering_algorithm=LEGACY)
        if made is None:
            self.plan = compile_plan(snapshot, self.catalog, previous=self.plan)
            self.engine = self.planned()
            return False
        self.plan, change = made[0], orjson.loads(made[1])
        assert (change["base"], change["revision"]) == (snapshot.revision - 1, snapshot.revision)
        assert change["global_phases"] == self.plan.globals.mask
        for position, planned in change["routes"]:
            assert position <= len(self.engine)
            self.engine[position : position + 1] = [planned]
        del self.engine[change["route_count"] :]
        return True


@pytest.mark.parametrize("seed", range(6))
def test_changes_one_after_the_other_are_the_whole(seed: int) -> None:
    rng = random.Random(seed)
    world = World()
    world.install("early", Early)
    world.install("late", Late)
    services = [world.service(name=f"s{number}", enabled=number != 3) for number in range(4)]
    for number in range(12):
        world.route(rng.choice([*services, None]), name=f"r{number}", paths=[f"/{number}"])
    world.plugin("early", service=services[0])
    node = Node(world)
    taken = 0
    for number in range(40):
        changed: dict[str, list[Any]] = {}
        removed: dict[str, list[str]] = {}
        routes = list(world.entities["routes"].values())
        for _ in range(rng.choice((1, 1, 3))):
            kind = rng.randrange(7)
            if kind == 0 or not routes:
                protocols = rng.choice((["http"], ["https", "grpc"]))
                changed.setdefault("routes", []).append(
                    world.route(rng.choice([*services, None]), name=f"n{number}", protocols=protocols)
                )
            elif kind in (1, 2):
                one = rng.choice(routes)
                new = one | {"paths": [f"/x{number}"], "service": reference(rng.choice([*services, None]))}
                world.entities["routes"][one["id"]] = new
                changed.setdefault("routes", []).append(new)
            elif kind == 3:
                one = rng.choice(routes)
                if world.entities["routes"].pop(one["id"], None) is not None:
                    removed.setdefault("routes", []).append(one["id"])
            elif kind == 4:
                scope = rng.choice(({}, {"route": rng.choice(routes)}, {"service": rng.choice(services)}))
                changed.setdefault("plugins", []).append(
                    world.plugin(rng.choice(("early", "late")), {"label": str(number)}, **scope)
                )
            elif kind == 5 and (plugins := list(world.entities["plugins"])):
                gone = rng.choice(plugins)
                del world.entities["plugins"][gone]
                removed.setdefault("plugins", []).append(gone)
            else:
                changed.setdefault("consumers", []).append(world.add("consumers", username=f"u{number}"))
        # What was changed and then removed is gone; what was changed twice is as it was last.
        for name, rows in changed.items():
            changed[name] = list({one["id"]: one for one in rows if one["id"] not in removed.get(name, ())}.values())
        taken += node.take(changed, removed)
        whole = compile_plan(node.snapshot(node.plan.revision), node.catalog, previous=node.plan)
        assert served(node.plan) == served(whole)
        assert node.plan.globals.mask == whole.globals.mask
        assert node.engine == node.planned()
    assert taken == 40


def test_what_concerns_others_by_position_is_compiled_whole() -> None:
    world = World()
    service = world.service()
    world.route(service)
    node = Node(world)
    assert not node.take({"services": [service | {"port": 81}]}, {})
    assert not node.take({"upstreams": []}, {})
    assert node.take({"consumers": [world.add("consumers", username="u")]}, {})
    stream = world.route(service, protocols=["tcp"])
    assert not node.take({"routes": [stream]}, {})
    assert not node.take({"routes": [stream | {"name": "st"}]}, {})
    world.install("early", Early)
    node = Node(world)
    assert not node.take({"plugins": [world.plugin("early")]}, {})
    assert not node.take({}, {"routes": [stream["id"]]})


def test_routes_of_streams_stay_behind_those_of_http() -> None:
    world = World()
    service = world.service()
    one, stream = world.route(service, name="one"), world.route(service, name="st", protocols=["tcp"])
    node = Node(world)
    two = world.route(service, name="two")
    for changed, removed, names in (
        ({"routes": [two]}, {}, ["one", "two", "st"]),
        ({}, {"routes": [one["id"]]}, ["two", "st"]),
        ({}, {"routes": [two["id"]]}, ["st"]),
    ):
        assert node.take(changed, removed)
        count = len(node.plan.chains)
        assert [node.plan.route(position)["name"] for position in range(count + 1)] == names
        assert node.plan.stream_chain(count) is node.plan.stream_chains[0]
        assert node.plan.service(count) == service
        assert orjson.loads(node.plan.engine_plan())["routes"][count]["id"] == stream["id"]
        assert node.engine == node.planned()


def test_an_untouched_route_keeps_its_chain() -> None:
    world = World()
    world.install("early", Early)
    one, other = world.route(name="one"), world.route(name="other")
    world.plugin("early", route=one)
    node = Node(world)
    position = next(place for place in (0, 1) if node.plan.route(place)["id"] == one["id"])
    chain = node.plan.chains[position]
    node.take({"routes": [other | {"paths": ["/new"]}]}, {})
    assert node.plan.chains[position] is chain


def test_faults_are_those_of_the_whole() -> None:
    world = World()
    world.install("early", Early)
    world.route()
    node = Node(world)
    plugin = world.plugin("unknown")
    with pytest.raises(PlanError, match="unknown plugin is in use but not enabled"):
        node.take({"plugins": [plugin]}, {})
