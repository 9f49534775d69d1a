"""Order of plugins, sharing of chains, late picks."""

from headgate.pdk import Plugin
from headgate.phases import Phase
from headgate.policy.chain import LateSlot, PluginInstance
from tests.policy.plans import Config, World


class Accessing(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 10

    def access(self, conf: Config) -> None: ...


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
