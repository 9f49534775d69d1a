"""Requests that are malformed, too large, or readable in two ways: refused, closed, never seen by the upstream."""

from typing import Any

import pytest

from tests.support.documents import catch_all
from tests.support.gateway import Gateway
from tests.support.http1 import Response, Truncated
from tests.support.upstream import Upstream

SETTINGS = {"nginx_http_client_max_body_size": "1m"}


def config(upstream: Upstream) -> dict[str, Any]:
    return catch_all(upstream)


# Behind each request that two parsers could split differently stands one that must not be served.
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

AMBIGUOUS = {
    "length and chunked": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 3\r\nContent-Length: 0\r\n\r\n",
    "length list": b"Content-Length: 3, 0\r\n\r\n",
    "signed length": b"Content-Length: +3\r\n\r\n",
    "negative length": b"Content-Length: -1\r\n\r\n",
    "hexadecimal length": b"Content-Length: 0x3\r\n\r\n",
    "length with a space": b"Content-Length: 1 0\r\n\r\n",
    "empty length": b"Content-Length:\r\n\r\n",
    "length beyond 64 bits": b"Content-Length: 99999999999999999999\r\n\r\n",
    "unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "coding not last": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "coding twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "identity coding": b"Transfer-Encoding: identity\r\n\r\n",
    "vertical tab before coding": b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "space before the colon": b"Content-Length : 3\r\n\r\nabc",
    "tab before the colon": b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "folded line": b"X-A: 1\r\n 2\r\n\r\n",
    "folded coding": b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "line starting with a space": b" X-A: 1\r\n\r\n",
    "bare line feed": b"X-A: 1\nX-B: 2\r\n\r\n",
    "bare carriage return": b"X-A: 1\rX-B: 2\r\n\r\n",
    "nul in a value": b"X-A: 1\x002\r\n\r\n",
    "control byte in a value": b"X-A: 1\x012\r\n\r\n",
    "field without a name": b": 1\r\n\r\n",
    "field without a colon": b"X-A\r\n\r\n",
    "space in a name": b"X A: 1\r\n\r\n",
    "two hosts": b"Host: b\r\n\r\n",
}


