"""A worker's life with a stand-in for the native engine: load, first snapshot, refusal, drain, end of the parent."""

import asyncio
import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.cluster.frames import AddressHealth, HealthStates
from headgate.cluster.publisher import PublicationRefusedError, Publisher
from headgate.config.load import load_settings
from headgate.engine import Engine
from headgate.node.bootstrap import Bootstrap, ParentChannel
from headgate.node.ticket_secret import TicketSecret
from headgate.pdk import shared_dict
from headgate.policy.rotation import rotate_once
from headgate.store.delta import Delta
from headgate.store.snapshot import EMPTY, Snapshot
from headgate.worker import Worker


class NativeStandIn:
    """Records what a worker tells the engine."""

    def __init__(self, settings: bytes, runner: Any, call_soon_threadsafe: Any) -> None:
        self.settings = json.loads(settings)
        self.runner = runner
        self.calls: list[str] = []
        self.plans: list[dict[str, Any]] = []
        self.refuses = False
        self.refuses_changes = False
        self.is_running = False
        self.health_reports: list[bytes] = []
        self.pools_asked = 0

    def apply(self, plan: bytes, attachment: Any) -> None:
        if self.refuses:
            raise ValueError(["routes[0].paths[0]: bad", "routes[1]: worse"])
        self.plans.append(json.loads(plan))
        self.calls.append(f"apply {self.plans[-1]['revision']}")

    def apply_change(self, change: bytes, attachment: Any) -> None:
        found = json.loads(change)
        if self.refuses or self.refuses_changes:
            raise ValueError(["plan: a change that does not fit"])
        assert found["base"] == self.plans[-1]["revision"]
        self.plans.append(found)
        self.calls.append(f"change {found['revision']}")

    def start(self) -> None:
        self.calls.append("start")
        self.is_running = True

    def drain(self) -> None:
        self.calls.append("drain")
        asyncio.get_running_loop().call_later(0.05, self._finish)

    def _finish(self) -> None:
        self.is_running = False

    def stop(self) -> None:
        self.calls.append("stop")
        self.is_running = False

    def reopen_logs(self) -> None:
        self.calls.append("reopen logs")

    def stats(self) -> dict[str, int]:
        return {"total_requests": 5}

    def resolve(self, name: str, kind: str | None, callback: Callable[..., None]) -> bool:
        return False

    def resolve_next(self, name: str, callback: Callable[..., None]) -> bool:
        return False

    def name_usage(self, limit: int) -> list[tuple[str, tuple[int, int, int, int, int]]]:
        return [("a.test", (1, 2, 3, 4, 5))][:limit]

    def on_health_reports(self, callback: Callable[[], None]) -> None:
        self.wake = callback

    def take_health_reports(self, limit: int) -> bytes | None:
        return self.health_reports.pop(0) if self.health_reports else None

    def report_pools(self) -> None:
        self.pools_asked += 1

    def set_health(self, upstream_id: str, address: tuple[str, str, int], health: str, is_reset: bool) -> None:
        self.calls.append(f"{upstream_id} {address} {health} {is_reset}")


class Node:
    """One worker in this process, with the control side of its link."""

    def __init__(self, tmp_path: Path, **settings: str) -> None:
        prefix = tmp_path / "prefix"
        prefix.mkdir()
        loaded = load_settings(
            None, {}, {"prefix": str(prefix), "plugins": "off", "lua_ssl_trusted_certificate": ""} | settings
        )
        self.parent, theirs = socket.socketpair()
        bootstrap = Bootstrap(
            role="worker",
            index=0,
            generation=1,
            worker_count=1,
            node_id="0dc6f45b-8f8d-40d2-a504-473544ee190b",
            settings=loaded,
            listeners=(),
            link_path=tmp_path / "link.sock",
            shared_memory_path=tmp_path / "memory",
            log_path=None,
            is_replacement=False,
            ticket_state=TicketSecret(86_400).state(),
        )
        self.parent.sendall(bootstrap.encode())
        self.channel = ParentChannel(theirs.detach())
        self.engines: list[NativeStandIn] = []
        self.worker = Worker(self.channel.read_bootstrap(), self.channel, self._make)
        self.publisher = Publisher(tmp_path / "link.sock", EMPTY.with_revision(1))

    def _make(self, settings: bytes, runner: Any, call_soon_threadsafe: Any) -> NativeStandIn:
        self.engines.append(NativeStandIn(settings, runner, call_soon_threadsafe))
        return self.engines[-1]

    async def report(self) -> dict[str, Any]:
        self.parent.setblocking(False)
        async with asyncio.timeout(10):
            found: dict[str, Any] = json.loads(await asyncio.get_running_loop().sock_recv(self.parent, 65536))
        return found

    async def in_step(self) -> None:
        """Wait until the worker has said that it runs what is current."""
        async with asyncio.timeout(10):
            while not self.publisher.ready_workers():  # noqa: ASYNC110 told by a frame, which nobody waits for
                await asyncio.sleep(0.005)

    async def running(self, play: Callable[[], Awaitable[None]]) -> int:
        await self.publisher.open()
        serving = asyncio.ensure_future(self.worker.run())
        try:
            await play()
            return await asyncio.wait_for(serving, 10)
        finally:
            await self.publisher.close()
            self.parent.close()
            self.channel.close()


