"""A worker's end of the link: takes snapshots from control, answers, reconnects when control is replaced.

Owns the connection; what is done with a snapshot is the worker's. Snapshots are applied one after the other, never
two at once, and only the newest of those waiting. A delta that does not fit makes it ask for the whole snapshot.
Writes of plugins go up to control and are answered one by one.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from headgate.cluster.frames import (
    MAX_DOWN_BYTES,
    MAX_STORE_REQUESTS,
    MAX_UP_BYTES,
    Ack,
    ClusterEvent,
    DeltaFrame,
    Event,
    HealthStates,
    Hello,
    Nack,
    SnapshotFrame,
    StatsReply,
    StatsRequest,
    StoreReply,
    StoreRequest,
    Up,
    WholeRequest,
    down_decoder,
    encode,
    read_body,
)
from headgate.errors import DATABASE_ERROR, ControlError, EntityError

_log = logging.getLogger("headgate.worker")
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0
# Twice the time that a statement may take by default.
STORE_TIMEOUT_S = 10.0
MOST_HELD_BACK = 1000
"""Messages to the cluster that wait for the link."""


class RefusedError(Exception):
    """The snapshot cannot be run; `faults` are for a person."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


class UnknownBaseError(Exception):
    """A delta belongs to another snapshot than the one that is in force."""


class Receiver(Protocol):
    """What the link needs from a worker."""

    async def take_snapshot(self, revision: int, body: bytes) -> None:
        """Put a snapshot in force; RefusedError leaves the one before."""

    async def take_delta(self, base: int, revision: int, body: bytes) -> None:
        """Put the snapshot in force that a delta makes of the one at `base`; RefusedError leaves that one.

        Raises: UnknownBaseError when another one is in force.
        """

    def stats(self, serial: int, most_names: int) -> StatsReply:
        """Return the counters, and the use of up to so many names."""

    def take_event(self, event: Event) -> None:
        """Handle an event from control."""

    def take_health(self, states: HealthStates) -> None:
        """Put states of addresses in force."""

    def report_health(self) -> None:
        """Report all upstreams anew: control is another process now, or the link was lost."""

    def take_cluster_event(self, event: ClusterEvent) -> None:
        """Handle a message of a plugin, of this node or another."""


