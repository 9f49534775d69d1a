"""Three nodes that are written to on one PostgreSQL, while one is killed and the database is away for a while.

HEADGATE_TEST_OUTAGE_S is how long it is away; 30 is what was promised.
"""

import contextlib
import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from headgate.testing.gateway import Answer, Gateway, run
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


def until(is_so: Any, nodes: list[Gateway]) -> None:
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


@pytest.mark.timeout(60 + 3 * OUTAGE_S)
@pytest.mark.parametrize("way", ["cut", "stall"])
def test_three_nodes_lose_nothing_while_one_is_killed_and_their_database_is_away(
    server: postgres.Server, tmp_path: Path, way: str
) -> None:
    with TcpRelay((server.host, server.port)) as relay, contextlib.ExitStack() as stack:
        settings: dict[str, object] = {
            "database": "postgres",
            "pg_host": server.host,
            "pg_port": relay.port,
            "pg_user": server.user,
            "pg_database": server.new_database(),
            "pg_timeout": 1000,
            "plugins": "request-termination",
        }
        assert run("migrations", "bootstrap", settings=settings, prefix=tmp_path).returncode == 0

        def start(number: int) -> Gateway:
            return Gateway(None, **settings | {"prefix": tmp_path / str(number)})

        with ThreadPoolExecutor() as pool:
            starting = [pool.submit(start, number) for number in range(3)]
            nodes = [stack.enter_context(each.result()) for each in starting]
        answering = {"name": "request-termination", "config": {"status_code": 200}}
        assert call(nodes[0], "PUT", "/routes/answered", {"paths": ["/answered"]}).status == 200
        assert call(nodes[0], "POST", "/routes/answered/plugins", answering).status == 201
        until(lambda: all(node.request("GET", "/answered").status == 200 for node in nodes), nodes)
        with contextlib.ExitStack() as clients:
            writers = [clients.enter_context(Writer(node, number)) for number, node in enumerate(nodes)]
            visitors = [clients.enter_context(Visitor(node, number)) for number, node in enumerate(nodes[:2])]
            living = writers[:2]

            def have_written(more: int) -> None:
                before = [len(writer.acknowledged) for writer in living]
                until(
                    lambda: all(len(w.acknowledged) >= n + more for w, n in zip(living, before, strict=True)), nodes[:2]
                )

            have_written(3)
            os.killpg(nodes[2].process.pid, signal.SIGKILL)
            nodes[2].process.wait()
            have_written(3)
            {"cut": relay.cut, "stall": relay.stall}[way]()
            until(lambda: not any(map(is_reachable, nodes[:2])), nodes[:2])
            until(lambda: all(writer.statuses[503] for writer in living), nodes[:2])
            stored = [set(writer.acknowledged) for writer in living]
            threading.Event().wait(OUTAGE_S)
            assert [writer.acknowledged for writer in living] == stored
            relay.join()
            until(lambda: all(map(is_reachable, nodes[:2])), nodes[:2])
            have_written(3)
        assert [dict(visitor.statuses).keys() for visitor in visitors] == [{200}, {200}]
        assert {status for writer in living for status in writer.statuses} == {200, 503}
        nodes[2] = stack.enter_context(start(2))
        hashes = set()

        def have_converged() -> bool:
            hashes.clear()
            hashes.update(call(node, "GET", "/status").json()["configuration_hash"] for node in nodes)
            return len(hashes) == 1

        until(have_converged, nodes)
        found = names(nodes[0], "services")
        assert all(names(node, kind) == found for node in nodes for kind in ("services", "routes"))
        assert found >= set().union(*(writer.acknowledged for writer in writers))
