"""kong.service, kong.service.request, kong.service.response."""

import gzip
import zlib
from typing import Any

import pytest

from headgate.pdk import BodyError, UpstreamNotFoundError, kong
from headgate.pdk._body import decompressed
from headgate.testing import Request, Upstream
from tests.pdk.calls import phase


def test_target_upstream_retries_and_timeouts_reach_the_engine() -> None:
    with phase("access", entities={"upstreams": [{"name": "u"}]}) as exchange:
        kong.service.set_target("host", 8080.0)  # type: ignore[arg-type]
        kong.service.set_retries(3)
        kong.service.set_timeouts(1, 2, 3)
        assert kong.service.set_upstream("u") is True
        with pytest.raises(UpstreamNotFoundError, match=r"^could not find an Upstream named 'v'$"):
            kong.service.set_upstream("v")
    assert exchange.upstream_target == ("host", 8080)
    assert (exchange.upstream_retries, exchange.upstream_timeouts_ms, exchange.upstream_name) == (3, (1, 2, 3), "u")


@pytest.mark.parametrize(
    ("function", "arguments", "text"),
    [
        ("set_upstream", (1,), "host must be a string"),
        ("set_target", (None, 1), "host must be a string"),
        ("set_target", ("h", "1"), "port must be an integer"),
        ("set_target", ("h", 1.5), "port must be an integer"),
        ("set_target", ("h", 65536), "port must be an integer between 0 and 65535: given 65536"),
        ("set_retries", (None,), "retries must be an integer"),
        ("set_retries", (-1,), "retries must be an integer between 0 and 32767: given -1"),
        ("set_timeouts", (None, 1, 1), "connect_timeout must be an integer"),
        ("set_timeouts", (1, 0, 1), "write_timeout must be an integer between 1 and 2147483646: given 0"),
        (
            "set_timeouts",
            (1, 1, 2**31 - 1),
            "read_timeout must be an integer between 1 and 2147483646: given 2147483647",
        ),
        ("set_target_retry_callback", (1,), "retry_callback must be a function"),
    ],
)
def test_wrong_arguments_of_service_setters(function: str, arguments: tuple[Any, ...], text: str) -> None:
    with phase("access"), pytest.raises((TypeError, ValueError)) as caught:
        getattr(kong.service, function)(*arguments)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("function", "arguments", "text"),
    [
        ("set_scheme", (1,), "scheme must be a string"),
        ("set_scheme", ("ftp",), "invalid scheme: ftp"),
        ("set_path", (1,), "path must be a string"),
        ("set_path", ("a",), "path must start with /"),
        ("set_raw_query", (None,), "query must be a string"),
        ("set_query", ("a",), "args must be a table"),
        ("set_query", ({1: "a"},), "arg keys must be strings"),
        ("set_query", ({"a": None},), "attempt to use nil as query arg value"),
        ("set_query", ({"a": [{}]},), "attempt to use table as query arg value"),
        ("clear_query_arg", (1,), "query argument name must be a string"),
        ("set_method", (1,), "method must be a string"),
        ("set_method", ("get",), "invalid method: get"),
        ("clear_header", (1,), "header must be a string"),
        ("set_headers", (1,), "headers must be a table"),
        ("set_raw_body", (1,), "body must be a string"),
        ("set_body", (1,), "args must be a table"),
        ("set_body", ({}, 1), "mime must be a string"),
        ("set_body", ({}, "Application/JSON"), "unsupported content type Application/JSON"),
        ("set_header", (":authority", "x"), "cannot set :authority pseudo-header on non-grpc requests"),
    ],
)
def test_wrong_arguments_of_request_setters(function: str, arguments: tuple[Any, ...], text: str) -> None:
    with phase("access"), pytest.raises((TypeError, ValueError)) as caught:
        getattr(kong.service.request, function)(*arguments)
    assert str(caught.value) == text


def test_query_arguments_are_encoded_and_sorted() -> None:
    with phase("access"):
        kong.service.request.set_query(
            {"foo": "hello world", "a": True, "aa": ["zzz", True, True, "aaa"], "zzz": "goodbye world"}
        )
        assert kong.request.get_raw_query() == "a&aa=zzz&aa&aa&aa=aaa&foo=hello%20world&zzz=goodbye%20world"
        kong.service.request.set_query({"": "aa"})
        assert kong.request.get_raw_query() == "=aa"
        kong.service.request.set_query({})
        assert kong.request.get_raw_query() == ""


def test_clearing_an_argument_writes_the_rest_anew() -> None:
    with phase("access", Request(path="/?foo&a=1&b=x+y~&a=2")):
        kong.service.request.clear_query_arg("a")
        assert kong.request.get_raw_query() == "foo=&b=x%20y%7E"


def test_paths_are_escaped_once() -> None:
    with phase("access") as exchange:
        kong.service.request.set_path('/a b/%2F/ø"?')
    assert exchange.upstream_path == "/a%20b/%2F/%C3%B8%22?"