@pytest.fixture(autouse=True)
def restored_process() -> Iterator[None]:
    thresholds, interval_s = gc.get_threshold(), sys.getswitchinterval()
    yield
    shared_dict.close()
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    sys.setswitchinterval(interval_s)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def snapshot_with(plugin: str) -> Snapshot:
    entity = {"id": "0dc6f45b-8f8d-40d2-a504-473544ee190b", "name": plugin, "enabled": True, "protocols": ["http"]}
    return Snapshot({"plugins": {entity["id"]: entity}}, configuration_hash="1" * 32)


def test_worker_serves_after_its_first_snapshot_and_drains_on_quit(tmp_path: Path) -> None:
    node = Node(tmp_path)

    async def play() -> None:
        assert await node.report() == {"event": "ready"}
        assert node.engines[0].calls == ["apply 1", "start"]
        await node.publisher.publish(EMPTY, 10)
        assert node.engines[0].calls[-1] == "apply 2"
        (reply,) = (await node.publisher.stats()).values()
        own = ("timers_running", "timers_waiting", "timers_runs", "timers_total", "shared_dict_used_bytes")
        assert reply.counters == {"total_requests": 5, **dict.fromkeys(own, 0)}
        assert reply.resident_bytes > 1_000_000
        (reply,) = (await node.publisher.stats(most_names=9)).values()
        assert reply.names == {"a.test": (1, 2, 3, 4, 5)}
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGQUIT)

    assert asyncio.run(node.running(play)) == 0
    assert "reopen logs" in node.engines[0].calls
    assert node.engines[0].calls[-2:] == ["drain", "stop"]


