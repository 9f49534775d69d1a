"""What changed since a revision: applied to what a node knew, it is what the database holds, and nothing is missed."""

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from headgate.entities.registry import ENTITY_TYPES
from headgate.errors import EntityError
from headgate.store.delta import Delta
from headgate.store.snapshot import Snapshot
from headgate.store.sql import changes
from headgate.store.sql.changes import forget_old_notes
from headgate.store.sql.connect import is_sqlite, writing
from headgate.store.sql.store import SqlStore
from headgate.store.sql.tables import Tables
from tests.store.conftest import Clock
from tests.support.certificates import Authority

_AUTHORITY = Authority()
_PAIR = _AUTHORITY.issue("example.com")


def step(store: SqlStore, rng: random.Random, number: int) -> None:
    """Do one write of any kind; what the store refuses is fine too."""

    def some(name: str) -> dict[str, Any] | None:
        found = store.page(name, 1000).entities
        return {"id": rng.choice(found)["id"]} if found else None

    kind = rng.randrange(12)
    if kind == 0:
        store.insert("services", {"name": f"s{number}", "host": "h"})
    elif kind in (1, 2):
        store.insert("routes", {"name": f"r{number}", "paths": [f"/{number}"], "service": some("services")})
    elif kind == 3 and (route := some("routes")):
        store.update("routes", route["id"], {"name": f"r{number}"})
    elif kind == 4:
        store.insert("consumers", {"username": f"c{number}"})
    elif kind == 5 and (consumer := some("consumers")):
        ttl = rng.choice((None, 100))
        store.insert("keyauth_credentials", {"key": f"k{number}", "consumer": consumer}, ttl=ttl)
    elif kind == 6 and (consumer := some("consumers")):
        store.insert("acls", {"group": f"g{number}", "consumer": consumer})
    elif kind == 7:
        store.insert("certificates", {"cert": _PAIR.certificate, "key": _PAIR.key, "snis": [f"n{number}.example"]})
    elif kind == 8 and (certificate := some("certificates")):
        store.insert("snis", {"name": f"m{number}.example", "certificate": certificate})
    elif kind == 9 and (sni := some("snis")):
        store.update("snis", sni["id"], {"certificate": some("certificates")})
    else:
        name = rng.choice(("services", "routes", "consumers", "keyauth_credentials", "certificates", "snis"))
        if chosen := some(name):
            store.delete(name, chosen["id"])


def same(one: Snapshot, other: Snapshot) -> None:
    assert one.revision == other.revision
    assert one.configuration_hash == other.configuration_hash
    names = {*one.entities, *other.entities}
    for name in names:
        assert list(one.entities.get(name, {}).items()) == list(other.entities.get(name, {}).items()), name
    assert one.expires == other.expires


def same_lookups(one: Snapshot, other: Snapshot) -> None:
    for name, field in (("routes", "name"), ("consumers", "username"), ("routes", "protocols"), ("acls", "tags")):
        for value in {str(entity[field]) for entity in other.all(name)} | {"absent"}:
            assert one.by(name, field, value) == other.by(name, field, value)
    for name, field, parent in (
        ("routes", "service", "services"),
        ("acls", "consumer", "consumers"),
        ("snis", "certificate", "certificates"),
    ):
        for entity in other.all(parent):
            assert list(one.children(name, field, entity["id"])) == list(other.children(name, field, entity["id"]))


@pytest.mark.parametrize("seed", range(4))
def test_changes_applied_are_the_whole_after_any_writes(store: SqlStore, clock: Clock, seed: int) -> None:
    rng = random.Random(seed)
    known = store.snapshot()
    for number in range(60):
        if number % 20 == 10:
            # Makes the indexes, which then are brought up to date with every change.
            same_lookups(known, known)
        try:
            step(store, rng, seed * 1000 + number)
        except EntityError:
            continue
        if rng.random() < 0.3:
            clock.now_s += rng.choice((1, 60))
        if rng.random() < 0.1:
            store.purge()
        if rng.random() < 0.5:
            changed, delta = store.snapshot_after(known)
            assert delta is not None
            whole = store.snapshot()
            same(changed, whole)
            same(known.after(Delta.decode(delta.encode()), whole.revision), whole)
            same_lookups(changed, whole)
            known = changed


