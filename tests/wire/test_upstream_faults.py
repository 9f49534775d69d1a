"""Upstreams that fail: what is tried again, what is not, and what the client gets each time."""

import json
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.support.documents import document
from tests.support.gateway import Gateway
from tests.support.http1 import Client, Truncated
from tests.support.upstream import CloseConnection, Connection, Request, Script, Upstream

SETTINGS = {"workers": 1}
TIMEOUT_MS = 400
"""Of the services whose targets do not answer; the others have the default, so that a slow machine does not count."""
ROUNDS = 6
"""Requests per test: with two targets in turn, half of them meet the faulty one first."""


def _good(request: Request, connection: Connection) -> None:
    body = connection.read_body(request)
    connection.respond(body, headers={"X-Target": "good"})


def _reset_before_answer(request: Request, connection: Connection) -> None:
    connection.read_body(request)
    connection.reset()
    raise CloseConnection


def _reset_in_head(request: Request, connection: Connection) -> None:
    connection.read_body(request)
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Le")
    connection.reset()
    raise CloseConnection


_HALF_AN_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"


def _reset_in_body(request: Request, connection: Connection) -> None:
    connection.read_body(request)
    connection.send(_HALF_AN_ANSWER)
    connection.reset()
    raise CloseConnection


def _close_in_body(request: Request, connection: Connection) -> None:
    connection.read_body(request)
    connection.send(_HALF_AN_ANSWER)
    raise CloseConnection


def _half_close_in_body(request: Request, connection: Connection) -> None:
    connection.read_body(request)
    connection.send(_HALF_AN_ANSWER)
    connection.socket.shutdown(socket.SHUT_WR)
    connection.wait_for_end()
    raise CloseConnection


def _hang_in_body(request: Request, connection: Connection) -> None:
    """Send no more than a part, for longer than the time between two reads."""
    connection.read_body(request)
    connection.send(_HALF_AN_ANSWER)
    connection.wait_for_end()
    raise CloseConnection


def _hang_in_head(request: Request, connection: Connection) -> None:
    connection.read_body(request)
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Le")
    connection.wait_for_end()
    raise CloseConnection


def _garbage(request: Request, connection: Connection) -> None:
    connection.read_body(request)
    connection.send(b"this is not HTTP\r\n\r\n")
    raise CloseConnection


def _half_close(request: Request, connection: Connection) -> None:
    """Say that nothing will come, and go on listening."""
    connection.read_body(request)
    connection.socket.shutdown(socket.SHUT_WR)
    connection.wait_for_end()
    raise CloseConnection


def _hang(request: Request, connection: Connection) -> None:
    connection.wait_for_end()
    raise CloseConnection


def _error_500(request: Request, connection: Connection) -> None:
    connection.read_body(request)
    connection.respond(b"broken", status="500 Internal Server Error")


def _error_503(request: Request, connection: Connection) -> None:
    connection.read_body(request)
    connection.respond(b"overloaded", status="503 Service Unavailable")


FAULTS: dict[str, Script] = {
    "reset": _reset_before_answer,
    "reset-in-head": _reset_in_head,
    "reset-in-body": _reset_in_body,
    "close-in-body": _close_in_body,
    "half-close-in-body": _half_close_in_body,
    "hang-in-body": _hang_in_body,
    "garbage": _garbage,
    "half-close": _half_close,
    "hang": _hang,
    "hang-in-head": _hang_in_head,
    "500": _error_500,
    "503": _error_503,
}


@pytest.fixture(scope="module")
def good() -> Iterator[Upstream]:
    with Upstream(default=_good) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def bad() -> Iterator[dict[str, Upstream]]:
    """A server for each fault."""
    servers = {name: Upstream(default=script) for name, script in FAULTS.items()}
    for server in servers.values():
        server.__enter__()
    yield servers
    for server in servers.values():
        server.__exit__()


