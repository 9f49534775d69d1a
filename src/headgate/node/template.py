"""The template: a process that has imported what every child needs, and forks children on request.

Importing is nearly all of what a child's start costs, so that it is done once and not once for each child and reload.
Owns what is imported beforehand and the forking; the supervisor's side is `forking`. No plugin but the bundled ones is
imported here, no loop, thread, log or connection exists before a fork, and nothing is kept for long: a template whose
files are no longer those on disk says so and is replaced. Started as `python -m headgate.node.template`.

A child is forked twice, so that the supervisor, which takes over orphans while it waits, is its parent in the end: the
template can go at any time.
"""

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import setproctitle

from headgate.node.bootstrap import ParentChannel, die_with_parent

MOST_DESCRIPTORS = 250
"""Descriptors that fit into one message; the kernel takes 253."""
REQUEST_BYTES = 65536

_COMMON = (
    *("headgate.worker", "headgate._engine", "headgate.policy.runner", "headgate.policy.compile"),
    *("headgate.policy.change", "headgate.policy.blocking", "headgate.store.delta", "headgate.store.changes"),
    *("headgate.pdk._crud", "headgate.pdk.shared_dict", "headgate.pdk.cache", "headgate.pdk.cluster_events"),
)
_PATIENCE_S = 5.0
_POLL_S = 0.0005


def preload(plugins: Iterable[str]) -> None:
    """Import what workers import: the gateway's own modules, and those of bundled plugins that the setting names."""
    for name in _COMMON:
        importlib.import_module(name)
    package = importlib.import_module("headgate.plugins")
    bundled = {module.name: module.ispkg for module in pkgutil.iter_modules(package.__path__)}
    wanted = {name.replace("-", "_") for name in plugins}
    for name, is_package in bundled.items():
        if not name.startswith("_") and (name in wanted or "bundled" in wanted):
            path = f"headgate.plugins.{name}"
            # One that cannot be imported is reported by the child that needs it.
            with contextlib.suppress(ImportError):
                importlib.import_module(f"{path}.handler" if is_package else path)


class SourceState:
    """What the imported modules were on disk, and what is installed: whether a new interpreter would be the same."""

    def __init__(self) -> None:
        files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
        # Whatever is installed, upgraded or removed changes the directory of packages.
        folders = {sysconfig.get_path(key) for key in ("purelib", "platlib")}
        self._seen = {path: _stamp(path) for path in {*files, *folders} if path is not None}

    def is_current(self) -> bool:
        """Tell whether nothing has changed."""
        return all(_stamp(path) == stamp for path, stamp in self._seen.items())


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _is_single_threaded() -> bool:
    """Tell whether a fork takes everything along: other threads would be missing in the child."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


def _serve(channel: socket.socket, sources: SourceState) -> Callable[[], int] | None:
    """Fork children until the supervisor is gone (None); in a child, return what runs it."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, REQUEST_BYTES, MOST_DESCRIPTORS)
        if not message:
            return None
        if not (_is_single_threaded() and sources.is_current()):
            _reply(channel, {"is_stale": True})
            return None
        request = json.loads(message)
        child = _fork()
        if child == 0:
            channel.close()
            return lambda: _run(request, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        _reply(channel, {"pid": child})


def _fork() -> int | None:
    """Return the id of a new process that is nobody's child any more, 0 in that process; None when there is none."""
    reading, writing = os.pipe()
    middle = os.fork()
    if middle == 0:
        try:
            child = os.fork()
        except OSError:
            os._exit(1)
        if child != 0:
            os.write(writing, str(child).encode())
            os._exit(0)
        os.close(reading)
        os.close(writing)
        return 0
    os.close(writing)
    with open(reading, "rb") as told:
        text = told.read()
    os.waitpid(middle, 0)
    return int(text) if text else None


def _reply(channel: socket.socket, answer: dict[str, object]) -> None:
    with contextlib.suppress(OSError):
        channel.sendall(json.dumps(answer).encode())


def _run(request: dict[str, object], descriptors: list[int]) -> int:
    """Be a child: wait until the supervisor is the parent, then do what `python -m headgate.<role>` does."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while os.getppid() != request["parent"]:
        if time.monotonic() > deadline_s:
            return 1
        time.sleep(_POLL_S)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    importlib.invalidate_caches()
    gc.enable()
    numbers = request["descriptors"]
    assert isinstance(numbers, list)
    given = dict(zip(numbers, descriptors, strict=True))
    module = importlib.import_module(f"headgate.{request['role']}")
    run: Callable[[ParentChannel], int] = module.run
    return run(ParentChannel(descriptors[0], given))


def main() -> int:
    """Import, then fork on request."""
    parent = os.getppid()
    if len(sys.argv) < 3 or sys.argv[1] != "--channel-fd":
        raise SystemExit("this is an internal process of headgate; use: headgate start")
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        # A terminal sends these to the whole group.
        signal.signal(number, signal.SIG_IGN)
    die_with_parent(parent)
    channel = socket.socket(fileno=int(sys.argv[2]))
    # Nothing of what is imported is garbage.
    gc.disable()
    setproctitle.setproctitle("headgate: template")
    preload(sys.argv[3:])
    sources = SourceState()
    # Never walked again, so that its pages stay shared with the children.
    gc.freeze()
    run = _serve(channel, sources)
    return 0 if run is None else run()


if __name__ == "__main__":
    sys.exit(main())
