"""The log level of a node's processes, changed for a while: by hand on this node, or by a message of another one.

Owns the level that is in force and when the one of the settings comes back. Levels themselves are `node.logs`'.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from headgate.cluster.frames import LOG_LEVEL_EVENT, ClusterEvent, Event
from headgate.node.logs import LEVELS, level_name, set_level

LOG_LEVEL_CHANNEL: Final = "debug:log_level"
"""Channel of the cluster on which nodes tell each other of a level for all."""

_log = logging.getLogger("headgate.control")


class LogLevel:
    """The level of control and workers.

    Args: `original` is that of the settings; `send` sends an event to all workers of the node.
    """

    def __init__(self, original: str, send: Callable[[Event], Awaitable[None]]) -> None:
        self._original = original
        self._send = send
        self._reverting: asyncio.TimerHandle | None = None
        self._telling: set[asyncio.Task[None]] = set()
        self.tell_nodes: Callable[[ClusterEvent], Awaitable[None]] | None = None
        """Sends a message to the other nodes; None where there are none."""

    @property
    def name(self) -> str:
        """The level in force."""
        return level_name()

    async def change(self, level: str, timeout_s: float) -> None:
        """Log from a level on, for some seconds (0: until the next reload)."""
        if self._reverting is not None:
            self._reverting.cancel()
            self._reverting = None
        await self._put(level)
        if timeout_s > 0 and level != self._original:
            self._reverting = asyncio.get_running_loop().call_later(timeout_s, self._revert)

    async def change_everywhere(self, level: str, timeout_s: float) -> None:
        """Do as `change` on this node and, through the database, on all others."""
        await self.change(level, timeout_s)
        if self.tell_nodes is not None:
            message = {"level": level, "timeout_s": timeout_s}
            await self.tell_nodes(ClusterEvent(LOG_LEVEL_CHANNEL, message, is_for_others=True))

    async def take(self, message: Any) -> None:
        """Do what another node asks for."""
        level, timeout_s = message["level"], message["timeout_s"]
        # A node of a newer release may know levels that this one does not.
        if level in LEVELS:
            await self.change(level, float(timeout_s))

    def _revert(self) -> None:
        self._reverting = None
        task = asyncio.ensure_future(self._put(self._original))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _put(self, level: str) -> None:
        set_level(level)
        _log.log(max(LEVELS[level], LEVELS["notice"]), "log level changed to %s", level)
        await self._send(Event(LOG_LEVEL_EVENT, {"level": level}))
