"""`kong.db`: reading in a phase; writing is `tests/cluster/test_follower.py`."""

import asyncio
from typing import Any

import pytest

from headgate import EntityError, kong
from headgate.pdk._node import node
from headgate.pdk.db import PageError
from tests.pdk.calls import phase

CONSUMER = {"id": "c1", "username": "u"}
ENTITIES: dict[str, list[dict[str, Any]]] = {
    "consumers": [CONSUMER],
    "notes": [{"id": f"n{number}", "label": f"l{number}", "consumer": {"id": "c1"}} for number in range(3)],
}


def test_entities_are_found_by_id_unique_field_and_reference() -> None:
    with phase("access", entities=ENTITIES):
        assert kong.db.consumers.select("c1") == CONSUMER
        assert kong.db.consumers.select({"id": "c1"}) == CONSUMER
        assert kong.db.consumers.select_by_username("u") == CONSUMER
        assert kong.db.consumers.select_by_username("v") is None
        assert [note["id"] for note in kong.db.notes.each_for_consumer(CONSUMER)] == ["n0", "n1", "n2"]
        assert [note["id"] for note in kong.db.notes.each()] == ["n0", "n1", "n2"]


def test_pages_end_with_no_offset() -> None:
    with phase("access", entities=ENTITIES):
        first, offset = kong.db.notes.page(2)
        rest, end = kong.db.notes.page(2, offset)
        assert [note["id"] for note in first + rest] == ["n0", "n1", "n2"]
        assert end is None
        with pytest.raises(PageError, match="size must be an integer between 1 and 50000"):
            kong.db.notes.page(0)
        with pytest.raises(PageError, match="'x' is not a valid offset"):
            kong.db.notes.page(1, "x")


def test_cache_key_is_made_of_the_declared_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "cache_keys", {"notes": ("consumer", "label")})
    monkeypatch.setattr(node, "configuration", {"default_workspace": "ws"})
    note = {"id": "n1", "consumer": {"id": "c1"}, "label": "l"}
    assert kong.db.notes.cache_key(note) == "notes:c1:l::::ws"
    assert kong.db.notes.cache_key(CONSUMER, "l") == "notes:c1:l::::ws"
    assert kong.db.notes.cache_key({"id": "n1", "consumer": None, "label": None}) == "notes:n1:::::ws"
    assert kong.db.consumers.cache_key(CONSUMER) == "consumers:c1:::::ws"
    assert kong.db.consumers.cache_key("a", None, "b") == "consumers:a::b:::ws"


def test_a_write_in_a_test_of_a_phase_is_refused_as_without_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "write_entity", None)
    with phase("access", entities=ENTITIES), pytest.raises(EntityError) as raised:
        asyncio.run(kong.db.consumers.insert({"username": "x"}))
    assert raised.value.message == "cannot create 'consumers' entities when not using a database"


def test_misspelt_function_is_named() -> None:
    with pytest.raises(AttributeError, match=r"kong\.db\.consumers has no selekt"):
        kong.db.consumers.selekt
