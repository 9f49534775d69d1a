"""Three nodes that are written to on one PostgreSQL, while one is killed and the database is away for a while.

HEADGATE_TEST_OUTAGE_S is how long it is away; 30 is what was promised.
"""

import contextlib
import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from headgate.entities.registry import ENTITY_TYPES
from headgate.store.sql.connect import postgres_engine
from headgate.store.sql.migrate import Migrator
from headgate.testing.gateway import Answer, Gateway
from tests.support import postgres
from tests.support.http1 import wait_until
from tests.support.tcp_relay import TcpRelay

pytestmark = pytest.mark.wire

OUTAGE_S = float(os.environ.get("HEADGATE_TEST_OUTAGE_S", "1"))
_WITHIN_S = 20
_PAUSE_S = 0.05


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.running() as running:
        yield running


def call(node: Gateway, method: str, path: str, body: Any = None) -> Answer:
    content = None if body is None else json.dumps(body)
    return node.request(method, path, {"Content-Type": "application/json"}, content, to="admin")


def until(is_so: Callable[[], bool], nodes: list[Gateway]) -> None:
    assert wait_until(is_so, _WITHIN_S), "\n\n".join(node.output()[-3000:] for node in nodes)


class Client:
    """Does one thing to a node over and over, in a thread of its own, until the end of the block or of the node."""

    def __init__(self, node: Gateway, number: int) -> None:
        self.node, self.number = node, number
        self.acknowledged: set[str] = set()
        self.statuses: Counter[int | str] = Counter()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Client":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        turn = 0
        while not self._is_over.is_set() and self.node.process.poll() is None:
            turn += 1
            try:
                status: int | str = self.do(turn)
            except OSError as error:
                status = type(error).__name__
            self.statuses[status] += 1
            self._is_over.wait(_PAUSE_S)

    def do(self, turn: int) -> int:
        raise NotImplementedError


class Writer(Client):
    """Writes a service with its route, as a batch."""

    def do(self, turn: int) -> int:
        name = f"{self.number}-{turn}"
        operations = [
            {"method": "PUT", "path": f"/services/{name}", "body": {"host": "h"}},
            {"method": "PUT", "path": f"/routes/{name}", "body": {"paths": ["/w"], "service": {"name": name}}},
        ]
        status = call(self.node, "POST", "/batch", {"operations": operations}).status
        if status == 200:
            self.acknowledged.add(name)
        return status


class Visitor(Client):
    """Asks for a path that the gateway answers itself."""

    def do(self, turn: int) -> int:
        return self.node.request("GET", "/answered").status


def names(node: Gateway, kind: str) -> set[str]:
    found: set[str] = set()
    path: str | None = f"/{kind}?size=1000"
    while path is not None:
        page = call(node, "GET", path).json()
        found |= {row["name"] for row in page["data"]}
        path = page["next"]
    return found - {"answered"}


def is_reachable(node: Gateway) -> bool:
    found: bool = call(node, "GET", "/status").json()["database"]["reachable"]
    return found


@pytest.fixture
def relay(server: postgres.Server) -> Iterator[TcpRelay]:
    with TcpRelay((server.host, server.port)) as relay:
        yield relay


@pytest.fixture
def settings(server: postgres.Server, relay: TcpRelay) -> dict[str, object]:
    """Settings of nodes on a new database, behind the relay."""
    name = server.new_database()
    engine = postgres_engine(server.host, server.port, server.user, None, name)
    Migrator(engine, ENTITY_TYPES, {}, {}).bootstrap()
    engine.dispose()
    place = {"pg_host": server.host, "pg_port": relay.port, "pg_user": server.user, "pg_database": name}
    return {"database": "postgres", **place, "pg_timeout": 1000, "plugins": "request-termination"}


def answer_a_path(nodes: list[Gateway]) -> None:
    """Have a path answered by the nodes themselves, for visitors."""
    answering = {"name": "request-termination", "config": {"status_code": 200}}
    assert call(nodes[0], "PUT", "/routes/answered", {"paths": ["/answered"]}).status == 200
    assert call(nodes[0], "POST", "/routes/answered/plugins", answering).status == 201
    until(lambda: all(node.request("GET", "/answered").status == 200 for node in nodes), nodes)


def write_more(writers: list[Writer]) -> None:
    """Return when each writer has had some more writes acknowledged."""
    goals = [len(writer.acknowledged) + 3 for writer in writers]
    nodes = [writer.node for writer in writers]
    until(lambda: all(len(w.acknowledged) >= goal for w, goal in zip(writers, goals, strict=True)), nodes)


def outlive(relay: TcpRelay, fail: Callable[[], None], writers: list[Writer]) -> None:
    """Take the database away for a while: the nodes say so, refuse writes, and write again when it is back."""
    nodes = [writer.node for writer in writers]
    fail()
    until(lambda: not any(map(is_reachable, nodes)), nodes)
    until(lambda: all(writer.statuses[503] for writer in writers), nodes)
    stored = [set(writer.acknowledged) for writer in writers]
    threading.Event().wait(OUTAGE_S)
    assert [writer.acknowledged for writer in writers] == stored
    relay.join()
    until(lambda: all(map(is_reachable, nodes)), nodes)
    write_more(writers)


@pytest.mark.timeout(60 + 2 * OUTAGE_S)
def test_three_nodes_lose_nothing_while_one_is_killed_and_their_database_is_cut_off(
    relay: TcpRelay, settings: dict[str, object], tmp_path: Path
) -> None:
    def start(number: int) -> Gateway:
        return Gateway(None, **settings | {"prefix": tmp_path / str(number)})

    with contextlib.ExitStack() as stack, ThreadPoolExecutor() as pool:
        nodes = [stack.enter_context(node) for node in pool.map(start, range(3))]
        answer_a_path(nodes)
        with contextlib.ExitStack() as clients:
            writers = [clients.enter_context(Writer(node, number)) for number, node in enumerate(nodes)]
            visitors = [clients.enter_context(Visitor(node, number)) for number, node in enumerate(nodes[:2])]
            write_more(writers)
            os.killpg(nodes[2].process.pid, signal.SIGKILL)
            nodes[2].process.wait()
            write_more(writers[:2])
            outlive(relay, relay.cut, writers[:2])
        assert [set(visitor.statuses) for visitor in visitors] == [{200}, {200}]
        assert {status for writer in writers[:2] for status in writer.statuses} == {200, 503}
        nodes[2] = stack.enter_context(start(2))

        def have_converged() -> bool:
            return len({call(node, "GET", "/status").json()["configuration_hash"] for node in nodes}) == 1

        until(have_converged, nodes)
        found = names(nodes[0], "services")
        assert all(names(node, kind) == found for node in nodes for kind in ("services", "routes"))
        assert found >= set().union(*(writer.acknowledged for writer in writers))


@pytest.mark.timeout(30 + 2 * OUTAGE_S)
def test_a_node_gives_a_frozen_database_up_and_loses_nothing(relay: TcpRelay, settings: dict[str, object]) -> None:
    with Gateway(None, **settings) as node:
        answer_a_path([node])
        with Writer(node, 0) as writer, Visitor(node, 0) as visitor:
            write_more([writer])
            outlive(relay, relay.stall, [writer])
        assert set(visitor.statuses) == {200}
        assert set(writer.statuses) == {200, 503}
        assert names(node, "routes") == names(node, "services") >= writer.acknowledged
