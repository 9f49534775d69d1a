"""Control's end of the link: holds the current snapshot, sends it to workers, waits until all of them run it.

Owns the unix socket, the connected workers and the rule of publication: a snapshot is current only when every live
worker has taken it; one refusal puts the old one back everywhere. It compiles nothing and knows no entity.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from headgate.cluster.frames import (
    MAX_STORE_REQUESTS,
    MAX_UP_BYTES,
    Ack,
    ClusterEvent,
    DeltaFrame,
    Down,
    Event,
    HealthReports,
    HealthStates,
    Hello,
    Nack,
    SnapshotFrame,
    StatsReply,
    StatsRequest,
    StoreFault,
    StoreReply,
    StoreRequest,
    WholeRequest,
    encode,
    read_body,
    up_decoder,
)
from headgate.errors import DATABASE_ERROR, ControlError
from headgate.store.delta import Delta
from headgate.store.snapshot import Snapshot

_log = logging.getLogger("headgate.control")
_STATS_TIMEOUT_S = 2.0
_SEND_TIMEOUT_S = 30.0


class PublicationRefusedError(ControlError):
    """A worker cannot run the snapshot; `faults` says why, and the old one is in force."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


class PublicationTimeoutError(ControlError):
    """Not every worker has answered in time; those that are late take the new snapshot when they can."""


@dataclass(eq=False)
class _Worker:
    hello: Hello
    writer: asyncio.StreamWriter
    running_revision: int = 0
    sent_revision: int = 0
    sending: asyncio.Lock = field(default_factory=asyncio.Lock)
    store_requests: int = 0

    async def send(self, message: Down) -> None:
        async with self.sending:
            if isinstance(message, SnapshotFrame | DeltaFrame):
                if message.revision < self.sent_revision:
                    # Encoding a large one takes a while: a newer one went out meanwhile.
                    return
                self.sent_revision = message.revision
            self.writer.write(encode(message))
            await asyncio.wait_for(self.writer.drain(), _SEND_TIMEOUT_S)


