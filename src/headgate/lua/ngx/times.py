"""The clock of `ngx`: always the present one; there is no cached time to update."""

import time
from collections.abc import Callable
from email.utils import formatdate, parsedate_to_datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headgate.lua.vm import Vm


def functions(vm: "Vm") -> dict[str, Any]:
    """Return the functions by name."""
    plain: dict[str, Callable[..., Any]] = {
        "now": lambda: round(time.time(), 3),
        "time": lambda: int(time.time()),
        "today": lambda: time.strftime("%Y-%m-%d"),
        "localtime": lambda: time.strftime("%Y-%m-%d %H:%M:%S"),
        "utctime": lambda: time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()),
        "http_time": lambda seconds: formatdate(seconds, usegmt=True),
        "cookie_time": cookie_time,
        "parse_http_time": parse_http_time,
        "monotonic": time.monotonic,
    }
    return {name: vm.bridge.raw(function) for name, function in plain.items()}


def cookie_time(seconds: float) -> str:
    """Return a time as cookies have it: `Thu, 18-Nov-10 11:27:35 GMT`."""
    return time.strftime("%a, %d-%b-%y %H:%M:%S GMT", time.gmtime(seconds))


def parse_http_time(text: Any) -> int | None:
    """Return the Unix time of an HTTP date; None for what is none."""
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (TypeError, ValueError):
        return None
