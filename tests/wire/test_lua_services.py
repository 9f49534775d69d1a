"""Small Lua plugins as people write them, in the real gateway and against real peers: Redis, HTTP, TCP."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from tests.plugins.redis_server import needs_redis_server, running_redis_server
from tests.support.gateway import ROOT, Gateway
from tests.support.http1 import wait_until
from tests.support.upstream import Connection, Request, Upstream

PLUGINS = (
    *("header-injector", "jwt-claim-header", "quota", "external-auth", "body-rewrite", "response-cache"),
    *("error-page", "request-logger"),
)
SECRET = "a secret that is long enough for HS256"
SETTINGS: dict[str, Any] = {
    "lua_package_path": f"{ROOT}/tests/lua/data/?.lua",
    "plugins": "bundled," + ",".join(PLUGINS),
}


def authorize(request: Request, connection: Connection) -> None:
    asked = json.loads(connection.read_body(request))
    if asked["token"] == "good":
        connection.respond(json.dumps({"user": f"ann of {asked['path']}"}).encode())
    else:
        connection.respond(b'{"no":"way"}', "403 Forbidden", {"Content-Type": "application/json"})


def failing(request: Request, connection: Connection) -> None:
    connection.respond(b"internal words", "503 Service Unavailable", {"Content-Type": "text/plain"})


class LineServer:
    """A TCP server that keeps the lines it gets."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.lines: list[str] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        with connection, connection.makefile() as lines:
            self.lines.extend(lines)

    def close(self) -> None:
        self._socket.close()


LINES = LineServer()


def route(name: str, plugin: str, config: dict[str, Any], path: str | None = None) -> dict[str, Any]:
    return {"name": name, "paths": [path or f"/{name}"], "strip_path": False, "plugins": [
        {"name": plugin, "config": config}
    ]}  # fmt: skip


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with running_redis_server(tmp_path_factory.mktemp("redis")) as port:
        yield port


def config(upstream: Upstream) -> dict[str, Any]:
    auth, fails = upstream.script(authorize), upstream.script(failing)
    return {
        "_format_version": "3.0",
        "services": [
            {
                "name": "echo",
                "url": upstream.url,
                "routes": [
                    route("inject", "header-injector", {"request": {"X-In": "1"}, "response": {"X-Out": "2"}}),
                    route("claim", "jwt-claim-header", {"secret": SECRET, "claim": "email"}),
                    route("local", "quota", {"limit": 2, "prefix": "local"}),
                    route("auth", "external-auth", {"url": f"{upstream.url}{auth}"}),
                    route("rewrite", "body-rewrite", {"pattern": '"(me)thod"', "replacement": '"$1tal"'}),
                    route("cached", "response-cache", {}),
                    route("logged", "request-logger", {"host": "127.0.0.1", "port": LINES.port}),
                ],
            },
            {"name": "failing", "url": f"{upstream.url}{fails}", "routes": [route("broken", "error-page", {})]},
        ],
    }


def token(**claims: str) -> str:
    return str(jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(SECRET)))


def sent_headers(answer: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.json()["headers"]}


def test_headers_are_put_on_requests_and_responses(gateway: Gateway) -> None:
    answer = gateway.get("/inject")
    assert sent_headers(answer)["x-in"] == "1"
    assert answer.headers.get("X-Out") == "2"
    assert float(answer.headers.get("X-Took") or "x") >= 0


def test_a_claim_of_a_token_reaches_the_upstream(gateway: Gateway) -> None:
    assert gateway.get("/claim").status == 401
    forged = token(email="a@b.c")[:-3] + "abc"
    assert gateway.get("/claim", {"Authorization": f"Bearer {forged}"}).status == 403
    answer = gateway.get("/claim", {"Authorization": f"Bearer {token(email='a@b.c')}"})
    assert sent_headers(answer)["x-claim"] == "a@b.c"
    assert "authorization" not in sent_headers(answer)


def test_a_quota_in_the_memory_of_the_node(gateway: Gateway) -> None:
    answers = [gateway.get("/local") for _ in range(3)]
    assert [one.status for one in answers] == [200, 200, 429]
    assert answers[2].json() == {"message": "quota exceeded"}


def test_another_service_decides_who_may_pass(gateway: Gateway) -> None:
    refused = gateway.get("/auth/x", {"X-Token": "bad"})
    assert (refused.status, refused.json()) == (403, {"no": "way"})
    for _ in range(2):
        assert sent_headers(gateway.get("/auth/x", {"X-Token": "good"}))["x-user"] == "ann of /auth/x"


def test_a_body_is_rewritten(gateway: Gateway) -> None:
    assert gateway.get("/rewrite").json()["metal"] == "GET"


def test_an_answer_is_kept_and_given_again(gateway: Gateway, upstream: Upstream) -> None:
    first, second = gateway.get("/cached/1"), gateway.get("/cached/1")
    assert [one.headers.get("X-Cache") for one in (first, second)] == ["miss", "hit"]
    assert first.body == second.body
    assert len(upstream.requests_to("/cached/1")) == 1


def test_an_error_gets_a_page(gateway: Gateway) -> None:
    answer = gateway.get("/broken/%3Cb%3E")
    assert answer.status == 503
    assert answer.body == b"<h1>503</h1><p>/broken/%3Cb%3E</p>\n"


def test_requests_are_logged_over_tcp(gateway: Gateway) -> None:
    gateway.get("/logged?a=1")
    gateway.get("/logged?a=2")
    assert wait_until(lambda: len(LINES.lines) == 2)
    # Each is sent over a connection of its own: which comes first is open.
    records = sorted(map(json.loads, LINES.lines), key=lambda record: record["request"]["querystring"]["a"])
    assert [record["request"]["querystring"] for record in records] == [{"a": "1"}, {"a": "2"}]
    assert [(record["custom"], record["response"]["status"]) for record in records] == [({"note": "lua"}, 200)] * 2


@needs_redis_server
def test_a_quota_in_redis_is_one_for_all_workers(upstream: Upstream, redis_port: int, tmp_path: Path) -> None:
    shared = {"limit": 3, "policy": "redis", "redis": {"port": redis_port}}
    document = {
        "_format_version": "3.0",
        "services": [{"name": "s", "url": upstream.url, "routes": [route("r", "quota", shared, "/")]}],
    }
    with Gateway(document, **SETTINGS, workers=2) as running:
        statuses = [running.get("/").status for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
