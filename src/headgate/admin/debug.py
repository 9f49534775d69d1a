"""The log level of processes, /timers and /status/dns: looking into running nodes, and having them say more."""

from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from headgate.admin.answers import AnswerError, Json, message
from headgate.admin.node import Node
from headgate.cluster.frames import TimerStats
from headgate.node.logs import LEVELS

_DEFAULT_TIMEOUT_S = 60.0
_LONGEST_TIMEOUT_S = 100_000_000.0
_MOST_NAMES = 1_000
"""Of each worker; a cache may hold many more."""
_COUNTS = ("running", "waiting", "total", "runs")


class DebugEndpoints:
    """The log level of processes, and the timers of the node's workers."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def level(self, request: Request) -> Response:
        """Answer the log level."""
        return message(200, f"log level: {self._node.log_level.name}")

    async def set_level(self, request: Request) -> Response:
        """Change the log level of control and workers, for `timeout` seconds (60; 0: until the next reload)."""
        level, timeout_s = self._wanted(request)
        if level == self._node.log_level.name:
            return message(200, f"log level is already {level}")
        await self._node.log_level.change(level, timeout_s)
        return message(200, "log level changed")

    async def set_cluster_level(self, request: Request) -> Response:
        """Change the log level of all nodes of the database, for `timeout` seconds (60; 0: until the next reload)."""
        await self._node.log_level.change_everywhere(*self._wanted(request))
        return message(200, "log level changed")

    def _wanted(self, request: Request) -> tuple[str, float]:
        """Return the level and its time in seconds. Raises: AnswerError."""
        if not self._node.has_database:
            raise AnswerError(405, {"message": "cannot change log level when not using a database"})
        level = request.path_params["level"]
        if level not in LEVELS:
            raise AnswerError(400, {"message": f"unknown log level: {level}"})
        text = request.query_params.get("timeout")
        try:
            timeout_s = _DEFAULT_TIMEOUT_S if text is None else float(text)
        except ValueError:
            timeout_s = -1.0
        if not 0 <= timeout_s <= _LONGEST_TIMEOUT_S:
            raise AnswerError(400, {"message": "timeout must be greater than or equal to 0"})
        return level, timeout_s

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
        """Answer the timers of plugins in all workers."""
        replies = list((await self._node.publisher.stats()).values())
        counts = {name: sum(reply.counters.get(f"timers_{name}", 0) for reply in replies) for name in _COUNTS}
        found = [pair for reply in replies for pair in reply.timers.items()]
        # Nothing waits for a free thread here: a timer that is due runs.
        stats = {"sys": counts | {"pending": 0}, "timers": _by_name(found), "flamegraph": _flamegraph(found)}
        return Json({"worker": {"id": 0, "count": self._node.bootstrap.worker_count}, "stats": stats})


def _by_name(found: list[tuple[str, TimerStats]]) -> dict[str, dict[str, Any]]:
    """Return timers by name; those of one name in several workers are one."""
    together: dict[str, list[TimerStats]] = {}
    for name, timer in found:
        together.setdefault(name, []).append(timer)
    return {
        name: {
            "name": name,
            "workers": len(timers),
            "is_running": any(timer.is_running for timer in timers),
            "stats": {
                "runs": sum(timer.runs for timer in timers),
                "faults": sum(timer.faults for timer in timers),
                "elapsed_time": {
                    "total": sum(timer.total_s for timer in timers),
                    "max": max(timer.longest_s for timer in timers),
                },
            },
        }
        for name, timers in together.items()
    }


def _flamegraph(found: list[tuple[str, TimerStats]]) -> dict[str, str]:
    """Return what drawing tools read: a line `<name> <figure>` for each timer; times are milliseconds."""
    return {
        "running": _lines((name, int(timer.is_running)) for name, timer in found),
        "pending": _lines((name, int(not timer.is_running)) for name, timer in found),
        "elapsed_time": _lines((name, round(timer.total_s * 1000)) for name, timer in found),
    }


def _lines(figures: Iterable[tuple[str, int]]) -> str:
    return "".join(f"{name} {figure}\n" for name, figure in figures if figure)