def test_request_headers_are_replaced_added_and_cleared() -> None:
    with phase("access", Request(headers=[("X-A", "1"), ("X-A", "2"), ("X-B", "3")])) as exchange:
        kong.service.request.set_header("x-a", ["4", "5"])
        kong.service.request.add_header("X-A", 6)
        kong.service.request.clear_header("x_b")
        kong.service.request.add_header("Host", "other")
        assert kong.request.get_headers()["x-a"] == ["4", "5", "6"]
        assert kong.request.get_header("x-b") is None
        assert exchange.get_request_header_values("host") == ["other"]


def test_bodies_are_encoded_by_type() -> None:
    with phase("access", Request("POST", headers={"Content-Type": "application/json"})) as exchange:
        assert kong.service.request.set_body({"a": [1, True, None]})
        assert exchange.request_body() == b'{"a":[1,true,null]}'
        kong.service.request.set_body({"b": "1 2", "a": True}, "application/x-www-form-urlencoded")
        assert exchange.request_body() == b"a&b=1%202"
        kong.service.request.set_body({"b": 2, "a": True}, 'multipart/form-data; boundary="q"')
        assert exchange.request_body() == (
            b'--q\r\nContent-Disposition: form-data; name="a"\r\n\r\ntrue\r\n'
            b'--q\r\nContent-Disposition: form-data; name="b"\r\n\r\n2\r\n--q--\r\n'
        )
        assert exchange.get_request_header("content-type") == "multipart/form-data; boundary=q"
        assert exchange.get_request_header("content-length") == str(len(exchange.request_body() or b""))


def test_a_body_without_any_type_is_refused() -> None:
    with phase("access"), pytest.raises(BodyError) as caught:
        kong.service.request.set_body({})
    assert str(caught.value) == "content type was neither explicitly given as an argument or received as a header"


def test_functions_cannot_be_sent_as_json() -> None:
    with phase("access"), pytest.raises(TypeError, match=r"^Cannot serialise function: type not supported$"):
        kong.service.request.set_body({"a": print}, "application/json")


def test_authentication_headers_are_set_and_cleared() -> None:
    with phase("access", Request(headers={"X-Consumer-Custom-ID": "spoofed", "X-Anonymous-Consumer": "true"})):
        kong.service.request.set_authentication_headers({"id": "1", "username": "anna"}, "key", ["gold", "staff"])
        headers = kong.request.get_headers()
        assert (headers["x-consumer-id"], headers["x-consumer-username"]) == ("1", "anna")
        assert (headers["x-credential-identifier"], headers["x-consumer-groups"]) == ("key", "gold, staff")
        assert "x-consumer-custom-id" not in headers
        assert "x-anonymous-consumer" not in headers


def test_only_headers_of_the_upstream_are_visible() -> None:
    with phase("header_filter", response=Upstream(502, {"X-Up": "1"})):
        kong.response.set_header("x-added", "2")
        kong.response.set_header("X-Up", "changed")
        assert dict(kong.service.response.get_headers()) == {"x-up": "changed"}
        assert kong.service.response.get_header("X-Added") is None
        assert kong.service.response.get_status() == 502
        with pytest.raises(TypeError, match=r"^name must be a string$"):
            kong.service.response.get_header(1)  # type: ignore[arg-type]


def test_the_body_needs_buffering() -> None:
    with phase("response", response=Upstream(200, {"Content-Type": "application/json"}, '{"a":1}')) as exchange:
        with pytest.raises(ValueError, match=r"^service body is only available with buffered proxying"):
            kong.service.response.get_raw_body()
        exchange.enable_buffering()
        assert kong.service.response.get_body() == {"a": 1}
        kong.service.response.set_body("{}")
        assert kong.service.response.get_body() == {}


def test_a_compressed_body_is_decoded_when_asked_for() -> None:
    for encoding, body in (
        ("gzip", gzip.compress(b'{"a":1}')),
        ("deflate", zlib.compress(b'{"a":1}')),
        ("deflate", zlib.compress(b'{"a":1}')[2:-4]),
        ("deflate, gzip", gzip.compress(zlib.compress(b'{"a":1}'))),
        ("identity", b'{"a":1}'),
    ):
        headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
        with phase("response", response=Upstream(200, headers, body)) as exchange:
            exchange.enable_buffering()
            assert kong.service.response.get_body(decompressed=True) == {"a": 1}
    for encoding, body, text in (
        ("br", b"x", "unsupported content encoding 'br'"),
        ("gzip", b"x", "broken content encoding 'gzip'"),
        ("gzip", gzip.compress(b"{}")[:-2], "it is cut off"),
        ("gzip", gzip.compress(bytes(10_000)), "decompressed body is larger than 1000 bytes"),
    ):
        with pytest.raises(BodyError, match=text):
            decompressed(body, encoding, 1000)