def test_worker_knows_what_is_unhealthy_before_it_serves(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.publisher.current_health = lambda: HealthStates([AddressHealth("u", "h", "10.0.0.1", 80, "unhealthy")])

    async def play() -> None:
        assert await node.report() == {"event": "ready"}
        told = "u ('h', '10.0.0.1', 80) unhealthy False"
        assert node.engines[0].calls == ["apply 1", told, "start"]
        os.kill(os.getpid(), signal.SIGTERM)

    assert asyncio.run(node.running(play)) == 0


def test_snapshot_the_policy_refuses_leaves_the_one_before(tmp_path: Path) -> None:
    node = Node(tmp_path)

    async def play() -> None:
        await node.report()
        with pytest.raises(PublicationRefusedError) as caught:
            await node.publisher.publish(snapshot_with("absent"), 10)
        assert caught.value.faults == ["absent plugin is in use but not enabled"]
        assert node.publisher.current.configuration_hash == EMPTY.configuration_hash
        os.kill(os.getpid(), signal.SIGTERM)

    assert asyncio.run(node.running(play)) == 0


def test_plan_the_engine_refuses_leaves_the_one_before(tmp_path: Path) -> None:
    node = Node(tmp_path)

    async def play() -> None:
        await node.report()
        node.engines[0].refuses = True
        with pytest.raises(PublicationRefusedError) as caught:
            await node.publisher.publish(EMPTY, 10)
        assert caught.value.faults == ["routes[0].paths[0]: bad", "routes[1]: worse"]
        os.kill(os.getpid(), signal.SIGTERM)

    assert asyncio.run(node.running(play)) == 0


def route_of(name: str, path: str) -> dict[str, Any]:
    return {"id": f"{name}-0000-4000-8000-000000000000", "name": name, "protocols": ["http"], "paths": [path]}


def with_route(snapshot: Snapshot, route: dict[str, Any]) -> tuple[Snapshot, tuple[Snapshot, Delta]]:
    """Return the snapshot with a route, and what `publish` takes as its change."""
    delta = Delta("2" * 32, {"routes": [route]})
    return snapshot.after(delta, snapshot.revision), (snapshot, delta)


def test_a_delta_reaches_the_engine_as_a_change_and_whole_where_that_does_not_fit(tmp_path: Path) -> None:
    node = Node(tmp_path)

    async def play() -> None:
        await node.report()
        engine = node.engines[0]
        await node.in_step()
        snapshot, change = with_route(EMPTY, route_of("00000001", "/one"))
        snapshot = await node.publisher.publish(snapshot, 10, change)
        assert engine.calls[-1] == "change 2"
        assert [(at, planned["paths"]) for at, planned in engine.plans[-1]["routes"]] == [(0, ["/one"])]
        engine.refuses_changes = True
        snapshot, change = with_route(snapshot, route_of("00000002", "/two"))
        snapshot = await node.publisher.publish(snapshot, 10, change)
        assert engine.calls[-1] == "apply 3"
        assert [planned["paths"] for planned in engine.plans[-1]["routes"]] == [["/one"], ["/two"]]
        engine.refuses_changes, engine.refuses = False, True
        refused, change = with_route(snapshot, route_of("00000003", "/bad"))
        with pytest.raises(PublicationRefusedError, match="bad"):
            await node.publisher.publish(refused, 10, change)
        engine.refuses = False
        await node.in_step()
        # The one before was put back; what comes then is of that.
        snapshot, change = with_route(node.publisher.current, route_of("00000004", "/four"))
        await node.publisher.publish(snapshot, 10, change)
        assert engine.calls[-1] == "change 6"
        assert [planned["paths"] for _, planned in engine.plans[-1]["routes"]] == [["/four"]]
        os.kill(os.getpid(), signal.SIGTERM)

    assert asyncio.run(node.running(play)) == 0


def test_a_change_whose_compilation_breaks_is_compiled_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node(tmp_path)
    monkeypatch.setattr("headgate.policy.change.compile_change", lambda *_, **__: 1 / 0)

    async def play() -> None:
        await node.report()
        await node.in_step()
        snapshot, change = with_route(EMPTY, route_of("00000001", "/one"))
        await node.publisher.publish(snapshot, 10, change)
        assert node.engines[0].calls[-1] == "apply 2"
        assert [planned["paths"] for planned in node.engines[0].plans[-1]["routes"]] == [["/one"]]
        os.kill(os.getpid(), signal.SIGTERM)

    assert asyncio.run(node.running(play)) == 0
    assert "revision 2 is compiled whole" in caplog.text


def test_a_fault_that_nobody_thought_of_refuses_one_snapshot_and_not_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(tmp_path)

    async def play() -> None:
        await node.report()
        with monkeypatch.context() as patched:
            patched.setattr(Engine, "apply", lambda *_: 1 / 0)
            with pytest.raises(PublicationRefusedError, match="cannot be put in force: division by zero"):
                await node.publisher.publish(EMPTY, 10)
        await node.publisher.publish(EMPTY, 10)
        assert node.engines[0].calls[-1] == "apply 4"
        os.kill(os.getpid(), signal.SIGTERM)

    assert asyncio.run(node.running(play)) == 0


def test_changed_certificate_secrets_reach_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(tmp_path)
    reference = "{vault://env/worker-test?ttl=0.001}"
    entity = {"id": "0dc6f45b-8f8d-40d2-a504-473544ee190b", "cert": reference, "key": reference}

    async def play() -> None:
        await node.report()
        monkeypatch.setenv("WORKER_TEST", "one")
        await node.publisher.publish(Snapshot({"certificates": {entity["id"]: entity}}), 10)
        engine = node.engines[0]
        for value in ("two", "two"):
            monkeypatch.setenv("WORKER_TEST", value)
            await asyncio.sleep(0.002)
            await rotate_once(node.worker._take_changed_secrets)
        assert engine.calls == ["apply 1", "start", "apply 2", "apply 2"]
        assert [plan["certificates"][0]["key"] for plan in engine.plans[1:]] == ["one", "two"]
        os.kill(os.getpid(), signal.SIGTERM)

    assert asyncio.run(node.running(play)) == 0


def test_unknown_plugin_is_reported_before_anything_runs(tmp_path: Path) -> None:
    node = Node(tmp_path, plugins="no-such-plugin")

    async def play() -> None:
        report = await node.report()
        assert report["event"] == "fault"
        assert "no-such-plugin" in report["faults"][0]

    assert asyncio.run(node.running(play)) == 1
    assert node.engines == []


def test_worker_stops_when_its_parent_is_gone(tmp_path: Path) -> None:
    node = Node(tmp_path)

    async def play() -> None:
        await node.report()
        node.parent.shutdown(socket.SHUT_RDWR)

    assert asyncio.run(node.running(play)) == 0
    assert node.engines[0].calls[-1] == "stop"


def test_worker_whose_first_snapshot_is_refused_ends_with_its_faults(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.publisher = Publisher(tmp_path / "link.sock", snapshot_with("absent").with_revision(1))

    async def play() -> None:
        assert await node.report() == {"event": "fault", "faults": ["absent plugin is in use but not enabled"]}

    assert asyncio.run(node.running(play)) == 1
    assert node.engines[0].calls == ["stop"]
