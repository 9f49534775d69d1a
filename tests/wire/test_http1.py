"""HTTP/1 between client, gateway and upstream: framing, keep-alive, trailers, bodiless responses, broken ends."""

import json
import threading
from typing import Any

import pytest

from tests.support.documents import catch_all
from tests.support.gateway import Gateway
from tests.support.http1 import Truncated, wait_until
from tests.support.upstream import Connection, Request, Upstream


def config(upstream: Upstream) -> dict[str, Any]:
    return catch_all(upstream)


def test_request_reaches_the_upstream_and_its_answer_comes_back(gateway: Gateway) -> None:
    response = gateway.get("/some/path?a=1&b=%20")
    assert response.status == 200
    assert response.version == "HTTP/1.1"
    seen = response.json()
    assert (seen["method"], seen["target"]) == ("GET", "/some/path?a=1&b=%20")


def test_connection_stays_open_for_further_requests(gateway: Gateway) -> None:
    with gateway.client() as client:
        upstream_connections = {client.request("GET", f"/{number}").json()["connection"] for number in range(20)}
    assert len(upstream_connections) == 1


def test_pipelined_requests_are_answered_in_order(gateway: Gateway) -> None:
    with gateway.client() as client:
        client.send(b"".join(b"GET /pipelined/%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(10)))
        targets = [client.read_response().json()["target"] for _ in range(10)]
    assert targets == [f"/pipelined/{number}" for number in range(10)]


def test_pipelined_request_behind_a_body_is_not_taken_for_body(gateway: Gateway) -> None:
    with gateway.client() as client:
        client.send(
            b"POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
            b"POST /second HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n"
            b"GET /third HTTP/1.1\r\nHost: a\r\n\r\n"
        )
        seen = [client.read_response().json() for _ in range(3)]
    assert [(each["target"], each["body"]) for each in seen] == [("/first", "abc"), ("/second", "de"), ("/third", "")]


def test_connection_close_is_honoured(gateway: Gateway) -> None:
    with gateway.client() as client:
        response = client.request("GET", "/", {"Connection": "close"})
        assert response.headers.get("Connection") == "close"
        assert client.is_closed_by_peer()


def test_http_1_0_client_gets_a_closed_connection_and_no_chunks(gateway: Gateway, upstream: Upstream) -> None:
    def chunked(request: Request, connection: Connection) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")

    path = upstream.script(chunked)
    with gateway.client() as client:
        client.send(f"GET {path} HTTP/1.0\r\nHost: a\r\n\r\n".encode())
        response = client.read_response()
        assert "Transfer-Encoding" not in response.headers
        assert response.body == b"abcdef"


def test_http_1_0_client_may_keep_the_connection(gateway: Gateway) -> None:
    with gateway.client() as client:
        for _ in range(2):
            client.send(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
            response = client.read_response()
            assert response.status == 200
            assert (response.headers.get("Connection") or "").lower() == "keep-alive"


def test_http_1_0_request_without_host_is_served(gateway: Gateway) -> None:
    with gateway.client() as client:
        client.send(b"GET /x HTTP/1.0\r\n\r\n")
        assert client.read_response().status == 200


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_bodiless_status_has_no_body_and_keeps_the_connection(
    gateway: Gateway, upstream: Upstream, status: str
) -> None:
    path = upstream.script(
        lambda request, connection: connection.send(f"HTTP/1.1 {status}\r\nETag: x\r\n\r\n".encode())
    )
    with gateway.client() as client:
        for _ in range(2):
            response = client.request("GET", path)
            assert response.status == int(status[:3])
            assert response.headers["ETag"] == "x"
            assert "Transfer-Encoding" not in response.headers
        assert client.request("GET", "/").status == 200


def test_head_response_keeps_its_length_and_has_no_body(gateway: Gateway, upstream: Upstream) -> None:
    path = upstream.script(
        lambda request, connection: connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
    )
    with gateway.client() as client:
        response = client.request("HEAD", path)
        assert response.headers["Content-Length"] == "1234"
        assert client.request("GET", "/").status == 200


def test_head_of_an_error_page_has_no_body(gateway: Gateway, upstream: Upstream) -> None:
    path = upstream.script(lambda request, connection: connection.close())
    with gateway.client() as client:
        assert client.request("HEAD", path).status == 502
        assert client.request("GET", "/").status == 200


def test_body_without_length_ends_with_the_upstream_connection(gateway: Gateway, upstream: Upstream) -> None:
    def until_close(request: Request, connection: Connection) -> None:
        connection.send(b"HTTP/1.0 200 OK\r\n\r\nall there is")
        connection.close()

    path = upstream.script(until_close)
    with gateway.client() as client:
        assert client.request("GET", path).body == b"all there is"
        assert client.request("GET", "/").status == 200


def test_chunked_request_body_arrives_whole(gateway: Gateway) -> None:
    with gateway.client() as client:
        client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5\r\nhello\r\n6;extension=1\r\n world\r\n0\r\n\r\n"
        )
        assert client.read_response().json()["body"] == "hello world"


def test_trailers_pass_both_ways(gateway: Gateway, upstream: Upstream) -> None:
    received: list[list[tuple[str, str]]] = []

    def with_trailers(request: Request, connection: Connection) -> None:
        connection.read_body(request)
        received.append(connection.reader.trailers.items)
        connection.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 42\r\n\r\n"
        )

    path = upstream.script(with_trailers)
    with gateway.client() as client:
        client.send(
            f"POST {path} HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: X-Check\r\n"
            "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Check: yes\r\n\r\n".encode()
        )
        response = client.read_response()
    assert response.body == b"ok"
    assert response.trailers.items == [("X-Sum", "42")]
    assert received == [[("X-Check", "yes")]]


def test_expect_100_continue_is_answered_before_the_body(gateway: Gateway) -> None:
    with gateway.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        assert client.read_response(is_interim_skipped=False).status == 100
        client.send(b"body")
        assert client.read_response().json()["body"] == "body"


def test_refusal_before_the_body_needs_no_100_continue(gateway: Gateway, upstream: Upstream) -> None:
    path = upstream.script(
        lambda request, connection: connection.respond(b"no", "403 Forbidden", {"Connection": "close"})
    )
    with gateway.client() as client:
        client.send(
            f"POST {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 100000\r\n\r\n".encode()
        )
        assert client.read_response().status == 403


def test_upstream_close_in_mid_body_is_visible_to_the_client(gateway: Gateway, upstream: Upstream) -> None:
    def half(request: Request, connection: Connection) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
        connection.close()

    path = upstream.script(half)
    with gateway.client() as client, pytest.raises(Truncated):
        client.request("GET", path)


def test_upstream_close_in_mid_chunk_is_visible_to_the_client(gateway: Gateway, upstream: Upstream) -> None:
    def half(request: Request, connection: Connection) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nhe")
        connection.reset()

    path = upstream.script(half)
    with gateway.client() as client, pytest.raises(Truncated):
        client.request("GET", path)


def test_upstream_that_closes_without_an_answer_gives_502(gateway: Gateway, upstream: Upstream) -> None:
    path = upstream.script(lambda request, connection: connection.close())
    response = gateway.get(path)
    assert response.status == 502
    assert b"An invalid response was received from the upstream server" in response.body


@pytest.mark.parametrize(
    "answer",
    [
        b"not http at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: minus\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 200_000 + b"\r\n\r\n",
    ],
    ids=["no-http", "two-lengths", "bad-length", "no-colon", "too-long"],
)
def test_invalid_upstream_answer_gives_502(gateway: Gateway, upstream: Upstream, answer: bytes) -> None:
    def invalid(request: Request, connection: Connection) -> None:
        connection.send(answer)
        connection.close()

    assert gateway.get(upstream.script(invalid)).status == 502


def test_early_client_close_closes_the_upstream_connection(gateway: Gateway, upstream: Upstream) -> None:
    arrived, ended = threading.Event(), threading.Event()

    def never_answers(request: Request, connection: Connection) -> None:
        arrived.set()
        connection.wait_for_end()
        ended.set()

    path = upstream.script(never_answers)
    with gateway.client() as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert arrived.wait(10)
    assert ended.wait(10)


def test_client_close_while_the_response_streams_closes_the_upstream_connection(
    gateway: Gateway, upstream: Upstream
) -> None:
    ended = threading.Event()

    def endless(request: Request, connection: Connection) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                connection.send(b"400\r\n" + b"x" * 1024 + b"\r\n")
        except OSError:
            ended.set()
            raise

    path = upstream.script(endless)
    client = gateway.client()
    client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    client.reader.read_head()
    client.reset()
    assert ended.wait(10)


def test_client_close_in_mid_request_body_is_no_whole_request_for_the_upstream(
    gateway: Gateway, upstream: Upstream
) -> None:
    outcome: list[str] = []
    ended = threading.Event()

    def takes_all(request: Request, connection: Connection) -> None:
        try:
            connection.read_body(request)
            outcome.append("whole")
        except Exception:
            outcome.append("truncated")
            raise
        finally:
            ended.set()

    path = upstream.script(takes_all)
    with gateway.client() as client:
        client.send(f"POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n".encode())
        assert wait_until(lambda: bool(upstream.requests_to(path)))
    assert ended.wait(10)
    assert outcome == ["truncated"]


def test_response_to_an_unread_request_body_comes_through(gateway: Gateway, upstream: Upstream) -> None:
    def refuses(request: Request, connection: Connection) -> None:
        connection.respond(b"too much", "413 Payload Too Large", {"Connection": "close"})
        connection.close()

    path = upstream.script(refuses)
    with gateway.client() as client:
        client.send(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n".encode() + b"x" * 1000)
        assert client.read_response().status == 413


def test_interim_response_of_the_upstream_does_not_end_the_exchange(gateway: Gateway, upstream: Upstream) -> None:
    path = upstream.script(
        lambda request, connection: connection.send(
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        )
    )
    with gateway.client() as client:
        assert client.request("GET", path).body == b"ok"


def test_stale_kept_upstream_connection_is_replaced_unseen(gateway: Gateway, upstream: Upstream) -> None:
    with gateway.client() as client:
        first = client.request("GET", "/").json()["connection"]
        upstream.drop_connections()
        assert wait_until(lambda: upstream.open_connection_count == 0)
        assert client.request("GET", "/").json()["connection"] != first


def test_large_bodies_arrive_unchanged(gateway: Gateway, upstream: Upstream) -> None:
    body = bytes(range(256)) * 8192
    with gateway.client() as client:
        path = upstream.script(lambda request, connection: connection.respond(connection.read_body(request)))
        assert client.request("POST", path, body=body).body == body


def test_repeated_fields_keep_their_order(gateway: Gateway) -> None:
    with gateway.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nx-b: z\r\nX-A: 2\r\n\r\n")
        fields = json.loads(client.read_response().body)["headers"]
    assert [value for name, value in fields if name.lower() == "x-a"] == ["1", "2"]


def test_status_counts_connections_by_what_they_do(gateway: Gateway, upstream: Upstream) -> None:
    asked, answers = threading.Event(), threading.Event()

    def waits(request: Request, connection: Connection) -> None:
        asked.set()
        assert answers.wait(10)
        connection.respond(b"")

    def counted(what: str) -> int:
        server = gateway.admin_request("GET", "/status").json()["server"]
        return int(server[f"connections_{what}"])

    path = upstream.script(waits)
    before = counted("reading"), counted("writing")
    with gateway.client() as reading, gateway.client() as writing:
        reading.send(b"GET / HTTP/1.1\r\nHost: a")
        writing.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert asked.wait(10)
        assert wait_until(lambda: (counted("reading"), counted("writing")) == (before[0] + 1, before[1] + 1))
        answers.set()
        reading.send(b"\r\n\r\n")
        assert reading.read_response().status == 200
        assert writing.read_response().status == 200
        assert wait_until(lambda: (counted("reading"), counted("writing")) == before)
