"""The runtime over exchanges in memory: order, early answers, faults, collecting, async handlers, body reading."""

import asyncio
import itertools
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from headgate.errors import PhaseError
from headgate.pdk import BodyError, Plugin, kong
from headgate.phases import Phase
from headgate.policy import runner
from headgate.policy.catalog import Catalog
from headgate.policy.compile import CompiledPlan
from headgate.policy.runner import Runtime
from headgate.testing import MemoryExchange, Request
from tests.policy.plans import Config, World, answer, exchange, reference

trace: list[str] = []


@pytest.fixture(autouse=True)
def _fresh_trace() -> None:
    trace.clear()


def act(phase: str, conf: Config) -> None:
    trace.append(f"{phase} {conf.label}")
    if conf.action == f"exit in {phase}":
        kong.response.exit(403, {"message": conf.label})
    if conf.action == f"raise in {phase}":
        raise RuntimeError(f"{conf.label} is broken")


class Filtering(Plugin[Config]):
    """A plugin with every phase but `response`."""

    VERSION = "1.0.0"
    PRIORITY = 10

    def rewrite(self, conf: Config) -> None:
        act("rewrite", conf)

    def access(self, conf: Config) -> None:
        act("access", conf)

    def header_filter(self, conf: Config) -> None:
        act("header_filter", conf)

    def body_filter(self, conf: Config) -> None:
        act("body_filter", conf)

    def log(self, conf: Config) -> None:
        act("log", conf)


class Async(Plugin[Config]):
    """The same, on the loop."""

    VERSION = "1.0.0"
    PRIORITY = 10

    async def rewrite(self, conf: Config) -> None:
        await asyncio.sleep(0)
        act("rewrite", conf)

    async def access(self, conf: Config) -> None:
        await asyncio.sleep(0)
        act("access", conf)

    async def header_filter(self, conf: Config) -> None:
        act("header_filter", conf)

    async def body_filter(self, conf: Config) -> None:
        act("body_filter", conf)

    async def log(self, conf: Config) -> None:
        await asyncio.sleep(0)
        act("log", conf)


