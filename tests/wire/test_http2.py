"""HTTP/2 from clients: by ALPN over TLS and by prior knowledge; the upstream sees HTTP/1.1."""

import threading
from typing import Any

import httpx
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset, TrailersReceived

from tests.support.certificates import insecure_context
from tests.support.documents import catch_all
from tests.support.gateway import Gateway
from tests.support.http1 import Client
from tests.support.upstream import Connection, Request, Upstream

Fields = list[tuple[str, str]]


def config(upstream: Upstream) -> dict[str, Any]:
    return catch_all(upstream)


def _url(address: tuple[str, int], scheme: str) -> str:
    return f"{scheme}://{address[0]}:{address[1]}"


@pytest.fixture(params=["tls", "prior-knowledge"])
def http2(request: pytest.FixtureRequest, gateway: Gateway) -> Any:
    """An HTTP/2 client of each kind."""
    if request.param == "tls":
        client = httpx.Client(http2=True, verify=insecure_context(), base_url=_url(gateway.tls, "https"))
    else:
        client = httpx.Client(http1=False, http2=True, base_url=_url(gateway.prior_knowledge, "http"))
    with client:
        yield client


class RawHttp2:
    """Frames as the test wants them, over prior knowledge."""

    def __init__(self, gateway: Gateway) -> None:
        self.client = Client(gateway.prior_knowledge)
        self.connection = H2Connection(
            H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
        )
        self.connection.initiate_connection()
        self.flush()

    def __enter__(self) -> "RawHttp2":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def flush(self) -> None:
        self.client.send(self.connection.data_to_send())

    def request(self, path: str, additions: Fields | None = None, *, method: str = "GET", is_ended: bool = True) -> int:
        stream: int = self.connection.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "http"), (":authority", "gateway.test"), (":path", path)]
        self.connection.send_headers(stream, head + (additions or []), end_stream=is_ended)
        self.flush()
        return stream

    def events(self) -> list[Event]:
        data = self.client.socket.recv(65536)
        if not data:
            raise EOFError("connection closed")
        found: list[Event] = self.connection.receive_data(data)
        for event in found:
            if isinstance(event, DataReceived) and event.flow_controlled_length:
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        pending = self.connection.data_to_send()
        if pending:
            self.client.send(pending)
        return found

    def until_end(self, stream: int) -> list[Event]:
        """Return the stream's events up to its end or reset."""
        seen: list[Event] = []
        while not any(isinstance(event, StreamEnded | StreamReset) for event in seen):
            seen += [event for event in self.events() if getattr(event, "stream_id", None) == stream]
        return seen


def _status(events: list[Event]) -> int | None:
    for event in events:
        if isinstance(event, ResponseReceived):
            fields = {_text(name): _text(value) for name, value in event.headers or []}
            return int(fields[":status"])
    return None


def _text(value: bytes | str) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def test_request_over_http2_reaches_the_upstream_as_http_1_1(http2: httpx.Client) -> None:
    response = http2.post("/over/http2?x=1", content=b"payload")
    assert response.http_version == "HTTP/2"
    assert response.status_code == 200
    seen = response.json()
    assert (seen["method"], seen["target"], seen["body"]) == ("POST", "/over/http2?x=1", "payload")
    via = [value for name, value in seen["headers"] if name.lower() == "via"]
    assert len(via) == 1
    assert via[0].startswith("2 ")


def test_no_connection_fields_go_to_an_http2_client(http2: httpx.Client) -> None:
    response = http2.get("/")
    assert not {"connection", "transfer-encoding", "keep-alive"} & set(response.headers)


def test_error_answers_reach_http2_clients(http2: httpx.Client) -> None:
    assert http2.request("TRACE", "/").status_code == 405


def test_tls_client_without_alpn_speaks_http_1_1(gateway: Gateway) -> None:
    with Client(gateway.tls, tls=insecure_context(), server_name="a.test") as client:
        assert client.request("GET", "/").version == "HTTP/1.1"


def test_alpn_prefers_http2(gateway: Gateway) -> None:
    with Client(gateway.tls, tls=insecure_context("http/1.1", "h2"), server_name="a.test") as client:
        assert client.socket.selected_alpn_protocol() == "h2"  # type: ignore[attr-defined]


