"""Appending lines to a file from a thread of its own, so that a slow disk never holds up a request.

Owns one writer per path and process with a bounded queue: when the disk cannot keep up, the oldest lines are dropped
and their number is logged. Lines are collected for a moment and written with one call; the file is opened with
O_APPEND, so the lines of several workers do not cut each other.
"""

import atexit
import os
import threading
from collections import deque
from collections.abc import Callable

MOST_WAITING_LINES = 100_000
_COLLECT_FOR_S = 0.02
_FLUSH_AT_EXIT_S = 5.0

Report = Callable[[str], None]


class LineWriter:
    """The queue and thread of one path."""

    def __init__(self, path: str, report: Report, most_waiting_lines: int = MOST_WAITING_LINES) -> None:
        self.path = path
        self._report = report
        self._most_waiting_lines = most_waiting_lines
        self._lines: deque[bytes] = deque()
        self._dropped = 0
        self._reopens = False
        self._descriptor: int | None = None
        self._last_fault = ""
        self._stopping = False
        self._wake = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._thread = threading.Thread(target=self._run, name=f"file-log {path}", daemon=True)
        self._thread.start()

    def write(self, line: bytes, *, reopen: bool) -> None:
        """Queue one line (with its line end); never waits."""
        lines = self._lines
        if len(lines) >= self._most_waiting_lines:
            try:
                lines.popleft()
            except IndexError:
                pass
            else:
                self._dropped += 1
        self._reopens = reopen
        lines.append(line)
        if self._idle.is_set():
            self._idle.clear()
        if not self._wake.is_set():
            self._wake.set()

    def flush(self, timeout_s: float = _FLUSH_AT_EXIT_S) -> bool:
        """Wait until every queued line is written or dropped; False when the time is over first."""
        self._wake.set()
        return self._idle.wait(timeout_s)

    def stop(self) -> None:
        """Let the thread end after it has written what is queued."""
        self._stopping = True
        self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            if not self._stopping:
                # Not woken for every single line: under load one write serves many requests.
                threading.Event().wait(_COLLECT_FOR_S)
            self._wake.clear()
            self._write_waiting()
            if not self._lines:
                self._idle.set()
                if self._lines:
                    self._idle.clear()
                    self._wake.set()
                elif self._stopping:
                    self._close()
                    return

    def _write_waiting(self) -> None:
        waiting = [self._lines.popleft() for _ in range(len(self._lines))]
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self._report(f"{dropped} log lines for {self.path} were dropped: the file cannot be written fast enough")
        if not waiting:
            return
        try:
            self._append(b"".join(waiting))
            self._last_fault = ""
        except OSError as error:
            self._close()
            fault = f"failed to write to {self.path}: {error.strerror or error}"
            # A full disk would otherwise fill the log as well.
            if fault != self._last_fault:
                self._last_fault = fault
                self._report(f"{fault} ({len(waiting)} log lines lost)")

    def _append(self, data: bytes) -> None:
        if self._reopens:
            self._close()
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


_writers: dict[str, LineWriter] = {}


def writer_of(path: str, report: Report) -> LineWriter:
    """Return the process's writer for `path`, starting it on first use; `report` gets the faults, in its thread."""
    writer = _writers.get(path)
    if writer is None:
        writer = _writers[path] = LineWriter(path, report)
    return writer


def keep_only(paths: set[str]) -> None:
    """Stop the writers of paths that are no longer configured, after what they have queued."""
    for path in set(_writers) - paths:
        _writers.pop(path).stop()


def flush_all() -> None:
    """Write everything that is queued; called when the process ends."""
    for writer in list(_writers.values()):
        writer.flush()


atexit.register(flush_all)
# Threads do not survive a fork, and the queued lines are the parent's.
os.register_at_fork(after_in_child=_writers.clear)
