"""The expressions inside `$(...)`: Lua's meaning for a small, safe subset."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.plugins.request_transformer.expression import ExpressionError, parse, text_of

ENVIRONMENT: dict[str, Any] = {
    "headers": {"host": "example.com", "x-a": "1", "empty": ""},
    "query_params": {"q": "search", "flag": True},
    "uri_captures": {"name": "ada", 1.0: "first", 2.0: None},
    "shared": {"user": {"id": 7, "tags": ["a", "b"]}, "off": False},
}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("headers.host", "example.com"),
        ('headers["x-a"]', "1"),
        ("headers['x-a']", "1"),
        ("headers.absent", None),
        ("query_params.q", "search"),
        ('uri_captures["name"]', "ada"),
        ("uri_captures[1]", "first"),
        ("shared.user.id", 7),
        ("shared.user.tags[2]", "b"),
        ("shared.user.tags[3]", None),
        ('headers.absent or "none"', "none"),
        ('headers.empty or "none"', ""),
        ('shared.off or "off"', "off"),
        ('headers.host and "yes" or "no"', "yes"),
        ('headers.absent and "yes" or "no"', "no"),
        ("not headers.absent", True),
        ("not not headers.host", True),
        ('"a" .. "b" .. 1', "ab1"),
        ("1.5 .. ''", "1.5"),
        ("(headers.absent or headers.host) .. '/'", "example.com/"),
        ('headers["x-a"] == "1"', True),
        ('headers["x-a"] == 1', False),
        ("headers.absent == nil", True),
        ("headers.host ~= nil", True),
        ("shared.user.id > 5 and shared.user.id <= 7", True),
        ("'a' < 'b'", True),
        (r'"a\"b\n\65"', 'a"b\nA'),
        ("0x10", 16),
        ("headers.host.x", None),
        ('headers["x" .. "-a"]', "1"),
    ],
)
def test_an_expression_has_the_value_that_lua_gives_it(expression: str, value: Any) -> None:
    assert parse(expression)(ENVIRONMENT) == value


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("", "unexpected end"),
        ("headers.", "name expected near '<end>'"),
        ("headers[", "unexpected end"),
        ('headers["a"', "']' expected near '<end>'"),
        ("os.execute('x')", "unknown name 'os'"),
        ("headers.host:upper()", "unexpected ':'"),
        ("headers.host()", "unexpected end|unexpected '\\('|unexpected '\\)'"),
        ("1 + 1", "unexpected '\\+'"),
        ('"open', "unexpected '\"'"),
        ("function() end", "unknown name 'function'"),
        ("headers.host headers.host", "unexpected 'headers'"),
        (r'"\999"', "too large"),
        ("(" * 60 + "1" + ")" * 60, "too deeply nested"),
    ],
)
def test_what_is_not_understood_is_refused_with_a_reason(expression: str, reason: str) -> None:
    with pytest.raises(ExpressionError, match=reason):
        parse(expression)


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("headers.absent .. 'x'", "attempt to concatenate a nil value"),
        ("query_params.flag .. 'x'", "attempt to concatenate a boolean value"),
        ("headers.absent.more", "attempt to index a field|attempt to index 'headers'"),
        ("headers.host < 1", "attempt to compare string with number"),
    ],
)
def test_what_lua_refuses_at_run_time_is_an_error(expression: str, reason: str) -> None:
    with pytest.raises(ExpressionError, match=reason):
        parse(expression)(ENVIRONMENT)


@pytest.mark.parametrize(("value", "text"), [(1.0, "1"), (1.25, "1.25"), (True, "true"), ("x", "x"), (3, "3")])
def test_values_print_as_in_lua(value: Any, text: str) -> None:
    assert text_of(value) == text


@given(st.text(max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with contextlib.suppress(ExpressionError):
        parse(text)
