"""Answers to gRPC clients (PDK reference 8.5), as the engine gives them."""

from typing import Any

import pytest

from headgate.pdk import kong
from headgate.pdk._exit import Exit
from headgate.testing import Request
from headgate.testing.grpc import grpc_name, grpc_status
from tests.pdk.calls import phase

GRPC = Request(http_version=2.0, headers={"Content-Type": "application/grpc+proto"})


def answered(*arguments: Any, request: Request = GRPC, by: str = "exit") -> tuple[int, dict[str, str], bytes]:
    with phase("access", request) as exchange, pytest.raises(Exit):
        getattr(kong.response, by)(*arguments)
    return exchange.response_status, dict(exchange.response_headers()), exchange.response_body


def test_statuses_are_mapped() -> None:
    assert [grpc_status(status) for status in (200, 204, 302, 401, 418, 429, 502, 503)] == [0, 0, 2, 16, 3, 8, 13, 14]
    assert (grpc_name(403), grpc_name(100)) == ("PermissionDenied", "Unknown")


def test_a_text_becomes_the_message_and_the_status_stays() -> None:
    status, headers, body = answered(403, "not you")
    assert (status, body) == (403, b"")
    assert headers == {"Content-Length": "0", "grpc-status": "7", "grpc-message": "not you"}


def test_of_a_table_the_message_is_sent() -> None:
    assert answered(401, {"message": "who?"})[1]["grpc-message"] == "who?"
    assert answered(401, {"other": 1})[1]["grpc-message"] == "Unauthenticated"


def test_no_body_gives_the_name_of_the_status() -> None:
    assert answered(404)[1]["grpc-message"] == "NotFound"
    assert answered(404, None, {"grpc-status": "9"})[1]["grpc-status"] == "9"


def test_with_grpc_as_content_type_text_stays_the_body_and_a_table_is_refused() -> None:
    _, headers, body = answered(500, "raw", {"Content-Type": "application/grpc"}, request=Request())
    assert (headers["grpc-message"], body) == ("Internal", b"raw")
    with phase("access"), pytest.raises(ValueError, match="table body encoding with gRPC is not supported"):
        kong.response.exit(500, {}, {"content-type": "application/grpc"})


def test_an_error_has_no_body() -> None:
    status, headers, body = answered(503, by="error")
    assert (status, headers["Content-Type"], headers["grpc-status"], body) == (503, "application/grpc", "14", b"")


def test_http_1_is_never_grpc() -> None:
    request = Request(headers={"Content-Type": "application/grpc"})
    assert answered(403, {"message": "no"}, request=request)[2] == b'{"message":"no"}'
