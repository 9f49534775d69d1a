"""Three nodes that are written to on one PostgreSQL, while one is killed and the database is away for a while.

HEADGATE_TEST_OUTAGE_S is how long it is away; 30 is what was promised.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headgate.testing.gateway import Gateway
from tests.support import postgres
from tests.support.cluster import (
    Client,
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

pytestmark = pytest.mark.wire

OUTAGE_S = float(os.environ.get("HEADGATE_TEST_OUTAGE_S", "1"))


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.running() as running:
        yield running


class Writer(Client):
    """Writes a service with its route, as a batch."""

    def __init__(self, node: Gateway, number: int) -> None:
        super().__init__(node)
        self.number = number
        self.acknowledged: set[str] = set()

    def do(self, turn: int) -> int:
        name = f"{self.number}-{turn}"
        operations = [
            {"method": "PUT", "path": f"/services/{name}", "body": {"host": "h"}},
            {"method": "PUT", "path": f"/routes/{name}", "body": {"paths": ["/w"], "service": {"name": name}}},
        ]
        status = admin(self.node, "POST", "/batch", {"operations": operations}).status
        if status == 200:
            self.acknowledged.add(name)
        return status


def names(node: Gateway, kind: str) -> set[str]:
    found: set[str] = set()
    path: str | None = f"/{kind}?size=1000"
    while path is not None:
        page = admin(node, "GET", path).json()
        found |= {row["name"] for row in page["data"]}
        path = page["next"]
    return found - {"answered"}


@pytest.fixture
def relay(server: postgres.Server) -> Iterator[TcpRelay]:
    with TcpRelay((server.host, server.port)) as relay:
        yield relay


@pytest.fixture
def settings(server: postgres.Server, relay: TcpRelay) -> Settings:
    """Settings of nodes on a new database, behind the relay."""
    return settings_of(server, bootstrapped(server), pg_port=relay.port, pg_timeout=1000)


def answer_a_path(nodes: list[Gateway]) -> None:
    """Have a path answered by the nodes themselves, for visitors."""
    serve(nodes[0], "answered")
    until(nodes, is_served("answered"))


def write_more(writers: list[Writer]) -> None:
    """Return when each writer has had some more writes acknowledged."""
    goals = {id(writer): len(writer.acknowledged) + 3 for writer in writers}
    for writer in writers:
        until([writer.node], lambda _, one=writer: len(one.acknowledged) >= goals[id(one)])


def outlive(relay: TcpRelay, fail: Callable[[], None], writers: list[Writer]) -> None:
    """Take the database away for a while: the nodes say so, refuse writes, and write again when it is back."""
    nodes = [writer.node for writer in writers]
    fail()
    until(nodes, lambda node: not is_reachable(node))
    for writer in writers:
        until([writer.node], lambda _, one=writer: one.statuses[503] > 0)
    stored = [set(writer.acknowledged) for writer in writers]
    threading.Event().wait(OUTAGE_S)
    assert [writer.acknowledged for writer in writers] == stored
    relay.join()
    until(nodes, is_reachable)
    write_more(writers)


@pytest.mark.timeout(60 + 2 * OUTAGE_S)
def test_three_nodes_lose_nothing_while_one_is_killed_and_their_database_is_cut_off(
    relay: TcpRelay, settings: Settings, tmp_path: Path
) -> None:
    def start(number: int) -> Gateway:
        return Gateway(None, **settings | {"prefix": tmp_path / str(number)})

    with contextlib.ExitStack() as stack, ThreadPoolExecutor() as pool:
        nodes = [stack.enter_context(node) for node in pool.map(start, range(3))]
        answer_a_path(nodes)
        with contextlib.ExitStack() as clients:
            writers = [clients.enter_context(Writer(node, number)) for number, node in enumerate(nodes)]
            visitors = [clients.enter_context(Visitor(node, "/answered")) for node in nodes[:2]]
            write_more(writers)
            os.killpg(nodes[2].process.pid, signal.SIGKILL)
            nodes[2].process.wait()
            write_more(writers[:2])
            outlive(relay, relay.cut, writers[:2])
        assert [set(visitor.statuses) for visitor in visitors] == [{200}, {200}]
        assert {status for writer in writers[:2] for status in writer.statuses} == {200, 503}
        nodes[2] = stack.enter_context(start(2))

        def configuration(node: Gateway) -> str:
            found: str = admin(node, "GET", "/status").json()["configuration_hash"]
            return found

        until(nodes, lambda node: configuration(node) == configuration(nodes[0]))
        found = names(nodes[0], "services")
        assert all(names(node, kind) == found for node in nodes for kind in ("services", "routes"))
        assert found >= set().union(*(writer.acknowledged for writer in writers))


@pytest.mark.timeout(30 + 2 * OUTAGE_S)
def test_a_node_gives_a_frozen_database_up_and_loses_nothing(relay: TcpRelay, settings: Settings) -> None:
    with Gateway(None, **settings) as node:
        answer_a_path([node])
        with Writer(node, 0) as writer, Visitor(node, "/answered") as visitor:
            write_more([writer])
            outlive(relay, relay.stall, [writer])
        assert set(visitor.statuses) == {200}
        assert set(writer.statuses) == {200, 503}
        assert names(node, "routes") == names(node, "services") >= writer.acknowledged
