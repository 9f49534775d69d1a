"""A worker process: one engine thread in Rust, one asyncio loop on the main thread, the plugins between them.

Owns the life of the process: load plugins, take the first snapshot, run `init_worker` and `configure`, start the
engine, take later snapshots, drain, stop. It decides nothing about requests (`policy.runner`) and holds no store.
Started by the supervisor as `python -m headgate.worker`; it imports no web framework, so that an idle worker stays
small.
"""

import asyncio
import contextlib
import gc
import itertools
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import setproctitle
import uvloop

from headgate.cluster.frames import (
    LOG_LEVEL_EVENT,
    MOST_TIMERS_SHOWN,
    ClusterEvent,
    Event,
    HealthReports,
    HealthStates,
    Hello,
    StatsReply,
    TimerStats,
)
from headgate.cluster.subscriber import RefusedError, Subscriber, UnknownBaseError
from headgate.engine import (
    Engine,
    InheritedListener,
    NativeFactory,
    core_entity_types,
    default_certificate_pairs,
    lua_functions,
    need_body_type,
)
from headgate.errors import GatewayError, PlanError, PluginLoadError
from headgate.node import logs
from headgate.node.bootstrap import Bootstrap, ParentChannel, StartError, channel_from_arguments, die_with_parent
from headgate.policy.rotation import rotate_secrets

_log = logging.getLogger("headgate.worker")
_SWITCH_INTERVAL_S = 0.0005
_DRAIN_POLL_S = 0.05
_MOST_TIMER_END_S = 10.0
"""That a worker which drains waits for timers of plugins (own choice)."""
# Young collections every 20,000 net allocations: handlers make few cycles, and a collection holds the GIL.
_GC_THRESHOLDS = (20_000, 20, 50)


