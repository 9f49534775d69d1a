"""Bringing databases to the present schema, on both of them."""

import threading
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from headgate.entities.declared import declared_type
from headgate.entities.registry import ENTITY_TYPES
from headgate.errors import EntityError
from headgate.schema import EntityDeclaration, Record, field, types
from headgate.store.migration import Migration, MigrationError
from headgate.store.sql import core_migrations
from headgate.store.sql.connect import postgres_engine, sqlite_engine, writing
from headgate.store.sql.migrate import NotMigratedError, require_current
from headgate.store.sql.store import SqlStore
from headgate.store.sql.tables import Tables
from tests.store.conftest import PLUGINS, migrator
from tests.support import postgres


class Note(Record):
    id: types.Id
    label: str = field(unique=True)
    rank: int = 0
    consumer: types.foreign("consumers", on_delete="cascade") | None = None  # type: ignore[valid-type]


NOTES = declared_type(EntityDeclaration(name="notes", model=Note, endpoint_key="label"))
REGISTRY = ENTITY_TYPES.with_type(NOTES)


def base(op: Any) -> None:
    op.create_entity_table("notes")


def second(op: Any) -> None:
    op.rewrite_entities("notes", lambda body: {**body, "label": body["label"].upper()})
    op.add_unique_field("notes", "label")
    op.add_reference("notes", "consumer", "consumers", "cascade")


def nothing(op: Any) -> None:
    """Nothing to do."""


def test_bootstrapped_schema_is_the_one_the_entity_types_ask_for(engine: sa.Engine) -> None:
    migrator(engine, REGISTRY, {"notes": None}, {"notes": (NOTES,)}).bootstrap()
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Tables(REGISTRY).metadata)
        foreign = {
            (name, key["constrained_columns"][0], key["options"].get("ondelete"))
            for name in REGISTRY
            for key in sa.inspect(connection).get_foreign_keys(name)
        }
    assert differences == []
    assert {("routes", "ref_service", "RESTRICT"), ("snis", "ref_certificate", "CASCADE")} <= {
        (table, column, on_delete or "RESTRICT") for table, column, on_delete in foreign
    }


def test_bootstrap_happens_once_and_tells_what_it_does(engine: sa.Engine) -> None:
    lines: list[str] = []
    assert migrator(engine).state().needs_bootstrap
    with pytest.raises(NotMigratedError, match="run 'headgate migrations bootstrap'"):
        require_current(migrator(engine).state())
    assert migrator(engine, report=lines.append).bootstrap()
    assert not migrator(engine).bootstrap()
    assert lines == [
        "Bootstrapping database...",
        f"migrating core on database '{engine.url.database}'...",
        *(f"core migrated up to: {name} (executed)" for name in core_migrations.MIGRATIONS),
        f"{len(core_migrations.MIGRATIONS)} migrations processed",
        f"{len(core_migrations.MIGRATIONS)} executed",
        "Database is up-to-date",
    ]
    require_current(migrator(engine).state())


def test_of_two_at_once_one_works_and_the_other_finds_it_done(engine: sa.Engine) -> None:
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(migrator(engine).bootstrap())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False, False, False, True]


def test_run_gives_up_when_the_lock_is_held(tmp_path: Any) -> None:
    engine, other = (sqlite_engine(tmp_path / "x.db", wait_s=0.05) for _ in range(2))
    with writing(other), pytest.raises(MigrationError) as raised:
        migrator(engine, lock_timeout_s=0.1).bootstrap()
    assert str(raised.value) == "aborted: another node is performing database changes"
    engine.dispose()
    other.dispose()


def test_new_migrations_of_a_plugin_go_up_then_finish(engine: sa.Engine) -> None:
    torn: list[str] = []
    migrator(engine).bootstrap()
    first = migrator(engine, ENTITY_TYPES, {"notes": (Migration("000_base_notes", base),)})
    assert first.state().new == {"notes": ["000_base_notes"]}
    with pytest.raises(NotMigratedError) as refused:
        require_current(first.state())
    assert str(refused.value) == "New migrations available; run 'headgate migrations up' to proceed"
    assert first.up()
    assert not first.up()
    with engine.begin() as connection:
        row = {"id": "0" * 31 + "1", "body": '{"id":"x","label":"a","rank":3}'}
        connection.execute(sa.insert(sa.table("notes", sa.column("id"), sa.column("body"))).values(row))
    lines: list[str] = []
    chain = (Migration("000_base_notes", base), Migration("001_100_to_110", second, lambda op: torn.append("down")))
    later = migrator(engine, REGISTRY, {"notes": chain}, report=lines.append)
    assert later.up()
    assert lines[1:] == ["notes migrated up to: 001_100_to_110 (pending)", "1 migration processed", "1 pending"]
    assert later.state().pending == {"notes": ["001_100_to_110"]}
    require_current(later.state())
    longer = migrator(engine, REGISTRY, {"notes": (*chain, Migration("002", nothing))})
    with pytest.raises(MigrationError, match="Database has pending migrations; run 'headgate migrations finish'"):
        longer.up()
    assert torn == []
    assert later.finish()
    assert torn == ["down"]
    assert not later.finish()
    assert SqlStore(engine, REGISTRY, PLUGINS).select_by("notes", "label", "A") is not None