@pytest.fixture(scope="module")
def refusing_port() -> Iterator[int]:
    """A port that is bound and not listened on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture(scope="module")
def deaf_port() -> Iterator[int]:
    """A port whose queue is full: connections to it come about never."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = []
        for _ in range(2):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
            waiting.append(client)
        yield port
        for client in waiting:
            client.close()


def _entities(name: str, ports: list[int], **service: object) -> tuple[dict[str, object], dict[str, object]]:
    return (
        {
            "name": f"{name}.service",
            "host": f"{name}.upstream",
            "routes": [{"paths": [f"/{name}"]}],
        }
        | ({"connect_timeout": TIMEOUT_MS, "read_timeout": TIMEOUT_MS} if "hang" in name or "deaf" in name else {})
        | service,
        {"name": f"{name}.upstream", "targets": [{"target": f"127.0.0.1:{port}"} for port in ports]},
    )


@pytest.fixture(scope="module")
def gateway(good: Upstream, bad: dict[str, Upstream], refusing_port: int, deaf_port: int) -> Iterator[Gateway]:
    pairs = [_entities(name, [server.port, good.port]) for name, server in bad.items()]
    pairs += [_entities(f"only-{name}", [server.port], retries=1) for name, server in bad.items()]
    pairs.append(_entities("refuse", [refusing_port, good.port]))
    pairs.append(_entities("only-refuse", [refusing_port], retries=2))
    pairs.append(_entities("deaf", [deaf_port, good.port]))
    pairs.append(_entities("only-deaf", [deaf_port], retries=1))
    pairs.append(_entities("no-retries", [refusing_port, good.port], retries=0))
    pairs.append(_entities("unbuffered", [bad["reset"].port, good.port]))
    services = [service for service, _ in pairs]
    for service in services:
        if service["name"] == "unbuffered.service":
            service["routes"] = [{"paths": ["/unbuffered"], "request_buffering": False}]
    with Gateway(document(services=services, upstreams=[upstream for _, upstream in pairs]), workers=1) as running:
        yield running


def _statuses(gateway: Gateway, path: str, method: str = "GET", body: bytes | None = None) -> list[int]:
    statuses = []
    for _ in range(ROUNDS):
        with gateway.client() as client:
            response = client.request(method, path, None, body)
            statuses.append(response.status)
            if response.status == 200 and method in ("PUT", "POST"):
                assert response.body == body
    return statuses


@pytest.mark.parametrize(
    "fault", ["refuse", "deaf", "reset", "reset-in-head", "garbage", "half-close", "hang", "hang-in-head"]
)
def test_a_get_is_tried_at_another_target(gateway: Gateway, bad: dict[str, Upstream], fault: str) -> None:
    before = len(bad[fault].requests) if fault in bad else 0
    assert _statuses(gateway, f"/{fault}") == [200] * ROUNDS
    if fault in bad:
        assert len(bad[fault].requests) - before == ROUNDS // 2


@pytest.mark.parametrize("fault", ["refuse", "reset", "hang"])
def test_a_put_is_tried_again_with_its_whole_body(gateway: Gateway, fault: str) -> None:
    assert _statuses(gateway, f"/{fault}", "PUT", b"x" * 5_000) == [200] * ROUNDS


def test_a_post_is_tried_again_only_when_nothing_was_sent(gateway: Gateway) -> None:
    assert _statuses(gateway, "/refuse", "POST", b"order") == [200] * ROUNDS
    assert _statuses(gateway, "/deaf", "POST", b"order") == [200] * ROUNDS
    for fault, status in [
        ("reset", 502),
        ("reset-in-head", 502),
        ("garbage", 502),
        ("half-close", 502),
        ("hang", 504),
        ("hang-in-head", 504),
    ]:
        assert sorted(_statuses(gateway, f"/{fault}", "POST", b"order")) == [200] * 3 + [status] * 3, fault