@pytest.mark.parametrize("rest", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_ambiguous_request_is_refused_and_the_connection_closed(
    gateway: Gateway, upstream: Upstream, rest: bytes
) -> None:
    with gateway.client() as client:
        client.send(b"POST /ambiguous HTTP/1.1\r\nHost: a\r\n" + rest + SMUGGLED)
        response = client.read_response()
        assert response.status in (400, 501)
        assert response.headers.get("Connection") == "close"
        assert client.reader.read_to_end() == b""
    assert upstream.requests_to("/ambiguous") == []
    assert upstream.requests_to("/smuggled") == []


MALFORMED = {
    "no version": b"GET /malformed\r\n\r\n",
    "lower-case version": b"GET /malformed http/1.1\r\nHost: a\r\n\r\n",
    "two spaces": b"GET  /malformed HTTP/1.1\r\nHost: a\r\n\r\n",
    "tab as separator": b"GET\t/malformed HTTP/1.1\r\nHost: a\r\n\r\n",
    "space in the target": b"GET /malformed b HTTP/1.1\r\nHost: a\r\n\r\n",
    "bad method": b"GE(T /malformed HTTP/1.1\r\nHost: a\r\n\r\n",
    "relative target": b"GET relative HTTP/1.1\r\nHost: a\r\n\r\n",
    "control byte in the target": b"GET /malformed\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
    "no host": b"GET /malformed HTTP/1.1\r\n\r\n",
    "empty line endings": b"GET /malformed HTTP/1.1\nHost: a\n\n",
    "bad host": b"GET /malformed HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "chunked in HTTP/1.0": b"POST /malformed HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "binary": b"\x80\x03\x01\x00\x01\x02\x03\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_request_gives_400(gateway: Gateway, upstream: Upstream, request_bytes: bytes) -> None:
    with gateway.client() as client:
        client.send(request_bytes)
        response = client.read_response()
        assert response.status == 400
        assert client.reader.read_to_end() == b""
    _is_server_page(response, "Bad request")
    assert upstream.requests_to("/malformed") == []


def _is_server_page(response: Response, message: str) -> None:
    request_id = response.headers["X-Kong-Request-Id"]
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.body.decode() == f"{message}\nrequest_id: {request_id}\n"


def test_version_2_in_a_version_1_line_gives_505(gateway: Gateway) -> None:
    with gateway.client() as client:
        client.send(b"GET / HTTP/2.0\r\nHost: a\r\n\r\n")
        assert client.read_response().status in (400, 505)


BROKEN_CHUNKS = {
    "no size": b"\r\nabc\r\n",
    "bad size": b"zz\r\nabc\r\n",
    "signed size": b"+3\r\nabc\r\n",
    "prefixed size": b"0x3\r\nabc\r\n",
    "huge size": b"ffffffffffffffffff\r\nabc\r\n",
    "data longer than its size": b"2\r\nabc\r\n0\r\n\r\n",
    "line feed after size": b"3\nabc\r\n0\r\n\r\n",
    "space before size": b" 3\r\nabc\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("body", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS.keys())
def test_broken_chunk_ends_the_request_for_both_sides(gateway: Gateway, upstream: Upstream, body: bytes) -> None:
    whole: list[bytes] = []
    path = upstream.script(lambda request, connection: whole.append(connection.read_body(request)))
    with gateway.client() as client:
        client.send(f"POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + body + SMUGGLED)
        response = client.read_response()
        assert response.status == 400
        assert client.reader.read_to_end() == b""
    assert whole == []
    assert upstream.requests_to("/smuggled") == []


@pytest.mark.parametrize(
    ("head", "status", "message"),
    [
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, "URI too long"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + b"a" * 9000 + b"\r\n\r\n", 400, "Request header or cookie too large"),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-A: %s\r\n" % (b"a" * 1000) * 40 + b"\r\n",
            400,
            "Request header or cookie too large",
        ),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * 1500 + b"\r\n",
            400,
            "Request header or cookie too large",
        ),
    ],
    ids=["request-line", "one-field", "all-fields", "number-of-fields"],
)
def test_oversized_head_is_refused(gateway: Gateway, head: bytes, status: int, message: str) -> None:
    with gateway.client() as client:
        client.send(head)
        response = client.read_response()
    assert response.status == status
    _is_server_page(response, message)


def test_trace_gives_405(gateway: Gateway) -> None:
    with gateway.client() as client:
        client.send(b"TRACE / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n")
        response = client.read_response()
    assert response.status == 405
    assert response.json()["message"] == "Method not allowed"


def test_announced_body_above_the_limit_gives_413(gateway: Gateway, upstream: Upstream) -> None:
    with gateway.client() as client:
        client.send(b"POST /announced HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n\r\n")
        response = client.read_response()
    assert response.status == 413
    _is_server_page(response, "Payload too large")
    assert upstream.requests_to("/announced") == []


def test_body_of_exactly_the_limit_passes(gateway: Gateway) -> None:
    with gateway.client() as client:
        assert client.request("POST", "/", body=b"x" * 1048576).status == 200


def test_chunked_body_that_grows_above_the_limit_gives_413(gateway: Gateway) -> None:
    with gateway.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(20):
                client.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            assert client.read_response().status == 413
        except Truncated as cut:
            # The answer may be lost to the reset that unread data causes; what must not come is a success.
            assert cut.received == b""


def test_refused_request_leaves_other_connections_alone(gateway: Gateway) -> None:
    with gateway.client() as well_behaved:
        assert well_behaved.request("GET", "/").status == 200
        with gateway.client() as client:
            client.send(b"nonsense\r\n\r\n")
            client.reader.read_to_end()
        assert well_behaved.request("GET", "/").status == 200
