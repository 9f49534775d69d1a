"""Primary keys that are not `id`: the ids they stand for, their texts, what is wrong with them."""

from typing import Any

import pytest

from headgate.admin.json_schema import answer_schema
from headgate.entities.declared import declared_type
from headgate.entities.registry import ENTITY_TYPES, Registry
from headgate.errors import EntityError
from headgate.schema import EntityDeclaration, Record, field, types
from headgate.store.cipher import Cipher
from headgate.store.declarative import export_declarative, load_declarative
from headgate.store.difference import differences
from headgate.store.known import KnownEntities

CONSUMER = "0c4ba3a3-2a62-4c1b-9f3c-6a3a7d0c8a11"


class Genre(Record):
    name: str
    about: str | None = field(None, encrypted=True)


class Mark(Record):
    consumer: types.foreign("consumers", on_delete="cascade")  # type: ignore[valid-type]
    genre: types.foreign("genres")  # type: ignore[valid-type]
    number: int
    note: str | None = None


@pytest.fixture(scope="module")
def registry() -> Registry:
    genres = declared_type(EntityDeclaration(name="genres", model=Genre, primary_key=("name",)))
    marks = declared_type(EntityDeclaration(name="marks", model=Mark, primary_key=("consumer", "genre", "number")))
    return ENTITY_TYPES.with_type(genres).with_type(marks)


def test_types_with_plain_ids_have_no_forms() -> None:
    assert ENTITY_TYPES.key_forms is None


def test_a_key_stands_for_the_same_id_whoever_gives_it(registry: Registry) -> None:
    forms = registry.key_forms
    assert forms is not None
    genre = forms.id_of("genres", "crime")
    assert genre == forms.id_of("genres", {"name": "crime"})
    assert genre != forms.id_of("genres", {"name": "Crime"})
    key = {"consumer": {"id": CONSUMER}, "genre": {"name": "crime"}, "number": 2}
    same = {"consumer": {"id": CONSUMER.upper()}, "genre": {"id": genre}, "number": 2.0}
    assert forms.id_of("marks", key) == forms.id_of("marks", same)
    assert forms.values("marks", key)["genre"] == {"id": genre}


@pytest.mark.parametrize(
    ("name", "key", "fields"),
    [
        ("genres", {}, {"name": "missing primary key"}),
        ("genres", {"name": 1}, {"name": "expected a string"}),
        ("genres", {"name": "a", "id": "b"}, {"id": "not a primary key"}),
        ("marks", "text", dict.fromkeys(("consumer", "genre", "number"), "missing primary key")),
        (
            "marks",
            {"consumer": {"name": "ann"}, "genre": {"name": True}, "number": 1.5},
            {
                "consumer": {"id": "missing primary key"},
                "genre": {"name": "expected a string"},
                "number": "expected an integer",
            },
        ),
    ],
)
def test_what_is_no_key_is_told(registry: Registry, name: str, key: Any, fields: dict[str, Any]) -> None:
    assert registry.key_forms is not None
    with pytest.raises(EntityError) as caught:
        registry.key_forms.values(name, key)
    assert (caught.value.code, caught.value.fields) == (1, fields)


def test_entities_are_shown_without_derived_ids(registry: Registry) -> None:
    forms = registry.key_forms
    assert forms is not None
    genre = {"id": forms.id_of("genres", "crime"), "name": "crime", "about": None}
    mark = {"id": "x", "consumer": {"id": CONSUMER}, "genre": {"id": genre["id"]}, "number": 1, "note": None}
    assert forms.shown("genres", genre, lambda *_: None) == {"name": "crime", "about": None}
    shown = forms.shown("marks", mark, lambda type_, _: genre if type_ == "genres" else None)
    assert shown == {"consumer": {"id": CONSUMER}, "genre": {"name": "crime"}, "number": 1, "note": None}
    # What it refers to may be gone.
    assert forms.shown("marks", mark, lambda *_: None)["genre"] == mark["genre"]
    assert not forms.is_shown_otherwise("consumers")


def test_a_key_is_one_text_in_paths_and_documents(registry: Registry) -> None:
    own_key = registry["marks"].own_key
    assert own_key is not None
    text = own_key.text({"consumer": {"id": CONSUMER}, "genre": {"id": "a,b"}, "number": 7})
    assert text == f"{CONSUMER},a%2Cb,7"
    assert own_key.parts(text) == {"consumer": CONSUMER, "genre": "a,b", "number": 7}
    with pytest.raises(EntityError, match="expected 3 values joined by commas: consumer, genre, number"):
        own_key.parts("a,b")
    single = registry["genres"].own_key
    assert single is not None
    assert single.parts("a,b") == {"name": "a,b"}


DOCUMENT = f"""
_format_version: "3.0"
consumers:
- id: {CONSUMER}
  username: ann
  marks:
  - genre: crime
    number: 1
genres:
- name: crime
  about: murder
  marks:
  - consumer: {{username: ann}}
    number: 2
- name: poetry
marks:
- {{consumer: ann, genre: {{name: poetry}}, number: 3}}
"""


def test_documents_name_entities_by_their_keys(registry: Registry) -> None:
    known = KnownEntities()
    loaded = load_declarative(DOCUMENT, plugin_types={}, entity_types=registry, known=known)
    forms = registry.key_forms
    assert forms is not None
    for genre, number in (("crime", 1), ("crime", 2), ("poetry", 3)):
        key = {"consumer": {"id": CONSUMER}, "genre": {"name": genre}, "number": number}
        assert loaded.get("marks", forms.id_of("marks", key)) is not None
    # The same document again is the same entities, and says that nothing differs.
    again = load_declarative(DOCUMENT, plugin_types={}, entity_types=registry, known=known)
    assert list(again.all("marks")) == list(loaded.all("marks"))
    assert list(differences(loaded, again, registry)) == []
    changed = load_declarative(DOCUMENT.replace("murder", "theft"), plugin_types={}, entity_types=registry)
    [difference] = [one for one in differences(loaded, changed, registry) if one.entity_type == "genres"]
    assert (difference.operation, difference.name) == ("update", "crime")


def test_an_export_with_sealed_fields_is_loaded_again(registry: Registry) -> None:
    cipher = Cipher([b"1" * 32])
    loaded = load_declarative(DOCUMENT, plugin_types={}, entity_types=registry)
    text = export_declarative(loaded, registry, cipher)
    assert "murder" not in text
    again = load_declarative(text, plugin_types={}, entity_types=registry, cipher=cipher)
    assert list(again.all("genres")) == list(loaded.all("genres"))
    assert {entity["id"] for entity in again.all("marks")} == {entity["id"] for entity in loaded.all("marks")}


def test_the_published_schema_has_references_by_key(registry: Registry) -> None:
    schema = answer_schema(registry["marks"], registry)
    assert "id" not in schema["properties"]
    assert schema["properties"]["genre"]["required"] == ["name"]
    assert schema["properties"]["consumer"]["required"] == ["id"]
