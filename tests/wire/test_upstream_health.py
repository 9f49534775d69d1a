"""Health of targets on a node of two workers: by traffic, by probes, by hand, and what is shown of it."""

import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.documents import document
from tests.support.gateway import PLUGIN_DIRECTORY, Gateway
from tests.support.http1 import Client, wait_until
from tests.support.load import Load
from tests.support.upstream import CloseConnection, Connection, Request, Upstream

WORKERS = 2
ACTIVE = {
    "healthy": {"interval": 0.1, "successes": 1},
    "unhealthy": {"interval": 0.1, "http_failures": 1, "tcp_failures": 1},
}


class Target(Upstream):
    """A server whose answers and probes can be broken while it runs."""

    def __init__(self, name: str) -> None:
        super().__init__(default=self._answer)
        self.name = name
        self.status = "200 OK"
        self.is_stopped = False
        self.is_resetting = False
        self.probe_heads: list[Request] = []

    def stop(self) -> None:
        """Close listener and connections, once."""
        if not self.is_stopped:
            self.is_stopped = True
            self.__exit__()

    def _answer(self, request: Request, connection: Connection) -> None:
        connection.read_body(request)
        if self.is_resetting:
            connection.reset()
            raise CloseConnection
        if request.path == "/alive":
            self.probe_heads.append(request)
        connection.respond(self.name.encode(), status=self.status)


@pytest.fixture
def targets() -> Iterator[list[Target]]:
    servers = [Target(name) for name in ("a", "b", "c")]
    for server in servers:
        server.__enter__()
    yield servers
    for server in servers:
        server.stop()


def _configuration(targets: list[Target], healthchecks: dict[str, Any], **service: Any) -> dict[str, Any]:
    listed = [{"target": f"127.0.0.1:{target.port}"} for target in targets]
    return document(
        upstreams=[{"name": "up", "targets": listed, "healthchecks": healthchecks}],
        services=[{"name": "s", "host": "up", "routes": [{"paths": ["/"], "strip_path": False}]} | service],
    )


Start = Callable[..., Gateway]


@pytest.fixture
def start(targets: list[Target]) -> Iterator[Start]:
    """Starts a gateway whose upstream has these health checks."""
    running: list[Gateway] = []

    def begin(healthchecks: dict[str, Any], **service: Any) -> Gateway:
        gateway = Gateway(_configuration(targets, healthchecks, **service), workers=WORKERS)
        running.append(gateway.__enter__())
        return gateway

    yield begin
    for gateway in running:
        gateway.__exit__(None, None, None)


def _answers(gateway: Gateway, count: int = 30) -> Counter[str]:
    found: Counter[str] = Counter()
    for _ in range(count):
        response = gateway.get("/")
        found[response.body.decode() if response.status == 200 else str(response.status)] += 1
    return found


def _only(gateway: Gateway, names: set[str]) -> bool:
    """Whether all workers send to these targets and no others: 30 connections reach both."""
    return set(_answers(gateway)) == names


def test_probes_take_a_target_out_and_bring_it_back(start: Start, targets: list[Target]) -> None:
    gateway = start({"active": {**ACTIVE, "http_path": "/alive", "headers": {"X-Probe": ["1"]}}})
    assert wait_until(lambda: all(target.probe_heads for target in targets))
    probe = targets[0].probe_heads[0]
    assert probe.head.parts == ["GET", "/alive", "HTTP/1.0"]
    assert probe.headers["X-Probe"] == "1"
    assert probe.headers["Host"] == "127.0.0.1"
    assert "User-Agent" not in probe.headers
    targets[1].status = "503 Service Unavailable"
    assert wait_until(lambda: _only(gateway, {"a", "c"}))
    targets[1].status = "200 OK"
    assert wait_until(lambda: _only(gateway, {"a", "b", "c"}))


def test_probes_find_a_target_that_is_gone(start: Start, targets: list[Target]) -> None:
    gateway = start({"active": {**ACTIVE, "type": "tcp"}}, retries=0)
    targets[2].stop()
    assert wait_until(lambda: _only(gateway, {"a", "b"}))


def test_failures_of_traffic_take_a_target_out_on_all_workers(start: Start, targets: list[Target]) -> None:
    passive = {"unhealthy": {"http_failures": 3, "http_statuses": [500]}}
    gateway = start({"passive": passive})
    targets[0].status = "500 Internal Server Error"
    seen = Counter[str]()
    assert wait_until(lambda: "500" not in (last := _answers(gateway)) or bool(seen.update(last)))
    # Each worker counts to three at the latest, and they count together.
    assert seen["500"] <= 3 * WORKERS
    targets[0].status = "200 OK"
    assert _only(gateway, {"b", "c"}), "nothing brings it back without traffic or probes"


