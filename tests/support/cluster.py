"""Nodes that share a PostgreSQL database: their settings, writes to them, waiting for all of them, their clients."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Self

from headgate.entities.registry import ENTITY_TYPES
from headgate.store.sql.connect import postgres_engine
from headgate.store.sql.migrate import Migrator
from headgate.testing.gateway import Answer, Gateway
from tests.support import postgres
from tests.support.http1 import wait_until

WITHIN_S = 20
"""How long nodes may take to agree, on a machine that does other things too."""
_PAUSE_S = 0.02

Settings = dict[str, object]


def settings_of(server: postgres.Server, name: str, **more: object) -> Settings:
    """Return the settings of nodes on a database of a server."""
    return {**server.settings(name), "plugins": "request-termination", **more}


def bootstrapped(server: postgres.Server) -> str:
    """Return the name of a new database that nodes can start with."""
    name = server.new_database()
    engine = postgres_engine(server.host, server.port, server.user, None, name)
    Migrator(engine, ENTITY_TYPES, {}, {}).bootstrap()
    engine.dispose()
    return name


def admin(node: Gateway, method: str, path: str, body: Any = None) -> Answer:
    """Ask a node's Admin API."""
    content = None if body is None else json.dumps(body)
    return node.request(method, path, {"Content-Type": "application/json"}, content, to="admin")


def serve(node: Gateway, name: str) -> None:
    """Have a path answered with 200 by the gateway itself."""
    made = admin(node, "PUT", f"/routes/{name}", {"paths": [f"/{name}"]})
    assert made.status == 200, made.body
    config = {"status_code": 200, "message": name}
    made = admin(node, "POST", f"/routes/{name}/plugins", {"name": "request-termination", "config": config})
    assert made.status == 201, made.body


def is_served(name: str) -> Callable[[Gateway], bool]:
    """Return what says whether a node answers a path."""
    return lambda node: node.request("GET", f"/{name}").status == 200


def is_reachable(node: Gateway) -> bool:
    """Say whether a node reaches its database."""
    found: bool = admin(node, "GET", "/status").json()["database"]["reachable"]
    return found


def until(nodes: Sequence[Gateway], is_so: Callable[[Gateway], bool]) -> None:
    """Wait until something is so on every node."""
    for node in nodes:
        assert wait_until(partial(is_so, node), WITHIN_S), "\n\n".join(each.output()[-3000:] for each in nodes)


class Client:
    """Does one thing to a node over and over, in a thread of its own, until the end of the block or of the node."""

    def __init__(self, node: Gateway) -> None:
        self.node = node
        self.statuses: Counter[int | str] = Counter()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
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
        """Do it once; returns the status of the answer."""
        raise NotImplementedError


class Visitor(Client):
    """Asks for a path."""

    def __init__(self, node: Gateway, path: str) -> None:
        super().__init__(node)
        self._path = path

    def do(self, turn: int) -> int:
        return self.node.request("GET", self._path).status
