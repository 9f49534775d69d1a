"""A worker's end of the link: takes snapshots from control, answers, reconnects when control is replaced.

Owns the connection; what is done with a snapshot is the worker's. Snapshots are applied one after the other, never
two at once, and only the newest of those waiting.
"""

import asyncio
import logging
from pathlib import Path
from typing import Protocol

import msgspec

from headgate.cluster.frames import (
    MAX_DOWN_BYTES,
    Ack,
    Event,
    Hello,
    Nack,
    SnapshotFrame,
    StatsReply,
    StatsRequest,
    Up,
    down_decoder,
    encode,
    read_body,
)
from headgate.errors import ControlError

_log = logging.getLogger("headgate.worker")
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0


class RefusedError(Exception):
    """The snapshot cannot be run; `faults` are for a person."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


class Receiver(Protocol):
    """What the link needs from a worker."""

    async def take_snapshot(self, revision: int, body: bytes) -> None:
        """Put a snapshot in force; RefusedError leaves the one before."""

    def stats(self, serial: int) -> StatsReply:
        """Return the counters."""

    def take_event(self, event: Event) -> None:
        """Handle an event from control."""


class Subscriber:
    """The link of one worker; `run` serves it until cancelled."""

    def __init__(self, path: Path, hello: Hello, receiver: Receiver) -> None:
        self._path = path
        self._hello = hello
        self._receiver = receiver
        self._writer: asyncio.StreamWriter | None = None
        self._newest: SnapshotFrame | None = None
        self._has_newest = asyncio.Event()

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

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self.send(self._hello)
            while (body := await read_body(reader, MAX_DOWN_BYTES)) is not None:
                message = down_decoder.decode(body)
                if isinstance(message, SnapshotFrame):
                    self._newest = message
                    self._has_newest.set()
                elif isinstance(message, StatsRequest):
                    await self.send(self._receiver.stats(message.serial))
                elif isinstance(message, Event):
                    self._receiver.take_event(message)
        except (ControlError, msgspec.DecodeError, ConnectionError) as error:
            _log.warning("link to control: %s", error)
        finally:
            writer.close()

    async def _apply_newest(self) -> None:
        while True:
            await self._has_newest.wait()
            self._has_newest.clear()
            frame, self._newest = self._newest, None
            if frame is None:
                continue
            try:
                await self._receiver.take_snapshot(frame.revision, frame.body)
            except RefusedError as refusal:
                await self.send(Nack(frame.revision, refusal.faults))
            else:
                await self.send(Ack(frame.revision))
