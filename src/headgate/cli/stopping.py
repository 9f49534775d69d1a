"""Signals to a running node and waiting for its end; used by stop, quit, restart and reload."""

import os
import signal
import time

from headgate.cli.output import CommandError
from headgate.node.prefix import Prefix

_POLL_S = 0.05


def pid_or_fail(prefix: Prefix) -> int:
    """Return the process id of the node that runs in a prefix, or fail."""
    pid = prefix.running_pid()
    if pid is None:
        raise CommandError(
            f"Headgate is not running in {prefix.path}", hint=f"headgate start -p {prefix.path} starts it."
        )
    return pid


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to the supervisor, or fail."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    except PermissionError:
        raise CommandError(f"process {pid} belongs to another user", hint="Run the command as that user.") from None


def wait_for_end(prefix: Prefix, timeout_s: float) -> bool:
    """Wait until no node runs in the prefix; false when it still does after the time."""
    deadline_s = time.monotonic() + timeout_s
    while prefix.running_pid() is not None:
        if time.monotonic() >= deadline_s:
            return False
        time.sleep(_POLL_S)
    return True
