"""Declarations of plugins: what they become, and every way to get them wrong."""

from typing import Any

import pytest

from headgate.entities.declared import declared_type
from headgate.entities.registry import ENTITY_TYPES
from headgate.schema import EntityDeclaration, Record, field, types


class Note(Record):
    id: types.Id
    label: str = field(unique=True)
    rank: int = 0
    words: list[str] = field(default_factory=list)
    consumer: types.foreign("consumers", on_delete="cascade") | None = None  # type: ignore[valid-type]


class NoId(Record):
    label: str


class Confused(Record):
    id: types.Id
    ttl: int = 0
    words: list[str] = field(default_factory=list, unique=True)
    consumer: types.foreign("consumers", on_delete="null")  # type: ignore[valid-type]


def test_declaration_becomes_an_entity_type() -> None:
    made = declared_type(
        EntityDeclaration(
            name="notes",
            model=Note,
            endpoint_key="label",
            cache_key=("consumer", "label"),
            admin_api_name="my-notes",
            admin_api_nested_names={"consumer": "notes"},
            ttl=True,
        )
    )
    assert (made.admin_path, made.endpoint_key, made.has_ttl) == ("my-notes", "label", True)
    assert made.nested_under == {"consumer": "notes"}
    assert made.composite_unique == (("consumer", "label"),)
    registry = ENTITY_TYPES.with_type(made)
    assert (made, "consumer") in registry.children_of("consumers")
    assert "notes" not in ENTITY_TYPES


def test_declaration_without_endpoints() -> None:
    made = declared_type(EntityDeclaration(name="notes", model=Note, generate_admin_api=False))
    assert (made.admin_path, made.nested_under) == ("", {})


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"name": "Notes"}, "the name must be lower-case letters"),
        ({"name": "headgate_notes"}, "the name must be lower-case letters"),
        ({"model": NoId}, "it needs the field id: types.Id"),
        ({"model": dict}, "model is no headgate.schema.Record"),
        ({"endpoint_key": "rank"}, "endpoint_key: 'rank' must be unique"),
        ({"endpoint_key": "other"}, "endpoint_key: there is no field 'other'"),
        ({"cache_key": ("rank",) * 6}, "cache_key: at most 5 fields"),
        ({"cache_key": ("rank",)}, "cache_key: 'rank' must be unique"),
        ({"unique_together": (("rank", "words"),)}, "unique_together: 'words' is of type array and cannot be a key"),
        ({"admin_api_nested_names": {"rank": "x"}}, "admin_api_nested_names: there is no foreign field 'rank'"),
        ({"model": Confused, "ttl": True}, "a field named ttl cannot be declared where ttl = True"),
        ({"model": Confused}, "'words' is of type array and cannot be unique"),
        ({"model": Confused}, "'consumer' is required and cannot become null on delete"),
    ],
)
def test_faulty_declaration_is_refused_with_its_name(options: dict[str, Any], fault: str) -> None:
    given: dict[str, Any] = {"name": "notes", "model": Note, **options}
    with pytest.raises(ValueError) as raised:
        declared_type(EntityDeclaration(**given))
    assert f"entity '{given['name']}': {fault}" in str(raised.value)


def test_registry_refuses_taken_names_and_unknown_references() -> None:
    class Lost(Record):
        id: types.Id
        thing: types.foreign("things")  # type: ignore[valid-type]

    with pytest.raises(ValueError, match="entity 'services' is there already"):
        ENTITY_TYPES.with_type(declared_type(EntityDeclaration(name="services", model=Note)))
    with pytest.raises(ValueError, match="thing: schema refers to an invalid foreign entity: things"):
        ENTITY_TYPES.with_type(declared_type(EntityDeclaration(name="losts", model=Lost)))
