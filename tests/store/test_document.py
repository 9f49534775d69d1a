"""Parsing of documents: formats, duplicate keys, what YAML can do that documents may not."""

import pytest

from headgate.errors import DeclarativeError
from headgate.store.document import parse_document, parse_json


def reason(text: str | bytes, filename: str | None = None) -> str:
    with pytest.raises(DeclarativeError) as caught:
        parse_document(text, filename)
    assert caught.value.is_parse_failure
    return caught.value.message.removeprefix("failed parsing declarative configuration: ")


def test_json_and_yaml_are_told_apart_by_content() -> None:
    assert parse_document('{"a": [1]}') == {"a": [1]}
    assert parse_document(b"a: [1]\n") == {"a": [1]}
    assert parse_document("{a: 1}") == {"a": 1}


def test_json_that_was_parsed_before_is_checked_all_the_same() -> None:
    text = b'\xef\xbb\xbf{"a": ["&x"], "b": {"c": 1}}'
    parsed = parse_json(text)
    assert parsed == {"a": ["&x"], "b": {"c": 1}}
    assert parse_document(text, parsed=parsed) is parsed
    for other in (b"a: 1", b"[1]", b'{"a": 1, "a": 2}', b'{"a": \xff}', b"", b"[" * 100_000):
        assert parse_json(other) is None
    deep = b'{"a": ' * 300 + b"1" + b"}" * 300
    with pytest.raises(DeclarativeError, match="Recursion limit reached"):
        parse_document(deep, parsed=parse_json(deep))


def test_file_name_decides_when_there_is_one() -> None:
    assert parse_document("a: 1", "kong.yml") == {"a": 1}
    assert reason("a: 1", "kong.json").startswith("Expecting value")
    assert reason("a: 1", "kong.txt") == "unknown file type: kong.txt. (Accepted types: json, yaml)"


def test_duplicate_keys_are_told_with_their_lines() -> None:
    assert reason("a:\n  b: 1\n  c: 2\n  b: 3\n") == "duplicate key 'b' at line 4, first given at line 2"
    assert reason('{"a": 1, "a": 2}') == "duplicate key 'a'"


def test_anchors_and_merge_keys_work_and_merged_keys_may_be_overridden() -> None:
    assert parse_document("x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\n")["y"] == {"a": 1, "b": 3}


def test_dates_stay_text() -> None:
    assert parse_document("a: 2020-01-01") == {"a": "2020-01-01"}


@pytest.mark.parametrize("text", ["", "[1]", "5", "null"])
def test_what_is_no_object_is_refused(text: str) -> None:
    assert reason(text) == "expected an object"


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]",
        "a: !!binary aaaa",
        "a: !!python/object:os.system 1",
        "? [a]\n: 1",
        "a: 99999999999999999999999999",
        "\x00",
        b"\xff",
        '{"a": "\\ud800"}',
        "[" * 100_000,
    ],
)
def test_what_is_no_plain_data_is_refused_with_a_reason(text: str | bytes) -> None:
    assert reason(text)


def test_small_text_that_expands_beyond_bounds_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert reason("\n".join(lines)) == "expands to more than 10000000 values"
