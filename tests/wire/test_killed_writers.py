"""kill -9 in the middle of writing: nothing is there by half, nothing that was acknowledged is gone, all goes on."""

import concurrent.futures
import contextlib
import json
import os
import select
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from headgate.policy.catalog import load_catalog
from headgate.policy.configuration import load_configuration
from headgate.store.sql.connect import postgres_engine, sqlite_engine
from headgate.store.sql.migrate import Migrator
from headgate.store.sql.store import SqlStore
from headgate.testing.gateway import Answer, Gateway, command, environment, run
from tests.support import postgres, processes
from tests.support.http1 import wait_until
from tests.support.note_plugin import CREATE_TABLE, DAOS, write_plugin

Settings = dict[str, object]
pytestmark = pytest.mark.wire

MIGRATION = f"""
import os
import pathlib
import signal

def end(step):
    mark = pathlib.Path(__file__).with_name("end-in")
    if mark.exists() and mark.read_text() == step:
        os.kill(os.getpid(), signal.SIGKILL)

def up(op):
    {CREATE_TABLE}
    end("up")

def teardown(op):
    op.rewrite_entities("notes", lambda body: body)
    end("teardown")
"""
SIZE = 80
_WITHIN_S = 15


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.running() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings of a node on a fresh database; its prefix stays when it is started again."""
    own: Settings = {"database": request.param, "prefix": tmp_path / "prefix", "plugins": "request-termination"}
    if request.param == "sqlite":
        return own
    server: postgres.Server = request.getfixturevalue("server")
    return own | server.settings(server.new_database())


def headgate(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(*arguments, settings=settings, prefix=Path("/nowhere"))


@contextlib.contextmanager
def database(settings: Settings) -> Iterator[tuple[Migrator, SqlStore]]:
    """Give the database to this process: what it does here is there sooner than by a command."""
    if settings["database"] == "sqlite":
        engine = sqlite_engine(Path(str(settings["prefix"])) / "headgate.db")
    else:
        place = (str(settings["pg_host"]), int(str(settings["pg_port"])), str(settings["pg_user"]))
        engine = postgres_engine(*place, None, str(settings["pg_database"]))
    directories = [str(settings["plugin_path"])] if "plugin_path" in settings else []
    catalog = load_catalog(str(settings["plugins"]).split(","), directories)
    entities = {plugin.name: plugin.entities for plugin in catalog.values()}
    migrator = Migrator(engine, catalog.entity_types, catalog.migrations(), entities)
    with contextlib.closing(SqlStore(engine, catalog.entity_types, catalog)) as store:
        yield migrator, store


def bootstrap(settings: Settings) -> None:
    with database(settings) as (migrator, _):
        assert migrator.bootstrap()


def call(node: Gateway, method: str, path: str, body: Any = None) -> Answer:
    headers = {} if body is None else {"Content-Type": "application/json"}
    return node.request(method, path, to="admin", headers=headers, body=None if body is None else json.dumps(body))


def names(node: Gateway, kind: str) -> set[str]:
    """Return the numbers at the end of the names of all entities of a type."""
    found: set[str] = set()
    path: str | None = f"/{kind}?size=1000"
    while path is not None:
        page = call(node, "GET", path).json()
        found |= {row["name"][1:] for row in page["data"]}
        path = page["next"]
    return found


def document(prefix: str = "s", size: int = SIZE) -> dict[str, Any]:
    """Return services with a route each that the gateway answers itself."""
    answering = {"name": "request-termination", "config": {"status_code": 200}}
    return {
        "_format_version": "3.0",
        "services": [
            {"name": f"s{number}", "host": "h", "routes": [{"name": f"r{number}", "paths": [f"/{prefix}{number}/"]}]}
            for number in range(size)
        ],
        "plugins": [answering],
    }


@contextlib.contextmanager
def writing(settings: Settings) -> Iterator[Callable[[], bool]]:
    """Give a function that tells whether somebody is in the middle of a write to the database."""
    if settings["database"] == "sqlite":
        file = Path(str(settings["prefix"])) / "headgate.db"

        def is_locked() -> bool:
            with contextlib.closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as connection:
                try:
                    connection.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError as error:
                    return "locked" in str(error)
                connection.execute("ROLLBACK")
                return False

        yield is_locked
        return
    place = {"host": settings["pg_host"], "port": settings["pg_port"], "user": settings["pg_user"]}
    with psycopg.connect(dbname="postgres", autocommit=True, **place) as connection:  # type: ignore[arg-type]
        wanted = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND backend_xid IS NOT NULL"

        def has_transaction() -> bool:
            row = connection.execute(wanted, (settings["pg_database"],)).fetchone()
            return row is not None and row[0] > 0

        yield has_transaction


def kill_while_importing(settings: Settings, file: Path, looks: int) -> int:
    """Import a file, kill the command once it was seen writing so many times; returns its exit code."""
    line = [*command(), "config", "db_import", str(file)]
    with (
        writing(settings) as is_writing,
        subprocess.Popen(line, env=environment(settings, Path("/nowhere")), stdout=subprocess.PIPE) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == b"parse successful, beginning import\n"
        seen = 0
        while process.poll() is None and seen < looks:
            seen += is_writing()
            select.select([], [], [], 0.001)
        process.kill()
        return process.wait()


def test_a_killed_import_leaves_all_or_nothing(settings: Settings, tmp_path: Path) -> None:
    bootstrap(settings)
    text = yaml.safe_dump(document())
    file = tmp_path / "kong.yml"
    file.write_text(text, encoding="utf-8")
    with database(settings) as (_, store):

        def counts() -> list[int]:
            return [len(store.all(name)) for name in ("services", "routes", "plugins")]

        for looks in (1, 10):
            code = kill_while_importing(settings, file, looks)
            # The later one may come after the end.
            assert code == -signal.SIGKILL or looks > 1
            assert counts() == ([SIZE, SIZE, 1] if code == 0 else [0, 0, 0])
        store.load(load_configuration(text, load_catalog(["request-termination"])))
        assert counts() == [SIZE, SIZE, 1]


@pytest.fixture
def notes(tmp_path: Path, settings: Settings) -> Path:
    """A plugin with an entity, whose migration ends its process in the step that the file `end-in` names."""
    index = 'MIGRATIONS = ["000_base_notes"]'
    modules = {"daos": DAOS, "migrations__init": index, "migrations__000_base_notes": MIGRATION}
    folder = write_plugin(tmp_path / "plugins", **modules)
    settings["plugin_path"] = tmp_path / "plugins"
    return folder / "migrations" / "end-in"


def test_a_killed_bootstrap_leaves_an_empty_database(settings: Settings, notes: Path) -> None:
    settings["plugins"] = "request-termination,notes"
    with database(settings) as (migrator, store):
        for step in ("up", "teardown"):
            notes.write_text(step)
            assert headgate(settings, "migrations", "bootstrap").returncode == -signal.SIGKILL
            assert migrator.state().needs_bootstrap
        notes.unlink()
        assert migrator.bootstrap()
        assert store.insert("notes", {"label": "a"})["label"] == "a"


def test_killed_migrations_change_nothing_and_old_nodes_go_on(settings: Settings, notes: Path) -> None:
    bootstrap(settings)
    with_notes = settings | {"plugins": "request-termination,notes"}
    with database(settings) as (_, old), database(with_notes) as (migrator, new):
        for migration, step, run_whole in (("up", "up", migrator.up), ("finish", "teardown", migrator.finish)):
            before = migrator.state()
            notes.write_text(step)
            assert headgate(with_notes, "migrations", migration).returncode == -signal.SIGKILL
            assert migrator.state() == before
            assert old.insert("consumers", {"username": step})["username"] == step
            notes.unlink()
            assert run_whole()
        after = migrator.state()
        assert (after.new, after.pending) == ({}, {})
        assert new.insert("notes", {"label": "a"})["label"] == "a"
        assert len(new.all("consumers")) == 2


def control_of(node: Gateway) -> int:
    return next(pid for pid in processes.children(node.process.pid) if "control" in processes.command_line(pid))


def is_answering(node: Gateway) -> bool:
    with contextlib.suppress(OSError):
        return call(node, "GET", "/status").status == 200
    return False


def kill_node(node: Gateway) -> None:
    os.killpg(node.process.pid, signal.SIGKILL)
    node.process.wait()


class Writers:
    """Four clients that write until their node is gone: pairs of entities as batches, and single ones."""

    def __init__(self, node: Gateway) -> None:
        self._node = node
        self.pairs: set[str] = set()
        """Numbers of the batches that were acknowledged."""
        self.singles: set[str] = set()

    def write(self, number: int) -> None:
        with contextlib.suppress(OSError):
            if number % 2:
                if call(self._node, "PUT", f"/upstreams/u{number}", {}).status == 200:
                    self.singles.add(str(number))
                return
            service, route = {"host": "h"}, {"paths": ["/"], "service": {"name": f"s{number}"}}
            operations = [
                {"method": "PUT", "path": f"/services/s{number}", "body": service},
                {"method": "PUT", "path": f"/routes/r{number}", "body": route},
            ]
            if call(self._node, "POST", "/batch", {"operations": operations}).status == 200:
                self.pairs.add(str(number))

    def until(self, count: int, end: Callable[[], None]) -> None:
        """Write, and call `end` once so many writes were acknowledged while others are on their way."""
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for number in range(20 * count):
                pool.submit(self.write, number)
            assert wait_until(lambda: len(self.pairs) + len(self.singles) >= count, _WITHIN_S)
            end()
            pool.shutdown(cancel_futures=True)

    def check(self, node: Gateway) -> None:
        """Nothing acknowledged is lost, and no batch is there by half."""
        services = names(node, "services")
        assert services == names(node, "routes")
        assert services >= self.pairs
        assert names(node, "upstreams") >= self.singles
        assert call(node, "PUT", "/services/safter", {"host": "h"}).status == 200


def test_writers_of_a_node_whose_control_process_is_killed(settings: Settings) -> None:
    bootstrap(settings)
    with Gateway(None, **settings) as node:
        writers = Writers(node)
        writers.until(10, lambda: os.kill(control_of(node), signal.SIGKILL))
        assert wait_until(lambda: is_answering(node), _WITHIN_S)
        writers.check(node)


@pytest.mark.timeout(60)
def test_writers_of_a_node_that_is_killed_whole(settings: Settings) -> None:
    bootstrap(settings)
    with Gateway(None, **settings) as node:
        writers = Writers(node)
        writers.until(10, lambda: kill_node(node))
    with Gateway(None, **settings) as node:
        writers.check(node)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("moment", "whole"), [("sent", False), ("in force", False), ("in force", True), ("kept", True)]
)
def test_a_document_that_is_posted_while_the_node_is_killed_counts_whole(
    tmp_path: Path, moment: str, whole: bool
) -> None:
    settings: Settings = {"prefix": tmp_path / "prefix", "plugins": "request-termination"}
    kept = tmp_path / "prefix" / "dbless.snapshot"
    with contextlib.ExitStack() as running:
        node = running.enter_context(Gateway(None, **settings))
        assert call(node, "POST", "/config", document("old")).status == 201
        size, lines = kept.stat().st_size, node.output().count("is in force")
        moments = {
            "sent": lambda: True,
            "in force": lambda: node.output().count("is in force") > lines,
            "kept": lambda: kept.stat().st_size != size,
        }
        statuses: list[int] = []

        def post() -> None:
            with contextlib.suppress(OSError):
                statuses.append(call(node, "POST", "/config", document("a-newer-one-")).status)

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            posting = pool.submit(post)
            assert wait_until(lambda: posting.done() or moments[moment](), _WITHIN_S)
            if whole:
                kill_node(node)
            else:
                os.kill(control_of(node), signal.SIGKILL)
        if whole:
            node = running.enter_context(Gateway(None, **settings))
        assert wait_until(lambda: is_answering(node), _WITHIN_S)
        paths = {route["paths"][0] for route in call(node, "GET", "/routes?size=1000").json()["data"]}
        new = {f"/a-newer-one-{number}/" for number in range(SIZE)}
        assert paths in (new, {f"/old{number}/" for number in range(SIZE)})
        if statuses == [201]:
            assert paths == new
        # What the Admin API says is what the workers do.
        assert wait_until(lambda: {node.request("GET", path).status for path in sorted(paths)[:5]} == {200})
        assert wait_until(lambda: (node.request("GET", "/old1/").status == 200) is ("/old1/" in paths))
