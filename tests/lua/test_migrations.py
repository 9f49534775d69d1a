"""Migrations of Lua plugins: tables from declarations, functions that run, SQL that does not."""

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from headgate.errors import PluginLoadError
from headgate.policy.catalog import load_catalog
from headgate.store.migration import MigrationError
from headgate.store.sql.connect import sqlite_engine
from headgate.store.sql.migrate import Migrator
from tests.lua.conftest import Write

NOTES = """
local typedefs = require "kong.db.schema.typedefs"
return { { name = "%s", primary_key = { "id" }, fields = { { id = typedefs.uuid } } } }
"""


def migrator(database: Path, report: Callable[[str], None] = lambda line: None) -> Migrator:
    catalog = load_catalog(["written"])
    entities = {plugin.name: plugin.entities for plugin in catalog.values()}
    return Migrator(sqlite_engine(database), catalog.entity_types, catalog.migrations(), entities, report=report)


def tables(database: Path) -> set[str]:
    return set(sa.inspect(sqlite_engine(database)).get_table_names())


def faults_of(write: Write, **modules: str) -> list[str]:
    write(**modules)
    with pytest.raises(PluginLoadError) as caught:
        load_catalog(["written"]).migrations()
    return caught.value.faults


def test_tables_are_made_from_declarations_without_migrations(written_plugin: Write, tmp_path: Path) -> None:
    written_plugin(daos=NOTES % "notes")
    migrator(tmp_path / "db").bootstrap()
    assert "notes" in tables(tmp_path / "db")


def test_an_entity_that_comes_later_brings_its_table(written_plugin: Write, tmp_path: Path) -> None:
    written_plugin(daos=NOTES % "notes")
    migrator(tmp_path / "db").bootstrap()
    second = (NOTES % "notes").replace(
        "return {", "local two = {"
    ).rstrip() + "\ntwo[2] = { name = 'lines', primary_key = { 'id' }, fields = { { id = typedefs.uuid } } } return two"
    written_plugin(daos=second)
    later = migrator(tmp_path / "db")
    assert later.state().new == {"written": ["table_of_lines"]}
    assert later.up()
    assert "lines" in tables(tmp_path / "db")


def test_functions_run_in_the_order_of_the_list(written_plugin: Write, tmp_path: Path) -> None:
    written_plugin(
        daos=NOTES % "notes",
        migrations__init="return { '000_base', '001_more' }",
        migrations__000_base="return { postgres = { up = ' -- nothing\\n /* here */ ' } }",
        migrations__001_more="""
        return { postgres = {
          up_f = function() ran = (ran or "") .. "up " end,
          teardown = function() ran = ran .. "teardown" return true end,
        } }""",
    )
    bootstrapped = migrator(tmp_path / "db")
    bootstrapped.bootstrap()
    from headgate.lua.vm import vm

    assert vm().globals["ran"] == "up teardown"
    assert bootstrapped.state().executed["written"] == ["table_of_notes", "000_base", "001_more"]


@pytest.mark.parametrize(
    ("function", "text"),
    [
        ("error('no way')", "no way"),
        ("return nil, 'not today'", "not today"),
        ("connector:query('SELECT 1')", "connector:query is not available: SQL of plugins is not run: SELECT 1"),
        ("ngx.sleep(1)", "a migration cannot wait"),
    ],
)
def test_a_function_that_fails_leaves_nothing(written_plugin: Write, tmp_path: Path, function: str, text: str) -> None:
    written_plugin(
        migrations__init="return { '000_base' }",
        migrations__000_base=f"return {{ postgres = {{ up_f = function(connector) {function} end }} }}",
    )
    failing = migrator(tmp_path / "db")
    with pytest.raises(MigrationError, match=f"failed to run migration '000_base' of 'written' up: .*{text}"):
        failing.bootstrap()
    assert failing.state().needs_bootstrap


MAKES_TABLES = """
return { postgres = { up = [[
  CREATE TABLE IF NOT EXISTS "notes" ("id" UUID PRIMARY KEY, "name" TEXT UNIQUE);
  DO $$
  BEGIN
    CREATE INDEX IF NOT EXISTS "notes_name" ON "notes" ("name");
  EXCEPTION WHEN UNDEFINED_COLUMN THEN
    -- as it is;
  END$$;
]] } }
"""


def test_sql_that_makes_the_declared_tables_is_passed_over_and_told(written_plugin: Write, tmp_path: Path) -> None:
    written_plugin(daos=NOTES % "notes", migrations__init="return { '000_base' }", migrations__000_base=MAKES_TABLES)
    told: list[str] = []
    bootstrapped = migrator(tmp_path / "db", told.append)
    bootstrapped.bootstrap()
    assert "written 000_base: its SQL is not run, the tables are made from daos.lua" in told
    assert bootstrapped.state().executed["written"] == ["table_of_notes", "000_base"]


def test_a_function_may_ask_for_the_declared_tables_again(written_plugin: Write, tmp_path: Path) -> None:
    written_plugin(
        daos=NOTES % "notes",
        migrations__init="return { '000_base' }",
        migrations__000_base="""
        return { postgres = { up = "", teardown = function(connector)
          assert(connector:connect_migrations())
          local ok, err = connector:query('ALTER TABLE IF EXISTS ONLY "notes" ADD "x" TEXT;')
          if not ok then return nil, err end
          return true
        end } }""",
    )
    bootstrapped = migrator(tmp_path / "db")
    bootstrapped.bootstrap()
    assert bootstrapped.state().executed["written"] == ["table_of_notes", "000_base"]


def test_sql_that_does_more_is_refused_with_what_to_do(written_plugin: Write) -> None:
    faults = faults_of(
        written_plugin,
        daos=NOTES % "notes",
        migrations__init="return { '000_base' }",
        migrations__000_base="return { postgres = { up = \"UPDATE notes SET name = 'x'\" } }",
    )
    assert faults == [
        "plugin 'written': migration '000_base' has SQL that does more than to make the tables of daos.lua, and SQL of "
        "plugins is not run: UPDATE notes SET name = 'x'; when nothing is left to do for it here, take '000_base' off "
        "the list of migrations"
    ]


def test_every_fault_of_the_list_is_told(written_plugin: Write) -> None:
    faults = faults_of(
        written_plugin,
        migrations__init="return { 'nowhere', 'none', 'empty', 'wrong' }",
        migrations__none="return { cassandra = {} }",
        migrations__empty="return { postgres = {} }",
        migrations__wrong="return { postgres = { teardown = 1 } }",
    )
    assert [fault.partition(": ")[2][:50] for fault in faults] == [
        "failed to load migration 'nowhere': there is no mo",
        "missing postgres strategy for migration 'none'",
        "migration 'kong.plugins.written.migrations.empty' ",
        "migration 'kong.plugins.written.migrations.wrong' ",
    ]
    assert faults_of(written_plugin, migrations__init="return 1") == [
        "plugin 'written': migrations index from 'kong.plugins.written.migrations' must be a table"
    ]