def test_a_retry_that_finds_no_target_left_is_503(start: Start, targets: list[Target]) -> None:
    gateway = start({"passive": {"unhealthy": {"tcp_failures": 1}}})
    for target in targets:
        target.stop()
    # Each attempt takes out the target that it failed at: the fourth has none.
    response = gateway.get("/", {"Accept": "application/json"})
    assert (response.status, response.json()["message"]) == (503, "The upstream server is currently unavailable")
    # The other worker hears of it a moment later.
    assert wait_until(lambda: b"failure to get a peer from the ring-balancer" in gateway.get("/").body)


def test_the_last_attempt_counts_as_its_status(start: Start, targets: list[Target]) -> None:
    """Without retries a refused connection is a 502, which is not among the statuses that count."""
    gateway = start({"passive": {"unhealthy": {"tcp_failures": 1, "http_failures": 1}}}, retries=0)
    for target in targets:
        target.stop()
    assert _answers(gateway) == {"502": 30}
    assert [one["health"] for one in _shown(gateway)["data"]] == ["HEALTHY"] * 3


def test_nothing_is_sent_when_all_are_unhealthy(start: Start, targets: list[Target]) -> None:
    gateway = start({"active": ACTIVE})
    for target in targets:
        target.status = "500 Internal Server Error"
    assert wait_until(lambda: _only(gateway, {"503"}))
    before = [len([one for one in target.requests if one.path == "/x"]) for target in targets]
    response = gateway.get("/x")
    assert json.loads(response.body)["message"] == "failure to get a peer from the ring-balancer"
    assert [len([one for one in target.requests if one.path == "/x"]) for target in targets] == before
    for target in targets:
        target.status = "200 OK"
    assert wait_until(lambda: _only(gateway, {"a", "b", "c"}))


def test_an_upstream_below_its_threshold_gets_nothing(start: Start, targets: list[Target]) -> None:
    gateway = start({"active": ACTIVE, "threshold": 50})
    targets[0].status = "500 Internal Server Error"
    assert wait_until(lambda: _only(gateway, {"b", "c"}))
    targets[1].status = "500 Internal Server Error"
    assert wait_until(lambda: _only(gateway, {"503"}))


def test_a_worker_that_is_new_knows_what_is_unhealthy(start: Start, targets: list[Target]) -> None:
    passive = {"unhealthy": {"http_failures": 1, "http_statuses": [500]}}
    gateway = start({"passive": passive})
    targets[0].status = "500 Internal Server Error"
    assert wait_until(lambda: _only(gateway, {"b", "c"}))
    targets[0].status = "200 OK"
    old = set(gateway.worker_pids)
    os.kill(next(iter(old)), signal.SIGKILL)
    assert wait_until(lambda: len(gateway.worker_pids) == WORKERS and set(gateway.worker_pids) != old)
    # It is told before it serves: not one request goes astray.
    assert _only(gateway, {"b", "c"})


def test_a_reload_forgets_nothing(start: Start, targets: list[Target]) -> None:
    gateway = start({"passive": {"unhealthy": {"http_failures": 1, "http_statuses": [500]}}})
    targets[0].status = "500 Internal Server Error"
    assert wait_until(lambda: _only(gateway, {"b", "c"}))
    targets[0].status = "200 OK"
    for generation in (1, 2):
        assert wait_until(lambda generation=generation: any(gateway.prefix.rglob(f"health-{generation}.states")))
        reloaded = gateway.reload()
        assert reloaded.returncode == 0, reloaded.stderr
        assert _only(gateway, {"b", "c"})
    assert [one["health"] for one in _shown(gateway)["data"]].count("UNHEALTHY") == 1