def test_prior_knowledge_listener_also_speaks_http_1_1(gateway: Gateway) -> None:
    with Client(gateway.prior_knowledge) as client:
        assert client.request("GET", "/").status == 200


def test_streams_of_one_connection_do_not_wait_for_each_other(gateway: Gateway, upstream: Upstream) -> None:
    release = threading.Event()

    def slow(request: Request, connection: Connection) -> None:
        assert release.wait(10)
        connection.respond(b"slow")

    path = upstream.script(slow)
    with RawHttp2(gateway) as raw:
        first = raw.request(path)
        second = raw.request("/quick")
        assert _status(raw.until_end(second)) == 200
        release.set()
        assert _status(raw.until_end(first)) == 200


def test_reset_of_a_stream_closes_its_upstream_connection(gateway: Gateway, upstream: Upstream) -> None:
    arrived, ended = threading.Event(), threading.Event()

    def never_answers(request: Request, connection: Connection) -> None:
        arrived.set()
        connection.wait_for_end()
        ended.set()

    path = upstream.script(never_answers)
    with RawHttp2(gateway) as raw:
        stream = raw.request(path)
        assert arrived.wait(10)
        raw.connection.reset_stream(stream)
        raw.flush()
        assert ended.wait(10)
        assert _status(raw.until_end(raw.request("/"))) == 200


def test_trailers_pass_both_ways_over_http2(gateway: Gateway, upstream: Upstream) -> None:
    received: list[list[tuple[str, str]]] = []

    def with_trailers(request: Request, connection: Connection) -> None:
        connection.read_body(request)
        received.append(connection.reader.trailers.items)
        connection.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 42\r\n\r\n"
        )

    path = upstream.script(with_trailers)
    with RawHttp2(gateway) as raw:
        stream = raw.request(path, [("te", "trailers")], method="POST", is_ended=False)
        raw.connection.send_data(stream, b"x")
        raw.connection.send_headers(stream, [("x-check", "yes")], end_stream=True)
        raw.flush()
        events = raw.until_end(stream)
    trailers = [event.headers for event in events if isinstance(event, TrailersReceived)]
    assert [[(_text(name), _text(value)) for name, value in each or []] for each in trailers] == [[("x-sum", "42")]]
    assert [(name.lower(), value) for name, value in received[0]] == [("x-check", "yes")]


def test_upstream_close_in_mid_body_resets_the_stream(gateway: Gateway, upstream: Upstream) -> None:
    def half(request: Request, connection: Connection) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
        connection.close()

    path = upstream.script(half)
    with RawHttp2(gateway) as raw:
        events = raw.until_end(raw.request(path))
        assert any(isinstance(event, StreamReset) for event in events)
        assert _status(raw.until_end(raw.request("/"))) == 200


@pytest.mark.parametrize(
    "additions",
    [
        [("connection", "close")],
        [("transfer-encoding", "chunked")],
        [("X-Upper", "1")],
        [("te", "gzip")],
        [("content-length", "5")],
        [("x-a", "one\r\nx-b: two")],
        [("x-a", "nul\0byte")],
        [("host", "other.test")],
    ],
    ids=["connection", "transfer-encoding", "upper-case", "te", "length-without-body", "crlf", "nul", "other-host"],
)
def test_malformed_http2_request_never_reaches_the_upstream(
    gateway: Gateway, upstream: Upstream, additions: Fields
) -> None:
    path = upstream.script(lambda request, connection: connection.respond(b"reached"))
    with RawHttp2(gateway) as raw:
        try:
            events = raw.until_end(raw.request(path, additions))
        except (EOFError, ConnectionResetError):
            events = []
    assert _status(events) in (None, 400)
    assert upstream.requests_to(path) == []


def test_large_body_needs_and_gets_window_updates(http2: httpx.Client, upstream: Upstream) -> None:
    body = b"0123456789abcdef" * 65536
    path = upstream.script(lambda request, connection: connection.respond(connection.read_body(request)))
    assert http2.post(path, content=body).content == body
