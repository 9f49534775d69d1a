"""How the kernel shares processors between the processes of a node.

Owns one rule: what answers requests comes first. Control works through whole configurations, a tenth of a second and
more at a time, on the processors of workers: it gets a smaller share, in short turns, so that a request that comes
meanwhile waits for a fraction of a millisecond and not for a turn of the usual length.
"""

import contextlib
import ctypes
import os
import platform
from typing import Final

NICENESS: Final = 5
"""A third of the weight of a worker. Measured with 10,000 routes that are posted again and again on the processor of a
busy worker: live after 480 ms instead of 430, with a 99th percentile of 1.05 times that of quiet minutes instead of 1.8
(medians of five on a loaded machine)."""
TURN_NS: Final = 200_000
"""Linux takes 0.1 to 100 ms, from 6.12 on, and ignores it before; its own choice is 3 ms on a small machine."""

_SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274}
_KEEP_POLICY: Final = 0x08


class _Attributes(ctypes.Structure):
    """`struct sched_attr` of sched_setattr(2), version 0."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("sched_policy", ctypes.c_uint32),
        ("sched_flags", ctypes.c_uint64),
        ("sched_nice", ctypes.c_int32),
        ("sched_priority", ctypes.c_uint32),
        ("sched_runtime", ctypes.c_uint64),
        ("sched_deadline", ctypes.c_uint64),
        ("sched_period", ctypes.c_uint64),
    )


def stand_back() -> None:
    """Have this process, and threads that it starts from here on, leave processors to workers, as far as possible."""
    try:
        threads = [int(name) for name in os.listdir("/proc/self/task")]
    except OSError:
        threads = [0]
    for thread in threads:
        # One may have ended meanwhile.
        with contextlib.suppress(OSError):
            niceness = min(os.getpriority(os.PRIO_PROCESS, thread) + NICENESS, 19)
            if not _has_set(thread, niceness, TURN_NS):
                os.setpriority(os.PRIO_PROCESS, thread, niceness)


def _has_set(thread: int, niceness: int, turn_ns: int) -> bool:
    """Set both at once; False where the system does not know how, or a container may not."""
    number = _SCHED_SETATTR.get(platform.machine())
    if number is None or os.uname().sysname != "Linux":
        return False
    wanted = _Attributes(
        size=ctypes.sizeof(_Attributes), sched_flags=_KEEP_POLICY, sched_nice=niceness, sched_runtime=turn_ns
    )
    try:
        return bool(ctypes.CDLL(None).syscall(number, thread, ctypes.byref(wanted), 0) == 0)
    except (OSError, AttributeError):
        return False
