"""kong.response."""

import json
from typing import Any

import pytest

from headgate.pdk import Exit, kong
from headgate.testing import MemoryExchange, Request, Upstream
from tests.pdk.calls import continued, phase


def exited(*arguments: Any, request: Request | None = None, function: str = "exit") -> MemoryExchange:
    with phase("access", request) as exchange, pytest.raises(Exit):
        getattr(kong.response, function)(*arguments)
    return exchange


def test_a_table_is_sent_as_json_with_its_type_unless_one_is_given() -> None:
    exchange = exited(403, {"message": "no", "list": []})
    assert (exchange.response_status, exchange.response_body) == (403, b'{"message":"no","list":[]}')
    assert exchange.get_response_header("content-type") == "application/json; charset=utf-8"
    assert exchange.get_response_header("content-length") == "26"
    typed = exited(403, {}, {"content_type": "application/problem+json"})
    assert [value for name, value in typed.response_headers() if name.lower() == "content-type"] == [
        "application/problem+json"
    ]


def test_text_is_sent_as_it_is_without_a_type() -> None:
    exchange = exited(200, "hi")
    assert exchange.response_body == b"hi"
    assert exchange.get_response_header("content-type") is None


def test_no_body_has_length_zero() -> None:
    assert exited(204).get_response_header("content-length") == "0"


def test_headers_replace_those_set_earlier_and_others_stay() -> None:
    with phase("access") as exchange:
        kong.response.set_header("X_A", "old")
        kong.response.set_header("X-B", 1.5)
        with pytest.raises(Exit):
            kong.response.exit(200, None, {"X-A": ["1", "2"], "Transfer-Encoding": "chunked"})
    lines = exchange.response_headers()
    assert [line for line in lines if line[0].startswith("X-")] == [("X-B", "1.5"), ("X-A", "1"), ("X-A", "2")]
    assert exchange.get_response_header("transfer-encoding") is None


def test_exit_is_no_exception_that_plugins_catch() -> None:
    assert not issubclass(Exit, Exception)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("200",), TypeError, "code must be a number"),
        ((True,), TypeError, "code must be a number"),
        ((99,), ValueError, "code must be a number between 100 and 599"),
        ((600,), ValueError, "code must be a number between 100 and 599"),
        ((200, 5), TypeError, "body must be a nil, string or table"),
        ((200, None, "x"), TypeError, "headers must be a nil or table"),
        ((200, None, {1: "x"}), TypeError, 'invalid header name "1": got number, expected string'),
        (
            (200, None, {"X": None}),
            TypeError,
            'invalid header value for "X": got nil, expected string, number, boolean or array of strings',
        ),
        ((200, None, {"X": [1]}), TypeError, 'invalid header value in array "X": got number, expected string'),
    ],
)
def test_wrong_arguments_of_exit(arguments: tuple[Any, ...], error: type[Exception], text: str) -> None:
    with phase("access") as exchange:
        with pytest.raises(error) as caught:
            kong.response.exit(*arguments)
        assert not exchange.is_answered
    assert str(caught.value) == text


def test_a_body_that_json_cannot_express_is_refused() -> None:
    with phase("access"), pytest.raises(ValueError, match=r"^body encoding failed while flushing response: "):
        kong.response.exit(200, {"a": object()})


@pytest.mark.parametrize(
    ("accept", "content_type", "start"),
    [
        (None, "application/json; charset=utf-8", '{\n  "message":"Unauthorized",\n  "request_id":"'),
        ("text/html", "text/html; charset=utf-8", "<!doctype html>"),
        ("text/*;q=0.5, application/xml", "application/xml; charset=utf-8", "<?xml"),
        ("text/*", "text/plain; charset=utf-8", "Unauthorized\nrequest_id: "),
        ("image/png", "application/json; charset=utf-8", "{"),
    ],
)
def test_error_answers_in_the_form_the_client_accepts(accept: str | None, content_type: str, start: str) -> None:
    request = Request(headers={} if accept is None else {"Accept": accept})
    exchange = exited(401, request=request, function="error")
    assert exchange.get_response_header("content-type") == content_type
    assert exchange.response_body.decode().startswith(start)
    assert exchange.id in exchange.response_body.decode()


def test_error_takes_a_message_and_refuses_other_statuses() -> None:
    assert json.loads(exited(400, "bad", function="error").response_body)["message"] == "bad"
    with phase("access"):
        with pytest.raises(ValueError, match=r"^code must be a number between 400 and 599$"):
            kong.response.error(399)
        with pytest.raises(TypeError, match=r"^message must be a nil, a string or a table$"):
            kong.response.error(400, 5)  # type: ignore[arg-type]


def test_header_setters_name_header_and_type() -> None:
    with phase("header_filter", response=Upstream()):
        with pytest.raises(TypeError) as caught:
            kong.response.set_header(None, "x")  # type: ignore[arg-type]
        assert str(caught.value) == 'invalid header name "nil": got nil, expected string'
        with pytest.raises(TypeError) as caught:
            kong.response.add_header("X", {"a": 1})  # type: ignore[arg-type]
        assert str(caught.value) == (
            'invalid header value for "X": got table, expected array of string, string, number or boolean'
        )
        with pytest.raises(TypeError, match=r"^headers must be a table$"):
            kong.response.set_headers("x")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"^header name must be a string$"):
            kong.response.clear_header(1)  # type: ignore[arg-type]


def test_set_headers_sets_nothing_when_one_is_wrong() -> None:
    with phase("header_filter", response=Upstream()):
        with pytest.raises(TypeError):
            kong.response.set_headers({"X-A": "1", "X-B": None})  # type: ignore[dict-item]
        assert kong.response.get_header("X-A") is None


def test_setters_and_getters_meet() -> None:
    with phase("header_filter", response=Upstream(200, {"X-Up": "1"})):
        kong.response.set_status(201)
        kong.response.add_header("X_Up", True)
        assert kong.response.get_status() == 201
        assert kong.response.get_headers()["x-up"] == ["1", "true"]
        kong.response.clear_header("x_up")
        assert kong.response.get_header("X-Up") is None
        assert kong.response.get_source() == "service"


def test_body_filter_holds_chunks_back_until_the_last_one() -> None:
    with phase("body_filter", response=Upstream()) as exchange:
        exchange.set_response_chunk(b"one ", False)
        assert kong.response.get_raw_body() is None
        assert exchange.response_chunk() == (b"", False)
    with continued(exchange, "body_filter"):
        exchange.set_response_chunk(b"two", True)
        assert kong.response.get_raw_body() == b"one two"
        assert exchange.response_chunk() == (b"one two", True)
        kong.response.set_raw_body("")
        assert exchange.response_chunk() == (b"\n", True)
        with pytest.raises(TypeError, match=r"^body must be a string$"):
            kong.response.set_raw_body(None)  # type: ignore[arg-type]


def test_response_phase_reads_and_replaces_the_buffered_body() -> None:
    with phase("response", response=Upstream(200, {}, "old")) as exchange:
        exchange.enable_buffering()
        assert kong.response.get_raw_body() == b"old"
        kong.response.set_raw_body("newer")
        assert kong.service.response.get_raw_body() == b"newer"
        assert kong.response.get_header("content-length") == "5"
