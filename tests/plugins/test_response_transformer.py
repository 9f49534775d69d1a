"""response-transformer: headers and JSON of a response."""

import json
from typing import Any

import pytest

from headgate import kong
from headgate.plugins.response_transformer import Handler
from tests.plugins.scene import Scene

JSON = ("Content-Type", "application/json; charset=utf-8")


def play(
    config: dict[str, Any], headers: list[tuple[str, str]] | None = None, chunks: list[bytes] | None = None
) -> Scene:
    scene = Scene(Handler, config, response_headers=headers or [], response_chunks=chunks or [])
    return scene.header_filter().body_filter()


def test_headers_are_removed_renamed_replaced_added_and_appended() -> None:
    played = play(
        {
            "remove": {"headers": ["X-Gone"]},
            "rename": {"headers": ["X-Old:X-New", "X-Absent:X-Never"]},
            "replace": {"headers": ["X-Here:new", "X-Missing:new"]},
            "add": {"headers": ["X-Here:ignored", "X-Added:a:b"]},
            "append": {"headers": ["Set-Cookie:c=3"]},
        },
        [("X-Gone", "1"), ("X-Old", "v"), ("X-Here", "old"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")],
    )
    assert sorted(played.response_headers) == [
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("set-cookie", "c=3"),
        ("x-added", "a:b"),
        ("x-here", "new"),
        ("x-new", "v"),
    ]


def test_json_keys_are_removed_renamed_replaced_added_and_appended() -> None:
    played = play(
        {
            "remove": {"json": ["gone"]},
            "rename": {"json": ["old:new"]},
            "replace": {"json": ["here:1", "missing:1"], "json_types": ["number", "number"]},
            "add": {"json": ["here:ignored", "flag:true", "text:true"], "json_types": ["string", "boolean", "string"]},
            "append": {"json": ["list:c", "one:b", "none:a"]},
        },
        [JSON, ("Content-Length", "99")],
        [b'{"gone":1,"old":{"a":[1]},"he', b're":0,"list":["a","b"],', b'"one":"a"}'],
    )
    assert json.loads(played.response_body) == {
        "new": {"a": [1]},
        "here": 1,
        "flag": True,
        "text": "true",
        "list": ["a", "b", "c"],
        "one": ["a", "b"],
        "none": ["a"],
    }
    assert "content-length" not in dict(played.response_headers)


@pytest.mark.parametrize("body", [b"not json", b"[1,2]", b'"text"', b""])
def test_what_is_no_json_object_stays_as_it_was(body: bytes) -> None:
    assert play({"add": {"json": ["a:1"]}}, [JSON], [body]).response_body == body


@pytest.mark.parametrize(
    ("content_type", "is_changed"),
    [
        ("application/json", True),
        ("text/html, application/json", True),
        ("Application/JSON;charset=utf-8", True),
        ("application/json-seq", False),
        ("text/plain", False),
    ],
)
def test_only_json_responses_are_collected(content_type: str, is_changed: bool) -> None:
    played = play({"add": {"json": ["a:1"]}}, [("Content-Type", content_type), ("Content-Length", "2")], [b"{", b"}"])
    assert (played.response_body == b'{"a":"1"}') is is_changed
    assert ("content-length" in dict(played.response_headers)) is not is_changed


def test_without_json_operations_chunks_pass_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    def collect(_: Any) -> bytes:
        raise AssertionError("the body was collected")

    monkeypatch.setattr(type(kong.response), "get_raw_body", collect)
    played = play({"add": {"headers": ["X-A:1"]}}, [JSON, ("Content-Length", "2")], [b"{", b"}"])
    assert played.response_body == b"{}"
    assert dict(played.response_headers)["content-length"] == "2"


@pytest.mark.parametrize(
    ("value", "json_type", "expected"),
    [("1", "number", 1), ("1.5", "number", 1.5), ("x", "number", "x"), ("true", "boolean", True), ("1", "string", "1")],
)
def test_values_have_their_configured_type(value: str, json_type: str, expected: Any) -> None:
    played = play({"add": {"json": [f"a:{value}"], "json_types": [json_type]}}, [JSON], [b"{}"])
    assert json.loads(played.response_body) == {"a": expected}
