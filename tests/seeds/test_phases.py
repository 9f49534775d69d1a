"""What the plugin pages say of handler functions: names, arguments, when each runs, what excludes what."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from headgate.errors import PluginLoadError
from headgate.pdk import Plugin, kong
from headgate.phases import Phase
from headgate.policy.catalog import HANDLER_PHASES, Catalog, load_catalog
from headgate.policy.compile import CompiledPlan, compile_plan
from headgate.policy.runner import Runtime
from headgate.schema import PluginConfig
from headgate.store.snapshot import Snapshot
from headgate.testing import Request, Stream, run_phase
from tests.policy.plans import Config, World, answer, exchange
from tests.policy.test_runner import awaited, drive, run, runtime_of

seen: list[Any] = []

PHASE_NAMES = ("certificate", "rewrite", "access", "header_filter", "body_filter", "log")


@pytest.fixture(autouse=True)
def _fresh() -> None:
    seen.clear()


class Recording(Plugin[Config]):
    """Every function but `response`, each telling what it was given."""

    VERSION = "1.0.0"
    PRIORITY = 10

    def init_worker(self, *arguments: Any) -> None:
        seen.append(("init_worker", self, arguments))

    def configure(self, *arguments: Any) -> None:
        seen.append(("configure", self, arguments))

    def certificate(self, *arguments: Any) -> None:
        seen.append(("certificate", self, arguments))

    def rewrite(self, *arguments: Any) -> None:
        seen.append(("rewrite", self, arguments))

    def access(self, *arguments: Any) -> None:
        seen.append(("access", self, arguments))

    def header_filter(self, *arguments: Any) -> None:
        seen.append(("header_filter", self, arguments))

    def body_filter(self, *arguments: Any) -> None:
        seen.append(("body_filter", self, arguments))

    def log(self, *arguments: Any) -> None:
        seen.append(("log", self, arguments))


class Handshake:
    """The engine's object of a TLS handshake, as far as the runtime goes."""

    def __init__(self, plan: CompiledPlan) -> None:
        self.plan = plan
        self.id = None
        self.is_stream = False

    def fail(self) -> None:
        raise AssertionError("a handler raised")


def recording_world(**scope: Any) -> World:
    world = World()
    route = world.route()
    world.install("p", Recording)
    world.plugin("p", {"label": "mine"}, **({"route": route} if scope.get("is_on_route") else {}))
    return world


def configured(world: World, plan: CompiledPlan) -> Runtime:
    runtime = runtime_of(world)
    asyncio.run(runtime.init_workers())
    asyncio.run(runtime.configure(plan))
    return runtime


def names() -> list[str]:
    return [name for name, _, _ in seen]


def test_each_function_is_called_in_its_phase_and_none_else() -> None:
    world = recording_world()
    plan = world.plan()
    runtime = configured(world, plan)
    runtime.certificate(Handshake(plan))
    drive(runtime, plan, exchange(plan))
    assert names() == ["init_worker", "configure", *PHASE_NAMES]
    # The functions of WebSocket connections and streams need one: see below.
    of_requests = {name for name in HANDLER_PHASES if not name.startswith("ws_")} - {"preread"}
    assert of_requests - {"response"} == set(names())


def test_every_function_gets_self_and_all_but_the_first_two_their_configuration() -> None:
    world = recording_world()
    catalog = Catalog(world.types)
    plan = compile_plan(Snapshot(world.entities, revision=1), catalog)
    runtime = Runtime(catalog)
    asyncio.run(runtime.init_workers())
    asyncio.run(runtime.configure(plan))
    runtime.certificate(Handshake(plan))
    drive(runtime, plan, exchange(plan))
    [instance] = plan.instances("p")
    assert {id(handler) for _, handler, _ in seen} == {id(instance.handler)}
    given = {name: arguments for name, _, arguments in seen}
    assert given["init_worker"] == ()
    assert given["configure"] == ([instance.config],)
    assert all(given[name] == (instance.config,) for name in PHASE_NAMES)
    assert instance.config.label == "mine"


def test_configure_gets_an_array_of_all_enabled_configurations() -> None:
    world = recording_world()
    world.plugin("p", {"label": "of a consumer"}, consumer=world.add("consumers", username="anna"))
    world.plugin("p", {"label": "disabled"}, enabled=False, route=next(iter(world.entities["routes"].values())))
    configured(world, world.plan())
    [configs] = seen[-1][2]
    assert sorted(config.label for config in configs) == ["mine", "of a consumer"]


