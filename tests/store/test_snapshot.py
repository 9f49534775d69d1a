"""The snapshot: lookups, encoding, revisions."""

import time
from typing import Any

import pytest

from headgate.store.snapshot import EMPTY, EMPTY_HASH, Snapshot


def routes(*names: str, service: str | None = None) -> dict[str, dict[str, Any]]:
    return {
        f"id-{name}": {"id": f"id-{name}", "name": name, "service": {"id": service} if service else None}
        for name in names
    }


def test_lookups_by_id_unique_field_and_parent() -> None:
    snapshot = Snapshot({"routes": {**routes("a", "b", service="s"), **routes("c")}})
    assert snapshot.get("routes", "id-a") == {"id": "id-a", "name": "a", "service": {"id": "s"}}
    assert [route["name"] for route in snapshot.all("routes")] == ["a", "b", "c"]
    assert snapshot.by("routes", "name", "b") is snapshot.get("routes", "id-b")
    assert [route["name"] for route in snapshot.children("routes", "service", "s")] == ["a", "b"]


def test_what_is_not_there_is_none_or_empty() -> None:
    assert EMPTY.get("routes", "x") is None
    assert EMPTY.by("routes", "name", "x") is None
    assert list(EMPTY.children("routes", "service", "x")) == []
    assert list(EMPTY.all("nonsense")) == []
    assert EMPTY.is_empty
    assert EMPTY.configuration_hash == EMPTY_HASH == "0" * 32


def test_decoding_gives_back_what_was_encoded() -> None:
    snapshot = Snapshot({"routes": routes("a", "b", service="s")}, configuration_hash="f" * 32, revision=7)
    decoded = Snapshot.decode(snapshot.encode())
    assert decoded.entities == snapshot.entities
    assert (decoded.revision, decoded.configuration_hash) == (7, "f" * 32)


@pytest.mark.parametrize("data", [b"", b"\x00", b"nonsense", b"\x93\x01\xa1a\x81\xa1r\x91\x80"])
def test_decoding_something_else_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        Snapshot.decode(data)


def test_another_revision_has_the_same_entities() -> None:
    snapshot = Snapshot({"routes": routes("a")}, configuration_hash="f" * 32)
    later = snapshot.with_revision(3)
    assert (snapshot.revision, later.revision) == (0, 3)
    assert later.entities is snapshot.entities
    assert later.configuration_hash == snapshot.configuration_hash


def test_ten_thousand_entities_go_in_and_out_in_less_than_a_fifth_of_a_second() -> None:
    snapshot = Snapshot({"routes": routes(*(f"r{number}" for number in range(10_000)))})
    start = time.process_time()
    Snapshot.decode(snapshot.encode())
    assert time.process_time() - start < 0.2