@pytest.mark.parametrize("status", ["500", "503"])
def test_a_status_of_the_upstream_is_never_tried_again(gateway: Gateway, bad: dict[str, Upstream], status: str) -> None:
    before = len(bad[status].requests)
    assert sorted(_statuses(gateway, f"/{status}")) == [200] * 3 + [int(status)] * 3
    assert len(bad[status].requests) - before == 3


@pytest.mark.parametrize("fault", ["reset-in-body", "close-in-body", "half-close-in-body", "hang-in-body"])
def test_nothing_is_tried_again_after_the_head_went_out(gateway: Gateway, bad: dict[str, Upstream], fault: str) -> None:
    before = len(bad[fault].requests)
    outcomes = []
    for _ in range(ROUNDS):
        with gateway.client() as client:
            try:
                outcomes.append(client.request("GET", f"/{fault}").status)
            except Truncated as cut:
                assert cut.received.endswith(b"half"), "what came of the body has gone on"
                outcomes.append(0)
    assert sorted(outcomes) == [0] * 3 + [200] * 3
    assert len(bad[fault].requests) - before == 3


def test_a_body_that_was_not_kept_is_not_sent_twice(gateway: Gateway) -> None:
    statuses = _statuses(gateway, "/unbuffered", "PUT", b"x" * 200_000)
    assert sorted(statuses) == [200] * 3 + [502] * 3


@pytest.mark.parametrize(
    ("fault", "status", "message"),
    [
        ("refuse", 502, "An invalid response was received from the upstream server"),
        ("deaf", 504, "The upstream server is timing out"),
        ("reset", 502, "An invalid response was received from the upstream server"),
        ("reset-in-head", 502, "An invalid response was received from the upstream server"),
        ("half-close", 502, "An invalid response was received from the upstream server"),
        ("garbage", 502, "An invalid response was received from the upstream server"),
        ("hang", 504, "The upstream server is timing out"),
        ("hang-in-head", 504, "The upstream server is timing out"),
    ],
)
def test_when_all_attempts_fail_the_last_one_decides(
    gateway: Gateway, bad: dict[str, Upstream], fault: str, status: int, message: str
) -> None:
    before = len(bad[fault].requests) if fault in bad else 0
    response = gateway.get(f"/only-{fault}", {"Accept": "application/json"})
    assert (response.status, json.loads(response.body)["message"]) == (status, message)
    if fault in bad:
        assert len(bad[fault].requests) - before == 2, "the first attempt and one retry"


def test_without_retries_the_first_failure_is_the_answer(gateway: Gateway) -> None:
    assert sorted(_statuses(gateway, "/no-retries")) == [200] * 3 + [502] * 3


def test_a_slow_body_arrives_whole(good: Upstream) -> None:
    sent = threading.Event()

    def drip(request: Request, connection: Connection) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n")
        for byte in (b"a", b"b", b"c"):
            connection.send(byte)
            sent.wait(TIMEOUT_MS / 1000 / 2)

    path = good.script(drip)
    service = {
        "name": "slow",
        "url": good.url,
        "read_timeout": TIMEOUT_MS,
        "routes": [{"paths": ["/"], "strip_path": False}],
    }
    with Gateway(document(services=[service]), workers=1) as running:
        assert running.get(path).body == b"abc"


def test_a_flapping_target_loses_no_request(good: Upstream) -> None:
    """A target that is there and gone, again and again, under one client after another."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    upstream = {
        "name": "flapping",
        "targets": [{"target": f"127.0.0.1:{port}"}, {"target": f"127.0.0.1:{good.port}"}],
    }
    service = {"name": "s", "host": "flapping", "routes": [{"paths": ["/"]}]}
    with (
        Gateway(document(services=[service], upstreams=[upstream]), workers=1) as running,
        Client(running.plain) as client,
    ):
        for _ in range(5):
            with Upstream(default=_good, address=("127.0.0.1", port)) as flapping:
                assert [client.request("GET", "/").status for _ in range(4)] == [200] * 4
                assert len(flapping.requests) == 2
            assert [client.request("GET", "/").status for _ in range(4)] == [200] * 4
