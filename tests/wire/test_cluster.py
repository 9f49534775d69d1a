"""Several nodes on one PostgreSQL: what is written on one is live on all, and a lost database costs no request."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from headgate.entities.registry import ENTITY_TYPES
from headgate.store.sql.connect import postgres_engine
from headgate.store.sql.migrate import Migrator
from headgate.testing.gateway import Answer, Gateway, run
from tests.support import postgres
from tests.support.tcp_relay import TcpRelay
from tests.support.upstream import Script, Upstream

pytestmark = pytest.mark.wire

_WITHIN_S = 15


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.running() as running:
        yield running


def of_database(server: postgres.Server, name: str) -> dict[str, object]:
    return {
        "database": "postgres",
        "pg_host": server.host,
        "pg_port": server.port,
        "pg_user": server.user,
        "pg_database": name,
        "plugins": "request-termination",
    }


@pytest.fixture(scope="module")
def settings(server: postgres.Server) -> dict[str, object]:
    name = server.new_database()
    engine = postgres_engine(server.host, server.port, server.user, None, name)
    Migrator(engine, ENTITY_TYPES, {}, {}).bootstrap()
    engine.dispose()
    return of_database(server, name)


@pytest.fixture(scope="module")
def nodes(settings: dict[str, object]) -> Iterator[list[Gateway]]:
    """Three nodes, started at once."""
    with ThreadPoolExecutor() as pool, ExitStack() as stack:
        starting = [pool.submit(Gateway, None, **settings) for _ in range(3)]
        yield [stack.enter_context(each.result()) for each in starting]


def write(node: Gateway, method: str, path: str, body: dict[str, Any] | None = None) -> Answer:
    content = None if body is None else json.dumps(body)
    return node.request(method, path, {"Content-Type": "application/json"}, content, to="admin")


def serve(node: Gateway, name: str) -> None:
    """Have a path answered with 200 by the gateway itself."""
    made = write(node, "PUT", f"/routes/{name}", {"paths": [f"/{name}"]})
    assert made.status == 200, made.body
    config = {"status_code": 200, "message": name}
    made = write(node, "POST", f"/routes/{name}/plugins", {"name": "request-termination", "config": config})
    assert made.status == 201, made.body


def until(nodes: list[Gateway], is_so: Callable[[Gateway], bool]) -> None:
    deadline_s = time.monotonic() + _WITHIN_S
    for node in nodes:
        while not is_so(node):
            assert time.monotonic() < deadline_s, node.output()


def is_served(name: str) -> Callable[[Gateway], bool]:
    return lambda node: node.request("GET", f"/{name}").status == 200


def is_reachable(node: Gateway) -> bool:
    found: bool = node.request("GET", "/status", to="admin").json()["database"]["reachable"]
    return found


class Traffic:
    """Requests to a path of a node, one after the other, until the end of the block; every answer must be 200."""

    def __init__(self, node: Gateway, path: str) -> None:
        self._node, self._path = node, path
        self._is_over = threading.Event()
        self.statuses: dict[int | str, int] = {}
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.is_set():
            try:
                found: int | str = self._node.request("GET", self._path).status
            except OSError as error:
                found = str(error)
            self.statuses[found] = self.statuses.get(found, 0) + 1


def test_writes_on_each_of_three_nodes_are_live_on_all_and_a_killed_one_is_not_missed(
    nodes: list[Gateway],
) -> None:
    for number, node in enumerate(nodes):
        serve(node, f"from-{number}")
    for number in range(3):
        until(nodes, is_served(f"from-{number}"))
    with Traffic(nodes[0], "/from-1") as traffic:
        killed = nodes[2]
        os.killpg(killed.process.pid, signal.SIGKILL)
        killed.process.wait()
        serve(nodes[1], "after")
        until(nodes[:2], is_served("after"))
        assert write(nodes[0], "DELETE", "/routes/from-2").status == 204
        until(nodes[:2], lambda node: node.request("GET", "/from-2").status == 404)
    assert list(traffic.statuses) == [200]
    hashes = {node.request("GET", "/status", to="admin").json()["configuration_hash"] for node in nodes[:2]}
    assert len(hashes) == 1


def test_health_that_is_set_by_hand_holds_on_all_nodes(nodes: list[Gateway]) -> None:
    def tells(name: str) -> Script:
        return lambda request, connection: connection.respond(name.encode())

    def answers(node: Gateway) -> set[str]:
        return {node.request("GET", "/by-hand").body.decode() for _ in range(6)}

    def shown(node: Gateway) -> list[str]:
        return sorted(one["health"] for one in write(node, "GET", "/upstreams/by-hand.up/health").json()["data"])

    living = [node for node in nodes if node.process.poll() is None]
    with Upstream(default=tells("a")) as first, Upstream(default=tells("b")) as second:
        checks = {"passive": {"unhealthy": {"tcp_failures": 5}}}
        assert write(living[0], "POST", "/upstreams", {"name": "by-hand.up", "healthchecks": checks}).status == 201
        for one in (first, second):
            made = write(living[0], "POST", "/upstreams/by-hand.up/targets", {"target": f"127.0.0.1:{one.port}"})
            assert made.status == 201, made.body
        assert write(living[0], "PUT", "/services/by-hand", {"host": "by-hand.up"}).status == 200
        assert write(living[0], "POST", "/services/by-hand/routes", {"paths": ["/by-hand"]}).status == 201
        until(living, lambda node: answers(node) == {"a", "b"})
        until(living, lambda node: shown(node) == ["HEALTHY", "HEALTHY"])
        target = f"/upstreams/by-hand.up/targets/127.0.0.1:{first.port}"
        assert write(living[1], "PUT", f"{target}/unhealthy").status == 204
        until(living, lambda node: answers(node) == {"b"} and shown(node) == ["HEALTHY", "UNHEALTHY"])
        assert write(living[-1], "PUT", f"{target}/127.0.0.1:{first.port}/healthy").status == 204
        until(living, lambda node: answers(node) == {"a", "b"} and shown(node) == ["HEALTHY", "HEALTHY"])


def test_a_log_level_for_the_cluster_reaches_all_nodes(nodes: list[Gateway]) -> None:
    living = [node for node in nodes if node.process.poll() is None]

    def level(node: Gateway) -> str:
        found: str = write(node, "GET", "/debug/node/log-level").json()["message"]
        return found

    assert write(living[0], "PUT", "/debug/cluster/log-level/debug?timeout=60").json() == {
        "message": "log level changed"
    }
    until(living, lambda node: level(node) == "log level: debug")
    assert write(living[1], "PUT", "/debug/cluster/log-level/info?timeout=0").status == 200
    until(living, lambda node: level(node) == "log level: info")
    assert write(living[0], "PUT", "/debug/cluster/log-level/loud").status == 400


def test_nodes_serve_without_their_database_refuse_writes_and_catch_up(
    settings: dict[str, object], nodes: list[Gateway], server: postgres.Server
) -> None:
    other = nodes[0]
    with (
        TcpRelay((server.host, server.port)) as relay,
        Gateway(None, **settings | {"pg_port": relay.port}) as cut_off,
    ):
        serve(cut_off, "before")
        until([cut_off, other], is_served("before"))
        with Traffic(cut_off, "/before") as traffic:
            relay.cut()
            until([cut_off], lambda node: not is_reachable(node))
            refused = write(cut_off, "POST", "/consumers", {"username": "lost"})
            assert refused.status == 503
            assert "message" in refused.json()
            serve(other, "meanwhile")
            until([other], is_served("meanwhile"))
            assert cut_off.request("GET", "/meanwhile").status == 404
            relay.join()
            until([cut_off], is_served("meanwhile"))
            until([cut_off], is_reachable)
            assert write(cut_off, "POST", "/consumers", {"username": "found"}).status == 201
        assert list(traffic.statuses) == [200]
        assert write(other, "GET", "/consumers/lost").status == 404
        told = [line for line in cut_off.logs if "the database cannot be read" in line]
        assert len(told) == 1, told
        assert [line for line in cut_off.logs if "the database is there again" in line]


def test_a_node_starts_without_its_database_with_what_was_in_force(
    settings: dict[str, object], server: postgres.Server, tmp_path: Path
) -> None:
    with TcpRelay((server.host, server.port)) as relay:
        own = settings | {"pg_port": relay.port, "prefix": tmp_path / "kept"}
        with Gateway(None, **own) as node:
            serve(node, "kept")
            until([node], is_served("kept"))
        relay.cut()
        with Gateway(None, **own) as node:
            assert node.request("GET", "/kept").status == 200
            assert not is_reachable(node)
            assert write(node, "POST", "/consumers", {"username": "u"}).status == 503
            assert "the node starts with what was in force" in node.output()
            relay.join()
            until([node], is_reachable)
            serve(node, "again")
            until([node], is_served("again"))
        assert ((tmp_path / "kept" / "database.snapshot").stat().st_mode & 0o777) == 0o600


def test_two_nodes_that_migrate_at_once_do_it_once(server: postgres.Server, tmp_path: Path) -> None:
    fresh = of_database(server, server.new_database())
    done: list[Any] = []

    def bootstrap(number: int) -> None:
        done.append(run("migrations", "bootstrap", settings=fresh, prefix=tmp_path / str(number)))

    threads = [threading.Thread(target=bootstrap, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.returncode for one in done] == [0, 0, 0], [one.stderr for one in done]
    assert sorted("Database already bootstrapped" in one.stdout for one in done) == [False, True, True]
    assert run("migrations", "list", settings=fresh, prefix=tmp_path / "0").returncode == 0
