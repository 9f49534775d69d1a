"""Writes through the Admin API of a running node: in force when answered, whole or not at all, and what tools call."""

import concurrent.futures
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.testing.gateway import Answer, Gateway
from tests.support import postgres
from tests.wire.test_database import run, server, settings, until

__all__ = ["server", "settings"]
pytestmark = pytest.mark.wire

SETTINGS = {"database": "sqlite", "workers": 2, "plugins": "bundled"}


def call(gateway: Gateway, method: str, path: str, body: Any = None) -> Answer:
    headers = {} if body is None else {"Content-Type": "application/json"}
    return gateway.request(method, path, to="admin", headers=headers, body=None if body is None else json.dumps(body))


@pytest.fixture(scope="module")
def node() -> Iterator[Gateway]:
    with Gateway(None, **SETTINGS) as running:
        yield running


def add_answering_route(node: Gateway, path: str) -> None:
    name = path.strip("/")
    assert call(node, "PUT", f"/routes/{name}", {"paths": [path]}).status == 200
    answer = call(
        node,
        "POST",
        f"/routes/{name}/plugins",
        {"name": "request-termination", "config": {"status_code": 200, "message": name}},
    )
    assert answer.status == 201, answer.body


def test_a_write_is_in_force_in_every_worker_when_it_is_answered(node: Gateway) -> None:
    for number in range(10):
        add_answering_route(node, f"/live-{number}")
        # Each request has a connection of its own, so both workers are asked.
        assert {node.request("GET", f"/live-{number}").status for _ in range(6)} == {200}
        assert call(node, "DELETE", f"/routes/live-{number}").status == 204
        assert {node.request("GET", f"/live-{number}").status for _ in range(6)} == {404}


def test_the_answer_names_the_revision_that_runs(node: Gateway) -> None:
    first, second = (call(node, "PUT", "/consumers/revised", {"tags": [tag]}) for tag in ("a", "b"))
    assert int(second.headers["x-headgate-revision"]) > int(first.headers["x-headgate-revision"])
    assert "x-headgate-not-in-force" not in second.headers
    until(node, lambda: f"revision {second.headers['x-headgate-revision']} is in force" in node.output())


def test_what_the_workers_refuse_is_stored_and_said_not_to_run() -> None:
    with Gateway(None, **SETTINGS) as running:
        made = call(running, "POST", "/plugins", {"name": "key-auth"})
        assert "x-headgate-not-in-force" not in made.headers
        # As an older release may have left it behind: the plugin does not know this option.
        with sqlite3.connect(running.prefix / "headgate.db", timeout=10) as connection:
            connection.execute("UPDATE headgate_state SET revision = revision + 1")
            connection.execute("""UPDATE plugins SET body = replace(body, '"hide_credentials"', '"gone"')""")
        refused = call(running, "PUT", "/consumers/u", {})
        assert refused.status == 200
        assert "gone" in refused.headers["x-headgate-not-in-force"]
        assert call(running, "GET", "/consumers/u").json() == refused.json()
        mended = call(running, "PUT", f"/plugins/{made.json()['id']}", {"name": "key-auth"})
        assert "x-headgate-not-in-force" not in mended.headers


def test_who_does_not_want_to_wait_is_answered_when_it_is_stored(node: Gateway) -> None:
    headers = {"Content-Type": "application/json", "Prefer": "respond-async, wait=5"}
    answer = node.request("PUT", "/consumers/hasty", to="admin", headers=headers, body="{}")
    assert answer.status == 200
    assert answer.headers["x-headgate-not-in-force"] == "the client did not want to wait"
    until(node, lambda: call(node, "GET", "/consumers/hasty").status == 200)


def test_of_many_writers_of_one_name_one_wins(node: Gateway) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: call(node, "POST", "/services", {"name": "wanted", "host": "h"}), range(8)))
    assert sorted(answer.status for answer in answers) == [201, *[409] * 7]


def test_the_log_level_changes_in_the_workers(node: Gateway) -> None:
    assert call(node, "GET", "/debug/node/log-level").json() == {"message": "log level: info"}
    assert call(node, "PUT", "/debug/node/log-level/debug?timeout=30").json() == {"message": "log level changed"}
    assert call(node, "PUT", "/debug/node/log-level/debug").json() == {"message": "log level is already debug"}
    assert call(node, "PUT", "/debug/node/log-level/loud").status == 400
    assert call(node, "PUT", "/debug/node/log-level/info?timeout=-1").status == 400
    assert call(node, "PUT", "/debug/node/log-level/info").status == 200


def test_timers_of_the_workers_are_counted(node: Gateway) -> None:
    answer = call(node, "GET", "/timers").json()
    assert answer["worker"]["count"] == 2
    assert set(answer["stats"]["sys"]) == {"running", "pending", "waiting", "total", "runs"}


def test_a_body_over_the_limit_is_refused(node: Gateway) -> None:
    answer = node.request(
        "POST", "/services", to="admin", headers={"Content-Type": "application/json"}, body=b" " * (11 * 1024 * 1024)
    )
    assert answer.status == 413
    assert call(node, "GET", "/services?size=10000000").status == 400


def test_without_its_database_writes_are_refused_and_all_else_goes_on(
    settings: dict[str, object], server: postgres.Server, tmp_path: Path
) -> None:
    assert run(settings, tmp_path, "migrations", "bootstrap").returncode == 0
    with Gateway(None, **settings) as running:
        add_answering_route(running, "/kept")
        server.stop()
        try:
            refused = call(running, "PUT", "/services/s", {"host": "h"})
            assert (refused.status, refused.json()) == (503, {"message": "the database is not available"})
            assert "retry-after" in refused.headers
            assert running.request("GET", "/kept").status == 200
            assert call(running, "GET", "/routes/kept").status == 200
        finally:
            server.start()
        until(running, lambda: call(running, "PUT", "/services/s", {"host": "h"}).status == 200)
