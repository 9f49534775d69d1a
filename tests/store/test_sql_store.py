"""One suite for every store: the same operations on SQLite and PostgreSQL, and reading in memory."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from headgate.entities.declared import declared_type
from headgate.entities.registry import ENTITY_TYPES
from headgate.errors import EntityError
from headgate.schema import EntityDeclaration, Record, field, types
from headgate.store.memory import MemoryStore
from headgate.store.snapshot import Snapshot
from headgate.store.sql.connect import DatabaseError, sqlite_engine
from headgate.store.sql.store import SqlStore
from tests.store.conftest import PLUGINS, Clock, migrator
from tests.support.entities import CA_CERTIFICATE, CERTIFICATE, KEY, SAMPLES

ABSENT = "00000000-0000-4000-8000-000000000000"


def with_parents(store: SqlStore, name: str) -> dict[str, Any]:
    """Return the sample of a type after its parents were stored."""
    given = dict(SAMPLES[name][0])
    for key, value in given.items():
        if isinstance(value, str) and value.startswith("@"):
            parent = value[1:]
            found = store.page(parent).entities
            given[key] = {"id": (found[0] if found else store.insert(parent, with_parents(store, parent)))["id"]}
    return given


def refusal(call: Callable[[], Any]) -> EntityError:
    with pytest.raises(EntityError) as raised:
        call()
    return raised.value


def test_samples_cover_every_type() -> None:
    assert list(SAMPLES) == list(ENTITY_TYPES)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_type_is_stored_read_changed_replaced_and_removed(store: SqlStore, name: str) -> None:
    entity_type = ENTITY_TYPES[name]
    given = with_parents(store, name)
    made = store.insert(name, given)
    assert tuple(made) == tuple(entity_type.fields) if name != "certificates" else made["snis"] == []
    assert store.select(name, made["id"]) == made
    assert store.select(name, made["id"].upper()) == made
    assert store.page(name).entities == [made]
    if entity_type.endpoint_key is not None and made[entity_type.endpoint_key] is not None:
        assert store.select_by(name, entity_type.endpoint_key, made[entity_type.endpoint_key]) == made
    changed = store.update(name, made["id"], SAMPLES[name][1])
    ours = {key: value for key, value in changed.items() if key not in SAMPLES[name][1] and key != "updated_at"}
    assert ours == {key: made[key] for key in ours}
    assert changed == store.select(name, made["id"])
    replaced = store.upsert(name, made["id"], given)
    assert replaced["id"] == made["id"]
    assert store.page(name).entities == [store.select(name, made["id"])]
    other = store.upsert(name, ABSENT, given) if not entity_type.unique and not entity_type.composite_unique else None
    assert other is None or other["id"] == ABSENT
    assert store.delete(name, made["id"]) is True
    assert store.delete(name, made["id"]) is False
    assert store.select(name, made["id"]) is None


@pytest.fixture
def full(store: SqlStore) -> SqlStore:
    for name in SAMPLES:
        if not store.page(name).entities:
            store.insert(name, with_parents(store, name))
    return store


def test_snapshot_and_memory_read_what_the_database_does(full: SqlStore) -> None:
    memory = MemoryStore(Snapshot.decode(full.snapshot().encode()))
    for name, entity_type in ENTITY_TYPES.items():
        for entity in full.page(name).entities:
            assert memory.select(name, entity["id"]) == entity
            for unique in entity_type.unique:
                if entity[unique] is not None:
                    assert memory.select_by(name, unique, entity[unique]) == entity
            for foreign in entity_type.foreign:
                if entity[foreign] is not None:
                    parent = (foreign, entity[foreign]["id"])
                    assert memory.page(name, parent=parent) == full.page(name, parent=parent)
        assert memory.page(name) == full.page(name)
    assert full.snapshot().revision == full.revision()


def test_a_loaded_snapshot_reads_the_same(full: SqlStore, tmp_path: Path) -> None:
    engine = sqlite_engine(tmp_path / "other.db")
    migrator(engine).bootstrap()
    other = SqlStore(engine, ENTITY_TYPES, PLUGINS)
    for _ in range(2):
        other.load(full.snapshot())
        assert other.snapshot().entities == full.snapshot().entities
    other.close()


def test_loading_many_names_what_is_taken_and_stores_none(store: SqlStore) -> None:
    def loaded(*rows: dict[str, Any]) -> Snapshot:
        complete = [{**made, **row} for row in rows]
        return Snapshot({"consumers": {row["id"]: row for row in complete}})

    made = store.insert("consumers", {"username": "first"})
    ids = [f"00000000-0000-4000-8000-{number:012}" for number in range(700)]
    many = [{"id": identifier, "username": f"u{identifier[-4:]}"} for identifier in ids]
    for wrong in ({"id": ABSENT[:-1] + "f", "username": "first"}, {"id": ABSENT[:-1] + "f", "username": "u0001"}):
        found = refusal(lambda wrong=wrong: store.load(loaded(*many, wrong)))  # type: ignore[misc]
        assert (found.code, found.fields) == (5, {"username": wrong["username"]})
        assert list(store.snapshot().entities["consumers"]) == [made["id"]]
    store.load(loaded(*many, {"username": "other"}, {"id": ABSENT[:-1] + "f", "username": "first"}))
    assert len(store.snapshot().entities["consumers"]) == 702
    found_again = store.select("consumers", "other", by="username")
    assert found_again is not None
    assert found_again["id"] == made["id"]


# -- pages ------------------------------------------------------------------------------------------------------------


def test_pages_follow_the_ids_and_end(store: SqlStore) -> None:
    made = sorted(store.insert("consumers", {"username": f"u{number}"})["id"] for number in range(5))
    first = store.page("consumers", 2)
    second = store.page("consumers", 2, first.offset)
    third = store.page("consumers", 2, second.offset)
    assert [e["id"] for page in (first, second, third) for e in page.entities] == made
    assert third.offset is None
    memory = MemoryStore(store.snapshot())
    assert memory.page("consumers", 2) == first
    assert memory.page("consumers", 2, first.offset) == second


@pytest.mark.parametrize(("offset", "reason"), [("!", "bad base64 encoding"), ("e30=", "bad offset")])
def test_offset_of_nowhere_is_refused(store: SqlStore, offset: str, reason: str) -> None:
    error = refusal(lambda: store.page("consumers", 2, offset))
    assert (error.code, error.message) == (7, f"'{offset}' is not a valid offset: {reason}")


# -- inserts ----------------------------------------------------------------------------------------------------------


def test_all_faults_of_an_input_are_told_at_once(store: SqlStore) -> None:
    error = refusal(lambda: store.insert("services", {"port": -1, "retries": "x", "foo": 1}))
    assert (error.code, error.status) == (2, 400)
    assert set(error.fields or {}) == {"port", "retries", "host", "foo"}


def test_taken_values_are_refused(store: SqlStore) -> None:
    made = store.insert("services", {"name": "x", "host": "h"})
    error = refusal(lambda: store.insert("services", {"name": "x", "host": "h"}))
    assert (error.code, error.status, error.fields) == (5, 409, {"name": "x"})
    assert error.message == "UNIQUE violation detected on '{name=\"x\"}'"
    error = refusal(lambda: store.insert("services", {"id": made["id"], "host": "h"}))
    assert (error.code, error.status) == (3, 400)
    assert error.message == f"primary key violation on key '{{id=\"{made['id']}\"}}'"
    other = store.insert("services", {"name": "y", "host": "h"})
    assert refusal(lambda: store.update("services", other["id"], {"name": "x"})).code == 5


def test_fields_that_are_unique_together(store: SqlStore) -> None:
    consumers = [store.insert("consumers", {"username": name}) for name in "ab"]
    for consumer in consumers:
        store.insert("acls", {"group": "g", "consumer": {"id": consumer["id"]}})
    error = refusal(lambda: store.insert("acls", {"group": "g", "consumer": {"id": consumers[0]["id"]}}))
    assert error.code == 5
    store.insert("plugins", {"name": "key-auth"})
    assert refusal(lambda: store.insert("plugins", {"name": "key-auth"})).code == 5


@pytest.mark.parametrize("key", ["k" * 60_000, "nul\0", "ключ", "sha256:abc"])
def test_unusual_keys_are_found_again_and_unique(store: SqlStore, key: str) -> None:
    consumer = store.insert("consumers", {"username": "u"})
    given = {"key": key, "consumer": {"id": consumer["id"]}}
    made = store.insert("keyauth_credentials", given)
    assert store.select_by("keyauth_credentials", "key", key) == made
    assert made["key"] == key
    assert refusal(lambda: store.insert("keyauth_credentials", given)).code == 5


def test_text_that_is_no_unicode_is_refused(store: SqlStore) -> None:
    error = refusal(lambda: store.insert("consumers", {"custom_id": "\ud800"}))
    assert (error.code, error.fields) == (2, {"@entity": ["texts must be valid UTF-8"]})


def test_references_must_exist(store: SqlStore) -> None:
    error = refusal(lambda: store.insert("routes", {"paths": ["/"], "service": {"id": ABSENT}}))
    assert (error.code, error.fields) == (4, {"service": {"id": ABSENT}})
    assert error.message == (f"the foreign key '{{id=\"{ABSENT}\"}}' does not reference an existing 'services' entity.")
    error = refusal(lambda: store.insert("routes", {"paths": ["/"], "service": {"name": "x"}}))
    text = "the foreign key cannot be resolved with '{name=\"x\"}' for an existing 'services' entity"
    assert (error.code, error.fields) == (13, {"service": {"name": text}})
    assert error.message == f"foreign key unresolved (service.name: {text})"


def test_references_by_a_unique_field(store: SqlStore) -> None:
    service = store.insert("services", {"name": "x", "host": "h"})
    route = store.insert("routes", {"paths": ["/"], "service": {"name": "x"}})
    assert route["service"] == {"id": service["id"]}


def test_plugin_must_share_a_protocol_with_its_route(store: SqlStore) -> None:
    route = store.insert("routes", {"protocols": ["grpc"], "paths": ["/"]})
    error = refusal(
        lambda: store.insert("plugins", {"name": "key-auth", "protocols": ["http"], "route": {"id": route["id"]}})
    )
    assert error.fields == {"protocols": "must match the associated route's protocols"}


# -- changes ----------------------------------------------------------------------------------------------------------


def test_update_merges_records_and_replaces_lists(store: SqlStore, clock: Clock) -> None:
    made = store.insert("upstreams", {"name": "u", "healthchecks": {"active": {"timeout": 7, "type": "tcp"}}})
    clock.now_s += 10
    changed = store.update("upstreams", made["id"], {"healthchecks": {"active": {"timeout": 8}}, "tags": ["b"]})
    assert changed["healthchecks"]["active"]["timeout"] == 8
    assert changed["healthchecks"]["active"]["type"] == "tcp"
    assert changed["created_at"] == made["created_at"]
    assert changed["updated_at"] == made["updated_at"] + 10
    plugin = store.insert("plugins", {"name": "key-auth", "config": {"key_names": ["a"], "hide_credentials": True}})
    changed = store.update("plugins", plugin["id"], {"config": {"key_names": ["b"]}})
    assert (changed["config"]["key_names"], changed["config"]["hide_credentials"]) == (["b"], True)


def test_update_of_nothing_is_not_found(store: SqlStore) -> None:
    error = refusal(lambda: store.update("services", ABSENT, {}))
    assert (error.code, error.status) == (6, 404)
    assert error.message == f"could not find the entity with primary key '{{id=\"{ABSENT}\"}}'"
    assert refusal(lambda: store.update("services", "x", {}, by="name")).message == (
        "could not find the entity with '{name=\"x\"}'"
    )
    assert refusal(lambda: store.select("services", "x")).code == 1


def test_upsert_replaces_whole_and_takes_the_name_of_its_address(store: SqlStore) -> None:
    made = store.upsert("services", "x", {"host": "h", "retries": 9}, by="name")
    assert (made["name"], made["retries"]) == ("x", 9)
    replaced = store.upsert("services", "x", {"host": "i"}, by="name")
    assert (replaced["id"], replaced["retries"], replaced["host"]) == (made["id"], 5, "i")
    renamed = store.upsert("services", "x", {"host": "i", "name": "y"}, by="name")
    assert (renamed["id"], renamed["name"]) == (made["id"], "y")


def test_password_is_hashed_once(store: SqlStore) -> None:
    made = store.insert("basicauth_credentials", with_parents(store, "basicauth_credentials"))
    assert made["password"] != "p"
    changed = store.update("basicauth_credentials", made["id"], {"username": "other"})
    assert changed["password"] == made["password"]


def test_names_of_a_certificate_are_its_snis(store: SqlStore) -> None:
    made = store.insert("certificates", {"cert": CERTIFICATE, "key": KEY, "snis": ["b.test", "a.test"]})
    assert made["snis"] == ["a.test", "b.test"]
    changed = store.update("certificates", made["id"], {"snis": ["c.test", "a.test"]})
    assert changed["snis"] == ["a.test", "c.test"]
    assert [sni["name"] for sni in store.page("snis").entities if sni["certificate"]["id"] != made["id"]] == []
    error = refusal(lambda: store.insert("certificates", {"cert": CERTIFICATE, "key": KEY, "snis": ["a.test"]}))
    assert error.fields == {"snis": f"a.test already associated with existing certificate '{made['id']}'"}
    assert store.snapshot().get("certificates", made["id"]) == changed
    store.delete("certificates", made["id"])
    assert store.page("snis").entities == []


# -- deletes ----------------------------------------------------------------------------------------------------------


def test_service_with_routes_is_kept_and_route_takes_its_plugins_along(full: SqlStore) -> None:
    service, route = full.page("services").entities[0], full.page("routes").entities[0]
    error = refusal(lambda: full.delete("services", service["id"]))
    assert (error.code, error.status, error.fields) == (4, 400, {"@referenced_by": "routes"})
    assert error.message == "an existing 'routes' entity references this 'services' entity"
    full.delete("routes", "r", by="name")
    assert full.page("plugins").entities == []
    assert full.delete("services", service["id"])
    assert full.select("routes", route["id"]) is None


def test_consumer_takes_everything_of_its_own_along(full: SqlStore) -> None:
    full.delete("consumers", "u", by="username")
    left = {name for name in ENTITY_TYPES if full.page(name).entities}
    assert left.isdisjoint(
        name for name, kind in ENTITY_TYPES.items() if kind.foreign.get("consumer") and name != "plugins"
    )
    assert {"services", "routes", "plugins", "consumer_groups"} <= left


def test_trusted_ca_certificate_is_kept(store: SqlStore) -> None:
    authority = store.insert("ca_certificates", {"cert": CA_CERTIFICATE})
    service = store.insert("services", {"protocol": "https", "host": "h", "ca_certificates": [authority["id"]]})
    error = refusal(lambda: store.delete("ca_certificates", authority["id"]))
    assert (error.code, error.message) == (
        19,
        f"ca certificate {authority['id']} is still referenced by services (id = {service['id']})",
    )


# -- time to live -----------------------------------------------------------------------------------------------------


@pytest.fixture
def credential(store: SqlStore, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    monkeypatch.setattr(time, "time", clock)
    consumer = store.insert("consumers", {"username": "u"})
    return lambda **given: store.insert("keyauth_credentials", {"consumer": {"id": consumer["id"]}, **given})


def test_entity_disappears_when_its_time_is_over(
    store: SqlStore, clock: Clock, credential: Callable[..., dict[str, Any]]
) -> None:
    made = credential(key="k", ttl=10)
    assert made["ttl"] == 10
    clock.now_s += 4
    assert store.update("keyauth_credentials", made["id"], {"tags": ["t"]})["ttl"] == 6
    snapshot = Snapshot.decode(store.snapshot().encode())
    assert snapshot.by("keyauth_credentials", "key", "k") == store.select("keyauth_credentials", made["id"])
    clock.now_s += 7
    assert store.select("keyauth_credentials", made["id"]) is None
    assert store.page("keyauth_credentials").entities == []
    assert snapshot.by("keyauth_credentials", "key", "k") is None
    assert list(snapshot.all("keyauth_credentials")) == []
    assert "ttl" not in credential(key="k")
    assert store.purge() == 0


def test_purge_removes_rows_without_a_new_revision(
    store: SqlStore, clock: Clock, credential: Callable[..., dict[str, Any]]
) -> None:
    credential(ttl=10)
    clock.now_s += 11
    revision = store.revision()
    assert store.purge() == 1
    assert store.revision() == revision


def test_ttl_out_of_place_is_refused(store: SqlStore, credential: Callable[..., dict[str, Any]]) -> None:
    error = refusal(lambda: credential(ttl=-1))
    text = "must be an integer between 0 and 100000000"
    assert error.body() == {
        "code": 11,
        "name": "invalid options",
        "message": f"invalid option (ttl: {text})",
        "options": {"ttl": text},
    }
    error = refusal(lambda: store.insert("services", {"host": "h"}, ttl=1))
    assert error.fields == {"ttl": "cannot be used with 'services'"}


# -- revisions, writers, crashes ---------------------------------------------------------------------------------------


def test_revision_grows_with_writes_and_not_with_refused_ones(store: SqlStore) -> None:
    before = store.revision()
    store.insert("consumers", {"username": "u"})
    assert store.revision() == before + 1
    refusal(lambda: store.insert("consumers", {"username": "u"}))
    assert store.revision() == before + 1
    assert store.wait_for_change(before, 5) == before + 1
    assert store.wait_for_change(before + 1, 0) == before + 1


def test_of_many_writers_of_one_name_one_wins(store: SqlStore) -> None:
    results: list[object] = []

    def write() -> None:
        try:
            results.append(store.insert("services", {"name": "x", "host": "h"})["id"])
        except EntityError as error:
            results.append(error.code)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count(5) == 7
    assert len(store.page("services").entities) == 1


_WRITER = """
import sys
from pathlib import Path
from headgate.entities.registry import ENTITY_TYPES
from headgate.store.sql.connect import sqlite_engine
from headgate.store.sql.store import SqlStore
store = SqlStore(sqlite_engine(Path(sys.argv[1])), ENTITY_TYPES, {})
number = 0
while True:
    service = store.insert("services", {"name": f"s{number}", "host": "h"})
    store.insert("routes", {"name": f"r{number}", "paths": ["/"], "service": {"id": service["id"]}})
    print(number, flush=True)
    number += 1
