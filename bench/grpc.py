"""gRPC calls per second: h2load over HTTP/2 without TLS, unary calls of a small message, answered with trailers."""

import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.load import Target
from bench.machine import on_processor, program
from tests.support import processes

CONNECTIONS = 8
CALLS_ON_A_CONNECTION = 16
# One message, uncompressed: flag, length, four bytes.
MESSAGE = b"\x00\x00\x00\x00\x04ping"


@dataclass(frozen=True)
class GrpcSample:
    """One run; `failures` are calls without status 200."""

    calls_per_s: float
    failures: int
    busy_ratio: float = 0.0

    def document(self) -> dict[str, float]:
        """Return it for JSON."""
        return {"calls_per_s": self.calls_per_s, "failures": self.failures, "busy_ratio": self.busy_ratio}


def run_calls(processor: int, target: Target, *, seconds: float) -> GrpcSample:
    """Call as fast as answers come, with a fixed number of calls under way."""
    used_s, started_s = _processor_s(target), time.monotonic()
    with tempfile.NamedTemporaryFile() as message:
        Path(message.name).write_bytes(MESSAGE)
        command = [program("h2load"), "-t1", f"-c{CONNECTIONS}", f"-m{CALLS_ON_A_CONNECTION}"]
        command += [f"-D{max(1, round(seconds))}", "--warm-up-time=0", "-d", message.name]
        command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        command.append(f"http://127.0.0.1:{target.port}/bench.Echo/Call")
        with on_processor(processor):
            finished = subprocess.run(command, capture_output=True, text=True, check=True)
    busy_ratio = (_processor_s(target) - used_s) / (time.monotonic() - started_s)
    sample = parse_h2load(finished.stdout)
    return GrpcSample(sample.calls_per_s, sample.failures, busy_ratio)


def parse_h2load(text: str) -> GrpcSample:
    """Read h2load's report."""
    rate = re.search(r"finished in [\d.]+\w+, ([\d.]+) req/s", text)
    counts = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", text)
    statuses = re.search(r"status codes: \d+ 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text)
    if rate is None or counts is None or statuses is None:
        raise ValueError(f"no rate in h2load's report:\n{text}")
    return GrpcSample(float(rate[1]), sum(map(int, counts.groups())) + sum(map(int, statuses.groups())))


def _processor_s(target: Target) -> float:
    return processes.processor_s(target.worker) if target.worker is not None else 0.0
