"""Texts of entities: made once for each object, in the order of the snapshot, and forgotten with it."""

from typing import Any

from headgate.store.encoded import EncodedEntities
from headgate.store.snapshot import Snapshot, encode_entity

Entities = dict[str, dict[str, dict[str, Any]]]


def rows(*names: str) -> dict[str, dict[str, Any]]:
    return {name: {"id": name, "value": 1} for name in names}


def test_an_entity_is_encoded_once_while_it_is_the_same_object() -> None:
    asked: list[str] = []

    def encode(identifier: str, entity: dict[str, Any]) -> bytes:
        asked.append(identifier)
        return f"{identifier}={entity['value']}".encode()

    texts = EncodedEntities(encode)
    first: Entities = {"routes": rows("a", "b"), "services": rows("s"), "plugins": {}}
    assert texts.of(first) == {"routes": [b"a=1", b"b=1"], "services": [b"s=1"], "plugins": []}
    second: Entities = {"routes": {"b": first["routes"]["b"], "c": {"id": "c", "value": 3}}, "services": rows("s")}
    asked.clear()
    assert texts.of(second) == {"routes": [b"b=1", b"c=3"], "services": [b"s=1"]}
    # An equal object is another one: nobody compares.
    assert asked == ["c", "s"]
    asked.clear()
    assert texts.of(first)["routes"] == [b"a=1", b"b=1"]
    assert asked == ["a", "s"], "what the last snapshot did not have is not kept"


def test_a_snapshot_of_known_texts_is_the_same_snapshot() -> None:
    entities: Entities = {"routes": rows("a", "b"), "services": rows("s"), "plugins": {}}
    snapshot = Snapshot(entities, configuration_hash="h", revision=7, expires={"a": 9.5})
    known = EncodedEntities(encode_entity)
    assert snapshot.encode(known) == snapshot.encode() == snapshot.encode(known)
    later = Snapshot({**entities, "routes": {"a": {"id": "a", "value": 2}}}, revision=8)
    assert Snapshot.decode(later.encode(known)).entities == Snapshot.decode(later.encode()).entities
