"""Messages of plugins to the whole cluster: from this node's workers to its own and, through the database, to others.

Owns their way and what waits on it. A message is in order with those of the same node; one that the database cannot
take now is tried again, up to 10,000 of them. Without a database the cluster is this node.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from headgate.cluster.frames import ClusterEvent
from headgate.errors import EntityError
from headgate.store.base import Message

_log = logging.getLogger("headgate.control")
MOST_WAITING: Final = 10_000
"""Messages that wait for the database, and as many that wait for their time."""


class Events(Protocol):
    """The messages in a database; all of it blocks."""

    def last(self) -> int: ...
    def put(self, node_id: str, messages: list[Message], now_s: float) -> None: ...
    def after(self, serial: int, node_id: str, now_s: float) -> tuple[int, list[Message]]: ...
    def purge(self, now_s: float) -> None: ...


class Workers(Protocol):
    """The workers of this node."""

    async def broadcast(self, event: ClusterEvent) -> None: ...


class Relay:
    """The messages of one control process.

    Args: events, None without a database; propagation_s, what is added to the delay of messages of other nodes.
    """

    def __init__(self, workers: Workers, events: Events | None, node_id: str, propagation_s: float = 0.0) -> None:
        self._workers = workers
        self._events = events
        self._node_id = node_id
        self._propagation_s = propagation_s
        self._seen: int | None = None
        self._unstored: list[Message] = []
        self._storing = asyncio.Lock()
        self._delayed = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.handlers: dict[str, Callable[[Any], Awaitable[None]]] = {}
        """Channels that are the gateway's own: their messages go to these functions, not to workers."""

    async def take(self, event: ClusterEvent) -> None:
        """Pass a worker's message on."""
        if not event.is_for_others:
            self._deliver(event)
        if self._events is None:
            return
        if len(self._unstored) >= MOST_WAITING:
            _log.error("cluster event '%s' does not reach other nodes: %d wait already", event.channel, MOST_WAITING)
            return
        self._unstored.append(Message(event.channel, event.data, event.delay_s))
        try:
            await self._store()
        except EntityError as error:
            _log.error("cluster events wait until the database takes them: %s", error)

    async def start(self) -> None:
        """Begin to follow: what was sent before concerns nothing that this node holds. Raises: EntityError."""
        if self._events is not None:
            self._seen = await asyncio.to_thread(self._events.last)

    async def poll(self) -> None:
        """Store what could not be stored, and deliver what other nodes have sent. Raises: EntityError."""
        if self._events is None:
            return
        await self._store()
        if self._seen is None:
            await self.start()
        seen = self._seen or 0
        while True:
            seen, messages = await asyncio.to_thread(self._events.after, seen, self._node_id, time.time())
            self._seen = seen
            for message in messages:
                self._deliver(ClusterEvent(message.channel, message.data, message.delay_s + self._propagation_s))
            if not messages:
                return

    async def purge(self) -> None:
        """Forget old messages. Raises: EntityError."""
        if self._events is not None:
            await asyncio.to_thread(self._events.purge, time.time())

    async def _store(self) -> None:
        if self._events is None or not self._unstored:
            return
        async with self._storing:
            while batch := self._unstored[:1000]:
                await asyncio.to_thread(self._events.put, self._node_id, batch, time.time())
                del self._unstored[: len(batch)]

    def _deliver(self, event: ClusterEvent) -> None:
        if event.delay_s and self._delayed >= MOST_WAITING:
            _log.error("cluster event '%s' is not delivered: %d wait for their time", event.channel, MOST_WAITING)
            return
        task = asyncio.ensure_future(self._deliver_in_time(event))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver_in_time(self, event: ClusterEvent) -> None:
        if event.delay_s:
            self._delayed += 1
            try:
                await asyncio.sleep(event.delay_s)
            finally:
                self._delayed -= 1
        handler = self.handlers.get(event.channel)
        await (self._workers.broadcast(event) if handler is None else handler(event.data))