def test_configure_gets_none_without_an_active_configuration() -> None:
    world = recording_world()
    runtime = configured(world, world.plan())
    world.entities["plugins"].clear()
    asyncio.run(runtime.configure(world.plan()))
    assert seen[-1][0] == "configure"
    assert seen[-1][2] == (None,)


def test_configure_is_called_every_time_the_plugins_change() -> None:
    world = recording_world()
    runtime = configured(world, world.plan())
    asyncio.run(runtime.configure(world.plan()))
    assert names() == ["init_worker", "configure", "configure"]


def test_init_worker_runs_once_for_a_plugin_that_is_loaded_but_not_configured() -> None:
    world = World()
    world.install("p", Recording)
    asyncio.run(Runtime(Catalog(world.types)).init_workers())
    assert names() == ["init_worker"]


def test_rewrite_is_only_executed_for_a_global_plugin() -> None:
    run(recording_world(is_on_route=True))
    assert "rewrite" not in names()
    assert "access" in names()
    seen.clear()
    run(recording_world())
    assert names()[0] == "rewrite"


def test_rewrite_is_executed_for_every_request_upon_its_reception_matched_or_not() -> None:
    run(recording_world(), route_index=None)
    assert names()[0] == "rewrite"
    assert "access" not in names()


def test_header_filter_runs_before_and_body_filter_for_each_chunk_of_the_response() -> None:
    world = recording_world()
    plan, runtime = world.plan(), runtime_of(world)
    one = drive(runtime, plan, exchange(plan))
    seen.clear()
    for chunk, is_last in ((b"one", False), (b"two", False), (b"", True)):
        one.set_response_chunk(chunk, is_last)
        runtime.body_filter(one)
    assert names() == ["body_filter"] * 3


def test_log_runs_after_everything_else() -> None:
    run(recording_world())
    assert names()[-1] == "log"


def test_response_runs_when_the_whole_response_is_there_and_before_it_is_sent() -> None:
    class Responding(Plugin[Config]):
        VERSION = "1.0.0"
        PRIORITY = 1

        def response(self, conf: Config) -> None:
            seen.append(("response", self, (conf,)))

    world = recording_world()
    world.install("r", Responding)
    world.plugin("r")
    done = run(world)
    assert done.is_buffered, "a response function switches buffering on"
    assert names() == ["rewrite", "access", "response", "header_filter", "body_filter", "log"]


@pytest.mark.parametrize("filtering", ["header_filter", "body_filter"])
def test_response_and_a_filter_in_one_plugin_keep_the_gateway_from_starting(tmp_path: Path, filtering: str) -> None:
    (tmp_path / "both.py").write_text(
        f"""
from headgate import Plugin

class Handler(Plugin):
    VERSION = "1.0.0"
    PRIORITY = 1
    def response(self, conf): ...
    def {filtering}(self, conf): ...
""",
        encoding="utf-8",
    )
    with pytest.raises(PluginLoadError) as caught:
        load_catalog(["both"], [str(tmp_path)])
    [fault] = caught.value.faults
    assert fault == (
        'Plugin "both" can\'t be loaded because it implements both `response` and '
        "`header_filter` or `body_filter` methods."
    )


def test_a_plugin_need_not_have_a_function_for_every_phase() -> None:
    class Quiet(Plugin[PluginConfig]):
        VERSION = "1.0.0"
        PRIORITY = 1

    world = World()
    world.route()
    world.install("quiet", Quiet)
    world.plugin("quiet")
    assert run(world).response_status == 200


def test_async_functions_are_awaited_in_every_phase() -> None:
    class Waiting(Plugin[Config]):
        VERSION = "1.0.0"
        PRIORITY = 1

        async def header_filter(self, conf: Config) -> None:
            seen.append(("header_filter", self, ()))

        async def body_filter(self, conf: Config) -> None:
            seen.append(("body_filter", self, ()))

        async def log(self, conf: Config) -> None:
            seen.append(("log", self, ()))

    world = World()
    world.route()
    world.install("waiting", Waiting)
    world.plugin("waiting")
    plan, runtime = world.plan(), runtime_of(world)
    one = exchange(plan, request=Request())
    assert runtime.access(one) is None
    answer(one)
    for phase in ("header_filter", "body_filter", "log"):
        asyncio.run(awaited(getattr(runtime, phase)(one)))
    assert names() == ["header_filter", "body_filter", "log"]