"""


def test_killed_writer_leaves_the_file_consistent(tmp_path: Path) -> None:
    path = tmp_path / "headgate.db"
    engine = sqlite_engine(path)
    migrator(engine).bootstrap()
    first = SqlStore(engine, ENTITY_TYPES, {}).revision()
    engine.dispose()
    command = [sys.executable, "-c", _WRITER, str(path)]
    told = -1
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            told = int(line)
            if told == 20:
                os.kill(writer.pid, signal.SIGKILL)
    store = SqlStore(sqlite_engine(path), ENTITY_TYPES, {})
    snapshot = store.snapshot()
    assert snapshot.by("routes", "name", f"r{told}") is not None
    assert all(snapshot.get("services", route["service"]["id"]) for route in snapshot.all("routes"))
    # One write, one revision; bootstrapping made the first.
    assert snapshot.revision == first + len(snapshot)
    with engine.connect() as connection:
        assert connection.execute(sa.text("PRAGMA integrity_check")).scalar_one() == "ok"
        assert connection.execute(sa.text("PRAGMA foreign_key_check")).all() == []
    engine.dispose()
    store.insert("services", {"host": "after"})
    store.close()


def test_database_that_is_gone_is_an_error_with_a_code(tmp_path: Path) -> None:
    store = SqlStore(sqlite_engine(tmp_path / "empty.db"), ENTITY_TYPES, {})
    with pytest.raises(DatabaseError) as raised:
        store.snapshot()
    store.close()
    assert (raised.value.code, raised.value.status) == (8, 500)


# -- entities of plugins ----------------------------------------------------------------------------------------------


class Note(Record):
    id: types.Id
    label: str = field(unique=True)
    rank: int = 0
    consumer: types.foreign("consumers", on_delete="null") | None = None  # type: ignore[valid-type]
    created_at: types.TimestampSeconds


@pytest.fixture
def notes(make_store: Callable[..., SqlStore]) -> SqlStore:
    declaration = EntityDeclaration(
        name="notes", model=Note, endpoint_key="label", unique_together=(("consumer", "rank"),), ttl=True
    )
    return make_store(ENTITY_TYPES.with_type(declared_type(declaration)))


def test_declared_entity_is_stored_like_any_other(notes: SqlStore) -> None:
    consumer = notes.insert("consumers", {"username": "u"})
    made = notes.insert("notes", {"label": "a", "consumer": {"username": "u"}, "ttl": 100})
    assert made["consumer"] == {"id": consumer["id"]}
    assert notes.select_by("notes", "label", "a") is not None
    error = refusal(lambda: notes.insert("notes", {"label": "b", "consumer": {"username": "u"}}))
    assert error.code == 5
    notes.delete("consumers", consumer["id"])
    orphan = notes.select("notes", made["id"])
    assert orphan is not None
    assert orphan["consumer"] is None