RATE_PER_S = 500
CLIENTS = 8


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("POST", b"order")])
def test_killing_one_of_three_costs_at_most_what_was_sent_to_it(
    start: Start, targets: list[Target], method: str, body: bytes | None
) -> None:
    """Under 500 requests a second: what may be is tried again; a target that is back has its share within a tenth."""
    gateway = start({"active": {**ACTIVE, "type": "tcp"}})
    killed = targets[0]
    load = Load(lambda: Client(gateway.plain), "/", CLIENTS, rate_per_s=RATE_PER_S, method=method, body=body)
    with load:
        assert load.wait_for(RATE_PER_S)
        # A connection has one request on it at most.
        on_way = killed.open_connection_count
        port = killed.port
        killed.stop()
        assert load.wait_for(RATE_PER_S)
        assert len(load.outcome.failed) <= (0 if method == "GET" else on_way), load.outcome.failed
        assert wait_until(lambda: _only(gateway, {"b", "c"}))
        failed = len(load.outcome.failed)
        with Upstream(default=killed._answer, address=("127.0.0.1", port)) as back:
            assert wait_until(lambda: _only(gateway, {"a", "b", "c"}))
            before = [len(one.requests) for one in (back, targets[1], targets[2])]
            assert load.wait_for(2 * RATE_PER_S)
            after = [len(one.requests) for one in (back, targets[1], targets[2])]
            load.stop()
        served = [new - old for old, new in zip(before, after, strict=True)]
        assert max(served) - min(served) <= 0.1 * max(served), served
        assert len(load.outcome.failed) == failed, "coming back costs nothing"


def _put(gateway: Gateway, path: str) -> int:
    return gateway.admin_request("PUT", f"/upstreams/up/targets/{path}").status


def _shown(gateway: Gateway, query: str = "") -> Any:
    response = gateway.admin_request("GET", f"/upstreams/up/health{query}")
    assert response.status == 200, response.body
    return json.loads(response.body)


def test_health_is_shown_and_set_by_hand(start: Start, targets: list[Target]) -> None:
    gateway = start({"active": {"healthy": {"interval": 3600}}})
    names = [f"127.0.0.1:{target.port}" for target in targets]
    assert wait_until(lambda: [one["health"] for one in _shown(gateway)["data"]] == ["HEALTHY"] * 3)
    assert _put(gateway, f"{names[0]}/unhealthy") == 204
    assert _put(gateway, f"{names[1]}/{names[1]}/unhealthy") == 204
    assert wait_until(lambda: _only(gateway, {"c"}))
    shown = {one["target"]: one for one in _shown(gateway)["data"]}
    assert [shown[name]["health"] for name in names] == ["UNHEALTHY", "UNHEALTHY", "HEALTHY"]
    assert shown[names[0]]["data"] == {
        "host": "127.0.0.1",
        "port": targets[0].port,
        "dns": "A",
        "nodeWeight": 100,
        "weight": {"total": 100, "available": 0, "unavailable": 100},
        "addresses": [{"ip": "127.0.0.1", "port": targets[0].port, "health": "UNHEALTHY", "weight": 100}],
    }
    balancer = _shown(gateway, "?balancer_health=1")["data"]
    assert (balancer["health"], balancer["details"]["weight"]) == (
        "HEALTHY",
        {"total": 300, "available": 100, "unavailable": 200},
    )
    assert _put(gateway, f"{names[0]}/healthy") == 204
    assert wait_until(lambda: _only(gateway, {"a", "c"}))
    assert _put(gateway, "127.0.0.1:1/healthy") == 404
    assert _put(gateway, f"{names[0]}/10.0.0.9:1/healthy") == 400
    assert gateway.admin_request("POST", f"/upstreams/up/targets/{names[0]}/healthy").status == 405


def test_without_a_checker_health_is_off_and_cannot_be_set(start: Start, targets: list[Target]) -> None:
    gateway = start({})
    name = f"127.0.0.1:{targets[0].port}"
    assert wait_until(lambda: {one["health"] for one in _shown(gateway)["data"]} == {"HEALTHCHECKS_OFF"})
    response = gateway.admin_request("PUT", f"/upstreams/up/targets/{name}/unhealthy")
    assert (response.status, json.loads(response.body)) == (400, {"message": "no healthchecker found for up"})


def test_plugins_hear_of_changes_in_every_worker(targets: list[Target]) -> None:
    configuration = _configuration(targets, {"active": ACTIVE}) | {"plugins": [{"name": "health-listener"}]}
    with Gateway(configuration, workers=WORKERS, plugins="health-listener", plugin_path=PLUGIN_DIRECTORY) as gateway:
        targets[1].status = "503 Service Unavailable"
        told = f"up 127.0.0.1:{targets[1].port} unhealthy"
        heard: set[str] = set()

        def all_have_heard() -> bool:
            response = gateway.get("/", {"X-Ask": "heard"})
            if told in response.body.decode():
                heard.add(response.headers.get("X-Worker") or "")
            return len(heard) == WORKERS

        assert wait_until(all_have_heard)
