"""The fixed windows of rate limits: calendar-aligned in UTC, identified by their start."""

import calendar
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Period:
    """One kind of window: its name in the configuration and the length that resets are computed with."""

    name: str
    window_s: int
    longest_s: int

    @property
    def title(self) -> str:
        """The name as header names spell it, e.g. `Minute`."""
        return self.name.capitalize()


# A month counts 30 days and a year 365 in `RateLimit-Reset`; the counters live as long as the real window can.
PERIODS = (
    Period("second", 1, 1),
    Period("minute", 60, 60),
    Period("hour", 3600, 3600),
    Period("day", 86_400, 86_400),
    Period("month", 2_592_000, 2_678_400),
    Period("year", 31_536_000, 31_622_400),
)


@dataclass(frozen=True, slots=True)
class Window:
    """The window of one period that holds a moment."""

    start_s: int
    ends_s: int
    """When its counter may be forgotten: the real end, or a little later."""
    key_suffix: str
    """How the window ends the key of a counter."""


class CurrentWindows:
    """The windows that hold a moment, computed once per second."""

    __slots__ = ("_now_s", "_windows")

    def __init__(self) -> None:
        self._now_s = -1
        self._windows: dict[str, Window] = {}

    def at(self, now_s: int) -> dict[str, Window]:
        """Return the window of each period by the period's name; not to be changed."""
        if now_s != self._now_s:
            moment = time.gmtime(now_s)
            starts_s = {
                "second": now_s,
                "minute": now_s - now_s % 60,
                "hour": now_s - now_s % 3600,
                "day": now_s - now_s % 86_400,
                "month": calendar.timegm((moment.tm_year, moment.tm_mon, 1, 0, 0, 0)),
                "year": calendar.timegm((moment.tm_year, 1, 1, 0, 0, 0)),
            }
            self._windows = {
                period.name: Window(
                    start_s := starts_s[period.name],
                    start_s + period.longest_s + 1,
                    f"{start_s}000:{period.name}",
                )
                for period in PERIODS
            }
            self._now_s = now_s
        return self._windows
