"""Fields of any JSON: checked by a schema given with them, or by the one that another field names."""

from typing import Any

import pytest

from headgate.schema import (
    NamedJsonSchema,
    PluginConfig,
    Record,
    add_json_schema,
    examine,
    field,
    record_definition,
    schema_json,
)

LIMITS = {
    "$schema": "http://json-schema.org/draft-04/schema#",
    "type": "object",
    "properties": {"rate": {"type": "integer", "minimum": 1}},
    "required": ["rate"],
}


class Config(PluginConfig):
    limits: dict[str, Any] | None = field(None, json_schema=LIMITS)
    anything: Any = field(None, json_schema=True)


class Filter(Record):
    name: str | None = None
    config: Any = field(None, json_schema=NamedJsonSchema("tests", "name"))


class Chain(PluginConfig):
    filters: list[Filter] = field(default_factory=list)


def test_value_passes_its_schema_or_the_first_fault_is_told() -> None:
    assert examine(Config, {"limits": {"rate": 1}, "anything": [1, {"a": None}]}).errors == {}
    faults = examine(Config, {"limits": {"rate": "x"}}).errors
    text = 'value failed JSON-schema validation: property rate: "x" is not of type "integer"'
    assert faults == {"limits": text}
    assert examine(Config, {"limits": {}}).errors["limits"].startswith("value failed JSON-schema validation: ")
    assert examine(Config, {"limits": None}).errors == {}


def test_what_is_no_json_is_refused() -> None:
    text = examine(Config, {"anything": object()}).errors["anything"]
    assert text.startswith("value could not be JSON-encoded: ")


def test_schema_is_published_with_its_field() -> None:
    config = next(item["config"] for item in schema_json(Config)["fields"] if "config" in item)
    assert config["fields"] == [
        {"limits": {"type": "json", "json_schema": {"inline": LIMITS}}},
        {"anything": {"type": "json", "json_schema": {"inline": True}}},
    ]


def test_named_schema_is_found_by_the_field_beside() -> None:
    add_json_schema("tests/limit", LIMITS)
    assert examine(Chain, {"filters": [{"name": "limit", "config": {"rate": 3}}, {"name": "x"}]}).errors == {}
    faults = examine(Chain, {"filters": [{"name": "limit", "config": 3}, {"name": "x", "config": 3}, {"config": 3}]})
    assert faults.errors["filters"] == [
        {"config": 'value failed JSON-schema validation: 3 is not of type "object"'},
        {"config": "mandatory json schema for field (tests/x) not found"},
        {"config": "validation of config depends on the parent attribute name, but it is not set"},
    ]


def test_optional_named_schema_lets_others_pass_or_has_a_default() -> None:
    optional = NamedJsonSchema("tests", "name", optional=True)
    assert optional.fault("config", "unknown", 3) is None
    with_default = NamedJsonSchema("tests", "name", default={"type": "string"})
    assert with_default.fault("config", "unknown", "a") is None
    assert with_default.fault("config", "unknown", 3) is not None
    assert with_default.describe() == {
        "namespace": "tests",
        "parent_subschema_key": "name",
        "default": {"type": "string"},
    }


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, {"$ref": "http://schemas.test/other.json"}])
def test_schema_that_cannot_be_used_is_refused_where_it_is_declared(schema: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="json_schema: "):
        add_json_schema("tests/bad", schema)

    class Wrong(PluginConfig):
        value: Any = field(None, json_schema=schema)

    with pytest.raises(TypeError, match="Wrong: value: json_schema: "):
        record_definition(Wrong)


def test_name_of_a_schema_has_its_namespace() -> None:
    with pytest.raises(ValueError, match="<namespace>/<key>: given limit"):
        add_json_schema("limit", LIMITS)
