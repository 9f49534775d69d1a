"""`kong.node`: identity and memory of this node."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headgate.pdk._check import is_number
from headgate.pdk._node import node as state
from headgate.pdk._phase import any_phase

_UNITS = {"b": (1, ""), "k": (2**10, "KiB"), "m": (2**20, "MiB"), "g": (2**30, "GiB")}


class NodeModule:
    """`kong.node`."""

    __slots__ = ()

    @any_phase
    def get_id(self) -> str:
        """Return the UUID of this node, the same in all its workers."""
        return state.id

    @any_phase
    def get_hostname(self) -> str:
        """Return the host name; empty when it cannot be read."""
        return state.hostname

    @any_phase
    def get_memory_stats(self, unit: str = "b", scale: int = 2) -> dict[str, Any]:
        """Return the memory of this worker.

        `{"workers_lua_vms": [{"pid", "http_allocated_gc"}], "lua_shared_dicts": {}}`, with the names of Kong's record:
        `http_allocated_gc` is here the resident memory of the worker process that asks. Integers for unit `b`,
        otherwise
        text as `12.00 KiB`.

        Raises: ValueError for an unknown unit or a negative scale.
        """
        factor, name = _UNITS.get(str(unit).lower(), (0, ""))
        if not factor:
            raise ValueError(f"invalid unit '{unit}' (expected 'k/K', 'm/M', or 'g/G')")
        if factor > 1 and (not is_number(scale) or scale < 0):
            raise ValueError("scale must be equal or greater than 0")

        def shown(size_bytes: int) -> int | str:
            return size_bytes if factor == 1 else f"{size_bytes / factor:.{int(scale)}f} {name}"

        return {
            "workers_lua_vms": [_worker_memory(shown)],
            "lua_shared_dicts": {},
        }


def _worker_memory(shown: Callable[[int], int | str]) -> dict[str, Any]:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError as error:
        return {"pid": os.getpid(), "err": str(error)}
    return {"pid": os.getpid(), "http_allocated_gc": shown(pages * os.sysconf("SC_PAGE_SIZE"))}


node = NodeModule()
