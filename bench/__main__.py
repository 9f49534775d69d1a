"""`python -m bench`: measure, print the table, write the raw data."""

import argparse
import datetime
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench import report
from bench.cases import CASES, WEBSOCKET_CONTENDERS, Case, plain
from bench.load import Sample, Target, run_wrk
from bench.machine import CannotMeasureError, MeasuringFailedError, description, processors
from bench.measure import (
    Places,
    Plan,
    Throughput,
    make_large_file,
    measure_grpc,
    measure_large_body,
    measure_memory,
    measure_requests,
    measure_stream,
    measure_websockets,
)
from bench.nginx import Nginx

LARGE_BODY = "large-body"
STREAM = "stream"
MEMORY = "memory"
WEBSOCKET = "websocket"
GRPC = "grpc"
NGINX_ONLY = "nginx"


def main() -> int:
    """Run the chosen cases; exit code 1 when some could not be measured, 2 when the machine lacks something."""
    names = [case.name for case in CASES] + [LARGE_BODY, STREAM, WEBSOCKET, GRPC, MEMORY]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "cases", nargs="*", metavar="case", help=f"{', '.join(names)}; {NGINX_ONLY} alone: the yardstick"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5, help="length of one measurement")
    parser.add_argument("--warm-up", type=float, default=2, help="seconds before the first round, per contender")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--output", type=Path, default=None, help="file for the raw data")
    arguments = parser.parse_args()
    unknown = set(arguments.cases) - set(names) - {NGINX_ONLY}
    if unknown:
        parser.error(f"unknown case: {', '.join(sorted(unknown))}")
    try:
        places = Places(*processors())
        machine = description()
    except CannotMeasureError as error:
        print(error, file=sys.stderr)
        return 2
    plan = Plan(arguments.rounds, arguments.seconds, arguments.warm_up, arguments.connections)
    chosen = arguments.cases or names
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    output = arguments.output or Path(__file__).parent / "results" / f"{stamp}.json"
    with tempfile.TemporaryDirectory(prefix="headgate-bench-", dir=_memory_directory()) as directory:
        files = Path(directory)
        files.chmod(0o755)
        make_large_file(files)
        with Nginx.upstream(places.load, files) as upstream, Nginx.proxy(places.measured, upstream.port) as proxy:
            document, is_whole = _measure(chosen, places, plan, upstream, proxy)
    report.write(output, {"machine": machine, "plan": vars(plan), "time": stamp, **document})
    print(f"\n{', '.join(f'{name}: {value}' for name, value in machine.items())}")
    print(f"{plan.rounds} rounds of {plan.seconds:g} s after {plan.warm_up_s:g} s, {plan.connections} connections")
    print(f"raw data: {output}")
    return 0 if is_whole else 1


Step = Callable[[], tuple[list[report.Row], Any]]
"""Measures one case: its rows of the table, its raw data."""


def _measure(
    chosen: list[str], places: Places, plan: Plan, upstream: Nginx, proxy: Nginx
) -> tuple[dict[str, Any], bool]:
    """Measure what is chosen and print the table; returns the raw data, and whether all of it could be measured.

    What one case cannot do is told, and the others go on.
    """
    rows: list[report.Row] = []
    document: dict[str, Any] = {"cases": {}}
    is_whole = True
    if NGINX_ONLY in chosen:
        for name, port in (("upstream", upstream.port), ("proxy", proxy.port)):
            sample = run_wrk(places.load, Target(port), seconds=plan.seconds, connections=plan.connections)
            print(f"nginx {name}: {sample.requests_per_s:,.0f} requests/s, p99 {sample.latency_p99_ms:.2f} ms")
    for name, (title, measure) in _steps(places, plan, upstream, proxy).items():
        if name in chosen:
            _say(title)
            try:
                own_rows, document["cases"][name] = measure()
            except (CannotMeasureError, MeasuringFailedError) as error:
                is_whole = False
                print(f"not measured: {error}")
            else:
                rows += own_rows
    if rows:
        print("\n" + report.table(rows))
    if MEMORY in chosen:
        _say("memory")
        by_name = {case.name: case for case in CASES}
        kinds = [("idle", None), ("one route", by_name["plain"]), ("10,000 routes", by_name["routes-random"])]
        document[MEMORY] = measure_memory(places, plan, kinds, upstream)
        print("\n" + report.memory_table(document[MEMORY]))
    return document, is_whole


