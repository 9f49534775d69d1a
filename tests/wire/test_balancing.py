"""Algorithms and hash inputs over real targets, and what the operator changes while they run."""

import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.documents import document
from tests.support.gateway import Gateway
from tests.support.http1 import Response
from tests.support.upstream import Connection, Request, Script, Upstream

NAMES = ("a", "b", "c")
TARGETS_PER_ROUND = 30


def _tells(name: str) -> Script:
    def script(request: Request, connection: Connection) -> None:
        connection.read_body(request)
        connection.respond(name.encode())

    return script


@pytest.fixture(scope="module")
def targets() -> Iterator[dict[str, Upstream]]:
    servers = {name: Upstream(default=_tells(name)) for name in NAMES}
    for server in servers.values():
        server.__enter__()
    yield servers
    for server in servers.values():
        server.__exit__()
        assert server.failures == []


UPSTREAMS: dict[str, dict[str, Any]] = {
    "turns": {},
    "weights": {},
    "header": {
        "hash_on": "header",
        "hash_on_header": "X-User",
        "hash_fallback": "query_arg",
        "hash_fallback_query_arg": "user",
    },
    "cookie": {"hash_on": "cookie", "hash_on_cookie": "route-by", "hash_on_cookie_path": "/cookie"},
    "path": {"hash_on": "path"},
    "capture": {"hash_on": "uri_capture", "hash_on_uri_capture": "customer"},
    "number": {"hash_on": "uri_capture", "hash_on_uri_capture": "1"},
    "ip": {"hash_on": "ip"},
    "consumer": {"hash_on": "consumer", "hash_fallback": "ip"},
    "least": {"algorithm": "least-connections"},
    "latency": {"algorithm": "latency"},
    "sticky": {"algorithm": "sticky-sessions", "sticky_sessions_cookie": "stays-at"},
    "narrow": {"circuit_breaking": {"max_connections": 1, "max_pending_requests": 0}},
}


PATHS = {"capture": "~/capture/(?<customer>[a-z0-9]+)", "number": "~/number/([a-z0-9]+)"}


def _configuration(targets: dict[str, Upstream], weights: dict[str, int]) -> dict[str, Any]:
    def listed(upstream: str) -> list[dict[str, Any]]:
        return [
            {
                "target": f"127.0.0.1:{server.port}",
                "weight": weights.get(name, 100) if upstream == "weights" else 100,
            }
            for name, server in targets.items()
        ]

    return document(
        upstreams=[{"name": f"{name}.up", "targets": listed(name), **fields} for name, fields in UPSTREAMS.items()],
        services=[
            {
                "name": name,
                "host": f"{name}.up",
                "routes": [{"name": name, "paths": [PATHS.get(name, f"/{name}")]}],
            }
            for name in UPSTREAMS
        ],
        consumers=[
            {"username": f"user-{number}", "keyauth_credentials": [{"key": f"key-{number}"}]} for number in range(12)
        ],
        plugins=[{"name": "key-auth", "route": "consumer", "config": {"anonymous": None}}],
    )


@pytest.fixture(scope="module")
def gateway(targets: dict[str, Upstream]) -> Iterator[Gateway]:
    settings = {"workers": 1, "trusted_ips": "127.0.0.1", "real_ip_header": "X-Forwarded-For"}
    with Gateway(_configuration(targets, {"a": 300, "b": 100, "c": 0}), **settings) as running:
        yield running


def _who(gateway: Gateway, target: str, headers: dict[str, str] | None = None) -> str:
    response = gateway.get(target, headers)
    assert response.status == 200, response.body
    return response.body.decode()


def _shares(gateway: Gateway, target: str, count: int = TARGETS_PER_ROUND) -> Counter[str]:
    return Counter(_who(gateway, target) for _ in range(count))


def test_targets_take_turns(gateway: Gateway) -> None:
    assert _shares(gateway, "/turns") == {"a": 10, "b": 10, "c": 10}


def test_weights_decide_and_are_changed_while_running(gateway: Gateway, targets: dict[str, Upstream]) -> None:
    assert _shares(gateway, "/weights", 40) == {"a": 30, "b": 10}
    assert gateway.load(_configuration(targets, {"a": 0, "b": 100, "c": 100})).status == 201
    assert _shares(gateway, "/weights", 40) == {"b": 20, "c": 20}
    assert gateway.load(_configuration(targets, {"a": 300, "b": 100, "c": 0})).status == 201
    assert _shares(gateway, "/weights", 40) == {"a": 30, "b": 10}


def test_a_header_decides_then_the_fallback_then_one_target_for_all(gateway: Gateway) -> None:
    by_user = {user: _who(gateway, "/header", {"X-User": user}) for user in map(str, range(20))}
    assert set(by_user.values()) == set(NAMES)
    for user, target in by_user.items():
        assert _who(gateway, "/header", {"X-User": user}) == target
        assert _who(gateway, f"/header?user={user}") == target, "the same value, wherever it comes from"
    assert len(_shares(gateway, "/header", 10)) == 1
    assert _who(gateway, "/header?user=2&user=1") == _who(gateway, "/header?user=1&user=2")


