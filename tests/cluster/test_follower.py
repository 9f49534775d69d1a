"""Between store and workers: writes go up and are answered, changes come down as snapshots."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from headgate.cluster import subscriber as subscribing
from headgate.cluster.follower import Follower
from headgate.cluster.frames import (
    MAX_STORE_REQUESTS,
    MAX_UP_BYTES,
    ClusterEvent,
    Event,
    HealthStates,
    Hello,
    StatsReply,
    StoreReply,
    StoreRequest,
)
from headgate.cluster.publisher import Publisher
from headgate.cluster.subscriber import Subscriber, UnknownBaseError
from headgate.entities.registry import ENTITY_TYPES
from headgate.errors import EntityError
from headgate.pdk._call import current_call
from headgate.pdk._node import node
from headgate.pdk.db import EntityTable
from headgate.store.base import Store
from headgate.store.delta import Delta
from headgate.store.memory import MemoryStore
from headgate.store.snapshot import EMPTY, Snapshot
from headgate.store.sql.connect import sqlite_engine
from headgate.store.sql.migrate import Migrator
from headgate.store.sql.store import SqlStore


class Worker:
    """Takes every snapshot, as a worker does for `kong.db`."""

    def __init__(self) -> None:
        self.taken = asyncio.Event()
        self.deltas = 0

    async def take_snapshot(self, revision: int, body: bytes) -> None:
        node.snapshot = Snapshot.decode(body)
        self.taken.set()

    async def take_delta(self, base: int, revision: int, body: bytes) -> None:
        known = node.snapshot
        assert isinstance(known, Snapshot)
        if known.revision != base:
            raise UnknownBaseError
        node.snapshot = known.after(Delta.decode(body), revision)
        self.deltas += 1
        self.taken.set()

    def stats(self, serial: int, most_names: int) -> StatsReply:
        return StatsReply(serial, {}, 0, 0)

    def take_health(self, states: HealthStates) -> None: ...

    def report_health(self) -> None: ...

    def take_event(self, event: Event) -> None:
        pass

    def take_cluster_event(self, event: ClusterEvent) -> None:
        pass


@pytest.fixture
def sqlite_store(tmp_path: Path) -> SqlStore:
    engine = sqlite_engine(tmp_path / "headgate.db")
    Migrator(engine, ENTITY_TYPES, {}, {}).bootstrap()
    return SqlStore(engine, ENTITY_TYPES, {})


@pytest.fixture(autouse=True)
def clean_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "write_entity", None)
    monkeypatch.setattr(node, "snapshot", None)
    # `kong.db` reads the snapshot of the current request, if a test before left one.
    current_call.set(None)


def run(
    tmp_path: Path,
    store: Store,
    scenario: Callable[[Worker, Publisher], Awaitable[None]],
    answer: Callable[[StoreRequest], Awaitable[StoreReply]] | None = None,
) -> None:
    async def whole() -> None:
        read = store.snapshot()
        publisher = Publisher(tmp_path / "link.sock", read.with_revision(1_000_000))
        follower = Follower(store, publisher, read.revision, read)
        publisher.answer_store_request = answer or follower.answer
        await publisher.open()
        worker = Worker()
        link = Subscriber(tmp_path / "link.sock", Hello(0, 1, 1), worker)
        node.write_entity = link.write_entity
        tasks = [asyncio.ensure_future(link.run()), asyncio.ensure_future(follower.run())]
        try:
            async with asyncio.timeout(20):
                await worker.taken.wait()
                await scenario(worker, publisher)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await publisher.close()
            store.close()

    asyncio.run(whole())


async def refused(call: Awaitable[Any]) -> EntityError:
    with pytest.raises(EntityError) as raised:
        await call
    return raised.value


def test_a_plugin_writes_and_reads_what_it_wrote(tmp_path: Path, sqlite_store: SqlStore) -> None:
    consumers, keys = EntityTable("consumers"), EntityTable("keyauth_credentials")

    async def scenario(worker: Worker, publisher: Publisher) -> None:
        worker.taken.clear()
        made = await consumers.insert({"username": "u"})
        key = await keys.insert({"key": "k", "consumer": {"id": made["id"]}}, {"ttl": 100})
        assert 98 <= key["ttl"] <= 100
        while keys.select(key["id"]) is None:
            await worker.taken.wait()
            worker.taken.clear()
        assert consumers.select_by_username("u") == made
        changed = await consumers.update_by_username("u", {"custom_id": "c"})
        assert changed == await consumers.update(made["id"], {}) | {"updated_at": changed["updated_at"]}
        assert (await consumers.upsert(made, {"username": "v"}))["custom_id"] is None
        assert (await consumers.upsert_by_username("w", {}))["username"] == "w"
        assert await consumers.delete_by_username("w")
        assert await consumers.delete(made["id"])
        assert await consumers.delete(made["id"])
        while keys.select(key["id"]) is not None:
            await worker.taken.wait()
            worker.taken.clear()
        assert worker.deltas

    run(tmp_path, sqlite_store, scenario)


def test_all_entities_of_a_type_can_be_removed(tmp_path: Path, sqlite_store: SqlStore) -> None:
    consumers, services, routes = EntityTable("consumers"), EntityTable("services"), EntityTable("routes")

    async def scenario(worker: Worker, publisher: Publisher) -> None:
        for name in "ab":
            await consumers.insert({"username": name})
        assert await consumers.truncate()
        assert sqlite_store.page("consumers").entities == []
        service = await services.insert({"host": "h"})
        await routes.insert({"paths": ["/"], "service": {"id": service["id"]}})
        assert (await refused(services.truncate())).code == 4
        assert len(sqlite_store.page("services").entities) == 1

    run(tmp_path, sqlite_store, scenario)


def test_refusals_come_back_as_they_are(tmp_path: Path, sqlite_store: SqlStore) -> None:
    consumers = EntityTable("consumers")

    async def scenario(worker: Worker, publisher: Publisher) -> None:
        await consumers.insert({"username": "u"})
        error = await refused(consumers.insert({"username": "u"}))
        assert (error.code, error.status, error.fields) == (5, 409, {"username": "u"})
        error = await refused(consumers.insert({"nope": 1}))
        assert error.message == (
            "2 schema violations (at least one of these fields must be non-empty: 'custom_id', 'username'; "
            "nope: unknown field)"
        )
        assert (await refused(consumers.update("x", {}))).code == 1
        assert (await refused(EntityTable("nothings").insert({}))).message == "there are no 'nothings' entities"
        assert (await refused(consumers.delete_by_tags("x"))).code == 6
        assert (await refused(consumers.insert({"username": "a"}, {"ttl": 1}))).code == 11
        with pytest.raises(EntityError, match="workspace: invalid workspace"):
            await consumers.insert({}, {"workspace": "x"})
        with pytest.raises(TypeError, match="entity must be a table"):
            await consumers.insert("x")  # type: ignore[arg-type]

    run(tmp_path, sqlite_store, scenario)


def test_without_a_database_writes_are_unsupported(tmp_path: Path) -> None:
    async def scenario(worker: Worker, publisher: Publisher) -> None:
        services = EntityTable("services")
        error = await refused(services.insert({"host": "h"}))
        assert (error.code, error.status) == (12, 405)
        assert error.message == "cannot create 'services' entities when not using a database"
        error = await refused(services.update_by_name("x", {}))
        assert error.message == "cannot update 'services' entities by 'name' when not using a database"

    run(tmp_path, MemoryStore(EMPTY), scenario)


def test_outside_of_a_worker_writes_are_unsupported() -> None:
    error = asyncio.run(refused(EntityTable("services").delete("x")))
    assert error.message == "cannot remove 'services' entities when not using a database"


def test_writes_are_bounded_in_number_size_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    consumers = EntityTable("consumers")

    async def never(request: StoreRequest) -> StoreReply:
        await asyncio.Event().wait()
        raise AssertionError

    async def scenario(worker: Worker, publisher: Publisher) -> None:
        error = await refused(consumers.insert({"username": "u" * MAX_UP_BYTES}))
        assert "larger than the limit" in error.message
        waiting = [asyncio.ensure_future(consumers.insert({"username": str(n)})) for n in range(MAX_STORE_REQUESTS)]
        await asyncio.sleep(0)
        assert (await refused(consumers.insert({"username": "u"}))).message == "too many writes are on their way"
        for task in waiting[1:]:
            task.cancel()
        assert (await refused(waiting[0])).message == "the store did not answer within 0.2 s"

    monkeypatch.setattr(subscribing, "STORE_TIMEOUT_S", 0.2)
    run(tmp_path, MemoryStore(EMPTY), scenario, never)


def test_a_lost_link_ends_waiting_writes(tmp_path: Path) -> None:
    async def lost(request: StoreRequest) -> StoreReply:
        for connection in list(publishers[0]._workers):
            connection.writer.close()
        await asyncio.Event().wait()
        raise AssertionError

    publishers: list[Publisher] = []

    async def scenario(worker: Worker, publisher: Publisher) -> None:
        publishers.append(publisher)
        error = await refused(EntityTable("consumers").insert({"username": "u"}))
        assert (error.code, error.status, error.message) == (8, 503, "the link to the store was lost")

    run(tmp_path, MemoryStore(EMPTY), scenario, lost)
