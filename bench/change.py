"""`python -m bench.change`: one route changed among ten thousand, until it is live, and what requests feel of it.

With an SQLite file the route alone is written; without a database the whole document is posted again, as JSON.
"""

import argparse
import contextlib
import http.client
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import yaml

from bench.cases import CASES, ROUTE_COUNT, Case, many_routes
from bench.load import Sample, run_wrk
from bench.machine import CannotMeasureError, processors
from bench.measure import Places, start_gateway
from bench.nginx import Nginx
from headgate.testing.gateway import command, environment
from tests.support.gateway import Gateway

_PAUSE_S = 0.25

Change = Callable[[str], None]
"""Has the route that changes answer a path."""


@dataclass
class Changes:
    """How long each change took until its new path was answered, in milliseconds."""

    live_ms: list[float] = field(default_factory=list)


def main() -> int:
    """Measure; exit code 2 when the machine lacks something."""
    parser = argparse.ArgumentParser(prog="python -m bench.change", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--pause", type=float, default=_PAUSE_S, help="seconds between two changes")
    parser.add_argument("--database", choices=("sqlite", "off"), default="sqlite")
    arguments = parser.parse_args()
    try:
        places = Places(*processors())
        with tempfile.TemporaryDirectory(prefix="headgate-bench-") as directory:
            _measure(places, Path(directory), arguments)
    except CannotMeasureError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _measure(places: Places, files: Path, arguments: argparse.Namespace) -> None:
    seconds, rounds, connections = arguments.seconds, arguments.rounds, arguments.connections
    files.chmod(0o755)
    running = _with_sqlite if arguments.database == "sqlite" else _without_database
    with Nginx.upstream(places.load, files) as upstream, running(places, files, upstream.port) as (gateway, change):
        case = next(one for one in CASES if one.path_count == ROUTE_COUNT)
        quiet, changing, changes = [], [], Changes()
        for _ in range(rounds):
            quiet.append(_sample(case, gateway, places, seconds, connections))
            with _changing(gateway, change, arguments.pause, changes):
                changing.append(_sample(case, gateway, places, seconds, connections))
    p99_quiet = median(one.latency_p99_ms for one in quiet)
    p99_changing = median(one.latency_p99_ms for one in changing)
    live = sorted(changes.live_ms)
    print(
        f"{ROUTE_COUNT} routes, database = {arguments.database}, one changed {arguments.pause:g} s after the other, "
        f"{connections} connections, {rounds} rounds"
    )
    print(f"live after: {median(live):.0f} ms median, {live[-1]:.0f} ms at most, of {len(live)} changes")
    print(f"p99: {p99_quiet:.2f} ms without changes, {p99_changing:.2f} ms with: {p99_changing / p99_quiet:.2f} times")
    rates = [median(one.requests_per_s for one in each) for each in (quiet, changing)]
    print(f"requests a second: {rates[0]:.0f} without, {rates[1]:.0f} with")


@contextlib.contextmanager
def _with_sqlite(places: Places, files: Path, upstream_port: int) -> Iterator[tuple[Gateway, Change]]:
    document, prefix = files / "routes.yml", files / "prefix"
    document.write_text(yaml.safe_dump(many_routes(upstream_port)), encoding="utf-8")
    settings: dict[str, object] = {"database": "sqlite", "prefix": prefix}
    importing = [*command(), "config", "db_import", str(document)]
    subprocess.run(importing, env=environment(settings, prefix), stdout=subprocess.DEVNULL, check=True)
    with start_gateway(places.measured, None, settings) as gateway:

        def change(path: str) -> None:
            _ask(gateway.admin, "PUT", "/routes/changing", json.dumps({"paths": [path], "strip_path": False}))

        yield gateway, change


@contextlib.contextmanager
def _without_database(places: Places, files: Path, upstream_port: int) -> Iterator[tuple[Gateway, Change]]:
    document = many_routes(upstream_port)
    route = {"name": "changing", "paths": ["/changing"], "strip_path": False}
    document["services"][0]["routes"].append(route)
    with start_gateway(places.measured, document, {"database": "off"}) as gateway:

        def change(path: str) -> None:
            route["paths"] = [path]
            _ask(gateway.admin, "POST", "/config", json.dumps(document))

        # What the first one said is not known from the file, as that is YAML with other times.
        change("/first")
        yield gateway, change


def _sample(case: Case, gateway: Gateway, places: Places, seconds: float, connections: int) -> Sample:
    return run_wrk(places.load, case.target(gateway.plain[1]), seconds=seconds, connections=connections)


@contextlib.contextmanager
def _changing(gateway: Gateway, change_to: Change, pause_s: float, changes: Changes) -> Iterator[None]:
    is_over = threading.Event()

    def change() -> None:
        while not is_over.wait(pause_s):
            path = f"/changed-{time.monotonic_ns()}"
            # A route that the load does not ask for: its path changes.
            started_s = time.monotonic()
            change_to(path)
            while _ask(gateway.plain, "GET", path) == 404 and time.monotonic() - started_s < 30:
                pass
            changes.live_ms.append((time.monotonic() - started_s) * 1000)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _ask(address: tuple[str, int], method: str, path: str, body: str | None = None) -> int:
    connection = http.client.HTTPConnection(*address, timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path, body, {"Content-Type": "application/json"})
        return connection.getresponse().status


if __name__ == "__main__":
    sys.exit(main())