def test_what_goes_along_with_a_delete_is_removed_too(store: SqlStore) -> None:
    consumer = store.insert("consumers", {"username": "u"})
    store.insert("acls", {"group": "g", "consumer": {"id": consumer["id"]}})
    store.insert("keyauth_credentials", {"key": "k", "consumer": {"id": consumer["id"]}})
    known = store.snapshot()
    store.delete("consumers", consumer["id"])
    changed, delta = store.snapshot_after(known)
    assert delta is not None
    assert {name: len(ids) for name, ids in delta.removed.items()} == {
        "consumers": 1,
        "acls": 1,
        "keyauth_credentials": 1,
    }
    assert changed.is_empty
    # What did not change is shared, and the snapshot before is as it was.
    assert len(known) == 3
    assert changed.entities["routes"] is known.entities["routes"]


def test_too_many_or_too_old_changes_are_read_whole(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    known = store.snapshot()
    for number in range(4):
        store.insert("consumers", {"username": f"u{number}"})
    assert store.snapshot_after(known)[1] is not None
    monkeypatch.setattr(changes, "MOST_CHANGES", 3)
    whole, delta = store.snapshot_after(known)
    assert delta is None
    same(whole, store.snapshot())
    monkeypatch.setattr(changes, "MOST_CHANGES", 100)
    monkeypatch.setattr(changes, "KEPT_REVISIONS", 4)
    assert store.snapshot_after(known)[1] is None
    assert store.snapshot_after(known.with_revision(store.revision() + 1))[1] is None


def test_old_notes_are_forgotten_and_every_entity_has_one_at_most(
    store: SqlStore, common_engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = store.insert("consumers", {"username": "u"})
    for number in range(5):
        store.update("consumers", made["id"], {"custom_id": str(number)})
    tables = Tables(ENTITY_TYPES)

    def notes() -> list[Any]:
        with common_engine.connect() as connection:
            noted = tables.changes
            return list(connection.execute(sa.select(noted).where(noted.c.id == made["id"])).mappings())

    assert [note["revision"] for note in notes()] == [store.revision()]
    monkeypatch.setattr(changes, "KEPT_REVISIONS", 0)
    with writing(common_engine) as connection:
        forget_old_notes(connection, tables, store.revision())
    assert notes() == []


def test_waiting_ends_with_a_write_of_another_node(
    common_engine: sa.Engine, make_other: Callable[[], SqlStore], store: SqlStore
) -> None:
    other = make_other()
    seen = store.wait_for_change(0, 0)
    assert seen == store.revision()
    found: list[int] = []
    waiting = threading.Thread(target=lambda: found.append(store.wait_for_change(seen, 10)))
    waiting.start()
    other.insert("consumers", {"username": "u"})
    waiting.join(8)
    assert found == [other.revision()]
    other.close()
    if not is_sqlite(common_engine):
        assert store._notifications is not None
        assert store._notifications.listen()


@pytest.mark.parametrize("fault", ["the connection is terminated", "notifications are swallowed"])
def test_a_write_that_nobody_tells_of_is_seen_all_the_same(
    common_engine: sa.Engine,
    make_other: Callable[[], SqlStore],
    store: SqlStore,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if is_sqlite(common_engine):
        pytest.skip("nothing is notified there")
    other, notifications = make_other(), store._notifications
    seen = store.wait_for_change(0, 0)
    assert notifications is not None
    assert notifications.listen()
    break_it = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE query LIKE 'LISTEN %' AND datname = current_database()"
        if "terminated" in fault
        else "DROP FUNCTION headgate_notify CASCADE"
    )
    wait, written = notifications.wait, list[int]()

    def wait_through_a_write(timeout_s: float) -> bool:
        # After the look, so that only the wait or the next look can find it.
        if not written:
            with writing(common_engine) as connection:
                connection.execute(sa.text(break_it))
            other.insert("consumers", {"username": "u"})
            written.append(other.revision())
        return wait(timeout_s)

    monkeypatch.setattr(notifications, "wait", wait_through_a_write)
    # Far less than the time after which a lost connection is tried anew.
    assert [store.wait_for_change(seen, 3)] == written
    other.close()


@pytest.fixture
def make_other(common_engine: sa.Engine, clock: Clock) -> Callable[[], SqlStore]:
    engine = sa.create_engine(common_engine.url, poolclass=sa.NullPool)
    return lambda: SqlStore(engine, ENTITY_TYPES, {}, clock)
