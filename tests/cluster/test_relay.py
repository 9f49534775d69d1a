"""Messages between nodes that share a database."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from headgate.cluster.frames import ClusterEvent
from headgate.cluster.relay import Relay
from headgate.entities.registry import ENTITY_TYPES
from headgate.errors import DATABASE_ERROR, EntityError
from headgate.store.base import Message
from headgate.store.sql.connect import sqlite_engine
from headgate.store.sql.events import LIFE_S, EventLog
from headgate.store.sql.migrate import Migrator


class Workers:
    def __init__(self) -> None:
        self.got: list[tuple[str, object]] = []
        self.second = asyncio.Event()

    async def broadcast(self, event: ClusterEvent) -> None:
        self.got.append((event.channel, event.data))
        if len(self.got) == 2:
            self.second.set()


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    engine = sqlite_engine(tmp_path / "headgate.db")
    Migrator(engine, ENTITY_TYPES, {}, {}).bootstrap()
    return EventLog(engine)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(whole())


def test_a_message_reaches_each_node_once(log: EventLog) -> None:
    async def scenario() -> None:
        here, there = Workers(), Workers()
        one, two = Relay(here, log, "one"), Relay(there, log, "two")
        await one.take(ClusterEvent("early", 1))
        for relay in (one, two):
            await relay.poll()
        await one.take(ClusterEvent("mine", {"a": 1}))
        await one.take(ClusterEvent("invalidations", "key", is_for_others=True))
        for _ in range(2):
            for relay in (one, two):
                await relay.poll()
        assert here.got == [("early", 1), ("mine", {"a": 1})]
        assert there.got == [("mine", {"a": 1}), ("invalidations", "key")]

    run(scenario)


def test_delayed_messages_wait_at_both_ends(log: EventLog) -> None:
    async def scenario() -> None:
        here, there = Workers(), Workers()
        one, two = Relay(here, log, "one"), Relay(there, log, "two", propagation_s=0.001)
        await two.poll()
        await one.take(ClusterEvent("late", 1, 0.05))
        await one.take(ClusterEvent("now", 2))
        await two.poll()
        await asyncio.gather(here.second.wait(), there.second.wait())
        assert sorted(here.got) == sorted(there.got) == [("late", 1), ("now", 2)]

    run(scenario)


def test_what_the_database_does_not_take_is_tried_again_in_order(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        there = Workers()
        one, two = Relay(Workers(), log, "one"), Relay(there, log, "two")
        await two.poll()

        def gone(*_: object) -> None:
            raise EntityError(DATABASE_ERROR, message="gone")

        with monkeypatch.context() as patch:
            patch.setattr(log, "put", gone)
            await one.take(ClusterEvent("a", 1))
            await one.take(ClusterEvent("b", 2))
            with pytest.raises(EntityError):
                await one.poll()
        await one.poll()
        await two.poll()
        assert there.got == [("a", 1), ("b", 2)]

    run(scenario)


def test_without_a_database_the_cluster_is_this_node() -> None:
    async def scenario() -> None:
        workers = Workers()
        relay = Relay(workers, None, "one")
        await relay.take(ClusterEvent("mine", 1))
        await relay.take(ClusterEvent("invalidations", "key", is_for_others=True))
        await relay.poll()
        await relay.purge()
        await asyncio.sleep(0)
        assert workers.got == [("mine", 1)]

    run(scenario)


def test_old_messages_go_and_numbers_count_on(log: EventLog) -> None:
    log.put("one", [Message("a", 1), Message("b", 2)], 1000.0)
    assert log.after(0, "two", 1000.0) == (2, [Message("a", 1), Message("b", 2)])
    assert log.after(0, "one", 1000.0) == (2, [])
    log.purge(1000.0 + LIFE_S)
    assert log.after(0, "two", 1000.0) == (2, [Message("b", 2)])
    log.put("one", [Message("c", 3)], 1000.0)
    assert log.last() == 3