def _set_cookie(response: Response) -> str:
    return response.headers.get("Set-Cookie") or ""


def test_a_cookie_decides_and_is_made_when_missing(gateway: Gateway) -> None:
    targets = set()
    for _ in range(20):
        response = gateway.get("/cookie")
        found = re.fullmatch(r"route-by=([0-9a-f-]{36}); Path=/cookie; Same-Site=Lax; HttpOnly", _set_cookie(response))
        assert found, _set_cookie(response)
        targets.add(response.body)
        again = gateway.get("/cookie", {"Cookie": f"other=1; route-by={found[1]}"})
        assert again.body == response.body
        assert _set_cookie(again) == ""
    assert len(targets) == 3


def test_a_path_decides(gateway: Gateway) -> None:
    by_path = {path: _who(gateway, path) for path in (f"/path/{number}" for number in range(20))}
    assert set(by_path.values()) == set(NAMES)
    assert all(_who(gateway, f"{path}?query") == target for path, target in by_path.items())


def test_a_capture_decides(gateway: Gateway) -> None:
    by_customer = {customer: _who(gateway, f"/capture/{customer}/orders") for customer in map(str, range(20))}
    assert set(by_customer.values()) == set(NAMES)
    assert all(_who(gateway, f"/capture/{customer}/bills") == target for customer, target in by_customer.items())


def test_a_numbered_capture_decides(gateway: Gateway) -> None:
    by_number = {number: _who(gateway, f"/number/{number}") for number in map(str, range(20))}
    assert set(by_number.values()) == set(NAMES)
    assert all(_who(gateway, f"/number/{number}/more") == target for number, target in by_number.items())


def test_the_clients_address_decides(gateway: Gateway) -> None:
    by_address = {
        address: _who(gateway, "/ip", {"X-Forwarded-For": address})
        for address in (f"203.0.113.{last}" for last in range(20))
    }
    assert set(by_address.values()) == set(NAMES)
    for address, target in by_address.items():
        assert _who(gateway, "/ip?again", {"X-Forwarded-For": address, "X-User": "somebody"}) == target


def test_a_consumer_decides(gateway: Gateway) -> None:
    by_key = {key: _who(gateway, "/consumer", {"apikey": key}) for key in (f"key-{number}" for number in range(12))}
    assert len(set(by_key.values())) > 1
    assert all(_who(gateway, "/consumer/x", {"apikey": key}) == target for key, target in by_key.items())


def test_least_connections_go_around_a_busy_target(gateway: Gateway, targets: dict[str, Upstream]) -> None:
    arrived, done = threading.Semaphore(0), threading.Event()

    def hold(request: Request, connection: Connection) -> None:
        arrived.release()
        done.wait()
        connection.respond(b"held")

    paths = {server.script(hold) for server in targets.values()}
    assert len(paths) == 1, "the same path at each target"
    with gateway.client() as first, gateway.client() as second:
        for client in (first, second):
            client.send(f"GET /least{next(iter(paths))} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        arrived.acquire()
        arrived.acquire()
        assert len(_shares(gateway, "/least", 10)) == 1, "two are busy"
        done.set()
        for client in (first, second):
            assert client.read_response().body == b"held"
    assert len(_shares(gateway, "/least")) == 3


def test_latency_uses_every_target(gateway: Gateway) -> None:
    assert set(_shares(gateway, "/latency")) == set(NAMES)


def test_a_session_sticks(gateway: Gateway) -> None:
    response = gateway.get("/sticky")
    cookie = _set_cookie(response).partition(";")[0]
    assert re.fullmatch(r"stays-at=[0-9a-f]{20}", cookie)
    assert {gateway.get("/sticky", {"Cookie": cookie}).body for _ in range(10)} == {response.body}
    assert _set_cookie(gateway.get("/sticky", {"Cookie": cookie})) == ""
    assert _set_cookie(gateway.get("/sticky", {"Cookie": "stays-at=gone"})).startswith("stays-at=")


def test_more_than_max_connections_is_refused(gateway: Gateway, targets: dict[str, Upstream]) -> None:
    arrived, done = threading.Event(), threading.Event()

    def hold(request: Request, connection: Connection) -> None:
        arrived.set()
        done.wait()
        connection.respond(b"held")

    path = {server.script(hold) for server in targets.values()}.pop()
    with gateway.client() as holding:
        holding.send(f"GET /narrow{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert arrived.wait(10)
        refused = gateway.get("/narrow")
        assert refused.status == 503
        assert json.loads(refused.body)["message"] == "too many requests to the upstream"
        done.set()
        assert holding.read_response().body == b"held"
    assert gateway.get("/narrow").status == 200


def test_no_target_is_503_with_the_documented_text(targets: dict[str, Upstream]) -> None:
    service = {"name": "s", "host": "empty.up", "routes": [{"paths": ["/"]}]}
    drained = {"target": f"127.0.0.1:{targets['a'].port}", "weight": 0}
    upstream = {"name": "empty.up", "targets": [drained]}
    with Gateway(document(services=[service], upstreams=[upstream]), workers=1) as running:
        response = running.get("/")
        assert response.status == 503
        assert json.loads(response.body)["message"] == "failure to get a peer from the ring-balancer"
