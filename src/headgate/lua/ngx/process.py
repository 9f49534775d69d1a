"""What `ngx` says of the process, its log, and the functions it shares with `kong`: bodies and timers."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headgate.lua import pdk
from headgate.lua.values import text_from_lua
from headgate.pdk._node import node
from headgate.pdk.log import emit_line, log_levels

if TYPE_CHECKING:
    from headgate.lua.vm import Vm

SHARED = ("body_wait", "timer_start", "timer_stats")
"""Functions of `kong`'s host that `ngx` has under other names."""


def functions(vm: "Vm") -> dict[str, Any]:
    """Return the functions by name."""
    levels = log_levels()

    def log(level: str, message: str, namespace: Any, source: Any, line: Any) -> None:
        number = levels[level]
        if pdk.is_logged(number):
            file = text_from_lua(str(source)).rpartition("/")[2]
            emit_line(number, text_from_lua(message), namespace, file, int(line or 0), None, "?")

    plain: dict[str, Callable[..., Any]] = {
        "ngx_log": log,
        "worker_id": lambda: node.worker_index,
        "worker_exiting": lambda: node.is_exiting,
        "worker_pid": os.getpid,
        "worker_count": lambda: int(node.configuration.get("workers") or 1),
        "master_pid": os.getppid,
        "prefix": lambda: str(node.configuration.get("prefix") or ""),
    }
    host = pdk.Host(vm).table()
    return {name: vm.bridge.raw(function) for name, function in plain.items()} | {name: host[name] for name in SHARED}