class Worker:
    """One worker process.

    Args: `native_factory` replaces the native engine in this module's own tests.
    """

    def __init__(
        self, bootstrap: Bootstrap, channel: ParentChannel, native_factory: NativeFactory | None = None
    ) -> None:
        self._bootstrap = bootstrap
        self._channel = channel
        self._native_factory = native_factory
        self._engine: Engine | None = None
        self._runtime: Any = None
        self._catalog: Any = None
        self._plan: Any = None
        self._applying = asyncio.Lock()
        self._subscriber: Subscriber | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self._announcer: Any = None
        self._early_health: list[HealthStates] = []
        self._is_started = False
        self._stopping = asyncio.Event()
        self._draining = asyncio.Event()
        self._exit_code = 0

    async def run(self) -> int:
        """Serve until told to stop; returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGHUP):
            # A terminal sends these to the whole group; what they mean is the supervisor's decision.
            signal.signal(number, signal.SIG_IGN)
        loop.add_signal_handler(signal.SIGTERM, self._stopping.set)
        loop.add_signal_handler(signal.SIGQUIT, self._draining.set)
        loop.add_signal_handler(signal.SIGUSR1, self._reopen_logs)
        try:
            self._load(loop)
        except StartError as error:
            self._channel.report("fault", faults=error.faults)
            return 1
        hello = Hello(self._bootstrap.index, os.getpid(), self._bootstrap.generation)
        subscriber = self._subscriber = Subscriber(self._bootstrap.link_path, hello, self)
        self._open_store_to_plugins(subscriber)
        link = asyncio.ensure_future(subscriber.run())
        rotation = asyncio.ensure_future(rotate_secrets(self._take_changed_secrets))
        parent = asyncio.ensure_future(self._channel.wait_for_end())
        stopping = asyncio.ensure_future(self._stopping.wait())
        draining = asyncio.ensure_future(self._draining.wait())
        await asyncio.wait((link, parent, stopping, draining), return_when=asyncio.FIRST_COMPLETED)
        link.cancel()
        rotation.cancel()
        if draining.done() and not stopping.done() and not parent.done():
            await self._drain(stopping, parent)
            await self._end_timers(stopping, parent)
        for task in (parent, stopping, draining):
            task.cancel()
        if link.done() and not link.cancelled() and link.exception() is not None:
            _log.critical("link to control failed", exc_info=link.exception())
            self._exit_code = 1
        if self._engine is not None:
            self._close_resolver()
            self._engine.stop()
        return self._exit_code

    @staticmethod
    def _close_resolver() -> None:
        from headgate.pdk._node import node

        node.resolver = None

    def _open_store_to_plugins(self, subscriber: Subscriber) -> None:
        """Give `kong.db` the way to the store, and what it must know of the types of entities."""
        from headgate.pdk._node import node

        node.worker_index = self._bootstrap.index
        node.write_entity = subscriber.write_entity
        self._catalog.describe_entities()

    def _load(self, loop: asyncio.AbstractEventLoop) -> None:
        """Load plugins and make the engine; nothing runs yet."""
        # Imported here, after the log is set up: plugin modules may log while they are loaded.
        from headgate.lua import direct
        from headgate.pdk import cache, configure_node, shared_dict
        from headgate.pdk._crud import Announcer
        from headgate.pdk._node import attach_worker
        from headgate.policy.blocking import configure_pool
        from headgate.policy.catalog import load_catalog
        from headgate.policy.runner import Runtime

        settings = self._bootstrap.settings
        configure_node(settings.node_configuration(), self._bootstrap.node_id)
        cache.use_generation(self._bootstrap.generation)
        self._announcer = Announcer(settings.general.crud_events_max_pending)
        attach_worker(
            loop,
            lambda: {} if self._engine is None else self._engine.stats(),
            lambda kind, data: loop.call_soon_threadsafe(self._send_event, Event(kind, data)),
            lambda *event: loop.call_soon_threadsafe(self._send_to_cluster, ClusterEvent(*event)),
        )
        if self._native_factory is None:
            direct.provide(lua_functions())
        try:
            shared_dict.configure(self._bootstrap.shared_memory_path, settings.general.shared_dict_size_bytes)
            configure_pool(settings.general.blocking_threads)
            self._catalog = load_catalog(
                settings.general.plugins,
                settings.general.plugin_directories,
                is_broken_allowed=settings.general.allow_broken_plugins,
                core_types=core_entity_types(settings.datastore.router_flavor),
            )
            need_body = need_body_type() if self._native_factory is None else None
            self._runtime = Runtime(
                self._catalog,
                need_body,
                is_timed=settings.general.plugin_timing,
                slow_handler_ms=settings.general.slow_handler_ms,
                handler_timeout_ms=settings.general.handler_timeout_ms,
            )
            self._engine = Engine(
                settings,
                [
                    InheritedListener(
                        entry.fd,
                        entry.address,
                        entry.port,
                        entry.is_ssl,
                        entry.is_http2,
                        is_proxy_protocol=entry.is_proxy_protocol,
                        is_stream=entry.setting_name == "stream_listen",
                        is_udp=entry.is_udp,
                    )
                    for entry in self._bootstrap.listeners
                ],
                default_certificate_pairs(settings, settings.prefix / "ssl"),
                self._runtime,
                loop.call_soon_threadsafe,
                self._native_factory,
                self._bootstrap.ticket_state,
            )
            self._engine.on_health_reports(lambda: _call_on(loop, self._send_health_reports))
        except PluginLoadError as error:
            raise StartError(error.faults) from error
        except (GatewayError, shared_dict.SharedDictError, OSError, ValueError) as error:
            raise StartError([str(error)]) from error

    async def take_snapshot(self, revision: int, body: bytes) -> None:
        """Compile a snapshot, hand it to plugins and engine, and start serving when it is the first one.

        Raises: RefusedError; the snapshot before stays in force.
        """
        from headgate.store.snapshot import Snapshot

        async with self._applying:
            await self._take(revision, lambda: Snapshot.decode(body))

    async def take_delta(self, base: int, revision: int, body: bytes) -> None:
        """Do as `take_snapshot` with the snapshot that a delta makes of the one in force.

        Raises: UnknownBaseError when that is not the one at `base`; RefusedError.
        """
        from headgate.store.delta import Delta

        async with self._applying:
            if self._plan is None or self._plan.revision != base:
                raise UnknownBaseError
            delta = Delta.decode(body)
            snapshot = self._plan.snapshot
            await self._take(revision, lambda: snapshot.after(delta, revision), delta)

    async def _take(self, revision: int, make: Callable[[], Any], delta: Any = None) -> None:
        previous = self._plan
        try:
            plan, change = await asyncio.to_thread(lambda: self._compiled(make(), delta))
        except PlanError as error:
            self._refuse(error.faults)
        except Exception as error:
            _log.exception("revision %d cannot be compiled", revision)
            self._refuse([f"the configuration cannot be compiled: {error}"])
        try:
            if not self._is_started:
                await self._runtime.init_workers()
            await self._runtime.configure(plan)
            await self._serve(plan, change)
        except GatewayError as error:
            if previous is not None:
                await self._runtime.configure(previous)
            self._refuse(error.faults if isinstance(error, PlanError) else [str(error)])
        self._plan = plan
        _log.info("revision %d is in force", revision)
        if previous is not None:
            await self._tell_changes(previous.snapshot, plan.snapshot)

    async def _tell_changes(self, old: Any, new: Any) -> None:
        """Forget what plugins have cached of changed entities, and tell those that listen.

        After the plan is in force, and before control hears so: who has written an entity and waits for that finds no
        worker with an old value.
        """
        from headgate.pdk import _crud

        announcer = self._announcer

        def forget() -> list[Any]:
            from headgate.store.changes import changes

            changed = list(changes(old, new))
            if changed:
                _crud.forget(changed)
            return changed

        try:
            changed = await asyncio.to_thread(forget)
        except Exception:
            # The plan is in force: a full shared memory is no reason to refuse it.
            _log.exception("caches of changed entities could not be emptied")
            return
        if changed and announcer.is_listened_to:
            announcer.announce(changed)

    def _compiled(self, snapshot: Any, delta: Any = None) -> tuple[Any, bytes | None]:
        """Compile a snapshot beside the running plan; called on another thread.

        Args: delta, what makes it of the running plan's.
        Returns: the plan, and the JSON of what makes it of the running one; None when it was compiled whole.
        """
        from headgate.policy.change import compile_change
        from headgate.policy.compile import compile_plan

        settings = self._bootstrap.settings
        if delta is not None:
            try:
                changed = compile_change(
                    self._plan,
                    snapshot,
                    delta,
                    self._catalog,
                    ordering_algorithm=settings.general.plugin_ordering_algorithm,
                    is_broken_allowed=settings.general.allow_broken_plugins,
                )
            except PlanError:
                raise
            except Exception:
                # A short cut that fails is no reason to refuse what can be compiled.
                _log.exception("revision %d is compiled whole", snapshot.revision)
                changed = None
            if changed is not None:
                return changed
        plan = compile_plan(
            snapshot,
            self._catalog,
            router_flavor=settings.datastore.router_flavor,
            previous=self._plan,
            ordering_algorithm=settings.general.plugin_ordering_algorithm,
            is_broken_allowed=settings.general.allow_broken_plugins,
            is_serving_streams=bool(settings.listeners.stream_listen),
        )
        return plan, None

    async def _take_changed_secrets(self) -> None:
        """Compile the running snapshot anew when its certificates come from vaults: the engine has copies."""
        async with self._applying:
            if self._plan is None or not self._plan.holds_references:
                return
            try:
                plan, _ = await asyncio.to_thread(self._compiled, self._plan.snapshot)
                await self._serve(plan)
            except GatewayError as error:
                _log.warning("changed certificates are not used: %s", error)
                return
            self._runtime.current_plan = self._plan = plan

    async def _serve(self, plan: Any, change: bytes | None = None) -> None:
        """Put a plan in force. `change`: what makes it of the running one. Raises: PlanError."""
        engine = self._engine
        if engine is None:
            raise GatewayError("the engine was not made")
        # On another thread: handlers that wait on the loop go on meanwhile.
        await asyncio.to_thread(_apply, engine, plan, change)
        if self._is_started:
            return
        from headgate.pdk._node import node as pdk_node

        # What was loaded so far lives as long as the process: keep the collector from walking it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        early, self._early_health = self._early_health, []
        for states in early:
            self._set_health(states)
        engine.start()
        self._is_started = True
        pdk_node.resolver = engine
        self._channel.report("ready")

    def _reopen_logs(self) -> None:
        logs.reopen()
        if self._engine is not None:
            self._engine.reopen_logs()

    def _refuse(self, faults: list[str]) -> None:
        if not self._is_started:
            # A worker that never served would hold its sockets without accepting: end, the supervisor decides.
            self._channel.report("fault", faults=faults)
            self._exit_code = 1
            self._stopping.set()
        raise RefusedError(faults)

    def stats(self, serial: int, most_names: int) -> StatsReply:
        """Return the engine's counters, this process's memory and the use of up to so many names."""
        counters = dict(self._engine.stats()) if self._engine is not None and self._is_started else {}
        names = self._engine.name_usage(most_names) if self._engine is not None and most_names else {}
        counters |= _own_counters()
        return StatsReply(serial, counters, _resident_bytes(), len(gc.get_objects(0)), names, _timers())

    def take_health(self, states: HealthStates) -> None:
        """Put states of upstreams' addresses in force, as control says."""
        if self._is_started:
            self._set_health(states)
        else:
            # There is no plan yet that has the upstreams.
            self._early_health.append(states)

    def _set_health(self, states: HealthStates) -> None:
        if self._engine is not None:
            for one in states.states:
                self._engine.set_health(one.upstream, (one.host, one.ip, one.port), one.health, is_reset=one.is_reset)

    def report_health(self) -> None:
        """Have the engine report all upstreams anew."""
        if self._engine is not None:
            self._engine.report_pools()

    def _send_health_reports(self) -> None:
        """Send what the engine has to report to control; on the loop."""
        if self._subscriber is None or self._engine is None:
            return
        while (body := self._engine.take_health_reports()) is not None:
            self._start_sending(self._subscriber.send(HealthReports(body)))

    def take_event(self, event: Event) -> None:
        """Pass an event of control on to who listens for it."""
        from headgate.pdk import worker_events

        if event.kind == worker_events.EVENT_KIND:
            worker_events.receive(event.data)
        elif event.kind == LOG_LEVEL_EVENT:
            logs.set_level(str(event.data["level"]))
        else:
            _log.debug("event %s", event.kind)

    def take_cluster_event(self, event: ClusterEvent) -> None:
        """Pass a message of a plugin on to its subscribers, or to the caches of this node."""
        from headgate.pdk import cache, cluster_events

        if not cache.receive(event.channel, event.data):
            cluster_events.receive(event.channel, event.data)

    def _send_to_cluster(self, event: ClusterEvent) -> None:
        """Have control pass a message on to the cluster; on the loop."""
        has_others = self._bootstrap.settings.datastore.database != "off"
        if self._subscriber is not None and (has_others or not event.is_for_others):
            self._start_sending(self._subscriber.send_to_cluster(event))

    def _send_event(self, event: Event) -> None:
        """Have control pass an event on to all workers of the node; on the loop."""
        if self._subscriber is not None:
            self._start_sending(self._subscriber.send(event))

    def _start_sending(self, sending: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(sending)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _drain(self, stopping: "asyncio.Future[Any]", parent: "asyncio.Future[Any]") -> None:
        """Let running requests finish, until they have or a stop comes."""
        if self._engine is None or not self._is_started:
            return
        from headgate.pdk._node import node

        node.is_exiting = True
        self._engine.drain()
        self._channel.report("draining")
        # The engine has no event for this; it is another thread.
        while self._engine.is_running and not stopping.done() and not parent.done():  # noqa: ASYNC110
            await asyncio.sleep(_DRAIN_POLL_S)

    @staticmethod
    async def _end_timers(stopping: "asyncio.Future[Any]", parent: "asyncio.Future[Any]") -> None:
        """Let timers of plugins that run end, such as those that send what is queued; no longer than is reasonable."""
        from headgate.pdk._kong import kong

        deadline_s = asyncio.get_running_loop().time() + _MOST_TIMER_END_S
        while kong.timer.stats()["sys"]["running"] and not stopping.done() and not parent.done():
            if asyncio.get_running_loop().time() > deadline_s:
                _log.warning("timers of plugins that still run are cut off")
                return
            await asyncio.sleep(_DRAIN_POLL_S)


def _apply(engine: Engine, plan: Any, change: bytes | None) -> None:
    """Hand a plan to the engine, as a change where there is one. Raises: PlanError, with the faults of the whole."""
    if change is not None:
        try:
            engine.apply_change(change, plan)
            return
        except PlanError as error:
            _log.info("revision %d is applied whole: %s", plan.revision, error)
    engine.apply(plan.engine_plan(), plan)


def _call_on(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    # A loop that is closed has nobody to tell: the worker is ending.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function)


def _own_counters() -> dict[str, int]:
    """Return what is counted on this side of the engine."""
    from headgate.pdk import shared_dict
    from headgate.pdk._kong import kong

    timers = {f"timers_{name}": count for name, count in kong.timer.stats()["sys"].items()}
    _, used_bytes = shared_dict.memory_sizes()
    return timers | {"shared_dict_used_bytes": used_bytes}


def _timers() -> dict[str, TimerStats]:
    """Return the timers of plugins, some of them where there are very many."""
    from headgate.pdk._kong import kong

    shown = itertools.islice(kong.timer.stats()["timers"].items(), MOST_TIMERS_SHOWN)
    return {name: TimerStats(**one) for name, one in shown}


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """Run the worker on the channel named by the arguments."""
    return run(channel_from_arguments(sys.argv[1:]))


def run(channel: ParentChannel) -> int:
    """Run the worker of the bootstrap document that the channel brings; returns the exit code."""
    parent_pid = os.getppid()
    bootstrap = channel.read_bootstrap()
    die_with_parent(parent_pid)
    setproctitle.setproctitle(f"headgate: worker {bootstrap.index}")
    logs.configure_logging(bootstrap.settings.general.log_level, bootstrap.log_path, f"worker-{bootstrap.index}")
    logging.captureWarnings(True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Worker(bootstrap, channel).run())


if __name__ == "__main__":
    sys.exit(main())
