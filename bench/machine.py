"""The machine under the figures: processors to pin to, and what to write down about it."""

import contextlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path


class CannotMeasureError(Exception):
    """Something that a measurement needs is missing; the text is for a person."""


class MeasuringFailedError(Exception):
    """A contender answered otherwise than it should have; the text is for a person."""


def processors() -> tuple[int, int]:
    """Return the processor for what is measured and the one for load and upstream."""
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        raise CannotMeasureError("bench needs two processors: one for what is measured, one for load and upstream")
    return available[0], available[1]


@contextlib.contextmanager
def on_processor(number: int) -> Iterator[None]:
    """Pin this thread, and with it every process it starts meanwhile, to one processor."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {number})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def program(name: str) -> str:
    """Return the path of a program; Debian keeps servers where only root's PATH looks."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise CannotMeasureError(f"bench needs {name} (Debian: apt-get install nginx-light wrk curl)")
    return found


def description() -> dict[str, str]:
    """Return what a reader needs to judge the figures."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "processor": model,
        "processors": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "nginx": _first_line(program("nginx"), "-v"),
        "wrk": _first_line(program("wrk"), "-v").split("[")[0].strip(),
        "rustc": _first_line("rustc", "--version") if shutil.which("rustc") else "",
        "revision": _first_line("git", "rev-parse", "--short", "HEAD"),
    }


def _first_line(*command: str) -> str:
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    return next(iter((finished.stdout + finished.stderr).splitlines()), "")
