"""kong.request."""

from typing import Any

import pytest

from headgate.errors import GatewayError
from headgate.pdk import BodyError, configure_node, kong
from headgate.testing import Request
from tests.pdk.calls import phase

TRUSTED = {"is_trusted": True}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-Forwarded-Proto": "HTTPS"}, ("https", "localhost", 8000, "/p", None)),
        ({"X-Forwarded-Host": "user@Example.COM:81"}, ("http", "example.com", 81, "/p", None)),
        ({"X-Forwarded-Port": "70000", "X-Forwarded-Host": "a:82"}, ("http", "a", 82, "/p", None)),
        ({"X-Forwarded-Port": "83", "X-Forwarded-Host": "a:82"}, ("http", "a", 83, "/p", None)),
        ({"X-Forwarded-Path": "/Q//", "X-Forwarded-Prefix": "/pre"}, ("http", "localhost", 8000, "/Q//", "/pre")),
    ],
)
def test_forwarded_values_of_a_trusted_peer(headers: dict[str, str], expected: tuple[Any, ...]) -> None:
    with phase("access", Request(path="/p", headers=headers, is_trusted=True)):
        request = kong.request
        assert (
            request.get_forwarded_scheme(),
            request.get_forwarded_host(),
            request.get_forwarded_port(),
            request.get_forwarded_path(),
            request.get_forwarded_prefix(),
        ) == expected


def test_forwarded_values_of_other_peers_are_not_believed() -> None:
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil", "X-Forwarded-Port": "1"}
    with phase("access", Request(headers=headers)):
        assert kong.request.get_forwarded_scheme() == "http"
        assert kong.request.get_forwarded_host() == "localhost"
        assert kong.request.get_forwarded_port() == 8000


def test_query_arguments() -> None:
    with phase("access", Request(path="/?a&b=&c=1&c=%32&C=x+y&=lost&&d=e;f")):
        assert kong.request.get_query() == {"a": True, "b": "", "c": ["1", "2"], "C": "x y", "d": "e;f"}
        assert kong.request.get_query_arg("c") == "1"
        assert kong.request.get_query_arg("a") is True
        assert kong.request.get_query_arg("none") is None


def test_query_arguments_beyond_the_limit_are_dropped() -> None:
    with phase("access", Request(path="/?a=1&b=2&c=3")):
        arguments = kong.request.get_query(2)
        assert arguments == {"a": "1", "b": "2"}
        assert arguments.truncated
        assert not kong.request.get_query().truncated


def test_the_default_limit_is_the_setting() -> None:
    configure_node({"lua_max_uri_args": 1})
    try:
        with phase("access", Request(path="/?a=1&b=2")):
            assert kong.request.get_query() == {"a": "1"}
            assert kong.request.get_query_arg("b") is None
    finally:
        configure_node({})


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [("1", TypeError, "must be a number"), (0, ValueError, "must be >= 1"), (1001, ValueError, "must be <= 1000")],
)
def test_limits_are_checked(value: Any, error: type[Exception], text: str) -> None:
    with phase("access"):
        with pytest.raises(error) as caught:
            kong.request.get_query(value)
        assert str(caught.value) == f"max_args {text}"
        with pytest.raises(error) as caught:
            kong.request.get_headers(value)
        assert str(caught.value) == f"max_headers {text}"


def test_names_must_be_strings() -> None:
    with phase("access"):
        with pytest.raises(TypeError, match=r"^header name must be a string$"):
            kong.request.get_header(1)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"^query argument name must be a string$"):
            kong.request.get_query_arg(None)  # type: ignore[arg-type]


def test_headers_are_found_in_any_spelling_and_listed_as_sent() -> None:
    headers = [("X-Custom", "1"), ("x-custom", "2"), ("Under_Score", "3"), ("Empty", "")]
    with phase("access", Request(headers=[("Host", "h"), *headers])):
        assert kong.request.get_header("x_custom") == "1"
        assert kong.request.get_header("under-score") == "3"
        assert kong.request.get_header("EMPTY") == ""
        assert kong.request.get_header("none") is None
        found = kong.request.get_headers()
        assert dict(found) == {"host": "h", "x-custom": ["1", "2"], "under_score": "3", "empty": ""}
        assert found["X-Custom"] == found.get("x_custom") == ["1", "2"]
        assert "Under-Score" not in found
        assert kong.request.get_headers(1).truncated


def test_paths() -> None:
    with phase("access", Request(path="/a%2fb/../%41?q=1")):
        assert kong.request.get_raw_path() == "/a%2fb/../%41"
        assert kong.request.get_path() == "/A"
        assert kong.request.get_path_with_query() == "/a%2fb/../%41?q=1"
        assert kong.request.get_raw_query() == "q=1"


