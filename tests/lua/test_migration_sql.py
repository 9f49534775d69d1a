"""Statements of migrations: what only makes declared tables, and what does more."""

import pytest

from headgate.lua.migration_sql import needed_statements

TABLES = frozenset(("notes", "lines"))


@pytest.mark.parametrize(
    "sql",
    [
        "",
        " -- nothing;\n /* here; */ ",
        "CREATE TABLE IF NOT EXISTS \"notes\" (id uuid, text text DEFAULT 'a;b');",
        "create table notes (id uuid)",
        'CREATE UNIQUE INDEX IF NOT EXISTS "notes_x" ON "notes" ("x"); CREATE INDEX ON lines (y);',
        'ALTER TABLE IF EXISTS ONLY "notes" ADD "y" TEXT; ALTER TABLE public.lines DROP COLUMN z',
        "DROP INDEX IF EXISTS notes_x; ALTER INDEX notes_y RENAME TO notes_z",
        "DO $$ BEGIN ALTER TABLE notes ADD y TEXT; EXCEPTION WHEN DUPLICATE_COLUMN THEN NULL; END; $$;",
        "DO $x$ BEGIN CREATE INDEX i ON notes (a); END $x$ LANGUAGE plpgsql",
        "DROP TRIGGER IF EXISTS t ON \"notes\"; CREATE TRIGGER t AFTER INSERT ON notes EXECUTE PROCEDURE gone('ttl')",
    ],
)
def test_what_only_makes_declared_tables_need_not_be_run(sql: str) -> None:
    assert needed_statements(sql, TABLES) == []


@pytest.mark.parametrize(
    ("sql", "needed"),
    [
        ("CREATE TABLE other (id uuid)", ["CREATE TABLE other (id uuid)"]),
        ("UPDATE notes\n SET x = ';'; SELECT 1", ["UPDATE notes SET x = ';'", "SELECT 1"]),
        ("DO $$ BEGIN DELETE FROM notes; END; $$", ["DELETE FROM notes"]),
        ("CREATE INDEX notes_x ON consumers (x)", ["CREATE INDEX notes_x ON consumers (x)"]),
        ("CREATE OR REPLACE FUNCTION f() AS $$ SELECT 1; $$", ["CREATE OR REPLACE FUNCTION f() AS $$ SELECT 1; $$"]),
        ("DROP TABLE notes", ["DROP TABLE notes"]),
        ("ALTER TABLE notes ADD x TEXT; INSERT INTO notes VALUES (1)", ["INSERT INTO notes VALUES (1)"]),
    ],
)
def test_what_does_more_is_told(sql: str, needed: list[str]) -> None:
    assert needed_statements(sql, TABLES) == needed