class Responding(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 5

    def response(self, conf: Config) -> None:
        act("response", conf)


class Authenticating(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 1000

    def access(self, conf: Config) -> None:
        kong.client.authenticate(kong.db.consumers.select_by_username("anna"), None)


class NeedBody:
    """The engine's answer in this test: what it was asked for."""

    def __init__(self, limit_bytes: int, resume: Callable[[], Any]) -> None:
        self.limit_bytes = limit_bytes
        self.resume = resume


def drive(runtime: Runtime, plan: CompiledPlan, one: MemoryExchange) -> MemoryExchange:
    """Take a request through its phases as the engine does."""

    def run(phase: Phase, mask: int) -> None:
        one.phase = phase.value
        if phase.value & mask:
            outcome = getattr(runtime, phase.label)(one)
            while outcome is not None:
                if isinstance(outcome, NeedBody):
                    one.read_body_now(outcome.limit_bytes)
                    outcome = outcome.resume()
                else:
                    asyncio.run(awaited(outcome))
                    outcome = None
        one.end_phase()

    index, one.route_index = one.route_index, None
    later = plan.globals.mask
    run(Phase.REWRITE, plan.globals.mask)
    if not one.is_answered:
        one.route_index = index
        if index is not None:
            later = plan.chains[index].phases
            run(Phase.ACCESS, later)
            later = later if one.later_phases is None else one.later_phases
    if not one.is_answered and one.route_index is not None:
        answer(one)
        if one.is_buffered:
            run(Phase.RESPONSE, later)
    run(Phase.HEADER_FILTER, later)
    one.set_response_chunk(one.response_body, True)
    run(Phase.BODY_FILTER, later)
    run(Phase.LOG, later)
    return one


async def awaited(outcome: Awaitable[Any]) -> None:
    await outcome


def runtime_of(world: World) -> Runtime:
    return Runtime(Catalog(world.types), NeedBody)


def world_of(handler: type[Plugin[Any]], *configs: dict[str, str]) -> World:
    """One route, and one plugin name per configuration, the first running first, all global."""
    world = World()
    world.route()
    for position, config in enumerate(configs):
        name = f"p{9 - position}"
        world.install(name, handler)
        world.plugin(name, config)
    return world


def run(world: World, request: Request | None = None, route_index: int | None = 0) -> MemoryExchange:
    plan = world.plan()
    return drive(runtime_of(world), plan, exchange(plan, route_index, request))


both_kinds = pytest.mark.parametrize("handler", [Filtering, Async])


@both_kinds
def test_all_phases_run_in_order(handler: type[Plugin[Config]]) -> None:
    done = run(world_of(handler, {"label": "a"}, {"label": "b"}))
    phases = ("rewrite", "access", "header_filter", "body_filter", "log")
    assert trace == [f"{phase} {label}" for phase in phases for label in "ab"]
    assert (done.response_status, done.response_source) == (200, "service")


@both_kinds
def test_exit_in_access_skips_later_access_but_not_their_later_phases(handler: type[Plugin[Config]]) -> None:
    done = run(world_of(handler, {"label": "a", "action": "exit in access"}, {"label": "b"}))
    assert trace[2:] == ["access a", *(f"{p} {n}" for p in ("header_filter", "body_filter", "log") for n in "ab")]
    assert (done.response_status, done.response_source) == (403, "exit")
    assert json.loads(done.response_body) == {"message": "a"}


@both_kinds
def test_a_fault_in_access_is_500_with_instance_and_traceback_in_the_log(
    handler: type[Plugin[Config]], caplog: pytest.LogCaptureFixture
) -> None:
    world = world_of(handler, {"label": "a", "action": "raise in access"}, {"label": "b"})
    done = run(world)
    assert "access b" not in trace
    assert "log b" in trace
    assert (done.response_status, done.response_source) == (500, "error")
    assert json.loads(done.response_body)["message"] == "An unexpected error occurred"
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    instance = next(one for one in world.entities["plugins"].values() if one["name"] == "p9")
    assert f"[p9] RuntimeError: a is broken (plugin instance {instance['id']}, phase access)" in record.getMessage()
    assert record.request_id == done.id  # type: ignore[attr-defined]
    assert record.exc_info is not None


@both_kinds
def test_a_fault_in_rewrite_ends_the_request_and_globals_run_later_phases(handler: type[Plugin[Config]]) -> None:
    done = run(world_of(handler, {"label": "a", "action": "raise in rewrite"}, {"label": "b"}))
    assert trace == ["rewrite a", *(f"{p} {n}" for p in ("header_filter", "body_filter", "log") for n in "ab")]
    assert done.response_status == 500


@both_kinds
def test_exit_in_header_filter_ends_that_handler_only(handler: type[Plugin[Config]]) -> None:
    done = run(world_of(handler, {"label": "a", "action": "exit in header_filter"}, {"label": "b"}))
    assert "header_filter b" in trace
    assert (done.response_status, done.response_source) == (403, "exit")


@both_kinds
def test_a_fault_in_header_filter_is_500_and_the_others_run(handler: type[Plugin[Config]]) -> None:
    done = run(world_of(handler, {"label": "a", "action": "raise in header_filter"}, {"label": "b"}))
    assert "header_filter b" in trace
    assert done.response_status == 500


@both_kinds
def test_a_fault_in_log_does_not_keep_others_from_logging(handler: type[Plugin[Config]]) -> None:
    done = run(world_of(handler, {"label": "a", "action": "raise in log"}, {"label": "b"}))
    assert trace[-2:] == ["log a", "log b"]
    assert done.response_status == 200


def test_an_unmatched_request_runs_globals_but_no_route_scoped_instance() -> None:
    world = world_of(Filtering, {"label": "global"})
    world.install("q", Filtering)
    world.plugin("q", {"label": "scoped"}, route=next(iter(world.entities["routes"].values())))
    run(world, route_index=None)
    assert trace == [f"{phase} global" for phase in ("rewrite", "header_filter", "body_filter", "log")]


def test_rewrite_uses_the_global_configuration_and_access_the_routes_with_one_namespace() -> None:
    class Sharing(Plugin[Config]):
        VERSION = "1.0.0"
        PRIORITY = 1

        def rewrite(self, conf: Config) -> None:
            kong.ctx.plugin.first = conf.label

        def access(self, conf: Config) -> None:
            trace.append(f"{kong.ctx.plugin.first} then {conf.label}, {kong.plugin.get_id()}")

    world = World()
    route = world.route()
    world.install("p", Sharing)
    world.plugin("p", {"label": "global"})
    scoped = world.plugin("p", {"label": "route"}, route=route)
    run(world)
    assert trace == [f"global then route, {scoped['id']}"]


def test_a_plugin_after_authentication_gets_its_consumer_scoped_configuration() -> None:
    world = world_of(Filtering, {"label": "everybody"})
    anna = world.add("consumers", username="anna")
    world.plugin("p9", {"label": "anna"}, consumer=anna)
    world.install("auth", Authenticating)
    world.plugin("auth")
    run(world)
    assert trace == ["rewrite everybody", *(f"{p} anna" for p in ("access", "header_filter", "body_filter", "log"))]


def test_a_plugin_before_authentication_never_gets_it() -> None:
    class Early(Filtering):
        PRIORITY = 2000

    world = world_of(Early, {"label": "everybody"})
    world.plugin("p9", {"label": "anna"}, consumer=world.add("consumers", username="anna"))
    world.install("auth", Authenticating)
    world.plugin("auth")
    run(world)
    assert not any("anna" in line for line in trace)


def test_groups_of_the_consumer_are_tried_by_name() -> None:
    world = world_of(Filtering, {"label": "everybody"})
    anna = world.add("consumers", username="anna")
    for name in ("silver", "gold"):
        group = world.add("consumer_groups", name=name)
        world.add("consumer_group_consumers", consumer=reference(anna), consumer_group=reference(group))
        world.plugin("p9", {"label": name}, consumer_group=group)
    world.install("auth", Authenticating)
    world.plugin("auth")
    run(world)
    assert "access gold" in trace


def test_plugins_after_an_early_answer_are_collected_with_the_consumer_known_by_then() -> None:
    class Refusing(Authenticating):
        def access(self, conf: Config) -> None:
            super().access(conf)
            kong.response.exit(429)

    world = world_of(Filtering, {"label": "everybody"})
    world.plugin("p9", {"label": "anna"}, consumer=world.add("consumers", username="anna"))
    world.install("auth", Refusing)
    world.plugin("auth")
    run(world)
    assert trace == ["rewrite everybody", "header_filter anna", "body_filter anna", "log anna"]


def test_response_handlers_get_the_buffered_response_and_are_skipped_after_an_exit() -> None:
    world = world_of(Responding, {"label": "r"})
    assert run(world).is_buffered
    assert trace == ["response r"]
    trace.clear()
    world.install("first", Filtering)
    world.plugin("first", {"label": "f", "action": "exit in access"})
    assert not run(world).is_buffered
    assert "response r" not in trace


def test_exit_in_response_replaces_the_upstreams_answer() -> None:
    assert run(world_of(Responding, {"label": "r", "action": "exit in response"})).response_status == 403


def test_an_exit_that_a_bare_except_swallowed_still_ends_the_pass() -> None:
    class Swallowing(Plugin[Config]):
        VERSION = "1.0.0"
        PRIORITY = 1000

        def access(self, conf: Config) -> None:
            try:
                kong.response.exit(401)
            except BaseException:
                trace.append("swallowed")

    world = world_of(Filtering, {"label": "later"})
    world.install("swallow", Swallowing)
    world.plugin("swallow")
    assert run(world).response_status == 401
    assert "access later" not in trace


def test_sys_exit_in_a_handler_is_a_fault_of_that_request() -> None:
    class Quitting(Plugin[Config]):
        VERSION = "1.0.0"
        PRIORITY = 1000

        def access(self, conf: Config) -> None:
            raise SystemExit(1)

    assert run(world_of(Quitting, {})).response_status == 500


class Reading(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 100

    def access(self, conf: Config) -> None:
        trace.append(kong.request.get_raw_body().decode())


class AsyncReading(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 100

    async def access(self, conf: Config) -> None:
        trace.append((await kong.request.read_raw_body()).decode())


class Waiting(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 200

    async def access(self, conf: Config) -> None:
        await asyncio.sleep(0)


def unread(body: str) -> Request:
    return Request("POST", "/", body=body, is_body_read=False)


@pytest.mark.parametrize("handler", [Reading, AsyncReading])
def test_a_handler_waits_for_a_body_that_is_still_on_the_connection(handler: type[Plugin[Config]]) -> None:
    done = run(world_of(handler, {}), unread("hello"))
    assert trace == ["hello"]
    assert done.response_status == 200


def test_a_synchronous_handler_after_an_async_one_waits_for_the_body_on_the_loop() -> None:
    world = world_of(Reading, {})
    world.install("waiting", Waiting)
    world.plugin("waiting")
    run(world, unread("hello"))
    assert trace == ["hello"]


def test_a_body_beyond_the_limit_fails_the_plugin_with_the_reference_text(caplog: pytest.LogCaptureFixture) -> None:
    assert run(world_of(Reading, {}), unread("x" * 9000)).response_status == 500
    assert "request body did not fit into client body buffer" in caplog.text


def test_the_synchronous_read_in_an_async_handler_names_the_way_out() -> None:
    class Wrong(Plugin[Config]):
        VERSION = "1.0.0"
        PRIORITY = 1

        async def access(self, conf: Config) -> None:
            with pytest.raises(BodyError, match=r"await kong\.request\.read_raw_body"):
                kong.request.get_raw_body()
            trace.append("refused")

    run(world_of(Wrong, {}), unread("hello"))
    assert trace == ["refused"]


def test_two_suspended_requests_do_not_mix_up_their_calls() -> None:
    world = world_of(Reading, {})
    plan, runtime = world.plan(), runtime_of(world)
    requests = [exchange(plan, 0, unread(text)) for text in ("one", "two")]
    waiting = [runtime.access(one) for one in requests]
    for one, need in zip(reversed(requests), reversed(waiting), strict=True):
        one.read_body_now(need.limit_bytes)
        assert need.resume() is None
    assert trace == ["two", "one"]


def test_outside_of_a_phase_the_pdk_has_no_request() -> None:
    run(world_of(Filtering, {"label": "a"}))
    assert kong.ctx.shared is None
    assert kong.plugin.get_id() is None


class Starting(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 10
    configured: list[list[str] | None] = []  # noqa: RUF012 -- filled by the test

    def init_worker(self) -> None:
        trace.append("init_worker")
        raise RuntimeError("no luck")

    async def configure(self, configs: list[Config] | None) -> None:
        self.configured.append(None if configs is None else sorted(config.label for config in configs))

    def access(self, conf: Config) -> None: ...


def test_configure_gets_all_enabled_configurations_or_none() -> None:
    Starting.configured.clear()
    world = world_of(Starting, {"label": "a"})
    world.plugin("p9", {"label": "b"}, route=next(iter(world.entities["routes"].values())))
    world.plugin("p9", {"label": "off"}, enabled=False)
    runtime = runtime_of(world)
    plan = world.plan()
    asyncio.run(runtime.configure(plan))
    assert runtime.current_plan is plan
    world.entities["plugins"].clear()
    asyncio.run(runtime.configure(world.plan()))
    assert Starting.configured == [["a", "b"], None]


def test_a_failed_init_worker_is_critical_and_requests_are_alerted_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = world_of(Starting, {})
    runtime, plan = runtime_of(world), world.plan()
    asyncio.run(runtime.init_workers())
    fault = 'failed to execute the "init_worker" handler for plugin "p9": no luck'
    assert f"worker initialization error: {fault}; this node must be restarted" in caplog.text
    for _ in range(3):
        drive(runtime, plan, exchange(plan))
    alerts = [record.getMessage() for record in caplog.records if record.levelno == 60]
    assert alerts == [
        f"unsafe request processing due to earlier initialization errors; this node must be restarted ({fault})"
    ]


def test_certificate_runs_globals_and_a_fault_aborts_the_handshake() -> None:
    class Certifying(Plugin[Config]):
        VERSION = "1.0.0"
        PRIORITY = 1

        def certificate(self, conf: Config) -> None:
            trace.append(f"{conf.label} {kong.client.get_ip()}")
            act("certificate", conf)

    class Handshake:
        state: Any = None
        is_stream = False
        client_ip = "10.0.0.1"
        is_failed = False

        def fail(self) -> None:
            self.is_failed = True

    handshake = Handshake()
    world = world_of(Certifying, {"label": "c", "action": "raise in certificate"})
    handshake.plan = world.plan()  # type: ignore[attr-defined]
    assert runtime_of(world).certificate(handshake) is None
    assert trace[0] == "c 10.0.0.1"
    assert handshake.is_failed


@both_kinds
def test_between_phases_call_and_exchange_do_not_hold_one_another(handler: type[Plugin[Config]]) -> None:
    done = run(world_of(handler, {"label": "a"}))
    assert done.state.exchange is None
    assert done.state.phase == 0


def test_a_task_that_outlives_its_phase_is_in_no_phase() -> None:
    refusals: list[str] = []

    class Leaving(Plugin[Config]):
        VERSION = "1.0.0"
        PRIORITY = 1

        async def access(self, conf: Config) -> None:
            async def later() -> None:
                await asyncio.sleep(0)
                try:
                    kong.request.get_method()
                except PhaseError as error:
                    refusals.append(str(error))

            tasks.append(asyncio.ensure_future(later()))

    async def phase_and_task(outcome: Awaitable[Any]) -> None:
        await outcome
        await tasks[0]

    tasks: list[asyncio.Future[None]] = []
    world = world_of(Leaving, {})
    plan = world.plan()
    asyncio.run(phase_and_task(runtime_of(world).access(exchange(plan))))
    assert refusals[0].startswith("no phase in ngx.ctx.KONG_PHASE, (need one of rewrite, access,")


def test_a_wrong_argument_of_a_pdk_function_is_logged_at_the_plugins_line(caplog: pytest.LogCaptureFixture) -> None:
    class Wrong(Plugin[Config]):
        VERSION = "1.0.0"
        PRIORITY = 1

        def access(self, conf: Config) -> None:
            kong.response.set_status("200")  # type: ignore[arg-type]

    run(world_of(Wrong, {}))
    assert "[kong] test_runner.py:" in caplog.text
    assert "TypeError: code must be a number" in caplog.text


def test_a_client_that_leaves_during_its_body_is_no_error_of_the_plugin(caplog: pytest.LogCaptureFixture) -> None:
    plan_world = world_of(Reading, {})
    plan = plan_world.plan()
    one = exchange(plan, 0, unread("hello"))
    one.phase = Phase.ACCESS.value
    need = runtime_of(plan_world).access(one)
    with caplog.at_level(logging.INFO, "headgate.plugin"):
        assert need.resume() is None
    assert trace == []
    assert [record.levelno for record in caplog.records] == [logging.INFO]
    assert "the client closed the connection before the request body was complete" in caplog.text


class Slow(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 10

    def access(self, conf: Config) -> None:
        kong.request.get_raw_body()

    async def header_filter(self, conf: Config) -> None:
        await asyncio.sleep(0)

    def body_filter(self, conf: Config) -> None: ...

    def log(self, conf: Config) -> None:
        trace.append(kong.log.serialize()["latencies"]["plugins"])  # type: ignore[arg-type]


def clocked(monkeypatch: pytest.MonkeyPatch, step_ms: float) -> None:
    """Let every look at the clock be `step_ms` after the one before."""
    ticks = itertools.count(0, int(step_ms * 1e6))
    monkeypatch.setattr(runner, "perf_counter_ns", lambda: next(ticks))


def test_handlers_are_measured_per_plugin_and_phase_and_shown_in_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    clocked(monkeypatch, 2)
    run(world_of(Slow, {}))
    # The coroutine of header_filter was made in 2 ms and awaited for 2 ms.
    assert trace == [{"p9": {"access": 2.0, "header_filter": 4.0, "body_filter": 2.0}}]


def test_chunks_of_a_long_response_add_up_in_little_memory() -> None:
    world = world_of(Filtering, {"label": "a"})
    plan, runtime = world.plan(), runtime_of(world)
    one = drive(runtime, plan, exchange(plan))
    for _ in range(1000):
        one.set_response_chunk(b"chunk", False)
        runtime.body_filter(one)
    assert len(one.state.times) <= runner.MOST_TIMES + 1


def test_a_handler_that_holds_its_thread_is_logged_with_plugin_instance_phase_and_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clocked(monkeypatch, 250)
    world = world_of(Slow, {})
    run(world)
    [instance] = world.entities["plugins"]
    texts = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any(
        text.startswith("[kong] [p9] handler held its thread for 250 ms")
        and f"(plugin instance {instance}, phase access)" in text
        for text in texts
    )


def test_waiting_for_the_request_body_holds_no_thread(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clocked(monkeypatch, 60)
    # The handler took 180 ms, of which the engine read for 60.
    world = world_of(Slow, {})
    plan = world.plan()
    runtime = Runtime(Catalog(world.types), NeedBody, slow_handler_ms=150)
    drive(runtime, plan, exchange(plan, request=Request(method="POST", body=b"x", is_body_read=False)))
    assert "phase access" not in caplog.text


@pytest.mark.parametrize(("slow_handler_ms", "is_clock_read"), [(0, False), (100, True)])
def test_without_recording_the_clock_is_only_read_for_slow_handlers(
    slow_handler_ms: int, is_clock_read: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    monkeypatch.setattr(runner, "perf_counter_ns", lambda: looks.append(0) or 0)
    world = world_of(Filtering, {"label": "a"})
    plan = world.plan()
    runtime = Runtime(Catalog(world.types), NeedBody, is_timed=False, slow_handler_ms=slow_handler_ms)
    one = drive(runtime, plan, exchange(plan))
    assert one.state.times == []
    assert bool(looks) is is_clock_read


class Hanging(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 10

    async def access(self, conf: Config) -> None:
        if conf.action == "own timeout":
            raise TimeoutError("of a database")
        await asyncio.Event().wait()

    def log(self, conf: Config) -> None:
        trace.append("log")


def test_an_async_handler_that_takes_too_long_is_500_with_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    world = world_of(Hanging, {"label": "a"}, {"label": "b"})
    plan = world.plan()
    done = drive(Runtime(Catalog(world.types), NeedBody, handler_timeout_ms=1), plan, exchange(plan))
    assert (done.response_status, done.response_source) == (500, "error")
    assert trace == ["log", "log"]
    assert "[p9] HandlerTimeoutError: no end after 1 ms, see handler_timeout_ms (plugin instance " in caplog.text


def test_a_timeout_of_the_plugins_own_is_told_as_such(caplog: pytest.LogCaptureFixture) -> None:
    assert run(world_of(Hanging, {"action": "own timeout"})).response_status == 500
    assert "[p9] TimeoutError: of a database" in caplog.text
