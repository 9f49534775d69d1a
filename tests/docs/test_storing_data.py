"""The plugin of docs/storing-data.md, in a real gateway with an SQLite file."""

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from headgate.policy.catalog import load_catalog
from headgate.store.declarative import load_declarative
from headgate.store.sql.connect import sqlite_engine
from headgate.store.sql.migrate import Migrator
from headgate.testing.gateway import Answer, Gateway, command
from tests.support.gateway import ROOT

PAGE = (ROOT / "docs" / "storing-data.md").read_text(encoding="utf-8")
DOCUMENT = """
_format_version: "3.0"
services:
- name: s
  host: 127.0.0.1
  port: 9
  routes:
  - name: r
    paths: [/]
    plugins:
    - name: visitors
    - name: request-termination
      config: {status_code: 200, message: ok}
"""


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the page."""
    directory = tmp_path_factory.mktemp("plugins")
    files = re.findall(r"^<!-- (visitors/\S+) -->\n```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(files) == 4
    for name, text in files:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return directory


@pytest.fixture
def settings(plugins: Path, tmp_path: Path) -> dict[str, object]:
    return {
        "database": "sqlite",
        "sqlite_path": tmp_path / "headgate.db",
        "plugins": "bundled,visitors",
        "plugin_path": plugins,
        "trusted_ips": "127.0.0.1",
        "workers": 2,
    }


def import_document(running: Gateway, text: str) -> None:
    """Have another process write into the database while the node runs."""
    path = running.directory / "kong.yml"
    path.write_text(text, encoding="utf-8")
    imported = subprocess.run(
        [*command(), "config", "db_import", str(path)],
        env=running._environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert imported.stdout == "parse successful, beginning import\nimport successful\n", imported.stderr


def ask(running: Gateway, target: str, address: str) -> Answer:
    return running.request("GET", target, {"X-Real-IP": address})


def until(running: Gateway, is_there: Callable[[], bool]) -> None:
    """Ask again until the workers run what the database holds."""
    deadline_s = time.monotonic() + 10
    while not is_there():
        assert time.monotonic() < deadline_s, running.output() + "\n".join(running.logs())


def test_plugin_of_the_page_remembers_over_requests_workers_and_restarts(settings: dict[str, object]) -> None:
    with Gateway(None, **settings) as running:
        import_document(running, DOCUMENT)
        until(running, lambda: ask(running, "/first", "192.0.2.1").status == 200)
        # Either worker may answer: both know the visitor once the write is in force.
        until(running, lambda: ask(running, "/second", "192.0.2.1").headers.get("x-first-path") == "/first")
        # Control shows it once every worker has said that it runs it.
        until(running, lambda: running.request("GET", "/visitors/192.0.2.1", to="admin").status == 200)
        found = running.request("GET", "/visitors/192.0.2.1", to="admin").json()
        assert found["first_path"] == "/first"
        assert 3500 < found["ttl"] <= 3600
        assert running.request("GET", "/visitors", to="admin").json()["data"][0]["id"] == found["id"]
        assert running.request("GET", "/schemas/visitors", to="admin").status == 200
        assert running.request("GET", "/config", to="admin").status == 400
    with Gateway(None, **settings) as running:
        assert ask(running, "/third", "192.0.2.1").headers["x-first-path"] == "/first"


def test_without_a_database_the_write_is_refused_and_the_file_is_read(settings: dict[str, object]) -> None:
    document = DOCUMENT + "visitors:\n- {address: 192.0.2.1, first_path: /declared}\n"
    del settings["database"]
    with Gateway(document, **settings) as running:
        assert ask(running, "/", "192.0.2.1").headers["x-first-path"] == "/declared"
        assert ask(running, "/", "192.0.2.2").status == 500
        assert "cannot create 'visitors' entities when not using a database" in running.output()
        assert running.request("GET", "/visitors/192.0.2.1", to="admin").json()["first_path"] == "/declared"


def test_declarative_file_of_the_page_is_valid(plugins: Path) -> None:
    catalog = load_catalog(["visitors"], [str(plugins)])
    found = re.search(r"^```yml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    snapshot = load_declarative(found[1], plugin_types=catalog, entity_types=catalog.entity_types)
    assert len(list(snapshot.all("visitors"))) == 2


def test_migration_of_the_page_makes_the_table_of_its_declaration(plugins: Path, tmp_path: Path) -> None:
    catalog = load_catalog(["visitors"], [str(plugins)])
    engine = sqlite_engine(tmp_path / "headgate.db")
    migrator = Migrator(engine, catalog.entity_types, catalog.migrations(), {"visitors": catalog["visitors"].entities})
    assert migrator.bootstrap()
    assert migrator.state().executed["visitors"] == ["000_base_visitors"]
    engine.dispose()
