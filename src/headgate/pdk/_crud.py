"""What plugins learn of changed entities: their keys in `kong.cache` are forgotten, `crud` events are delivered.

Owns which keys an entity has and the form of the events (PDK reference 20.3, custom plugins 15). The worker calls it
after each new snapshot, so that writes of this node, of others, and new declarative documents are all alike, and every
worker hears of all of them. Requests pay nothing: keys are forgotten on another thread (measured 80 µs for each changed
entity, of 10,000 at once on a loaded 2-core virtual machine), events are made only when somebody listens, and handlers
run on the worker's loop, a few changes at a time.
"""

import asyncio
import contextvars
import logging
from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

from headgate.pdk._entities import cache_keys_of, shown
from headgate.pdk.worker_events import has_handlers, start

SOURCE = "crud"
_AT_ONCE = 64
_HANDLER_S = 5.0
_log = logging.getLogger("headgate.plugin")


class Change(Protocol):
    """One changed entity."""

    @property
    def entity_type(self) -> str: ...
    @property
    def operation(self) -> str: ...
    @property
    def entity(self) -> dict[str, Any]: ...
    @property
    def old_entity(self) -> dict[str, Any] | None: ...


def forget(changed: Iterable[Change]) -> None:
    """Forget the keys of changed entities, as they were and as they are, in both caches of the node."""
    # Imported on use: plugins without shared state need no shared memory.
    from headgate.pdk.cache import forget_many

    keys: dict[str, None] = {}
    for change in changed:
        for entity in (change.entity, change.old_entity):
            if entity is not None:
                keys.update(dict.fromkeys(cache_keys_of(change.entity_type, entity)))
    forget_many(list(keys))


class Announcer:
    """Delivers `crud` events of this worker, in the order of the changes.

    Args: most_pending, changes that wait for their handlers; of more than that only the cache hears.
    """

    def __init__(self, most_pending: int) -> None:
        self._most_pending = most_pending
        self._pending: deque[Change] = deque()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_listened_to(self) -> bool:
        """Say whether any plugin has registered for these events."""
        return has_handlers(SOURCE)

    def announce(self, changed: list[Change]) -> None:
        """Have the handlers called for some changes; on the loop."""
        room = self._most_pending - len(self._pending)
        if len(changed) > room:
            _log.warning(
                "%d changed entities at once: crud events of %d are not delivered (crud_events_max_pending)",
                len(changed),
                len(changed) - room,
            )
        self._pending.extend(changed[:room])
        if self._pending and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._deliver(), context=contextvars.Context())

    async def _deliver(self) -> None:
        while self._pending:
            running = []
            for _ in range(min(_AT_ONCE, len(self._pending))):
                change = self._pending.popleft()
                data = {
                    "operation": change.operation,
                    "entity": shown(change.entity_type, change.entity),
                    "old_entity": shown(change.entity_type, change.old_entity),
                    "schema": {"name": change.entity_type},
                }
                for event in (change.entity_type, f"{change.entity_type}:{change.operation}"):
                    running += start(SOURCE, event, data)
            if running:
                # A handler that hangs goes on by itself; it does not hold up those of later changes.
                await asyncio.wait(running, timeout=_HANDLER_S)
            else:
                await asyncio.sleep(0)
