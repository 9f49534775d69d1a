"""What counts as a change between two snapshots."""

from headgate.store.changes import changes
from headgate.store.snapshot import Snapshot


def of(**types: list[dict[str, object]]) -> Snapshot:
    return Snapshot({name: {str(entity["id"]): entity for entity in rows} for name, rows in types.items()})


def found(old: Snapshot, new: Snapshot) -> list[tuple[str, str, object]]:
    return [(change.entity_type, change.operation, change.entity["id"]) for change in changes(old, new)]


def test_new_changed_and_gone_entities_are_told() -> None:
    old = of(consumers=[{"id": "a", "n": 1}, {"id": "b", "n": 1}], routes=[{"id": "r"}])
    new = of(consumers=[{"id": "b", "n": 2}, {"id": "c"}], plugins=[{"id": "p"}])
    assert found(old, new) == [
        ("consumers", "delete", "a"),
        ("consumers", "update", "b"),
        ("consumers", "create", "c"),
        ("routes", "delete", "r"),
        ("plugins", "create", "p"),
    ]
    (update,) = [change for change in changes(old, new) if change.operation == "update"]
    assert (update.entity["n"], update.old_entity) == (2, {"id": "b", "n": 1})


def test_a_document_loaded_again_changes_nothing() -> None:
    old = of(consumers=[{"id": "a", "created_at": 1, "updated_at": 1, "n": 1}])
    assert found(old, of(consumers=[{"id": "a", "created_at": 2, "updated_at": 2, "n": 1}])) == []


def test_another_time_to_live_is_a_change() -> None:
    rows = {"keys": {"a": {"id": "a"}}}
    assert found(Snapshot(rows), Snapshot({"keys": {"a": {"id": "a"}}}, expires={"a": 1.0})) == [
        ("keys", "update", "a")
    ]
