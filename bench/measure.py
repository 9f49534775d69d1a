"""Measuring: contenders in turn over several rounds, so that a slow minute of the machine hits all alike."""

import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench import load
from bench.cases import Case, Document, grpc
from bench.grpc import MESSAGE, GrpcSample, run_calls
from bench.machine import MeasuringFailedError, on_processor
from bench.nginx import Nginx
from bench.websocket import Echo, WebSocketSample, run_websockets
from tests.support import processes
from tests.support.gateway import Gateway

LARGE_BODY_BYTES = 1024**3
LARGE_BODY_NAME = "large"


@dataclass(frozen=True)
class Plan:
    """How long and how often."""

    rounds: int
    seconds: float
    warm_up_s: float
    connections: int


@dataclass(frozen=True)
class Places:
    """Processors: of what is measured, and of load and upstream."""

    measured: int
    load: int


def start_gateway(processor: int, document: Document | None, settings: dict[str, object]) -> Gateway:
    """Start a gateway with one worker and without access log, all of it on one processor."""
    quiet: dict[str, object] = {
        "workers": 1,
        "proxy_listen": "127.0.0.1:0 reuseport backlog=4096",
        "proxy_access_log": "off",
        "admin_access_log": "off",
        "log_level": "warn",
        "nginx_http_keepalive_requests": 100_000_000,
        "upstream_keepalive_max_requests": 0,
    }
    with on_processor(processor):
        return Gateway(document, **(quiet | settings))


def measure_requests(
    case: Case, places: Places, plan: Plan, upstream: Nginx, proxy: Nginx, baseline: Case | None
) -> dict[str, list[load.Sample]]:
    """Return samples by contender: the case, nginx, and its baseline where that is another case."""
    with contextlib.ExitStack() as stack:
        scripted = None if case.path_count is None else 0
        targets = {"nginx": load.Target(proxy.port, path_count=scripted, headers=case.headers, worker=proxy.worker)}
        for each in filter(None, (case, baseline)):
            gateway = stack.enter_context(start_gateway(places.measured, each.document(upstream.port), each.settings))
            target = replace(each.target(gateway.plain[1]), worker=gateway.worker_pids[0])
            targets[each.name] = target if each is case else replace(target, path_count=scripted)
        for target in targets.values():
            load.run_wrk(places.load, target, seconds=plan.warm_up_s, connections=plan.connections)
        samples: dict[str, list[load.Sample]] = {name: [] for name in targets}
        for _ in range(plan.rounds):
            for name, target in targets.items():
                sample = load.run_wrk(places.load, target, seconds=plan.seconds, connections=plan.connections)
                if sample.failures:
                    raise MeasuringFailedError(f"{case.name}: {name} had {sample.failures} failures")
                samples[name].append(sample)
        return samples


def measure_websockets(
    places: Places, plan: Plan, contenders: Mapping[str, tuple[Callable[[int], Document], dict[str, object]]]
) -> dict[str, list[WebSocketSample]]:
    """Return samples of WebSocket messages by contender: those given, by name, and nginx."""
    with contextlib.ExitStack() as stack:
        echo = stack.enter_context(Echo(places.load))
        proxy = stack.enter_context(Nginx.websocket_proxy(places.measured, echo.port))
        targets = {"nginx": load.Target(proxy.port, worker=proxy.worker)}
        for name, (document, settings) in contenders.items():
            gateway = stack.enter_context(start_gateway(places.measured, document(echo.port), settings))
            targets[name] = load.Target(gateway.plain[1], worker=gateway.worker_pids[0])
        for target in targets.values():
            run_websockets(places.load, target, seconds=plan.warm_up_s)
        samples: dict[str, list[WebSocketSample]] = {name: [] for name in targets}
        for _ in range(plan.rounds):
            for name, target in targets.items():
                samples[name].append(run_websockets(places.load, target, seconds=plan.seconds))
        return samples


