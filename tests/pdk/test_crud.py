"""Changed entities: their keys leave the caches, `crud` events reach handlers in order and bounded."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.pdk import _crud, kong, shared_dict
from headgate.pdk._node import node
from headgate.store.changes import Change


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    shared_dict.configure(tmp_path / "dict", shared_dict.MINIMUM_MAP_SIZE_BYTES)
    monkeypatch.setattr(node, "cache_keys", {"notes": ("label",)})
    monkeypatch.setattr(node, "snapshot", None)
    yield
    shared_dict.remove(tmp_path / "dict")


@pytest.mark.usefixtures("memory")
def test_keys_of_an_entity_as_it_was_and_as_it_is_are_forgotten() -> None:
    new, old = {"id": "1", "label": "new"}, {"id": "1", "label": "old"}
    keys = [kong.db.notes.cache_key(one) for one in (new, old, "1")]
    other = kong.db.notes.cache_key("other")
    for key in (*keys, other):
        kong.cache.get(key, None, lambda: "value")
        kong.core_cache.get(key, None, lambda: "value")
    _crud.forget([Change("notes", "update", new, old)])
    assert [kong.cache.probe(key) for key in keys] == [None] * 3
    assert [kong.core_cache.get(key) for key in keys] == [None] * 3
    assert kong.cache.get(other) == "value"


def test_events_come_in_order_with_their_data(caplog: pytest.LogCaptureFixture) -> None:
    announcer = _crud.Announcer(most_pending=50_000)
    got: list[Any] = []

    async def slow(data: Any, event: str, source: str, pid: int) -> None:
        await asyncio.sleep(0)
        got.append((event, data["operation"], data["schema"]["name"], data["entity"]["id"]))

    async def main() -> None:
        assert not announcer.is_listened_to
        kong.worker_events.register(slow, "crud", "notes")
        kong.worker_events.register(slow, "crud", "notes:delete")
        try:
            assert announcer.is_listened_to
            changed = [Change("notes", "create", {"id": str(number)}, None) for number in range(100)]
            announcer.announce([*changed, Change("notes", "delete", {"id": "x"}, None)])
            task = announcer._task
            assert task is not None
            await task
        finally:
            kong.worker_events.unregister(slow, "crud", "notes")
            kong.worker_events.unregister(slow, "crud", "notes:delete")

    asyncio.run(main())
    assert got[:100] == [("notes", "create", "notes", str(number)) for number in range(100)]
    assert got[100:] == [("notes", "delete", "notes", "x"), ("notes:delete", "delete", "notes", "x")]


def test_more_changes_than_can_wait_are_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)

    async def main() -> None:
        announcer = _crud.Announcer(most_pending=2)
        announcer.announce([Change("notes", "create", {"id": str(number)}, None) for number in range(3)])
        task = announcer._task
        assert task is not None
        await task

    asyncio.run(main())
    assert "3 changed entities at once: crud events of 1 are not delivered" in caplog.text