def body_of(content_type: str | None, body: str | bytes, **arguments: Any) -> Any:
    headers = {} if content_type is None else {"Content-Type": content_type}
    with phase("access", Request("POST", headers=headers, body=body)):
        return kong.request.get_body(**arguments)


def test_bodies_are_decoded_by_their_type() -> None:
    assert body_of("application/x-www-form-urlencoded; charset=utf-8", "a=1&a=2&b") == {"a": ["1", "2"], "b": True}
    assert body_of("application/json-patch+json", "[1]") == [1]
    assert body_of("text/plain", '{"a": null}', mimetype="application/json") == {"a": None}
    multipart = (
        '--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n2\r\n'
        '--x\r\nContent-Disposition: form-data; name="f"; filename="name.txt"\r\n'
        "Content-Type: text/plain\r\n\r\nfile\r\n"
        '--x\r\nContent-Disposition: form-data; name="f"\r\n\r\nagain\r\n--x--\r\n'
    )
    assert body_of("multipart/form-data; boundary=x", multipart) == {"a": "1\r\n2", "f": ["file", "again"]}
    assert body_of("multipart/form-data", multipart) == {}
    of_file = {"content-disposition": 'form-data; name="f"; filename="name.txt"', "content-type": "text/plain"}
    assert body_of("multipart/form-data; boundary=x", multipart, multipart_include_headers=True)["__extra"] == {
        "a": {"content-disposition": 'form-data; name="a"'},
        "f": [of_file, {"content-disposition": 'form-data; name="f"'}],
    }


def test_raw_headers_keep_dashes_and_underscores_apart() -> None:
    with phase("access", Request(headers={"X-Foo": "dash", "X_Foo": "underscore"})):
        headers = kong.request.get_raw_headers()
        assert (headers["x-foo"], headers["x_foo"], headers["X_FOO"]) == ("dash", "underscore", "underscore")
    with phase("access", Request(headers={"X-Foo": "dash"})):
        assert kong.request.get_raw_headers()["x_foo"] == "dash"
    with phase("access", Request(http_version=2.0)), pytest.raises(GatewayError, match="not available in HTTP/2"):
        kong.request.get_raw_headers()


@pytest.mark.parametrize(
    ("content_type", "body", "text", "mime"),
    [
        (None, "x", "missing content type", None),
        ("application/json", "null", "invalid json body", "application/json"),
        ("application/json", "", "invalid json body", "application/json"),
        (
            "application/vnd.x+json; q=1",
            "{}",
            "unsupported content type 'application/vnd.x+json; q=1'",
            "application/vnd.x+json",
        ),
    ],
)
def test_bodies_that_cannot_be_decoded(content_type: str | None, body: str, text: str, mime: str | None) -> None:
    with pytest.raises(BodyError) as caught:
        body_of(content_type, body)
    assert (str(caught.value), caught.value.mime) == (text, mime)


LARGE = "x" * 9000


@pytest.mark.parametrize("is_body_read", [True, False])
def test_size_limits_of_raw_reads(is_body_read: bool) -> None:
    def read(limit: int | None) -> bytes:
        with phase("access", Request("POST", body=LARGE, is_body_read=is_body_read)):
            return kong.request.get_raw_body(limit)

    for refused in (None, -1):
        with pytest.raises(BodyError) as caught:
            read(refused)
        assert str(caught.value) == (
            "request body did not fit into client body buffer, consider raising 'client_body_buffer_size'"
        )
    with pytest.raises(BodyError, match=r"^request body file too big: 9000 > 8500$"):
        read(8500)
    assert read(0) == read(9000) == LARGE.encode()


def test_a_refused_read_can_be_followed_by_one_with_a_larger_limit() -> None:
    with phase("access", Request("POST", body=LARGE, is_body_read=False)):
        with pytest.raises(BodyError):
            kong.request.get_raw_body()
        assert kong.request.get_raw_body(0) == LARGE.encode()


def test_a_large_form_is_refused_with_its_own_text() -> None:
    with pytest.raises(BodyError) as caught:
        body_of("application/x-www-form-urlencoded", LARGE, max_allowed_file_size=0)
    assert str(caught.value) == "request body in temp file not supported"


def test_a_body_set_by_a_plugin_is_readable_whatever_its_size() -> None:
    with phase("access"):
        kong.service.request.set_raw_body(LARGE)
        assert kong.request.get_raw_body() == LARGE.encode()


def test_there_are_no_captures_without_a_regular_expression() -> None:
    with phase("access") as exchange:
        assert (kong.request.get_uri_captures().unnamed, kong.request.get_uri_captures().named) == ([], {})
        exchange.captures = (["/a/1", "1"], {"id": "1"})
        assert kong.request.get_uri_captures().named == {"id": "1"}
