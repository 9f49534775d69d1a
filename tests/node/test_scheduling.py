"""Control stands back: its share and turns, for the threads that it starts too."""

import json
import platform
import subprocess
import sys
from typing import Any

import pytest

from headgate.node import scheduling

TELL = """
import json, os, sys, threading
from headgate.node import scheduling

def state():
    own = threading.get_native_id()
    path = f"/proc/self/task/{own}/sched"
    lines = open(path).read().splitlines() if os.path.exists(path) else []
    found = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return [os.getpriority(os.PRIO_PROCESS, own), found.get("se.slice"), os.sched_getscheduler(own)]

os.setpriority(os.PRIO_PROCESS, 0, max(int(sys.argv[1]), os.getpriority(os.PRIO_PROCESS, 0)))
if sys.argv[2] == "no call":
    scheduling._SCHED_SETATTR.clear()
before, told = state(), []
go_on = threading.Event()
early = threading.Thread(target=lambda: (go_on.wait(), told.append(state())))
early.start()
scheduling.stand_back()
late = threading.Thread(target=lambda: told.append(state()))
go_on.set()
early.join()
late.start()
late.join()
print(json.dumps([before, state(), *told]))
"""


def states(niceness: int = 0, how: str = "") -> list[Any]:
    """Return niceness, turn and policy of a process before, after, and of threads that it started before and after."""
    done = subprocess.run(
        [sys.executable, "-c", TELL, str(niceness), how], capture_output=True, text=True, timeout=20, check=True
    )
    found: list[Any] = json.loads(done.stdout)
    return found


pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="tells from /proc")


def test_the_share_and_the_turns_are_smaller_in_every_thread() -> None:
    before, after, early, late = states()
    assert after == early == late
    assert after[0] == min(before[0] + scheduling.NICENESS, 19)
    assert after[2] == before[2], "the policy stays"
    release = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
    if release >= (6, 12) and platform.machine() in scheduling._SCHED_SETATTR and after[1] is not None:
        assert after[1] == str(scheduling.TURN_NS)


def test_a_node_that_was_started_nicely_stays_below_its_workers_and_within_the_range() -> None:
    before, after, _, _ = states(18)
    assert (before[0], after[0]) == (18, 19)


def test_where_turns_cannot_be_set_the_share_still_is() -> None:
    before, after, early, late = states(0, "no call")
    assert after[0] == early[0] == late[0] == min(before[0] + scheduling.NICENESS, 19)
    assert after[1] == before[1]
