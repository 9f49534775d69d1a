"""Load and what came of it: wrk for requests, curl for one large body."""

import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bench.machine import MeasuringFailedError, on_processor, program
from tests.support import processes

_HERE = Path(__file__).parent
_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True)
class Sample:
    """One run of wrk.

    `busy_ratio`: share of the time in which the contender's worker had the processor; well below one,
    the load side was the narrower one, and the rate says less than the processor time of a request.
    """

    requests_per_s: float
    latency_p50_ms: float
    latency_p99_ms: float
    failures: int
    busy_ratio: float = 0.0

    @property
    def processor_us(self) -> float:
        """Processor time of one request, microseconds."""
        return self.busy_ratio / self.requests_per_s * 1e6

    def document(self) -> dict[str, float]:
        """Return it for JSON."""
        return asdict(self) | {"processor_us": self.processor_us}


@dataclass(frozen=True)
class Target:
    """What is asked for.

    `path_count`: None is `path` by wrk itself; 0 is `path` by the script; else so many numbered paths at random. The
    script costs the load generator something, so contenders that are compared all use it, or none does. `worker`: the
    process whose processor time is counted.
    """

    port: int
    path: str = "/"
    path_count: int | None = None
    headers: Mapping[str, str] | None = None
    worker: int | None = None


def run_wrk(processor: int, target: Target, *, seconds: float, connections: int) -> Sample:
    """Ask as fast as answers come over a fixed number of kept connections."""
    command = [program("wrk"), "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency"]
    for name, value in (target.headers or {}).items():
        command += ["-H", f"{name}: {value}"]
    url = f"http://127.0.0.1:{target.port}"
    if target.path_count is None:
        command.append(url + target.path)
    else:
        command += ["-s", str(_HERE / "paths.lua"), url, "--", target.path, str(target.path_count)]
    used_s, started_s = _processor_s(target), time.monotonic()
    with on_processor(processor):
        finished = subprocess.run(command, capture_output=True, text=True, check=True)
    busy_ratio = (_processor_s(target) - used_s) / (time.monotonic() - started_s)
    return replace(parse_wrk(finished.stdout), busy_ratio=busy_ratio)


def _processor_s(target: Target) -> float:
    return processes.processor_s(target.worker) if target.worker is not None else 0.0


def parse_wrk(text: str) -> Sample:
    """Read wrk's report."""
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if rate is None:
        raise ValueError(f"no rate in wrk's report:\n{text}")
    bad_statuses = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    socket_errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    failures = int(bad_statuses[1]) if bad_statuses else 0
    failures += sum(map(int, socket_errors.groups())) if socket_errors else 0
    return Sample(float(rate[1]), _percentile_ms(text, "50"), _percentile_ms(text, "99"), failures)


def _percentile_ms(text: str, percentile: str) -> float:
    found = re.search(rf"^\s+{percentile}%\s+([\d.]+)(us|ms|s|m)$", text, re.MULTILINE)
    return float(found[1]) * _MILLISECONDS[found[2]] if found else 0.0


def fetch_bytes_per_s(processor: int, port: int, path: str, expected_bytes: int) -> float:
    """Fetch one large body and return its throughput."""
    report = "%{time_total} %{size_download} %{http_code}"
    with on_processor(processor):
        finished = subprocess.run(
            [program("curl"), "-s", "-o", "/dev/null", "-w", report, f"http://127.0.0.1:{port}{path}"],
            capture_output=True,
            text=True,
            check=True,
        )
    time_s, size, status = finished.stdout.split()
    if int(size) != expected_bytes or status != "200":
        raise MeasuringFailedError(f"expected {expected_bytes} bytes with 200, got {size} with {status}")
    return expected_bytes / float(time_s)