class Publisher:
    """The link of one control process."""

    def __init__(self, path: Path, initial: Snapshot) -> None:
        self._path = path
        self.answer_store_request: Callable[[StoreRequest], Awaitable[StoreReply]] | None = None
        self.take_health_reports: Callable[[int, bytes], None] | None = None
        """Called with a worker's process id and what it reports."""
        self.forget_worker: Callable[[int], None] | None = None
        """Called with the process id of a worker whose link has ended."""
        self.current_health: Callable[[], HealthStates] | None = None
        """Gives what a worker that is new should know before it serves."""
        self.take_cluster_event: Callable[[ClusterEvent], Awaitable[None]] | None = None
        self._current = initial
        self._offered = initial
        self._newest_revision = initial.revision
        self._workers: set[_Worker] = set()
        self._publishing = asyncio.Lock()
        self._waiting: dict[_Worker, asyncio.Future[Nack | None]] = {}
        self._stats: dict[int, asyncio.Future[None]] = {}
        self._replies: dict[int, dict[_Worker, StatsReply]] = {}
        self._stats_serial = 0
        self._server: asyncio.Server | None = None
        self.first_acknowledgement = asyncio.Event()
        self._connections: set[asyncio.Task[Any]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def current(self) -> Snapshot:
        """The snapshot that is in force."""
        return self._current

    @property
    def is_publishing(self) -> bool:
        """Whether a publication is on its way."""
        return self._publishing.locked()

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the connected workers, in the order of their index."""
        return [worker.hello.pid for worker in sorted(self._workers, key=lambda entry: entry.hello.index)]

    def ready_workers(self) -> int:
        """Return how many connected workers run the current snapshot."""
        return sum(1 for worker in self._workers if worker.running_revision >= self._current.revision)

    async def open(self) -> None:
        """Listen on the unix socket, replacing one left behind by a dead process."""
        self._path.unlink(missing_ok=True)
        previous_mask = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, path=str(self._path))
        finally:
            os.umask(previous_mask)

    async def close(self) -> None:
        """Close the socket and all connections."""
        if self._server is not None:
            self._server.close()
        for worker in list(self._workers):
            worker.writer.close()
        await asyncio.gather(*self._connections, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def publish(
        self, snapshot: Snapshot, timeout_s: float, change: tuple[Snapshot, Delta] | None = None
    ) -> Snapshot:
        """Make a snapshot current on all workers; it gets the next revision and is returned with it.

        Args: `change`: what makes the snapshot of another one; where that is the current one, the change alone travels
            to the workers that run it.
        Raises: PublicationRefusedError, nothing has changed; PublicationTimeoutError, see there.
        """
        async with self._publishing:
            self._newest_revision += 1
            offered = snapshot.with_revision(self._newest_revision)
            base = self._current
            self._offered = offered
            delta: DeltaFrame | None = None
            if change is not None and change[0].entities is base.entities:
                delta = DeltaFrame(base.revision, offered.revision, change[1].encode())
            loop = asyncio.get_running_loop()
            self._waiting = {worker: loop.create_future() for worker in self._workers}
            whole: SnapshotFrame | None = None
            for worker in list(self._waiting):
                if delta is not None and worker.running_revision == base.revision:
                    self._start(self._send_or_drop(worker, delta))
                    continue
                whole = whole or await self._whole(offered)
                self._start(self._send_or_drop(worker, whole))
            try:
                refusal = await asyncio.wait_for(self._first_refusal(), timeout_s)
            except TimeoutError:
                self._current = offered
                raise PublicationTimeoutError("Timed out while loading configuration") from None
            finally:
                self._waiting = {}
            if refusal is not None:
                await self._put_back()
                raise PublicationRefusedError(refusal.faults)
            self._current = offered
            return offered

    @staticmethod
    async def _whole(snapshot: Snapshot) -> SnapshotFrame:
        # A large one takes a while, in which the Admin API should answer.
        return SnapshotFrame(snapshot.revision, await asyncio.to_thread(snapshot.encode))

    async def _first_refusal(self) -> Nack | None:
        # Workers may connect while this runs, so the set of answers is looked at again after each one.
        while pending := [answer for answer in self._waiting.values() if not answer.done()]:
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            refusals = [answer.result() for answer in self._waiting.values() if answer.done()]
            if refusal := next((entry for entry in refusals if entry is not None), None):
                return refusal
        return next((entry for entry in (answer.result() for answer in self._waiting.values()) if entry), None)

    async def _put_back(self) -> None:
        # A higher revision than the refused one: a worker takes what it is sent last, whatever it ran before.
        self._newest_revision += 1
        self._current = self._current.with_revision(self._newest_revision)
        self._offered = self._current
        frame = await self._whole(self._current)
        await asyncio.gather(*(self._send_or_drop(worker, frame) for worker in list(self._workers)))

    async def stats(self, most_names: int = 0) -> Mapping[int, StatsReply]:
        """Ask all workers for their counters; by process id, without those that do not answer in 2 s.

        Args: `most_names`: how many names of each worker's resolver to tell of.
        """
        self._stats_serial += 1
        serial = self._stats_serial
        workers = set(self._workers)
        self._replies[serial] = {}
        done = self._stats[serial] = asyncio.get_running_loop().create_future()
        if not workers:
            done.set_result(None)
        for worker in workers:
            self._start(self._send_or_drop(worker, StatsRequest(serial, most_names)))
        try:
            deadline = asyncio.get_running_loop().time() + _STATS_TIMEOUT_S
            while len(self._replies[serial]) < len(workers & self._workers):
                done = self._stats[serial] = asyncio.get_running_loop().create_future()
                await asyncio.wait_for(done, max(0.0, deadline - asyncio.get_running_loop().time()))
        except TimeoutError:
            pass
        del self._stats[serial]
        return {worker.hello.pid: reply for worker, reply in self._replies.pop(serial).items()}

    async def broadcast(self, event: Event | ClusterEvent | HealthStates) -> None:
        """Send an event to all workers."""
        await asyncio.gather(*(self._send_or_drop(worker, event) for worker in list(self._workers)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        worker: _Worker | None = None
        connection = asyncio.current_task()
        if connection is not None:
            self._connections.add(connection)
            connection.add_done_callback(self._connections.discard)
        try:
            body = await read_body(reader, MAX_UP_BYTES)
            hello = None if body is None else up_decoder.decode(body)
            if not isinstance(hello, Hello):
                return
            worker = _Worker(hello, writer)
            self._workers.add(worker)
            if self._publishing.locked() and self._waiting:
                self._waiting[worker] = asyncio.get_running_loop().create_future()
            if self.current_health is not None:
                await worker.send(self.current_health())
            await worker.send(await self._whole(self._offered))
            while (body := await read_body(reader, MAX_UP_BYTES)) is not None:
                self._take(worker, up_decoder.decode(body))
        except (ControlError, msgspec.DecodeError, ConnectionError, TimeoutError) as error:
            _log.warning("link to worker %s: %s", "?" if worker is None else worker.hello.pid, error)
        finally:
            if worker is not None:
                self._forget(worker)
            writer.close()

    def _take(self, worker: _Worker, message: object) -> None:
        if isinstance(message, Ack):
            worker.running_revision = message.revision
            self.first_acknowledgement.set()
            self._answer(worker, message.revision, None)
        elif isinstance(message, Nack):
            _log.error(
                "worker %d refused revision %d: %s", worker.hello.pid, message.revision, "; ".join(message.faults)
            )
            self._answer(worker, message.revision, message)
        elif isinstance(message, WholeRequest):
            _log.info("worker %d asks for the whole of revision %d", worker.hello.pid, message.revision)
            self._start(self._send_whole(worker))
        elif isinstance(message, StatsReply) and message.serial in self._replies:
            self._replies[message.serial][worker] = message
            self._wake_stats()
        elif isinstance(message, StoreRequest):
            self._start(self._serve_store_request(worker, message))
        elif isinstance(message, HealthReports):
            if self.take_health_reports is not None:
                self.take_health_reports(worker.hello.pid, message.body)
        elif isinstance(message, Event):
            self._start(self.broadcast(message))
        elif isinstance(message, ClusterEvent):
            self._start(self._pass_on(message))

    async def _pass_on(self, event: ClusterEvent) -> None:
        if self.take_cluster_event is not None:
            await self.take_cluster_event(event)
        elif not event.is_for_others:
            await self.broadcast(event)

    async def _send_whole(self, worker: _Worker) -> None:
        await self._send_or_drop(worker, await self._whole(self._offered))

    async def _serve_store_request(self, worker: _Worker, request: StoreRequest) -> None:
        if self.answer_store_request is None or worker.store_requests >= MAX_STORE_REQUESTS:
            text = "no store answers" if self.answer_store_request is None else "too many writes are on their way"
            reply = StoreReply(request.serial, fault=StoreFault(DATABASE_ERROR, "database error", text, None, 503))
        else:
            worker.store_requests += 1
            try:
                reply = await self.answer_store_request(request)
            finally:
                worker.store_requests -= 1
        await self._send_or_drop(worker, reply)

    def _answer(self, worker: _Worker, revision: int, result: Nack | None) -> None:
        answer = self._waiting.get(worker)
        if answer is not None and not answer.done() and revision == self._offered.revision:
            answer.set_result(result)

    def _forget(self, worker: _Worker) -> None:
        if worker in self._workers and self.forget_worker is not None:
            self.forget_worker(worker.hello.pid)
        self._workers.discard(worker)
        answer = self._waiting.get(worker)
        if answer is not None and not answer.done():
            # A worker that died takes what is current when it comes back.
            answer.set_result(None)
        self._wake_stats()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _wake_stats(self) -> None:
        for done in self._stats.values():
            if not done.done():
                done.set_result(None)

    async def _send_or_drop(self, worker: _Worker, message: Down) -> None:
        try:
            await worker.send(message)
        except (ConnectionError, TimeoutError) as error:
            _log.warning("link to worker %d: %s", worker.hello.pid, str(error) or "not reading")
            worker.writer.close()
            self._forget(worker)
