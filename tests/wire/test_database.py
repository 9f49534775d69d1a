"""A node on PostgreSQL: the start, what other processes write, and a database that goes away for a while."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from headgate.policy.catalog import Catalog, load_catalog
from headgate.policy.configuration import load_configuration
from headgate.store.sql.connect import postgres_engine
from headgate.store.sql.migrate import Migrator
from headgate.store.sql.store import SqlStore
from headgate.testing.gateway import Gateway, StartFailed, command, environment
from tests.support import postgres

pytestmark = pytest.mark.wire

DOCUMENT = """
_format_version: "3.0"
routes:
- name: r
  paths: [/{name}]
  plugins:
  - name: request-termination
    config: {{status_code: 200, message: "{name}"}}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.running() as running:
        yield running


@pytest.fixture
def settings(server: postgres.Server) -> dict[str, object]:
    return server.settings(server.new_database())


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog(["request-termination"])


@pytest.fixture
def store(server: postgres.Server, settings: dict[str, object], catalog: Catalog) -> Iterator[SqlStore]:
    """The store of the node's database in this process: one that writes beside it."""
    engine = postgres_engine(server.host, server.port, server.user, None, str(settings["pg_database"]))
    Migrator(engine, catalog.entity_types, catalog.migrations(), {}).bootstrap()
    with closing(SqlStore(engine, catalog.entity_types, catalog)) as store:
        yield store


def run(settings: dict[str, object], prefix: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command(), *arguments], env=environment(settings, prefix), capture_output=True, text=True, check=False
    )


def until(running: Gateway, is_there: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 15
    while not is_there():
        assert time.monotonic() < deadline_s, running.output()


def reachable(running: Gateway) -> object:
    return running.request("GET", "/status", to="admin").json()["database"]["reachable"]


def test_start_needs_a_bootstrapped_database(settings: dict[str, object]) -> None:
    with pytest.raises(StartFailed) as raised:
        Gateway(None, **settings)
    assert "Database needs bootstrapping; run 'headgate migrations bootstrap'" in raised.value.output


def test_start_with_a_document_is_refused_as_it_would_not_be_read(settings: dict[str, object]) -> None:
    with pytest.raises(StartFailed) as raised:
        Gateway(DOCUMENT.format(name="a"), **settings)
    assert "declarative_config is not read with database = postgres" in raised.value.output


def test_a_node_serves_what_a_command_imports(settings: dict[str, object], tmp_path: Path) -> None:
    document = tmp_path / "kong.yml"
    document.write_text(DOCUMENT.format(name="imported"), encoding="utf-8")
    assert run(settings, tmp_path, "migrations", "bootstrap").returncode == 0
    with Gateway(None, **settings) as running:
        done = run(settings, tmp_path, "config", "db_import", str(document))
        assert done.returncode == 0, done.stderr
        until(running, lambda: running.request("GET", "/imported").status == 200)


def test_a_node_outlives_its_database(
    settings: dict[str, object], server: postgres.Server, catalog: Catalog, store: SqlStore
) -> None:
    store.load(load_configuration(DOCUMENT.format(name="first"), catalog))
    with Gateway(None, **settings) as running:
        assert running.request("GET", "/first").status == 200
        assert reachable(running) is True
        server.stop()
        try:
            until(running, lambda: reachable(running) is False)
            assert running.request("GET", "/first").status == 200
        finally:
            server.start()
        store.load(load_configuration(DOCUMENT.format(name="second"), catalog))
        until(running, lambda: running.request("GET", "/second").status == 200)
        assert running.process.poll() is None


WRITER = """
from headgate import Plugin, PluginConfig, kong

class Handler(Plugin[PluginConfig]):
    VERSION = "1.0.0"
    PRIORITY = 10

    async def init_worker(self):
        made = await kong.db.consumers.upsert_by_username("from-init-worker", {})
        assert made["username"] == "from-init-worker"
        kong.timer.at(0, self.write)

    async def write(self):
        await kong.db.consumers.upsert_by_username("from-timer", {})
"""


def test_plugins_write_before_and_beside_requests(tmp_path: Path) -> None:
    (tmp_path / "writer.py").write_text(WRITER, encoding="utf-8")
    with Gateway(None, database="sqlite", plugins="writer", plugin_path=tmp_path, workers=2) as running:
        until(running, lambda: running.request("GET", "/consumers/from-timer", to="admin").status == 200)
        assert len(running.request("GET", "/consumers", to="admin").json()["data"]) == 2
