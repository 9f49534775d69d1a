"""request-transformer: what goes upstream after the operations on method, URI, headers, body and query."""

import json
from typing import Any

import pytest

from headgate.errors import SchemaViolation
from headgate.plugins.request_transformer.config import Config
from headgate.plugins.request_transformer.expression import ExpressionError
from headgate.plugins.request_transformer.handler import Handler
from headgate.schema import validate
from tests.plugins.scene import Scene

FORM = ("Content-Type", "application/x-www-form-urlencoded")
JSON = ("Content-Type", "application/json")
MULTIPART = ("Content-Type", "multipart/form-data; boundary=XX")


def play(config: dict[str, Any], **request: Any) -> Scene:
    return Scene(Handler, config, **request).access()


def test_headers_are_removed_renamed_replaced_added_and_appended() -> None:
    played = play(
        {
            "remove": {"headers": ["x-gone"]},
            "rename": {"headers": ["X-Old:X-New", "x-case:X-CASE", "x-absent:x-never"]},
            "replace": {"headers": ["X-Here:new", "X-Missing:new"]},
            "add": {"headers": ["X-Here:ignored", "X-Added:a:b", "Host:never.example"]},
            "append": {"headers": ["X-Multi:2", "X-Fresh:1"]},
        },
        headers=[
            ("Host", "example.com"),
            ("X-Gone", "1"),
            ("X-Old", "v"),
            ("x-case", "c"),
            ("X-Here", "old"),
            ("X-Multi", "1"),
        ],
    )
    assert played.sent("X-Gone") == []
    assert played.sent("X-Old") == []
    assert played.sent("X-New") == ["v"]
    assert ("X-CASE", "c") in played.upstream_headers
    assert played.sent("X-Never") == []
    assert played.sent("X-Here") == ["new"]
    assert played.sent("X-Missing") == []
    assert played.sent("X-Added") == ["a:b"]
    assert played.sent("X-Multi") == ["1", "2"]
    assert played.sent("X-Fresh") == ["1"]
    assert played.sent("Host") == ["example.com"]


def test_a_repeated_header_keeps_its_values_when_renamed() -> None:
    played = play({"rename": {"headers": ["a:b"]}}, headers=[("a", "1"), ("a", "2")])
    assert played.sent("b") == ["1", "2"]


def test_host_can_be_replaced() -> None:
    assert play({"replace": {"headers": ["host:other.example"]}}, headers=[("Host", "a")]).sent("Host") == [
        "other.example"
    ]


def test_the_query_is_changed() -> None:
    played = play(
        {
            "remove": {"querystring": ["gone"]},
            "rename": {"querystring": ["old:new"]},
            "replace": {"querystring": ["here:2", "missing:2"]},
            "add": {"querystring": ["here:3", "added:1"]},
            "append": {"querystring": ["multi:b"]},
        },
        target="/?gone=1&old=o&here=1&multi=a",
    )
    assert played.query == "added=1&here=2&multi=a&multi=b&new=o"


def test_a_query_that_stays_the_same_is_not_encoded_anew() -> None:
    assert play({"remove": {"querystring": ["x"]}}, target="/?b=%7e&a").query == "b=%7e&a"


def test_method_and_uri_are_changed() -> None:
    played = play({"http_method": "PUT", "replace": {"uri": "/new/$(headers.x_id)"}}, headers=[("X-Id", "7")])
    assert played.method == "PUT"
    assert played.upstream_path == "/new/7"


def test_a_form_moves_to_the_query_with_a_method_without_body() -> None:
    played = play({"http_method": "GET"}, method="POST", target="/?a=1", headers=[FORM], body=b"b=2&c")
    assert played.method == "GET"
    assert played.query == "a=1&b=2&c"


@pytest.mark.parametrize(
    ("headers", "body", "changed"),
    [
        ([FORM], b"gone=1&old=o&here=1&multi=a", b"added=1&here=2&multi=a&multi=b&new=o"),
        (
            [JSON],
            b'{"gone":1,"old":{"x":[]},"here":1,"multi":"a"}',
            b'{"here":"2","multi":["a","b"],"new":{"x":[]},"added":"1"}',
        ),
        ([JSON], b"", b'{"added":"1","multi":["b"]}'),
        ([FORM], b"", b"added=1&multi=b"),
        ([JSON], b"not json", b"not json"),
        ([JSON], b"[1]", b"[1]"),
        ([("Content-Type", "text/plain")], b"gone=1", b"gone=1"),
        ([], b"gone=1", b"gone=1"),
    ],
)
def test_the_body_is_changed_by_its_type(headers: list[tuple[str, str]], body: bytes, changed: bytes) -> None:
    played = play(
        {
            "remove": {"body": ["gone"]},
            "rename": {"body": ["old:new"]},
            "replace": {"body": ["here:2", "missing:2"]},
            "add": {"body": ["added:1"]},
            "append": {"body": ["multi:b"]},
        },
        method="POST",
        headers=headers,
        body=body,
    )
    if changed.startswith(b"{"):
        assert json.loads(played.body) == json.loads(changed)
    else:
        assert played.body == changed


