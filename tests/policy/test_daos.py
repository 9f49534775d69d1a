"""Entities and migrations of plugins, found beside their handlers."""

import subprocess
import sys
from pathlib import Path

import pytest

from headgate.errors import DeclarativeError, PluginLoadError
from headgate.policy.catalog import Catalog, load_catalog
from headgate.store.declarative import export_declarative, load_declarative
from tests.support.note_plugin import CREATE_TABLE, RECORD, write_plugin

DAOS = f"""{RECORD}
class Line(Record):
    id: types.Id
    text: str = ""
    note: types.foreign("notes", on_delete="cascade")

ENTITIES = [
    EntityDeclaration(name="notes", model=Note, endpoint_key="label", ttl=True),
    EntityDeclaration(name="lines", model=Line, db_export=False),
]
"""
MIGRATION = f"""
def up(op):
    {CREATE_TABLE}
"""


def load(directory: Path, *names: str) -> Catalog:
    return load_catalog(names, [str(directory)])


def faults(directory: Path, *names: str) -> list[str]:
    with pytest.raises(PluginLoadError) as raised:
        load(directory, *names).migrations()
    return raised.value.faults


def test_entities_of_a_plugin_stand_beside_those_of_the_gateway(tmp_path: Path) -> None:
    write_plugin(tmp_path, daos=DAOS)
    catalog = load(tmp_path, "notes", "key-auth")
    assert list(catalog.entity_types)[-2:] == ["notes", "lines"]
    assert [entity.name for entity in catalog["notes"].entities] == ["notes", "lines"]
    assert catalog["key-auth"].entities == ()
    assert catalog.migrations() == {"notes": None}


def test_documents_hold_them_flat_and_below_their_parents(tmp_path: Path) -> None:
    write_plugin(tmp_path, daos=DAOS)
    types = load(tmp_path, "notes").entity_types
    document = """
_format_version: "3.0"
consumers:
- username: u
  notes:
  - label: a
    lines: [{text: one}]
notes:
- label: b
  consumer: u
  ttl: 100
lines:
- note: b
"""
    snapshot = load_declarative(document, plugin_types={}, entity_types=types)
    consumer, note = snapshot.by("consumers", "username", "u"), snapshot.by("notes", "label", "a")
    assert consumer is not None
    assert note is not None
    assert [entry["label"] for entry in snapshot.children("notes", "consumer", consumer["id"])] in (
        ["a", "b"],
        ["b", "a"],
    )
    assert [entry["text"] for entry in snapshot.children("lines", "note", note["id"])] == ["one"]
    limited = snapshot.by("notes", "label", "b")
    assert limited is not None
    assert 90 < limited["ttl"] <= 100
    exported = export_declarative(snapshot, types)
    assert "notes:" in exported
    assert "lines:" not in exported
    again = load_declarative(document, plugin_types={}, entity_types=types)
    assert again.by("notes", "label", "a") is not None
    assert again.by("notes", "label", "a")["id"] == note["id"]  # type: ignore[index]
    with pytest.raises(DeclarativeError, match="unknown field"):
        load_declarative(document, plugin_types={})


def test_migrations_are_listed_by_their_package(tmp_path: Path) -> None:
    index = 'MIGRATIONS = ["000_base_notes"]'
    write_plugin(tmp_path, daos=DAOS, migrations__init=index, migrations__000_base_notes=MIGRATION)
    found = load(tmp_path, "notes").migrations()["notes"]
    assert found is not None
    assert [(step.name, step.up is not None, step.teardown) for step in found] == [("000_base_notes", True, None)]


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({"daos": "x = 1"}, "plugin 'notes': daos.py needs ENTITIES, a list of EntityDeclaration"),
        ({"daos": "ENTITIES = [1]"}, "plugin 'notes': ENTITIES of daos.py holds a int, not an EntityDeclaration"),
        (
            {"daos": DAOS.replace('name="notes"', 'name="consumers"', 1)},
            "plugin 'notes': entity 'consumers' is there already",
        ),
        (
            {"daos": DAOS.replace("field(unique=True)", '""')},
            "plugin 'notes': entity 'notes': endpoint_key: 'label' must be unique",
        ),
        ({"daos": "1 / 0"}, "plugin 'notes' cannot be imported: ZeroDivisionError: division by zero"),
        (
            {"migrations__init": "x = 1"},
            "plugin 'notes': migrations index from 'notes' must be a list named MIGRATIONS",
        ),
        (
            {"migrations__init": 'MIGRATIONS = ["000"]', "migrations__000": "x = 1"},
            "plugin 'notes': migration 'headgate_plugin_path.notes.migrations.000' of 'notes' subsystem is invalid",
        ),
        ({"migrations__init": 'MIGRATIONS = ["000"]'}, "plugin 'notes' cannot be imported: ModuleNotFoundError"),
    ],
)
def test_what_is_wrong_is_told_with_the_plugin(tmp_path: Path, files: dict[str, str], fault: str) -> None:
    write_plugin(tmp_path, **files)
    assert faults(tmp_path, "notes")[0].startswith(fault)


def test_two_plugins_cannot_have_the_same_entity(tmp_path: Path) -> None:
    write_plugin(tmp_path, daos=DAOS)
    write_plugin(tmp_path, "other", daos=DAOS)
    fault = "plugin 'other': entity 'notes' is there already"
    assert faults(tmp_path, "notes", "other")[0] == fault
    catalog = load_catalog(["notes", "other"], [str(tmp_path)], is_broken_allowed=True)
    assert catalog["notes"].fault is None
    assert str(catalog["other"].fault).startswith(fault)
    assert list(catalog.entity_types)[-2:] == ["notes", "lines"]


def test_broken_migrations_break_their_plugin_only_where_that_is_allowed(tmp_path: Path) -> None:
    write_plugin(tmp_path, daos=DAOS, migrations__init="1 / 0")
    catalog = load_catalog(["notes", "key-auth"], [str(tmp_path)], is_broken_allowed=True)
    assert "ZeroDivisionError" in str(catalog["notes"].fault)
    assert "notes" not in catalog.entity_types
    assert catalog.migrations() == {}
    assert catalog["key-auth"].fault is None


def test_a_worker_loads_such_a_plugin_without_a_database_library(tmp_path: Path) -> None:
    index = 'MIGRATIONS = ["000_base_notes"]'
    write_plugin(tmp_path, daos=DAOS, migrations__init=index, migrations__000_base_notes=MIGRATION)
    program = (
        "import sys, headgate.worker, headgate.policy.runner, headgate.policy.compile, headgate.cluster.subscriber\n"
        "from headgate.policy.catalog import load_catalog\n"
        f"catalog = load_catalog(['bundled', 'notes'], [{str(tmp_path)!r}])\n"
        "assert 'notes' in catalog.entity_types\n"
        "print(sorted({'sqlalchemy', 'alembic', 'psycopg', 'fastapi'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr
