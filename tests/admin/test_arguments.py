"""Names of form arguments, and their texts as a schema wants them."""

from typing import Any

import pytest

from headgate.admin.answers import AnswerError
from headgate.admin.arguments import decode
from headgate.admin.conversion import converted
from headgate.entities.registry import ENTITY_TYPES
from tests.store.conftest import PLUGINS


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([("a", "1")], {"a": "1"}),
        ([("a.b.c", "1"), ("a.d", "2")], {"a": {"b": {"c": "1"}, "d": "2"}}),
        ([("a[]", "x"), ("a[]", "y")], {"a": ["x", "y"]}),
        ([("a[2]", "y"), ("a[1]", "x")], {"a": ["x", "y"]}),
        ([("a", "x"), ("a", "y")], {"a": ["x", "y"]}),
        ([("a[x.y]", "1"), ("a.z", "2")], {"a": {"x.y": "1", "z": "2"}}),
        (
            [("m[1].name", "x"), ("m[1].type", "y"), ("m[2].name", "z")],
            {"m": [{"name": "x", "type": "y"}, {"name": "z"}]},
        ),
        ([("h.1", "x")], {"h": {"1": "x"}}),
        ([("odd[", "x")], {"odd[": "x"}),
        ([("[]", "x")], {"[]": "x"}),
    ],
)
def test_names_make_records_lists_and_maps(pairs: list[tuple[str, str]], expected: dict[str, Any]) -> None:
    assert decode(pairs) == expected


def test_a_name_that_nests_too_deep_is_refused() -> None:
    with pytest.raises(AnswerError) as raised:
        decode([(".".join("a" * 40), "x")])
    assert raised.value.status == 400


@pytest.mark.parametrize(
    ("entity", "form", "expected"),
    [
        ("services", {"port": "80", "enabled": "false", "name": "5"}, {"port": 80, "enabled": False, "name": "5"}),
        ("services", {"port": "x", "enabled": "yes", "path": ""}, {"port": "x", "enabled": "yes", "path": None}),
        ("services", {"url": "http://h", "tags": "a"}, {"url": "http://h", "tags": ["a"]}),
        ("routes", {"hosts": [""], "service": {"name": "s"}}, {"hosts": [], "service": {"name": "s"}}),
        (
            "routes",
            {"headers": {"x": "1"}, "sources": [{"port": "1"}]},
            {"headers": {"x": ["1"]}, "sources": [{"port": 1}]},
        ),
        ("upstreams", {"healthchecks": {"active": {"timeout": "0.5"}}}, {"healthchecks": {"active": {"timeout": 0.5}}}),
        ("keyauth_credentials", {"key": "1", "ttl": "10"}, {"key": "1", "ttl": 10}),
        (
            "plugins",
            {"name": "key-auth", "config": {"key_names": "k", "run_on_preflight": "true"}},
            {"name": "key-auth", "config": {"key_names": ["k"], "run_on_preflight": True}},
        ),
        ("plugins", {"name": "unknown", "config": {"a": "1"}}, {"name": "unknown", "config": {"a": "1"}}),
    ],
)
def test_texts_become_what_the_schema_says(entity: str, form: dict[str, Any], expected: dict[str, Any]) -> None:
    assert converted(ENTITY_TYPES[entity], form, PLUGINS) == expected
