"""Several nodes on one PostgreSQL: what is written on one is live on all, and a lost database costs no request."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from headgate.testing.gateway import Gateway, run
from tests.support import postgres
from tests.support.cluster import (
    Settings,
    Visitor,
    admin,
    bootstrapped,
    is_reachable,
    is_served,
    serve,
    settings_of,
    until,
)
from tests.support.tcp_relay import TcpRelay
from tests.support.upstream import Script, Upstream

pytestmark = pytest.mark.wire


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.running() as running:
        yield running


@pytest.fixture(scope="module")
def settings(server: postgres.Server) -> Settings:
    return settings_of(server, bootstrapped(server))


@pytest.fixture(scope="module")
def nodes(settings: Settings) -> Iterator[list[Gateway]]:
    """Three nodes, started at once."""
    with ThreadPoolExecutor() as pool, ExitStack() as stack:
        starting = [pool.submit(Gateway, None, **settings) for _ in range(3)]
        yield [stack.enter_context(each.result()) for each in starting]


def test_writes_on_each_of_three_nodes_are_live_on_all_and_a_killed_one_is_not_missed(
    nodes: list[Gateway],
) -> None:
    for number, node in enumerate(nodes):
        serve(node, f"from-{number}")
    for number in range(3):
        until(nodes, is_served(f"from-{number}"))
    with Visitor(nodes[0], "/from-1") as traffic:
        killed = nodes[2]
        os.killpg(killed.process.pid, signal.SIGKILL)
        killed.process.wait()
        serve(nodes[1], "after")
        until(nodes[:2], is_served("after"))
        assert admin(nodes[0], "DELETE", "/routes/from-2").status == 204
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
        return sorted(one["health"] for one in admin(node, "GET", "/upstreams/by-hand.up/health").json()["data"])

    living = [node for node in nodes if node.process.poll() is None]
    with Upstream(default=tells("a")) as first, Upstream(default=tells("b")) as second:
        checks = {"passive": {"unhealthy": {"tcp_failures": 5}}}
        assert admin(living[0], "POST", "/upstreams", {"name": "by-hand.up", "healthchecks": checks}).status == 201
        for one in (first, second):
            made = admin(living[0], "POST", "/upstreams/by-hand.up/targets", {"target": f"127.0.0.1:{one.port}"})
            assert made.status == 201, made.body
        assert admin(living[0], "PUT", "/services/by-hand", {"host": "by-hand.up"}).status == 200
        assert admin(living[0], "POST", "/services/by-hand/routes", {"paths": ["/by-hand"]}).status == 201
        until(living, lambda node: answers(node) == {"a", "b"})
        until(living, lambda node: shown(node) == ["HEALTHY", "HEALTHY"])
        target = f"/upstreams/by-hand.up/targets/127.0.0.1:{first.port}"
        assert admin(living[1], "PUT", f"{target}/unhealthy").status == 204
        until(living, lambda node: answers(node) == {"b"} and shown(node) == ["HEALTHY", "UNHEALTHY"])
        assert admin(living[-1], "PUT", f"{target}/127.0.0.1:{first.port}/healthy").status == 204
        until(living, lambda node: answers(node) == {"a", "b"} and shown(node) == ["HEALTHY", "HEALTHY"])


def test_a_log_level_for_the_cluster_reaches_all_nodes(nodes: list[Gateway]) -> None:
    living = [node for node in nodes if node.process.poll() is None]

    def level(node: Gateway) -> str:
        found: str = admin(node, "GET", "/debug/node/log-level").json()["message"]
        return found

    assert admin(living[0], "PUT", "/debug/cluster/log-level/debug?timeout=60").json() == {
        "message": "log level changed"
    }
    until(living, lambda node: level(node) == "log level: debug")
    assert admin(living[1], "PUT", "/debug/cluster/log-level/info?timeout=0").status == 200
    until(living, lambda node: level(node) == "log level: info")
    assert admin(living[0], "PUT", "/debug/cluster/log-level/loud").status == 400


def test_nodes_serve_without_their_database_refuse_writes_and_catch_up(
    settings: Settings, nodes: list[Gateway], server: postgres.Server
) -> None:
    other = nodes[0]
    with (
        TcpRelay((server.host, server.port)) as relay,
        Gateway(None, **settings | {"pg_port": relay.port}) as cut_off,
    ):
        serve(cut_off, "before")
        until([cut_off, other], is_served("before"))
        with Visitor(cut_off, "/before") as traffic:
            relay.cut()
            until([cut_off], lambda node: not is_reachable(node))
            refused = admin(cut_off, "POST", "/consumers", {"username": "lost"})
            assert refused.status == 503
            assert "message" in refused.json()
            serve(other, "meanwhile")
            until([other], is_served("meanwhile"))
            assert cut_off.request("GET", "/meanwhile").status == 404
            relay.join()
            until([cut_off], is_served("meanwhile"))
            until([cut_off], is_reachable)
            assert admin(cut_off, "POST", "/consumers", {"username": "found"}).status == 201
        assert list(traffic.statuses) == [200]
        assert admin(other, "GET", "/consumers/lost").status == 404
        told = [line for line in cut_off.logs if "the database cannot be read" in line]
        assert len(told) == 1, told
        assert [line for line in cut_off.logs if "the database is there again" in line]


def test_a_node_starts_without_its_database_with_what_was_in_force(
    settings: Settings, server: postgres.Server, tmp_path: Path
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
            assert admin(node, "POST", "/consumers", {"username": "u"}).status == 503
            assert "the node starts with what was in force" in node.output()
            relay.join()
            until([node], is_reachable)
            serve(node, "again")
            until([node], is_served("again"))
        assert ((tmp_path / "kept" / "database.snapshot").stat().st_mode & 0o777) == 0o600


def test_two_nodes_that_migrate_at_once_do_it_once(server: postgres.Server, tmp_path: Path) -> None:
    fresh = settings_of(server, server.new_database())
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
