"""`kong.node`: identity and memory of this node."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headgate.pdk._check import is_number
from headgate.pdk._node import node as state
from headgate.pdk._phase import any_phase

_WORKER_TITLE = b"headgate: worker"
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
        """Return the memory of the node's workers and of what they share.

        `{"workers_lua_vms": [{"pid", "http_allocated_gc"}], "lua_shared_dicts": {"kong": {"capacity",
        "allocated_slabs"}}}`, with the names of Kong's record: `http_allocated_gc` is the resident memory of a worker
        process (`err` instead when it cannot be read), sorted by pid. Integers for unit `b`, otherwise text as
        `12.00 KiB`.

        Raises: ValueError for an unknown unit or a negative scale.
        """
        factor, name = _UNITS.get(str(unit).lower(), (0, ""))
        if not factor:
            raise ValueError(f"invalid unit '{unit}' (expected 'k/K', 'm/M', or 'g/G')")
        if factor > 1 and (not is_number(scale) or scale < 0):
            raise ValueError("scale must be equal or greater than 0")

        def shown(size_bytes: int) -> int | str:
            return size_bytes if factor == 1 else f"{size_bytes / factor:.{int(scale)}f} {name}"

        # Imported on use: it loads LMDB.
        from headgate.pdk import shared_dict

        capacity, used = shared_dict.memory_sizes()
        return {
            "workers_lua_vms": [_worker_memory(pid, shown) for pid in _workers()],
            "lua_shared_dicts": {"kong": {"capacity": shown(capacity), "allocated_slabs": shown(used)}}
            if capacity
            else {},
        }


def _workers() -> list[int]:
    """Return the pids of this process and of the other workers of the same supervisor, ascending."""
    parent = os.getppid()
    found = {os.getpid()}
    for task in Path(f"/proc/{parent}/task").glob("*/children"):
        try:
            children = task.read_text().split()
            found.update(int(pid) for pid in children if _is_worker(pid))
        except OSError:
            # Processes come and go while they are listed.
            continue
    return sorted(found)


def _is_worker(pid: str) -> bool:
    return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(_WORKER_TITLE)


def _worker_memory(pid: int, shown: Callable[[int], int | str]) -> dict[str, Any]:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError as error:
        return {"pid": pid, "err": str(error)}
    return {"pid": pid, "http_allocated_gc": shown(pages * os.sysconf("SC_PAGE_SIZE"))}


node = NodeModule()