def test_an_upload_keeps_its_file_names_and_bytes() -> None:
    body = (
        b"--XX\r\n"
        b'Content-Disposition: form-data; name="old"\r\n\r\nv\r\n'
        b"--XX\r\n"
        b'Content-Disposition: form-data; name="file"; filename="a.bin"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n"
        b"\x00\xff\r\n--X\r\n"
        b"--XX\r\n"
        b'Content-Disposition: form-data; name="gone"\r\n\r\n1\r\n'
        b"--XX--\r\n"
    )
    played = play(
        {
            "remove": {"body": ["gone"]},
            "rename": {"body": ["old:new"]},
            "replace": {"body": ["new:changed"]},
            "add": {"body": ["added:1"]},
            "append": {"body": ["file:ignored"]},
        },
        method="POST",
        headers=[MULTIPART],
        body=body,
    )
    assert played.body == (
        b"--XX\r\n"
        b'Content-Disposition: form-data; name="new"\r\n\r\nchanged\r\n'
        b"--XX\r\n"
        b'Content-Disposition: form-data; name="file"; filename="a.bin"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n"
        b"\x00\xff\r\n--X\r\n"
        b"--XX\r\n"
        b'Content-Disposition: form-data; name="added"\r\n\r\n1\r\n'
        b"--XX--\r\n"
    )


@pytest.mark.parametrize("body", [b"--XX\r\nno end", b"no parts", b"--XX\r\n\r\n1\r\n--XX--\r\n--XX\r\n"])
def test_a_broken_upload_stays_as_it_was(body: bytes) -> None:
    played = play({"add": {"body": ["a:1"]}}, method="POST", headers=[MULTIPART], body=body)
    assert played.body == body


def test_a_value_of_the_client_cannot_add_a_part() -> None:
    body = b'--XX\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--XX--\r\n'
    played = play(
        {"replace": {"body": ["a:$(query_params.q)"]}},
        method="POST",
        target="/?q=x%0D%0A--XX%0D%0A",
        headers=[MULTIPART],
        body=body,
    )
    assert played.body == body


def test_a_body_beyond_the_limit_stays_as_it_was() -> None:
    body = b'{"gone":"' + b"x" * (8 * 1024 * 1024) + b'"}'
    played = play({"remove": {"body": ["gone"]}}, method="POST", headers=[JSON], body=body)
    assert played.body == body


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("$(headers.x_id)", "7"),
        ('$(headers["X-Id"])', "7"),
        ("id-$(headers.x_id)-$(query_params.q)", "id-7-search"),
        ("$(headers.absent)", " "),
        ("$(headers.absent or 'none')", "none"),
        ("$(uri_captures.name)", "ada"),
        ("$(uri_captures[1])", "ada"),
        ("$(shared.user)", "lovelace"),
        ('$("a" .. headers.x_id)', "a7"),
        ("$(query_params.flag)", "true"),
        ("plain (text) $ ok", "plain (text) $ ok"),
    ],
)
def test_templates_see_the_request(template: str, value: str) -> None:
    played = play(
        {"add": {"headers": [f"X-Value:{template}"]}},
        target="/users/ada?q=search&flag",
        headers=[("X-Id", "7")],
        uri_captures=(["/users/ada", "ada"], {"name": "ada"}),
        shared={"user": "lovelace"},
    )
    assert [sent or " " for sent in played.sent("X-Value")] == [value]


def test_templates_see_the_request_as_it_came() -> None:
    played = play(
        {"remove": {"headers": ["x-id"]}, "add": {"querystring": ["id:$(headers.x_id)"]}}, headers=[("X-Id", "7")]
    )
    assert played.query == "id=7"


def test_a_line_break_in_a_value_begins_no_header() -> None:
    played = play({"add": {"headers": ["X-A:$(query_params.q)"]}}, target="/?q=1%0D%0AX-Forged:%201")
    assert played.sent("X-A") == ["1X-Forged: 1"]
    assert played.sent("X-Forged") == []


def test_a_template_that_fails_changes_nothing() -> None:
    scene = Scene(
        Handler,
        {"remove": {"headers": ["x-id"]}, "add": {"headers": ["X-A:$('a' .. headers.absent)"]}},
        headers=[("X-Id", "7")],
    )
    with pytest.raises(ExpressionError, match="attempt to concatenate a nil value"):
        scene.access()
    assert scene.sent("X-Id") == ["7"]


def test_without_untrusted_lua_a_template_fails_the_request() -> None:
    config = {"add": {"headers": ["X-A:$(headers.x)"]}}
    with pytest.raises(ExpressionError, match="loading of untrusted Lua code disabled"):
        play(config, configuration={"untrusted_lua": "off"})
    play({"add": {"headers": ["X-A:plain"]}}, configuration={"untrusted_lua": "off"})


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({"add": {"body": ["name"]}}, "key 'name' has no value"),
        ({"add": {"headers": ["x-name:"]}}, "key 'x-name' has no value"),
        ({"add": {"headers": ["x name:1"]}}, "'x name' is not a valid header"),
        ({"remove": {"headers": ["x name"]}}, "'x name' is not a valid header"),
        ({"rename": {"headers": ["a:b c"]}}, "'b c' is not a valid header"),
        (
            {"add": {"querystring": ["a:$(os.exit())"]}},
            "value '$(os.exit())' is not in supported format, error:unknown name 'os'",
        ),
        ({"replace": {"uri": "/$(headers"}}, "value '/$(headers' is not in supported format, error:"),
    ],
)
def test_faults_are_found_when_the_configuration_is_loaded(config: dict[str, Any], fault: str) -> None:
    with pytest.raises(SchemaViolation) as caught:
        validate(Config, config)
    assert fault in _texts(caught.value.fields)


def _texts(tree: Any) -> str:
    if isinstance(tree, dict):
        return "\n".join(_texts(value) for value in tree.values())
    if isinstance(tree, list):
        return "\n".join(_texts(value) for value in tree)
    return str(tree)