class Everything(Plugin[Config]):
    """The example of the pages: one function for each phase of HTTP, WebSocket and streams."""

    VERSION = "1.0.0"
    PRIORITY = 10

    def init_worker(self) -> None:
        kong.log("init_worker")

    def configure(self, configs: list[Config] | None) -> None:
        kong.log("configure ", "nothing" if configs is None else [config.label for config in configs])

    def preread(self, config: Config) -> None:
        kong.log("preread ", config.label)

    def certificate(self, config: Config) -> None:
        kong.log("certificate ", config.label)

    def rewrite(self, config: Config) -> None:
        kong.log("rewrite ", config.label)

    def access(self, config: Config) -> None:
        kong.log("access ", config.label)

    def ws_handshake(self, config: Config) -> None:
        kong.log("ws_handshake ", config.label)

    def header_filter(self, config: Config) -> None:
        kong.log("header_filter ", config.label)

    def ws_client_frame(self, config: Config) -> None:
        kong.log("ws_client_frame ", config.label)

    def ws_upstream_frame(self, config: Config) -> None:
        kong.log("ws_upstream_frame ", config.label)

    def body_filter(self, config: Config) -> None:
        kong.log("body_filter ", config.label)

    def log(self, config: Config) -> None:
        kong.log("log ", config.label)

    def ws_close(self, config: Config) -> None:
        kong.log("ws_close ", config.label)


@pytest.mark.parametrize("phase", sorted({*HANDLER_PHASES} - {"init_worker", "configure", "response"}))
def test_every_function_of_the_example_writes_its_line(phase: str) -> None:
    result = run_phase(Everything, phase, config={"label": "mine"})
    assert [line.message.endswith(f" {phase} mine") for line in result.logs] == [True]


def test_functions_outside_of_requests_write_theirs() -> None:
    assert run_phase(Everything, "init_worker").messages()[0].endswith(" init_worker")
    assert run_phase(Everything, "configure").messages()[0].endswith(" configure nothing")
    labels = run_phase(Everything, "configure", config=[{"label": "a"}, {"label": "b"}])
    assert labels.messages()[0].endswith(" configure ['a', 'b']")


def test_log_is_executed_for_streams_after_they_have_been_closed() -> None:
    result = run_phase(Everything, "log", stream=Stream("udp", received=3))
    assert result.messages()[0].endswith(" log default")


@pytest.mark.parametrize(("scheme", "handshake"), [("http", "non-WebSocket"), ("ws", "WebSocket")])
def test_one_plugin_may_serve_websocket_services_and_others(scheme: str, handshake: str) -> None:
    class MultiProtocol(Plugin[Config]):
        VERSION = "0.1.0"
        PRIORITY = 1000

        def access(self, config: Config) -> None:
            kong.ctx.plugin.request_type = "non-WebSocket"

        def ws_handshake(self, config: Config) -> None:
            kong.ctx.plugin.request_type = "WebSocket"

        def log(self, config: Config) -> None:
            seen.append(kong.ctx.plugin.request_type)

        ws_close = log

    first, last = ("ws_handshake", "ws_close") if scheme == "ws" else ("access", "log")
    begun = run_phase(MultiProtocol, first)
    run_phase(MultiProtocol, last, exchange=begun.exchange)
    assert seen == [handshake]


def test_websocket_requests_to_other_services_run_the_functions_of_http() -> None:
    world = World()
    http = world.route(world.service(name="h"), name="h")
    chat = world.route(world.service(name="w", protocol="ws"), name="w", protocols=["ws"])
    world.install("everything", Everything)
    world.plugin("everything")
    plan = world.plan()
    of = {plan.route(position)["id"]: chain for position, chain in enumerate(plan.chains)}
    assert (of[http["id"]].is_websocket, of[chat["id"]].is_websocket) == (False, True)
    access, handshake = Phase.ACCESS.value, Phase.WS_HANDSHAKE.value
    assert of[http["id"]].phases & (access | handshake) == access
    assert of[chat["id"]].phases & (access | handshake) == handshake
    never = Phase.ACCESS | Phase.RESPONSE | Phase.HEADER_FILTER | Phase.BODY_FILTER | Phase.LOG
    assert of[chat["id"]].phases & never.value == 0


def test_response_switches_buffering_on_as_the_function_would() -> None:
    class Asking(Plugin[Config]):
        VERSION = "1.0.0"
        PRIORITY = 1

        def access(self, config: Config) -> None:
            kong.service.request.enable_buffering()

    assert run_phase(Asking, "access").upstream.is_buffered
