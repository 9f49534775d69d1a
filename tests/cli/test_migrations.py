"""`headgate migrations`, and documents into and out of a database: texts and exit codes."""

import json
from pathlib import Path

import pytest
import sqlalchemy as sa
import yaml

from headgate.cli.main import main
from headgate.store.sql import core_migrations
from headgate.store.sql.connect import sqlite_engine
from tests.support.note_plugin import CREATE_TABLE, DAOS, write_plugin

DOCUMENT = """
_format_version: "3.0"
services:
- {name: s, host: a.test, routes: [{name: r, paths: [/r]}]}
consumers:
- username: u
  notes: [{label: a}]
"""
BASE = f"""
def up(op):
    {CREATE_TABLE}
"""
SECOND = """
def teardown(op):
    op.rewrite_entities("notes", lambda body: body)
"""


@pytest.fixture(autouse=True)
def sqlite_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("headgate.config.sources.DEFAULT_PATHS", ())
    monkeypatch.setenv("HEADGATE_PREFIX", str(tmp_path / "prefix"))
    monkeypatch.setenv("HEADGATE_DATABASE", "sqlite")
    monkeypatch.setenv("HEADGATE_PLUGINS", "off")


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A plugin with an entity and one migration."""
    index = 'MIGRATIONS = ["000_base_notes"]'
    modules = {"daos": DAOS, "migrations__init": index, "migrations__000_base_notes": BASE}
    folder = write_plugin(tmp_path / "plugins", **modules)
    monkeypatch.setenv("HEADGATE_PLUGINS", "notes")
    monkeypatch.setenv("HEADGATE_PLUGIN_PATH", str(tmp_path / "plugins"))
    return folder


def test_the_way_from_nothing_over_an_upgrade_and_back(
    capsys: pytest.CaptureFixture[str], notes: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def out(*arguments: str, code: int = 0) -> str:
        assert main(["migrations", *arguments]) == code
        return capsys.readouterr().out

    database = tmp_path / "prefix" / "headgate.db"
    monkeypatch.setenv("HEADGATE_PLUGINS", "off")
    assert out("list", code=3) == "Database needs bootstrapping; run 'headgate migrations bootstrap'\n"
    assert out("bootstrap") == (
        f"Bootstrapping database...\nmigrating core on database '{database}'...\n"
        + "".join(f"core migrated up to: {name} (executed)\n" for name in core_migrations.MIGRATIONS)
        + "{0} migrations processed\n{0} executed\nDatabase is up-to-date\n".format(len(core_migrations.MIGRATIONS))
    )
    assert out("bootstrap") == "Database already bootstrapped\n"
    assert out("up") == "Database is already up-to-date\n"
    assert out("finish") == "No pending migrations to finish\n"
    assert out("list") == f"Executed migrations:\ncore: {', '.join(core_migrations.MIGRATIONS)}\n"
    monkeypatch.setenv("HEADGATE_PLUGINS", "notes")
    assert "New migrations available:\nnotes: 000_base_notes\n" in out("list", code=5)
    assert "notes migrated up to: 000_base_notes (executed)" in out("up")
    (notes / "migrations" / "001_100_to_110.py").write_text(SECOND)
    (notes / "migrations" / "__init__.py").write_text('MIGRATIONS = ["000_base_notes", "001_100_to_110"]')
    assert out("up").endswith(
        "notes migrated up to: 001_100_to_110 (pending)\n1 migration processed\n1 pending\n"
        "\nDatabase has pending migrations; run 'headgate migrations finish' when ready\n"
    )
    assert "Pending migrations:\nnotes: 001_100_to_110\n" in out("list", code=4)
    assert json.loads(out("status"))["pending_migrations"] == [{"namespace": "notes", "migrations": ["001_100_to_110"]}]
    assert "notes migrated up to: 001_100_to_110 (executed)" in out("finish")
    assert out("reset", "--yes") == "Database successfully reset\n"
    assert main(["migrations", "reset", "--yes"]) == 1
    assert "Database not bootstrapped, nothing to reset" in capsys.readouterr().err
    assert out("bootstrap", "--quiet") == ""


def test_reset_without_a_terminal_needs_a_yes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrations", "reset"]) == 1
    assert "invoke 'reset' non-interactively with the --yes flag" in capsys.readouterr().err


def test_without_a_database_there_are_none(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_DATABASE", "off")
    assert main(["migrations", "up"]) == 1
    assert "there are no migrations with database = off" in capsys.readouterr().err


def test_database_that_cannot_be_reached_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_DATABASE", "postgres")
    monkeypatch.setenv("HEADGATE_PG_PORT", "1")
    assert main(["migrations", "list"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert "port 1 failed" in error


def test_document_goes_in_and_comes_out(capsys: pytest.CaptureFixture[str], notes: Path, tmp_path: Path) -> None:
    document, exported = tmp_path / "kong.yml", tmp_path / "out.yml"
    document.write_text(DOCUMENT)
    for _ in range(2):
        assert main(["config", "db_import", str(document)]) == 0
        assert capsys.readouterr().out == "parse successful, beginning import\nimport successful\n"
    assert main(["config", "db_export", str(exported)]) == 0
    assert main(["config", "db_export", str(exported)]) == 1
    assert f"{exported} already exists. Will not overwrite it." in capsys.readouterr().err
    first = yaml.safe_load(exported.read_text())
    assert [len(first[name]) for name in ("services", "routes", "consumers", "notes")] == [1, 1, 1, 1]
    assert (tmp_path / "prefix" / "headgate.db").stat().st_mode & 0o777 == 0o600
    assert main(["migrations", "reset", "--yes", "--quiet"]) == 0
    assert main(["config", "db_import", str(exported)]) == 0
    again = tmp_path / "again.yml"
    assert main(["config", "db_export", str(again)]) == 0
    assert yaml.safe_load(again.read_text()) == first
    capsys.readouterr()
    assert main(["config", "db_export", "-"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == first
    assert main(["config", "db_import", str(exported), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["imported"]["notes"] == 1


def test_import_is_all_or_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    document = tmp_path / "kong.yml"
    document.write_text('_format_version: "3.0"\nconsumers: [{username: a}]\n')
    assert main(["config", "db_import", str(document)]) == 0
    document.write_text(
        '_format_version: "3.0"\nservices: [{name: new, host: h}]\n'
        "consumers: [{id: 00000000-0000-4000-8000-000000000001, username: a}]\n"
    )
    assert main(["config", "db_import", str(document)]) == 1
    assert "Failed importing: UNIQUE violation detected on '{username=\"a\"}'" in capsys.readouterr().err
    engine = sqlite_engine(tmp_path / "prefix" / "headgate.db")
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM services")).scalar_one() == 0
    engine.dispose()
