"""`kong.timer`: functions that run later or again and again on the worker's loop (PDK reference 20.3).

A timer belongs to the worker that started it and ends with it. Its function runs outside of any request: PDK functions
that need a phase refuse, `kong.log` writes without a plugin's name. What it raises is logged, a repeating one goes on.
"""

import asyncio
import contextvars
import inspect
import itertools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from headgate.errors import GatewayError
from headgate.pdk._check import is_number, need_string
from headgate.pdk._node import node
from headgate.pdk._phase import any_phase

_log = logging.getLogger("headgate.plugin")


class TimerError(GatewayError):
    """A timer cannot be started: its name is taken, there are `max_timers`, or this process has no loop."""


@dataclass(slots=True)
class _Timer:
    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    delay_s: float
    repeats: bool
    handle: asyncio.TimerHandle | None = None
    task: "asyncio.Task[None] | None" = None
    is_cancelled: bool = False
    runs: int = 0
    faults: int = 0
    longest_s: float = 0.0
    total_s: float = 0.0


class TimerModule:
    """`kong.timer`. Callable from every thread of the worker."""

    __slots__ = ("_names", "_runs", "_timers")

    def __init__(self) -> None:
        self._timers: dict[str, _Timer] = {}
        self._names = itertools.count(1)
        self._runs = 0

    @any_phase
    def at(self, delay: float, fn: Callable[..., Any], *args: Any) -> str:
        """Run `fn(*args)` once, after `delay` seconds; it may be `async def`.

        Returns: the timer's name, for `cancel`.
        Raises: TypeError `delay must be a number`, `callback must be a function`; ValueError
            `delay must be greater than or equal to 0`; TimerError without a loop, and with
            `too many pending timers` beyond the setting `max_timers`.
        """
        return self._start(self._new_name(), delay, fn, args, repeats=False)

    @any_phase
    def every(self, interval: float, fn: Callable[..., Any], *args: Any) -> str:
        """Run `fn(*args)` each `interval` seconds, the first time after one; runs of a timer never overlap.

        Returns and raises as `at`; ValueError `interval must be greater than 0`.
        """
        return self._start(self._new_name(), interval, fn, args, repeats=True)

    @any_phase
    def named_at(self, name: str, delay: float, fn: Callable[..., Any], *args: Any) -> str:
        """Do as `at` under a name of this worker.

        Raises: as `at`; TimerError `timer '<name>' exists already`.
        """
        need_string(name, "name")
        return self._start(name, delay, fn, args, repeats=False)

    @any_phase
    def named_every(self, name: str, interval: float, fn: Callable[..., Any], *args: Any) -> str:
        """Do as `every` under a name of this worker.

        Raises: as `every`; TimerError `timer '<name>' exists already`.
        """
        need_string(name, "name")
        return self._start(name, interval, fn, args, repeats=True)

    @any_phase
    def cancel(self, name: str) -> bool:
        """Stop a timer; a run that has begun ends as it would. Says whether there was one of that name.

        Raises: TypeError `name must be a string`.
        """
        need_string(name, "name")
        timer = self._timers.pop(name, None)
        if timer is None:
            return False
        timer.is_cancelled = True
        if timer.handle is not None:
            _loop().call_soon_threadsafe(timer.handle.cancel)
        return True

    @any_phase
    def stats(self) -> dict[str, Any]:
        """Return this worker's timers.

        `{"sys": {"running", "waiting", "total", "runs"}, "timers": {<name>: {"runs", "faults", "longest_s", "total_s",
        "is_running"}}}`; `runs` of `sys` counts those of ended timers too.
        """
        timers = dict(self._timers)
        running = sum(timer.task is not None for timer in timers.values())
        return {
            "sys": {
                "running": running,
                "waiting": len(timers) - running,
                "total": len(timers),
                "runs": self._runs,
            },
            "timers": {
                name: {
                    "runs": timer.runs,
                    "faults": timer.faults,
                    "longest_s": timer.longest_s,
                    "total_s": timer.total_s,
                    "is_running": timer.task is not None,
                }
                for name, timer in timers.items()
            },
        }

    def _new_name(self) -> str:
        return f"unnamed-{next(self._names)}"

    def _start(self, name: str, delay: object, function: object, arguments: tuple[Any, ...], *, repeats: bool) -> str:
        what = "interval" if repeats else "delay"
        if not is_number(delay):
            raise TypeError(f"{what} must be a number")
        assert isinstance(delay, int | float)
        if delay < 0 or (repeats and delay == 0):
            raise ValueError(f"{what} must be greater than {'' if repeats else 'or equal to '}0")
        if not callable(function):
            raise TypeError("callback must be a function")
        loop = _loop()
        if len(self._timers) >= node.max_timers:
            raise TimerError("too many pending timers")
        timer = _Timer(name, function, arguments, float(delay), repeats)
        if self._timers.setdefault(name, timer) is not timer:
            raise TimerError(f"timer '{name}' exists already")
        loop.call_soon_threadsafe(self._schedule, timer, loop, context=contextvars.Context())
        return name

    def _schedule(self, timer: _Timer, loop: asyncio.AbstractEventLoop) -> None:
        if not timer.is_cancelled:
            timer.handle = loop.call_later(timer.delay_s, self._fire, timer, loop)

    def _fire(self, timer: _Timer, loop: asyncio.AbstractEventLoop) -> None:
        timer.task = loop.create_task(self._run(timer, loop), name=f"kong.timer {timer.name}")

    async def _run(self, timer: _Timer, loop: asyncio.AbstractEventLoop) -> None:
        started_s = time.monotonic()
        try:
            returned = timer.function(*timer.arguments)
            if inspect.isawaitable(returned):
                await returned
        except Exception:
            timer.faults += 1
            _log.exception("[kong] timer '%s' failed", timer.name)
        finally:
            took_s = time.monotonic() - started_s
            timer.task = None
            timer.runs += 1
            self._runs += 1
            timer.longest_s = max(timer.longest_s, took_s)
            timer.total_s += took_s
            if not timer.repeats:
                if self._timers.get(timer.name) is timer:
                    del self._timers[timer.name]
            elif not timer.is_cancelled and not loop.is_closed():
                timer.handle = loop.call_later(max(0.0, timer.delay_s - took_s), self._fire, timer, loop)


def _loop() -> asyncio.AbstractEventLoop:
    """Return the worker's loop, from any of its threads."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        # The engine's thread, or one of the pool of blocking handlers.
        if node.loop is None:
            raise TimerError("timers need the loop of a worker; there is none in this process") from None
        return node.loop


timer = TimerModule()