def _steps(places: Places, plan: Plan, upstream: Nginx, proxy: Nginx) -> dict[str, tuple[str, Step]]:
    """Return all cases: name to title and what measures it."""
    by_name = {case.name: case for case in CASES}
    steps: dict[str, tuple[str, Step]] = {}
    for case in CASES:
        baseline = by_name.get(case.baseline)
        steps[case.name] = (case.title, partial(_measure_case, case, baseline, places, plan, upstream, proxy))
    large = "1 GB body"
    steps[LARGE_BODY] = (
        large,
        lambda: _throughput(large, LARGE_BODY, measure_large_body(places, plan, upstream, proxy, plain(upstream.port))),
    )
    stream = "1 GB over a TCP stream"
    steps[STREAM] = (stream, lambda: _throughput(stream, STREAM, measure_stream(places, plan, upstream)))
    steps[WEBSOCKET] = ("WebSocket messages", partial(_measure_websockets, places, plan))
    steps[GRPC] = ("gRPC calls", partial(_measure_grpc, places, plan))
    return steps


def _measure_websockets(places: Places, plan: Plan) -> tuple[list[report.Row], Any]:
    samples = measure_websockets(places, plan, WEBSOCKET_CONTENDERS)
    messages = {name: [sample.messages_per_s for sample in each] for name, each in samples.items()}
    to = f"nginx ({median(messages['nginx']):,.0f}/s)"
    rows = []
    for name in WEBSOCKET_CONTENDERS:
        ratio = report.Ratio.of(messages[name], messages["nginx"])
        busy = f"{median(sample.busy_ratio for sample in samples[name]):.0%}"
        rows.append(report.Row(name, f"{median(messages[name]):,.0f} messages/s", ratio, to, cost=busy))
    return rows, {name: [one.document() for one in each] for name, each in samples.items()}


def _measure_grpc(places: Places, plan: Plan) -> tuple[list[report.Row], Any]:
    calls = measure_grpc(places, plan)
    rates = {name: [sample.calls_per_s for sample in each] for name, each in calls.items()}
    busy = f"{median(sample.busy_ratio for sample in calls[GRPC]):.0%}"
    to = f"nginx ({median(rates['nginx']):,.0f}/s)"
    ratio = report.Ratio.of(rates[GRPC], rates["nginx"])
    rows = [report.Row("gRPC, unary calls", f"{median(rates[GRPC]):,.0f} calls/s", ratio, to, cost=busy)]
    return rows, {name: [one.document() for one in each] for name, each in calls.items()}


def _throughput(title: str, name: str, result: Throughput) -> tuple[list[report.Row], Any]:
    rates = result.bytes_per_s
    ratio = report.Ratio.of(rates[name], rates["nginx"])
    growth = f"memory +{result.memory_growth_bytes / 1_000_000:.1f} MB"
    row = report.Row(title, f"{median(rates[name]) / 1e9:.2f} GB/s", ratio, "nginx", growth)
    raw = {"ratio": ratio.document(), "bytes_per_s": rates, "memory_growth_bytes": result.memory_growth_bytes}
    return [row], raw


def _measure_case(
    case: Case, baseline: Case | None, places: Places, plan: Plan, upstream: Nginx, proxy: Nginx
) -> tuple[list[report.Row], Any]:
    samples = measure_requests(case, places, plan, upstream, proxy, baseline)
    rates = {name: [sample.requests_per_s for sample in each] for name, each in samples.items()}
    ratio = report.Ratio.of(rates[case.name], rates[case.baseline])
    tails = {name: median(sample.latency_p99_ms for sample in each) for name, each in samples.items()}
    row = report.Row(
        case.title,
        f"{median(rates[case.name]):,.0f}/s",
        ratio,
        f"{case.baseline} ({median(rates[case.baseline]):,.0f}/s)",
        f"{tails[case.name]:.2f} ms ({tails[case.baseline]:.2f})",
        f"{_cost(samples[case.name])} ({_cost(samples[case.baseline])})",
    )
    raw = {
        "ratio": ratio.document(),
        "ratio_to_nginx": report.Ratio.of(rates[case.name], rates["nginx"]).document(),
        "baseline": case.baseline,
        "samples": {name: [sample.document() for sample in each] for name, each in samples.items()},
    }
    return [row], raw


def _cost(samples: list[Sample]) -> str:
    """Processor time of a request and how busy the worker was; below about 0.9 the load side was the narrower one."""
    busy = median(sample.busy_ratio for sample in samples)
    return f"{median(sample.processor_us for sample in samples):.1f} us at {busy:.0%}"


def _say(text: str) -> None:
    print(f"==> {text}", flush=True)


def _memory_directory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


if __name__ == "__main__":
    sys.exit(main())
