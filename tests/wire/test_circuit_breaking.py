"""What one upstream may hold of a worker: connections, requests in line, retries; and targets put out for a while."""

import select
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.documents import document
from tests.support.gateway import Gateway
from tests.support.http1 import Client, wait_until
from tests.support.upstream import CloseConnection, Connection, Request, Upstream

REFUSED = {"message": "too many requests to the upstream"}


class Held:
    """A script that keeps requests until they are let go."""

    def __init__(self) -> None:
        self.arrived = threading.Semaphore(0)
        self.is_free = threading.Event()

    def __call__(self, request: Request, connection: Connection) -> None:
        self.arrived.release()
        self.is_free.wait(20)
        connection.respond(b"held")

    def wait(self) -> None:
        assert self.arrived.acquire(timeout=10)


class Once:
    """Resets the first attempt of each request, by its header `X-Number`; holds the ones after it."""

    def __init__(self) -> None:
        self.attempts: Counter[str] = Counter()
        self.held = Held()

    def __call__(self, request: Request, connection: Connection) -> None:
        number = request.headers["X-Number"]
        self.attempts[number] += 1
        if self.attempts[number] == 1:
            connection.reset()
            raise CloseConnection
        self.held(request, connection)


class Broken:
    """Answers as it is told, and counts."""

    def __init__(self) -> None:
        self.status = "500 Internal Server Error"
        self.is_resetting = False
        self.count = 0

    def __call__(self, request: Request, connection: Connection) -> None:
        self.count += 1
        if self.is_resetting:
            connection.reset()
            raise CloseConnection
        connection.respond(b"", status=self.status)


@pytest.fixture
def target() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


def _gateway(targets: list[Upstream], breaking: dict[str, Any], **service: Any) -> Gateway:
    listed = [{"target": f"127.0.0.1:{target.port}"} for target in targets]
    return Gateway(
        document(
            upstreams=[{"name": "up", "targets": listed, "circuit_breaking": breaking}],
            services=[{"name": "s", "host": "up", "routes": [{"paths": ["/"], "strip_path": False}]} | service],
        ),
        workers=1,
    )


def _send(client: Client, path: str, **headers: str) -> None:
    fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n".encode())


def test_a_full_line_refuses_and_a_free_place_serves_who_waits(target: Upstream) -> None:
    held = Held()
    path = target.script(held)
    with (
        _gateway([target], {"max_connections": 1, "max_pending_requests": 1}) as gateway,
        gateway.client() as first,
        gateway.client() as second,
        gateway.client() as third,
    ):
        _send(first, path)
        held.wait()
        for client in (second, third):
            _send(client, path)
        # One of the two waits in line, whichever came first; the other finds the line full.
        ready, _, _ = select.select([second.socket, third.socket], [], [], 10)
        refused, waiting = (second, third) if second.socket in ready else (third, second)
        answer = refused.read_response()
        assert (answer.status, answer.json()["message"]) == (503, REFUSED["message"])
        assert len(target.requests_to(path)) == 1
        held.is_free.set()
        assert first.read_response().body == b"held"
        assert waiting.read_response().body == b"held"


def test_waiting_in_line_ends_with_the_connect_timeout(target: Upstream) -> None:
    held = Held()
    path = target.script(held)
    breaking = {"max_connections": 1, "max_pending_requests": 10}
    with _gateway([target], breaking, connect_timeout=100) as gateway, gateway.client() as first:
        _send(first, path)
        held.wait()
        answer = gateway.get(path)
        assert (answer.status, answer.json()["message"]) == (503, REFUSED["message"])
        held.is_free.set()
        assert first.read_response().body == b"held"
        assert gateway.get("/").status == 200


def test_a_client_that_leaves_frees_its_place(target: Upstream) -> None:
    held = Held()
    path = target.script(held)
    with _gateway([target], {"max_connections": 1}) as gateway:
        with gateway.client() as leaving:
            _send(leaving, path)
            held.wait()
            assert gateway.get("/").status == 503
        assert wait_until(lambda: gateway.get("/").status == 200)
        held.is_free.set()


def test_retries_within_the_budget_happen_and_others_do_not(target: Upstream) -> None:
    once = Once()
    path = target.script(once)
    with (
        _gateway([target], {"max_concurrent_retries": 1}) as gateway,
        gateway.client() as first,
        gateway.client() as third,
    ):
        _send(first, path, X_Number="1")
        once.held.wait()
        assert gateway.get(path, {"X-Number": "2"}).status == 502, "the retry of the first is all there may be"
        assert once.attempts == {"1": 2, "2": 1}
        once.held.is_free.set()
        assert first.read_response().body == b"held"
        _send(third, path, X_Number="3")
        assert third.read_response().body == b"held"
        assert once.attempts["3"] == 2
        assert any("no retry: the budget of retries is used up" in line for line in gateway.logs)


@pytest.mark.parametrize(("breaking", "attempts"), [({}, 4), ({"max_concurrent_retries": 0}, 1)])
def test_the_budget_keeps_an_outage_from_multiplying(target: Upstream, breaking: dict[str, int], attempts: int) -> None:
    broken = Broken()
    broken.is_resetting = True
    path = target.script(broken)
    with _gateway([target], breaking, retries=3) as gateway:
        assert [gateway.get(path).status for _ in range(5)] == [502] * 5
    assert broken.count == 5 * attempts


def _ejecting(**fields: int) -> dict[str, Any]:
    defaults = {"consecutive_failures": 3, "ejection_time_ms": 3_600_000, "max_ejected_percent": 50}
    return {"outlier_ejection": defaults | fields}


def test_failures_in_a_row_put_a_target_out_and_time_brings_it_back() -> None:
    broken = Broken()
    with (
        Upstream() as good,
        Upstream(default=broken) as bad,
        _gateway([good, bad], _ejecting(ejection_time_ms=500)) as gateway,
    ):
        statuses = Counter(gateway.get("/").status for _ in range(6))
        assert statuses == {200: 3, 500: 3}, "in turn, until the third failure"
        broken.status = "200 OK"
        assert wait_until(lambda: gateway.get("/").status == 200 and broken.count > 3)


def test_a_target_that_is_out_gets_nothing() -> None:
    for is_resetting in (False, True):
        broken = Broken()
        broken.is_resetting = is_resetting
        with (
            Upstream() as good,
            Upstream(default=broken) as bad,
            _gateway([good, bad], _ejecting()) as gateway,
        ):
            statuses = Counter(gateway.get("/").status for _ in range(30))
            assert broken.count == 3
            assert statuses == ({200: 30} if is_resetting else {200: 27, 500: 3}), "what breaks off is tried again"


def test_not_more_than_the_allowed_part_is_put_out() -> None:
    first, second = Broken(), Broken()
    with (
        Upstream(default=first) as one,
        Upstream(default=second) as other,
        _gateway([one, other], _ejecting()) as gateway,
    ):
        assert {gateway.get("/").status for _ in range(20)} == {500}
        assert sorted((first.count, second.count))[0] == 3
        assert first.count + second.count == 20