def measure_grpc(places: Places, plan: Plan) -> dict[str, list[GrpcSample]]:
    """Return samples of gRPC calls by contender: the gateway, and nginx."""
    settings: dict[str, object] = {"proxy_listen": "127.0.0.1:0 http2 reuseport backlog=4096"}
    with contextlib.ExitStack() as stack:
        files = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headgate-bench-grpc-")))
        files.chmod(0o755)
        (files / "answer").write_bytes(MESSAGE)
        upstream = stack.enter_context(Nginx.grpc_upstream(places.load, files, "answer"))
        proxy = stack.enter_context(Nginx.grpc_proxy(places.measured, upstream.port))
        gateway = stack.enter_context(start_gateway(places.measured, grpc(upstream.port), settings))
        targets = {
            "nginx": load.Target(proxy.port, worker=proxy.worker),
            "grpc": load.Target(gateway.plain[1], worker=gateway.worker_pids[0]),
        }
        for target in targets.values():
            run_calls(places.load, target, seconds=plan.warm_up_s)
        samples: dict[str, list[GrpcSample]] = {name: [] for name in targets}
        for _ in range(plan.rounds):
            for name, target in targets.items():
                sample = run_calls(places.load, target, seconds=plan.seconds)
                if sample.failures:
                    raise MeasuringFailedError(f"grpc: {name} had {sample.failures} failures")
                samples[name].append(sample)
        return samples


@dataclass(frozen=True)
class Throughput:
    """Large bodies: bytes per second by contender, and how far the worker's memory grew meanwhile."""

    bytes_per_s: dict[str, list[float]]
    memory_growth_bytes: int


def measure_large_body(places: Places, plan: Plan, upstream: Nginx, proxy: Nginx, document: Document) -> Throughput:
    """Fetch 1 GB through each contender in turn."""
    with start_gateway(places.measured, document, {}) as gateway:
        return _fetch_in_turn(places, plan, gateway, {"nginx": proxy.port, "large-body": gateway.plain[1]})


def measure_stream(places: Places, plan: Plan, upstream: Nginx) -> Throughput:
    """Fetch 1 GB through a TCP stream of each contender in turn."""
    route = {"protocols": ["tcp"], "sources": [{"ip": "127.0.0.0/8"}]}
    service = {"protocol": "tcp", "host": "127.0.0.1", "port": upstream.port, "routes": [route]}
    document: Document = {"_format_version": "3.0", "services": [service]}
    settings: dict[str, object] = {"stream_listen": "127.0.0.1:0 reuseport", "proxy_stream_access_log": "off"}
    with (
        Nginx.stream_proxy(places.measured, upstream.port) as proxy,
        start_gateway(places.measured, document, settings) as gateway,
    ):
        ports = {"nginx": proxy.port, "stream": gateway.addresses("stream")[0][1]}
        return _fetch_in_turn(places, plan, gateway, ports)


def _fetch_in_turn(places: Places, plan: Plan, gateway: Gateway, ports: dict[str, int]) -> Throughput:
    """Fetch the large body from each port in turn, and watch the gateway's memory meanwhile."""
    worker = gateway.worker_pids[0]
    results: dict[str, list[float]] = {name: [] for name in ports}

    def fetch(port: int) -> float:
        return load.fetch_bytes_per_s(places.load, port, f"/files/{LARGE_BODY_NAME}", LARGE_BODY_BYTES)

    for port in ports.values():
        fetch(port)
    before = processes.memory_bytes(worker)
    with _highest_memory(worker) as highest:
        for _ in range(plan.rounds):
            for name, port in ports.items():
                results[name].append(fetch(port))
    return Throughput(results, highest() - before)


@contextlib.contextmanager
def _highest_memory(pid: int) -> Iterator[Callable[[], int]]:
    seen = [processes.memory_bytes(pid)]
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.1):
            seen.append(processes.memory_bytes(pid))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: max(seen)
    finally:
        stop.set()
        thread.join()


def measure_memory(
    places: Places, plan: Plan, cases: Sequence[tuple[str, Case | None]], upstream: Nginx
) -> dict[str, int]:
    """Return a worker's proportional set size, by name: fresh, and after load where the case asks for requests."""
    found: dict[str, int] = {}
    for name, case in cases:
        document = None if case is None else case.document(upstream.port)
        with start_gateway(places.measured, document, {}) as gateway:
            worker = gateway.worker_pids[0]
            found[name] = processes.memory_bytes(worker)
            if case is not None:
                target = case.target(gateway.plain[1])
                load.run_wrk(places.load, target, seconds=plan.seconds, connections=plan.connections)
                found[f"{name}, after load"] = processes.memory_bytes(worker)
    return found


def make_large_file(directory: Path) -> None:
    """Make the file behind the large body; sparse, so that it costs no memory."""
    with (directory / LARGE_BODY_NAME).open("wb") as file:
        file.truncate(LARGE_BODY_BYTES)
    (directory / LARGE_BODY_NAME).chmod(0o644)