class Subscriber:
    """The link of one worker; `run` serves it until cancelled."""

    def __init__(self, path: Path, hello: Hello, receiver: Receiver) -> None:
        self._path = path
        self._hello = hello
        self._receiver = receiver
        self._writer: asyncio.StreamWriter | None = None
        self._newest: SnapshotFrame | DeltaFrame | None = None
        self._has_newest = asyncio.Event()
        self._held_back: deque[ClusterEvent] = deque()
        self._store_serial = 0
        self._store_replies: dict[int, asyncio.Future[StoreReply]] = {}

    async def run(self) -> None:
        """Connect, serve, and connect again after the link was lost; the worker goes on serving meanwhile."""
        applying = asyncio.ensure_future(self._apply_newest())
        pause_s = _FIRST_PAUSE_S
        try:
            while True:
                try:
                    reader, self._writer = await asyncio.open_unix_connection(str(self._path))
                except OSError:
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
                    continue
                pause_s = _FIRST_PAUSE_S
                await self._serve(reader, self._writer)
                await asyncio.sleep(pause_s)
        finally:
            applying.cancel()
            if self._writer is not None:
                self._writer.close()

    async def send(self, message: Up) -> None:
        """Send a message when connected; without a connection it is dropped, control learns the state from `Hello`."""
        if self._writer is None or self._writer.is_closing():
            return
        try:
            self._writer.write(encode(message))
            await self._writer.drain()
        except ConnectionError:
            self._writer.close()

    async def send_to_cluster(self, event: ClusterEvent) -> None:
        """Send a message of a plugin; without a connection it waits for the next one."""
        if self._writer is not None and not self._writer.is_closing():
            await self.send(event)
            return
        if len(self._held_back) >= MOST_HELD_BACK:
            _log.warning("link to control: a cluster event is dropped, %d wait already", MOST_HELD_BACK)
            return
        self._held_back.append(event)

    async def write_entity(
        self,
        operation: Literal["insert", "update", "upsert", "delete", "truncate"],
        entity_name: str,
        key: str,
        by: str,
        values: Mapping[str, Any],
        ttl: int | None,
    ) -> dict[str, Any] | None:
        """Have control write to the store; returns when it is written, with the entity (None after a delete).

        It is in force in the workers a moment later.
        Raises: EntityError, of code 8 when control does not answer in time: then it may have been written or not.
        """
        writer = self._writer
        if writer is None or writer.is_closing():
            raise _unavailable("there is no link to the store")
        if len(self._store_replies) >= MAX_STORE_REQUESTS:
            raise _unavailable("too many writes are on their way")
        self._store_serial += 1
        serial = self._store_serial
        frame = encode(StoreRequest(serial, operation, entity_name, key, by, dict(values), ttl))
        if len(frame) > MAX_UP_BYTES:
            raise _unavailable(f"an entity of {len(frame)} bytes is larger than the limit of {MAX_UP_BYTES}")
        reply = self._store_replies[serial] = asyncio.get_running_loop().create_future()
        try:
            writer.write(frame)
            await writer.drain()
            answer: StoreReply = await asyncio.wait_for(reply, STORE_TIMEOUT_S)
        except ConnectionError:
            raise _unavailable("the link to the store was lost") from None
        except TimeoutError:
            raise _unavailable(f"the store did not answer within {STORE_TIMEOUT_S:g} s") from None
        finally:
            del self._store_replies[serial]
        if answer.fault is not None:
            fault = answer.fault
            raise EntityError(fault.code, fault.name, fault.message, fault.fields, fault.status)
        return answer.entity

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self.send(self._hello)
            while self._held_back:
                await self.send(self._held_back.popleft())
            self._receiver.report_health()
            while (body := await read_body(reader, MAX_DOWN_BYTES)) is not None:
                message = down_decoder.decode(body)
                if isinstance(message, SnapshotFrame | DeltaFrame):
                    # A delta in the place of another frame that was not applied yet does not fit, and the whole is
                    # asked for.
                    self._newest = message
                    self._has_newest.set()
                elif isinstance(message, StatsRequest):
                    await self.send(self._receiver.stats(message.serial, message.most_names))
                elif isinstance(message, StoreReply):
                    waiting = self._store_replies.get(message.serial)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(message)
                elif isinstance(message, HealthStates):
                    self._receiver.take_health(message)
                elif isinstance(message, Event):
                    self._receiver.take_event(message)
                elif isinstance(message, ClusterEvent):
                    self._receiver.take_cluster_event(message)
        except (ControlError, msgspec.DecodeError, ConnectionError) as error:
            _log.warning("link to control: %s", error)
        finally:
            writer.close()
            for waiting in self._store_replies.values():
                if not waiting.done():
                    waiting.set_exception(ConnectionResetError())

    async def _apply_newest(self) -> None:
        while True:
            await self._has_newest.wait()
            self._has_newest.clear()
            frame, self._newest = self._newest, None
            if frame is None:
                continue
            try:
                if isinstance(frame, DeltaFrame):
                    await self._receiver.take_delta(frame.base, frame.revision, frame.body)
                else:
                    await self._receiver.take_snapshot(frame.revision, frame.body)
            except UnknownBaseError:
                await self.send(WholeRequest(frame.revision))
            except RefusedError as refusal:
                await self.send(Nack(frame.revision, refusal.faults))
            except Exception as error:
                # Whatever it is: the one before is in force, and the next one must not find nobody here.
                _log.exception("revision %d cannot be put in force", frame.revision)
                await self.send(Nack(frame.revision, [f"the configuration cannot be put in force: {error}"]))
            else:
                await self.send(Ack(frame.revision))


def _unavailable(text: str) -> EntityError:
    return EntityError(DATABASE_ERROR, message=text, status=503)
