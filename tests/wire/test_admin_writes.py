"""Writes through the Admin API of a running node: in force when answered, whole or not at all, and what tools call."""

import concurrent.futures
import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.testing.gateway import Answer, Gateway
from tests.support import postgres, processes
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
    assert set(answer["stats"]["sys"]) == {"running", "pending", "waiting", "total"}


def test_a_body_over_the_limit_is_refused(node: Gateway) -> None:
    answer = node.request(
        "POST", "/services", to="admin", headers={"Content-Type": "application/json"}, body=b" " * (11 * 1024 * 1024)
    )
    assert answer.status == 413
    assert call(node, "GET", "/services?size=10000000").status == 400


def test_kill_in_the_middle_of_writes_leaves_the_store_whole() -> None:
    with Gateway(None, **SETTINGS) as running:
        control = next(
            pid for pid in processes.children(running.process.pid) if "control" in processes.command_line(pid)
        )

        def write(number: int) -> bool:
            operations = [
                {"method": "PUT", "path": f"/services/s{number}", "body": {"host": "h"}},
                {
                    "method": "PUT",
                    "path": f"/routes/r{number}",
                    "body": {"paths": ["/"], "service": {"name": f"s{number}"}},
                },
            ]
            try:
                return call(running, "POST", "/batch", {"operations": operations}).status == 200
            except OSError:
                return False

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            writes = [pool.submit(write, number) for number in range(60)]
            until(running, lambda: sum(write.done() for write in writes) > 10)
            os.kill(control, signal.SIGKILL)
            done = [number for number, write in enumerate(writes) if write.result()]

        def names(path: str) -> set[str]:
            return {row["name"] for row in call(running, "GET", f"{path}?size=1000").json()["data"]}

        def is_back() -> bool:
            try:
                return call(running, "GET", "/services").status == 200
            except OSError:
                return False

        until(running, is_back)
        # Nothing answered is lost, and no batch is there by half.
        assert names("/services") >= {f"s{number}" for number in done}
        assert {name[1:] for name in names("/services")} == {name[1:] for name in names("/routes")}
        assert call(running, "PUT", "/services/after", {"host": "h"}).status == 200


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


NAMES = ("service", "route", "consumer", "key", "upstream", "target", "plugin", "group")
IDS = {name: f"00000000-0000-4000-8000-0000000000{number}" for number, name in enumerate(NAMES, 10)}


def test_the_calls_of_a_declarative_client_dump_sync_and_reset() -> None:
    """The calls and their order are those of decK for a node of the community edition (admin-api 11)."""
    with Gateway(None, **SETTINGS) as fresh:
        root = call(fresh, "GET", "/").json()
        assert tuple(map(int, root["version"].split(".")[:2])) >= (3, 0)
        assert dump(fresh) == {}
        for name in ("services", "routes", "upstreams", "targets", "plugins/key-auth"):
            assert call(fresh, "GET", f"/schemas/{name}").json()["fields"]
        assert call(fresh, "GET", "/schemas/consumer_group_plugins").status == 404
        now = int(time.time())
        sync: list[tuple[str, dict[str, Any]]] = [
            (f"/consumers/{IDS['consumer']}", {"username": "bob"}),
            (f"/consumer_groups/{IDS['group']}", {"name": "gold"}),
            (f"/services/{IDS['service']}", {"name": "s", "host": "h", "port": 80, "created_at": now}),
            (f"/upstreams/{IDS['upstream']}", {"name": "up"}),
            (f"/consumers/{IDS['consumer']}/key-auth/{IDS['key']}", {"key": "k", "consumer": {"id": IDS["consumer"]}}),
            (f"/routes/{IDS['route']}", {"name": "r", "paths": ["/r"], "service": {"id": IDS["service"]}}),
            (f"/plugins/{IDS['plugin']}", {"name": "key-auth", "route": {"id": IDS["route"]}, "config": {}}),
        ]
        for path, body in sync:
            answer = call(fresh, "PUT", path, body | {"id": path.rsplit("/", 1)[1]})
            assert (answer.status, answer.json()["id"]) == (200, path.rsplit("/", 1)[1]), answer.body
        target = {"id": IDS["target"], "target": "127.0.0.1:80", "weight": 10}
        assert call(fresh, "PUT", f"/upstreams/{IDS['upstream']}/targets/{IDS['target']}", target).status == 404
        assert call(fresh, "POST", f"/upstreams/{IDS['upstream']}/targets", target).json()["id"] == IDS["target"]
        assert call(fresh, "PUT", f"/upstreams/{IDS['upstream']}/targets/{IDS['target']}", target).status == 200
        member = call(fresh, "POST", f"/consumer_groups/{IDS['group']}/consumers", {"consumer": IDS["consumer"]})
        assert member.status == 201
        full = dump(fresh)
        assert {name: len(rows) for name, rows in full.items()} == {
            **dict.fromkeys(("services", "routes", "plugins", "upstreams", "consumers", "key-auths"), 1),
            "consumer_groups": 1,
            "targets": 1,
        }
        # A second sync of what was dumped changes nothing but the time of the change.
        for path, _ in sync:
            current = call(fresh, "GET", path).json()
            current = current["consumer_group"] if "consumers" in current else current
            again = call(fresh, "PUT", path, current).json()
            assert {**again, "updated_at": 0} == {**current, "updated_at": 0}
        for path, _ in [(f"/upstreams/{IDS['upstream']}/targets/{IDS['target']}", None), *reversed(sync)]:
            assert call(fresh, "DELETE", path).status == 204, path
        assert dump(fresh) == {}


def dump(node: Gateway) -> dict[str, list[Any]]:
    """Read everything as declarative clients do; what a node does not have may be 404."""
    found: dict[str, list[Any]] = {}
    fatal = ("services", "routes", "plugins", "certificates", "snis", "upstreams", "consumers")
    others = ("filter-chains", "ca_certificates", "vaults", "partials", "keys", "key-sets", "key-auths", "hmac-auths")
    more = ("jwts", "basic-auths", "oauth2", "acls", "mtls-auths", "consumer_groups")
    for name in (*fatal, *others, *more):
        rows = pages(node, f"/{name}")
        assert rows is not None or name not in fatal
        if rows:
            found[name] = rows
    for upstream in found.get("upstreams", ()):
        if rows := pages(node, f"/upstreams/{upstream['id']}/targets"):
            found["targets"] = rows
    for group in found.get("consumer_groups", ()):
        assert call(node, "GET", f"/consumer_groups/{group['name']}").status == 200
    return found


def pages(node: Gateway, path: str) -> list[Any] | None:
    """Follow `offset` to the last page."""
    rows: list[Any] = []
    offset = ""
    while True:
        answer = call(node, "GET", f"{path}?size=1000{offset}")
        if answer.status in (400, 404):
            return None
        assert answer.status == 200
        body = answer.json()
        rows += body["data"]
        if "offset" not in body:
            return rows
        offset = f"&offset={body['offset']}"
