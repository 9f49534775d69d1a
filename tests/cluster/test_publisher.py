"""Publication: current only when every live worker runs it; one refusal puts the old one back."""

import asyncio
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from headgate.cluster.frames import (
    AddressHealth,
    Event,
    HealthReports,
    HealthStates,
    Hello,
    SnapshotFrame,
    StatsReply,
)
from headgate.cluster.publisher import PublicationRefusedError, PublicationTimeoutError, Publisher
from headgate.cluster.subscriber import RefusedError, Subscriber, UnknownBaseError
from headgate.store.delta import Delta
from headgate.store.snapshot import EMPTY, Snapshot


class FakeWorker:
    """Takes every snapshot but those with a refused revision; hangs on `stuck` ones."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.taken: list[int] = []
        self.deltas: list[Delta] = []
        self.refuses: Callable[[int], bool] = lambda revision: False
        self.is_stuck = False
        self.health: list[HealthStates] = []
        self.reports_asked = 0

    async def take_snapshot(self, revision: int, body: bytes) -> None:
        while self.is_stuck:  # noqa: ASYNC110 a flag is enough here
            await asyncio.sleep(0.01)
        if self.refuses(revision):
            raise RefusedError([f"worker {self.index} cannot run {revision}"])
        self.taken.append(revision)

    async def take_delta(self, base: int, revision: int, body: bytes) -> None:
        if self.taken[-1] != base:
            raise UnknownBaseError
        self.deltas.append(Delta.decode(body))
        await self.take_snapshot(revision, body)

    def stats(self, serial: int, most_names: int) -> StatsReply:
        names = {"a.test": (self.index, 0, 0, 0, 0)} if most_names else {}
        return StatsReply(serial, {"total_requests": self.index + 1}, 1000, 5, names)

    def take_health(self, states: HealthStates) -> None:
        self.health.append(states)

    def report_health(self) -> None:
        self.reports_asked += 1

    def take_event(self, event: Event) -> None:
        self.taken.append(-1)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 the condition is anything
            await asyncio.sleep(0.005)


def run(tmp_path: Path, scenario: Callable[[Publisher, list[FakeWorker]], Awaitable[None]], count: int = 2) -> None:
    async def whole() -> None:
        publisher = Publisher(tmp_path / "link.sock", EMPTY.with_revision(1))
        await publisher.open()
        workers = [FakeWorker(index) for index in range(count)]
        links = [
            asyncio.ensure_future(Subscriber(tmp_path / "link.sock", Hello(w.index, 100 + w.index, 1), w).run())
            for w in workers
        ]
        try:
            await until(lambda: publisher.ready_workers() == count)
            await scenario(publisher, workers)
        finally:
            for link in links:
                link.cancel()
            await publisher.close()

    asyncio.run(whole())


def test_new_worker_gets_the_current_snapshot_and_the_socket_is_private(tmp_path: Path) -> None:
    async def scenario(publisher: Publisher, workers: list[FakeWorker]) -> None:
        assert [worker.taken for worker in workers] == [[1], [1]]
        assert publisher.worker_pids == [100, 101]
        assert stat.S_IMODE((tmp_path / "link.sock").stat().st_mode) == 0o600

    run(tmp_path, scenario)


def test_publication_returns_when_all_workers_run_it(tmp_path: Path) -> None:
    async def scenario(publisher: Publisher, workers: list[FakeWorker]) -> None:
        published = await publisher.publish(EMPTY, 5)
        assert published.revision == 2
        assert publisher.current is published
        assert [worker.taken[-1] for worker in workers] == [2, 2]

    run(tmp_path, scenario)


def test_a_change_travels_alone_to_workers_that_run_its_base_and_whole_to_others(tmp_path: Path) -> None:
    async def scenario(publisher: Publisher, workers: list[FakeWorker]) -> None:
        delta = Delta("a" * 32, changed={"services": [{"id": "1"}]})
        base = publisher.current
        published = await publisher.publish(base.after(delta, 0), 5, (base, delta))
        assert [len(worker.deltas) for worker in workers] == [1, 1]
        assert workers[0].deltas == [delta]
        # Not what the workers run: everything is sent.
        await publisher.publish(base.after(delta, 0), 5, (base, delta))
        assert [len(worker.deltas) for worker in workers] == [1, 1]
        # A worker that has lost count asks for everything.
        workers[0].taken.append(-1)
        published = publisher.current
        await publisher.publish(published.after(delta, 0), 5, (published, delta))
        assert [len(worker.deltas) for worker in workers] == [1, 2]
        assert [worker.taken[-1] for worker in workers] == [4, 4]
        # One that is late with a revision gets all of the next one.
        workers[1].is_stuck = True
        for timeout_s in (0.1, 0.1):
            current = publisher.current
            with pytest.raises(PublicationTimeoutError):
                await publisher.publish(current.after(delta, 0), timeout_s, (current, delta))
        workers[1].is_stuck = False
        await until(lambda: publisher.ready_workers() == 2)
        assert [worker.taken[-1] for worker in workers] == [6, 6]

    run(tmp_path, scenario)


def test_one_refusal_puts_the_old_snapshot_back_on_all(tmp_path: Path) -> None:
    async def scenario(publisher: Publisher, workers: list[FakeWorker]) -> None:
        workers[1].refuses = lambda revision: revision == 2
        with pytest.raises(PublicationRefusedError) as caught:
            await publisher.publish(EMPTY, 5)
        assert caught.value.faults == ["worker 1 cannot run 2"]
        assert publisher.current.revision == 3
        await until(lambda: all(worker.taken[-1] == 3 for worker in workers))
        workers[1].refuses = lambda revision: False
        assert (await publisher.publish(EMPTY, 5)).revision == 4

    run(tmp_path, scenario)


def test_slow_worker_is_a_timeout_and_takes_the_snapshot_later(tmp_path: Path) -> None:
    async def scenario(publisher: Publisher, workers: list[FakeWorker]) -> None:
        workers[0].is_stuck = True
        with pytest.raises(PublicationTimeoutError, match=r"^Timed out while loading configuration$"):
            await publisher.publish(EMPTY, 0.1)
        assert publisher.current.revision == 2
        workers[0].is_stuck = False
        await until(lambda: workers[0].taken[-1] == 2)

    run(tmp_path, scenario)


def test_worker_that_dies_during_publication_does_not_hold_it_up(tmp_path: Path) -> None:
    async def scenario(publisher: Publisher, workers: list[FakeWorker]) -> None:
        stuck = FakeWorker(2)
        link = asyncio.ensure_future(Subscriber(tmp_path / "link.sock", Hello(2, 102, 1), stuck).run())
        await until(lambda: publisher.ready_workers() == 3)
        stuck.is_stuck = True
        publishing = asyncio.ensure_future(publisher.publish(EMPTY, 5))
        await until(lambda: all(worker.taken[-1] == 2 for worker in workers))
        assert not publishing.done()
        link.cancel()
        assert (await publishing).revision == 2

    run(tmp_path, scenario)


def test_counters_come_from_every_worker(tmp_path: Path) -> None:
    async def scenario(publisher: Publisher, workers: list[FakeWorker]) -> None:
        replies = await publisher.stats()
        assert {pid: reply.counters["total_requests"] for pid, reply in replies.items()} == {100: 1, 101: 2}
        assert all(reply.names == {} for reply in replies.values())
        replies = await publisher.stats(most_names=5)
        assert replies[101].names == {"a.test": (1, 0, 0, 0, 0)}

    run(tmp_path, scenario)


def test_event_of_control_reaches_all_workers(tmp_path: Path) -> None:
    async def scenario(publisher: Publisher, workers: list[FakeWorker]) -> None:
        await publisher.broadcast(Event("health", {}))
        await until(lambda: all(worker.taken[-1] == -1 for worker in workers))

    run(tmp_path, scenario)


def test_health_goes_both_ways(tmp_path: Path) -> None:
    taken: list[tuple[int, bytes]] = []
    gone: list[int] = []

    async def scenario(publisher: Publisher, workers: list[FakeWorker]) -> None:
        publisher.take_health_reports = lambda pid, body: taken.append((pid, body))
        publisher.forget_worker = gone.append
        states = HealthStates([AddressHealth("u", "h", "127.0.0.1", 80, "unhealthy")])
        await publisher.broadcast(states)
        await until(lambda: all(worker.health == [states] for worker in workers))
        assert [worker.reports_asked for worker in workers] == [1, 1], "asked for once at each connect"
        third = Subscriber(tmp_path / "link.sock", Hello(2, 102, 1), FakeWorker(2))
        link = asyncio.ensure_future(third.run())
        await until(lambda: publisher.ready_workers() == 3)
        await third.send(HealthReports(b"[]"))
        await until(lambda: taken == [(102, b"[]")])
        link.cancel()
        await until(lambda: gone == [102])

    run(tmp_path, scenario)


def test_worker_reconnects_to_a_replaced_control(tmp_path: Path) -> None:
    async def scenario(publisher: Publisher, workers: list[FakeWorker]) -> None:
        await publisher.close()
        second = Publisher(tmp_path / "link.sock", EMPTY.with_revision(9))
        await second.open()
        await until(lambda: second.ready_workers() == 2)
        assert [worker.taken[-1] for worker in workers] == [9, 9]
        await second.close()

    run(tmp_path, scenario)


def test_a_worker_that_connects_during_a_publication_does_not_fall_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, is_late, gate = Publisher._whole, asyncio.Event(), asyncio.Event()

    async def slowly(snapshot: Snapshot) -> SnapshotFrame:
        frame = await encode(snapshot)
        if snapshot.revision == 1:
            is_late.set()
            await gate.wait()
        return frame

    async def scenario(publisher: Publisher, workers: list[FakeWorker]) -> None:
        monkeypatch.setattr(Publisher, "_whole", staticmethod(slowly))
        late = FakeWorker(5)
        link = asyncio.ensure_future(Subscriber(tmp_path / "link.sock", Hello(5, 105, 1), late).run())
        await is_late.wait()
        # What was current when it connected is still being encoded.
        publishing = asyncio.ensure_future(publisher.publish(EMPTY, 5))
        await until(lambda: late.taken == [2])
        gate.set()
        await publishing
        await publisher.broadcast(Event("x", {}))
        await until(lambda: -1 in late.taken)
        link.cancel()
        assert late.taken == [2, -1]

    run(tmp_path, scenario, count=1)