class Plain(Record):
    id: types.Id
    label: str
    rank: int = 0


class Grown(Record):
    id: types.Id
    label: str = field(unique=True)
    rank: int = 0
    consumer: types.foreign("consumers", on_delete="cascade") | None = None  # type: ignore[valid-type]


def test_a_table_of_a_declaration_takes_what_a_later_one_needs(engine: sa.Engine) -> None:
    of_table = {"notes": (Migration("table_of_notes", entity="notes"),)}
    plain = declared_type(EntityDeclaration(name="notes", model=Plain))
    registry = ENTITY_TYPES.with_type(plain)
    migrator(engine, registry, of_table, {"notes": (plain,)}).bootstrap()
    before = SqlStore(engine, registry, PLUGINS)
    kept = before.insert("notes", {"label": "a", "rank": 1})
    before.close()
    grown = declared_type(
        EntityDeclaration(
            name="notes", model=Grown, endpoint_key="label", unique_together=(("rank", "label"),), ttl=True
        )
    )
    registry = ENTITY_TYPES.with_type(grown)
    later = migrator(engine, registry, of_table, {"notes": (grown,)})
    assert later.state().new == {"notes": ["table_of_notes"]}
    with pytest.raises(NotMigratedError, match="New migrations available"):
        require_current(later.state())
    assert later.up()
    assert later.state().new == {}
    assert not later.up()
    after = SqlStore(engine, registry, PLUGINS)
    assert after.select("notes", "a", by="label") == {**kept, "consumer": None}
    with pytest.raises(EntityError, match="UNIQUE violation"):
        after.insert("notes", {"label": "a"})
    consumer = after.insert("consumers", {"username": "u"})
    after.insert("notes", {"label": "b", "consumer": {"id": consumer["id"]}}, ttl=100)
    after.delete("consumers", consumer["id"])
    assert [note["label"] for note in after.all("notes")] == ["a"]
    after.close()
    indexes = {index["name"]: bool(index["unique"]) for index in sa.inspect(engine).get_indexes("notes")}
    assert indexes == {index.name: bool(index.unique) for index in Tables(registry)["notes"].indexes}


def test_a_table_with_what_must_be_unique_now_is_left_as_it_is(engine: sa.Engine) -> None:
    of_table = {"notes": (Migration("table_of_notes", entity="notes"),)}
    plain = declared_type(EntityDeclaration(name="notes", model=Plain))
    registry = ENTITY_TYPES.with_type(plain)
    migrator(engine, registry, of_table, {"notes": (plain,)}).bootstrap()
    store = SqlStore(engine, registry, PLUGINS)
    for _ in range(2):
        store.insert("notes", {"label": "a"})
    grown = declared_type(EntityDeclaration(name="notes", model=Grown, endpoint_key="label"))
    later = migrator(engine, ENTITY_TYPES.with_type(grown), of_table, {"notes": (grown,)})
    with pytest.raises(MigrationError, match="failed to run migration 'table_of_notes' of 'notes' up"):
        later.up()
    assert len(store.all("notes")) == 2
    store.close()


def test_failed_run_leaves_nothing_behind(engine: sa.Engine) -> None:
    def fail(op: Any) -> None:
        op.create_entity_table("notes")
        raise RuntimeError("no")

    failing = migrator(engine, ENTITY_TYPES, {"notes": (Migration("000_base_notes", fail),)})
    with pytest.raises(MigrationError) as raised:
        failing.bootstrap()
    assert str(raised.value) == (
        f"[{engine.dialect.name} error] failed to run migration '000_base_notes' of 'notes' up: no"
    )
    assert sa.inspect(engine).get_table_names() == []
    assert migrator(engine).state().needs_bootstrap


def test_migrations_that_forget_a_table_are_refused(engine: sa.Engine) -> None:
    forgetful = migrator(engine, REGISTRY, {"notes": (Migration("000", nothing),)})
    with pytest.raises(MigrationError, match="no migration creates the table of entity 'notes'"):
        forgetful.bootstrap()
    assert sa.inspect(engine).get_table_names() == []


def test_reset_drops_everything_and_says_when_there_was_nothing(engine: sa.Engine) -> None:
    made = migrator(engine, REGISTRY, {"notes": None}, {"notes": (NOTES,)})
    made.bootstrap()
    # A plugin that is not loaded any more has tables, too.
    assert migrator(engine).reset()
    assert sa.inspect(engine).get_table_names() == []
    assert not migrator(engine).reset()


def test_schema_of_postgresql_is_made_when_it_is_not_there(postgres_server: postgres.Server) -> None:
    server, name = postgres_server, postgres_server.new_database()
    engine = postgres_engine(server.host, server.port, server.user, None, name, schema="gateway")
    plain = postgres_engine(server.host, server.port, server.user, None, name)
    assert migrator(engine).state().needs_bootstrap
    assert migrator(engine).bootstrap()
    store = SqlStore(engine, ENTITY_TYPES, PLUGINS)
    assert store.insert("services", {"host": "h"}) in store.page("services").entities
    assert sa.inspect(plain).get_table_names("gateway")
    assert migrator(plain).state().needs_bootstrap
    assert migrator(engine).reset()
    engine.dispose()
    plain.dispose()
