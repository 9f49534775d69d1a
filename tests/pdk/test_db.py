"""`kong.db`: reading in a phase; writing is `tests/cluster/test_follower.py`."""

import asyncio
from typing import Any

import pytest

from headgate import EntityError, kong
from headgate.entities.declared import declared_type
from headgate.entities.registry import ENTITY_TYPES
from headgate.pdk._node import node
from headgate.pdk.db import PageError
from headgate.schema import EntityDeclaration, Record, types
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


def test_an_entity_is_found_by_its_cache_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "cache_keys", {"notes": ("consumer", "label")})
    with phase("access", entities=ENTITIES):
        for note in kong.db.notes.each():
            assert kong.db.notes.select_by_cache_key(kong.db.notes.cache_key(note)) == note
        assert kong.db.consumers.select_by_cache_key(kong.db.consumers.cache_key("c1"))["username"]
        assert kong.db.notes.select_by_cache_key("notes:no") is None
        with pytest.raises(TypeError, match="cache_key must be a string"):
            kong.db.notes.select_by_cache_key(1)  # type: ignore[arg-type]


def test_pages_of_children_and_of_tags() -> None:
    rows = [
        {"id": f"n{number}", "label": str(number), "consumer": {"id": "c1"}, "tags": tags}
        for number, tags in enumerate((["a"], ["a", "b"], ["b"], None))
    ]
    with phase("access", entities={"notes": rows, "consumers": [{"id": "c1", "username": "u"}]}):
        first, offset = kong.db.notes.page_for_consumer("c1", 3)
        rest, end = kong.db.notes.page_for_consumer({"id": "c1"}, 3, offset)
        assert [note["id"] for note in (*first, *rest)] == ["n0", "n1", "n2", "n3"]
        assert end is None
        for options, wanted in (
            ({"tags": "a,b"}, ["n1"]),
            ({"tags": "a/b"}, ["n0", "n1", "n2"]),
            ({"tags": ["b"]}, ["n1", "n2"]),
            ({"tags": ["a", "b"], "tags_cond": "or", "workspace": "default"}, ["n0", "n1", "n2"]),
        ):
            assert [note["id"] for note in kong.db.notes.each(options=options)] == wanted
            assert [note["id"] for note in kong.db.notes.page(options=options)[0]] == wanted
            assert [note["id"] for note in kong.db.notes.each_for_consumer("c1", options=options)] == wanted
        assert len(kong.db.notes.page(options={"pagination": {"page_size": 2}})[0]) == 2
        with pytest.raises(PageError, match="size must be an integer between 1 and 2"):
            kong.db.notes.page(3, options={"pagination": {"max_page_size": 2}})


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"tags": "a,b,c,d,e,f"}, "invalid option (tags: cannot query more than 5 tags)"),
        ({"tags": "a,b/c"}, "invalid option (tags: invalid filter syntax)"),
        (
            {"tags": ["a", "b"]},
            "invalid option (tags_cond: must be a either 'and' or 'or' when more than one tag is specified)",
        ),
        ({"workspace": "x"}, "invalid option (workspace: invalid workspace)"),
        ({"ttl": 1}, "invalid option (ttl: unknown option)"),
    ],
)
def test_options_are_checked(options: dict[str, Any], text: str) -> None:
    with phase("access", entities=ENTITIES), pytest.raises(EntityError) as raised:
        kong.db.notes.page(options=options)
    assert (raised.value.code, raised.value.message) == (11, text)


def test_programming_errors_are_raised() -> None:
    wrong: Any = 1.5
    with phase("access", entities=ENTITIES):
        with pytest.raises(TypeError, match="primary_key must be a table"):
            kong.db.notes.select(wrong)
        with pytest.raises(TypeError, match="size must be a number"):
            kong.db.notes.page("1")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="offset must be a string"):
            kong.db.notes.page(1, wrong)
        with pytest.raises(TypeError, match="options must be a table when specified"):
            kong.db.notes.each(options=wrong)
        with pytest.raises(TypeError, match="label must be a string"):
            kong.db.notes.select_by_label(wrong)


class Mark(Record):
    consumer: types.foreign("consumers")  # type: ignore[valid-type]
    number: int


def test_entities_with_another_primary_key_are_found_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = declared_type(EntityDeclaration(name="marks", model=Mark, primary_key=("consumer", "number")))
    consumer = {"id": "0c4ba3a3-2a62-4c1b-9f3c-6a3a7d0c8a11"}
    mark = {"consumer": consumer, "number": 2}
    assert kind.own_key is not None
    stored = {"id": kind.own_key.id_of(mark), **mark}
    monkeypatch.setattr(node, "key_forms", ENTITY_TYPES.with_type(kind).key_forms)
    monkeypatch.setattr(node, "primary_keys", {"marks": kind.primary_key})
    with phase("access", entities={"marks": [stored], "consumers": [consumer]}):
        assert kong.db.marks.select(mark) == mark
        assert kong.db.marks.select({**mark, "number": 3}) is None
        assert kong.db.marks.page()[0] == list(kong.db.marks.each_for_consumer(consumer)) == [mark]
        with pytest.raises(EntityError) as raised:
            kong.db.marks.select(consumer)
        assert raised.value.fields == {
            "id": "not a primary key",
            "consumer": "missing primary key",
            "number": "missing primary key",
        }
        made = kong.db.marks.cache_key(mark)
        assert made.startswith(f"marks:{consumer['id']}:2:::")
        assert kong.db.marks.cache_key(consumer, 2) == made
        assert kong.db.marks.select_by_cache_key(made) == mark
        assert kong.db.consumers.select(consumer["id"]) == consumer


def test_unique_fields_of_other_types_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {("notes", "consumer"): "foreign", ("notes", "rank"): "integer", ("notes", "is_first"): "boolean"}
    monkeypatch.setattr(node, "unique_kinds", kinds)
    note = {"id": "n", "rank": 7, "is_first": True, "consumer": {"id": "c1"}}
    with phase("access", entities={"notes": [note]}):
        assert kong.db.notes.select_by_rank(7) == kong.db.notes.select_by_rank(7.0) == note
        assert kong.db.notes.select_by_is_first(True) == note
        assert kong.db.notes.select_by_consumer({"id": "c1"}) == note
        assert kong.db.notes.select_by_consumer({"id": "c2"}) is None
        for method, text in (("rank", "rank must be a number"), ("is_first", "is_first must be a boolean")):
            with pytest.raises(TypeError, match=text):
                getattr(kong.db.notes, f"select_by_{method}")("7")
        with pytest.raises(TypeError, match="consumer must be a table"):
            kong.db.notes.select_by_consumer("c1")


def test_options_say_in_which_form_entities_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "read_forms", {"consumers": lambda entity: {**entity, "greeting": "hello"}})
    monkeypatch.setitem(node.configuration, "default_workspace", "w1")
    with phase("access", entities=ENTITIES):
        assert kong.db.consumers.select("c1") == {**CONSUMER, "greeting": "hello"}
        assert kong.db.consumers.select("c1", {"transform": False}) == CONSUMER
        assert kong.db.consumers.select("c1", {"transform": False, "show_ws_id": True}) == {**CONSUMER, "ws_id": "w1"}
        with pytest.raises(EntityError, match="colour: unknown option"):
            kong.db.consumers.select("c1", {"colour": "red"})
