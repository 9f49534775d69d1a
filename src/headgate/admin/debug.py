"""/debug/node/log-level, /timers and /status/dns: looking into a running node, and having it say more for a while."""

import asyncio
import logging

from starlette.requests import Request
from starlette.responses import Response

from headgate.admin.answers import AnswerError, Json, message
from headgate.admin.node import Node
from headgate.cluster.frames import LOG_LEVEL_EVENT, Event
from headgate.node.logs import LEVELS, level_name, set_level

_DEFAULT_TIMEOUT_S = 60.0
_LONGEST_TIMEOUT_S = 100_000_000.0
_MOST_NAMES = 1_000
"""Of each worker; a cache may hold many more."""
_log = logging.getLogger("headgate.admin")


class DebugEndpoints:
    """The log level of the node's processes, and its timers."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._reverting: asyncio.TimerHandle | None = None
        self._telling: set[asyncio.Task[None]] = set()

    async def level(self, request: Request) -> Response:
        """Answer the log level."""
        return message(200, f"log level: {level_name()}")

    async def set_level(self, request: Request) -> Response:
        """Change the log level of control and workers, for `timeout` seconds (60; 0: until the next reload)."""
        if not self._node.has_database:
            return message(405, "cannot change log level when not using a database")
        level = request.path_params["level"]
        if level not in LEVELS:
            return message(400, f"unknown log level: {level}")
        text = request.query_params.get("timeout")
        try:
            timeout_s = _DEFAULT_TIMEOUT_S if text is None else float(text)
        except ValueError:
            timeout_s = -1.0
        if not 0 <= timeout_s <= _LONGEST_TIMEOUT_S:
            raise AnswerError(400, {"message": "timeout must be greater than or equal to 0"})
        if level == level_name():
            return message(200, f"log level is already {level}")
        self._cancel_reverting()
        await self._change(level)
        original = self._node.settings.general.log_level
        if timeout_s > 0 and level != original:
            loop = asyncio.get_running_loop()
            self._reverting = loop.call_later(timeout_s, self._revert, original)
        return message(200, "log level changed")

    def _cancel_reverting(self) -> None:
        if self._reverting is not None:
            self._reverting.cancel()
            self._reverting = None

    def _revert(self, level: str) -> None:
        self._reverting = None
        task = asyncio.ensure_future(self._change(level))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _change(self, level: str) -> None:
        set_level(level)
        _log.log(max(LEVELS[level], LEVELS["notice"]), "log level changed to %s", level)
        await self._node.publisher.broadcast(Event(LOG_LEVEL_EVENT, {"level": level}))

    async def names(self, request: Request) -> Response:
        """Answer how the workers' resolvers used their caches, by name, the most used ones."""
        total: dict[str, list[int]] = {}
        replies = await self._node.publisher.stats(most_names=_MOST_NAMES)
        for reply in replies.values():
            for name, counts in reply.names.items():
                known = total.get(name, [0] * len(counts))
                total[name] = [one + other for one, other in zip(known, counts, strict=True)]
        stats = {
            name: {
                "runs": hits + stale + misses,
                "hit": hits,
                "stale": stale,
                "miss": misses,
                "query_succ": succeeded,
                "query_fail": failed,
            }
            for name, (hits, stale, misses, succeeded, failed) in total.items()
        }
        return Json({"worker": {"id": 0, "count": self._node.bootstrap.worker_count}, "stats": stats})

    async def timers(self, request: Request) -> Response:
        """Answer how many timers of plugins the workers have."""
        replies = await self._node.publisher.stats()
        running, total = (
            sum(reply.counters.get(name, 0) for reply in replies.values())
            for name in ("timers_running", "timers_total")
        )
        workers = self._node.bootstrap.worker_count
        counts = {"running": running, "pending": total - running, "waiting": 0, "total": total}
        return Json({"worker": {"id": 0, "count": workers}, "stats": {"sys": counts, "timers": {}, "flamegraph": {}}})
