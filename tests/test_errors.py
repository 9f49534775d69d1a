"""Messages and bodies of the gateway's errors."""

import pytest

from headgate.errors import (
    FOREIGN_KEYS_UNRESOLVED,
    INVALID_OPTIONS,
    UNIQUE_VIOLATION,
    DeclarativeError,
    EntityError,
    PluginLoadError,
    SchemaViolation,
    lua_style,
    violation_message,
)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"foo": "unknown field"}, "schema violation (foo: unknown field)"),
        ({"config": {"foo": "unknown field"}}, "schema violation (config.foo: unknown field)"),
        ({"protocols": [None, "expected a string"]}, "schema violation (protocols.2: expected a string)"),
        ({"b": "x", "a": "y", "@entity": ["first"]}, "3 schema violations (first; a: y; b: x)"),
        (
            {"config": {"redis": {"host": "x", "a-b": "y"}}},
            'schema violation (config.redis: {\n  ["a-b"] = "y",\n  host = "x"\n})',
        ),
        ({"config": {"names": [None, "x"]}}, 'schema violation (config.names: {\n  [2] = "x"\n})'),
    ],
)
def test_violation_message_lists_entity_faults_first_and_then_fields_by_name(
    fields: dict[str, object], message: str
) -> None:
    assert violation_message(fields) == message
    assert str(SchemaViolation(fields)) == message


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"name": "x", "id": None}, '{id=null,name="x"}'),
        (["a", "b"], '{"a","b"}'),
        ([None, "b"], '{[2]="b"}'),
        ({"@entity": ["a"]}, '{["@entity"]={"a"}}'),
        (True, "true"),
    ],
)
def test_values_are_printed_on_one_line(value: object, text: str) -> None:
    assert lua_style(value) == text


def test_entity_error_takes_name_and_status_from_its_code() -> None:
    error = EntityError(UNIQUE_VIOLATION, message="m", fields={"name": "x"})
    assert (error.name, error.status) == ("unique constraint violation", 409)
    assert error.body() == {"code": 5, "name": "unique constraint violation", "message": "m", "fields": {"name": "x"}}
    assert "fields" not in EntityError(FOREIGN_KEYS_UNRESOLVED).body()
    assert EntityError(INVALID_OPTIONS, fields={"tags": "x"}).body()["options"] == {"tags": "x"}


def test_bundled_faults_are_one_line_each() -> None:
    assert PluginLoadError("one").faults == ["one"]
    assert str(PluginLoadError(["one", "two"])) == "one\ntwo"


def test_report_of_a_text_that_is_no_document_is_its_reason() -> None:
    error = DeclarativeError("failed parsing declarative configuration: x")
    assert error.is_parse_failure
    assert error.report() == "failed parsing declarative configuration: x"
    assert error.flattened_errors() == ([], {})
