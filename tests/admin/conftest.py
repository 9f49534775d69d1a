"""An Admin API over a real publisher without workers, driven in memory."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from headgate.admin.app import admin_app, status_app
from headgate.admin.node import Node
from headgate.cluster.follower import Follower
from headgate.config.load import load_settings
from headgate.node.bootstrap import Bootstrap
from headgate.node.ticket_secret import TicketSecret
from headgate.policy.catalog import load_catalog
from headgate.store.base import Store
from headgate.store.snapshot import EMPTY
from headgate.store.sql.store import SqlStore
from tests.store.conftest import clock, common_engine, postgres_server, store

__all__ = ["clock", "common_engine", "postgres_server", "store"]


class Api:
    """Both APIs of one node; `call` is synchronous, each call on its own loop."""

    def __init__(self, prefix: Path, store: Store | None = None, **settings: str) -> None:
        given = {
            "prefix": str(prefix),
            "plugins": "key-auth, request-termination",
            "admin_access_log": "off",
        } | settings
        loaded = load_settings(None, {}, given)
        self.node = Node(
            Bootstrap(
                role="control",
                index=0,
                generation=1,
                worker_count=0,
                node_id="7a267194-6123-5ee0-a1c9-4c1559eb0d95",
                settings=loaded,
                listeners=(),
                link_path=prefix / "link.sock",
                shared_memory_path=prefix / "memory",
                log_path=None,
                is_replacement=False,
                ticket_state=TicketSecret(86_400).state(),
            ),
            load_catalog(loaded.general.plugins, loaded.general.plugin_directories),
            EMPTY.with_revision(1),
            store,
        )
        if store is not None:
            self.node.follower = Follower(store, self.node.publisher, -1)
        self.apps = {"admin": admin_app(self.node), "status": status_app(self.node)}

    def call(self, method: str, path: str, *, api: str = "admin", **arguments: Any) -> httpx.Response:
        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(self.apps[api])
            async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
                return await client.request(method, path, **arguments)

        return asyncio.run(call())

    def get(self, path: str, **arguments: Any) -> Any:
        return self.call("GET", path, **arguments).json()

    def load(self, text: str) -> None:
        answer = self.call("POST", "/config", json={"config": text})
        assert answer.status_code == 201, answer.text


@pytest.fixture
def make_api(tmp_path: Path) -> Callable[..., Api]:
    return lambda **settings: Api(tmp_path, **settings)


@pytest.fixture
def api(make_api: Callable[..., Api]) -> Api:
    return make_api()


@pytest.fixture
def writable(tmp_path: Path, store: SqlStore) -> Api:
    """An Admin API over an empty database."""
    return Api(tmp_path, store, database="sqlite")
