"""WebSockets over HTTP/2 (RFC 8441): one stream each, through ws services and as tunnels through http services."""

from collections.abc import Iterator
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset

from tests.support import websockets as ws
from tests.support.certificates import insecure_context
from tests.support.documents import document
from tests.support.gateway import PLUGIN_DIRECTORY, Gateway
from tests.support.http1 import Client, wait_until
from tests.support.upstream import Connection, Request, Upstream
from tests.support.websockets import EchoServer, close_frame, frame, read_frame

TEXT, CLOSE = 0x81, 0x88


class Http2:
    """A connection of HTTP/2 on which WebSockets are opened, over TLS or by prior knowledge."""

    def __init__(self, gateway: Gateway, *, is_tls: bool = False) -> None:
        self.scheme = "https" if is_tls else "http"
        if is_tls:
            self._client = Client(gateway.tls, tls=insecure_context("h2"), server_name="a.test", timeout_s=20)
        else:
            self._client = Client(gateway.prior_knowledge, timeout_s=20)
        self.connection = H2Connection(
            H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
        )
        self.connection.initiate_connection()
        self.status: dict[int, int] = {}
        self.headers: dict[int, dict[str, str]] = {}
        self.data: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.was_reset: dict[int, int] = {}
        self.flush()

    def __enter__(self) -> "Http2":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def flush(self) -> None:
        self._client.send(self.connection.data_to_send())

    def receive(self) -> None:
        """Take what comes next and keep it by stream."""
        data = self._client.socket.recv(65536)
        if not data:
            raise EOFError("connection closed")
        for event in self.connection.receive_data(data):
            self._take(event)
        self.flush()

    def _take(self, event: Event) -> None:
        if isinstance(event, ResponseReceived):
            fields = {_text(name): _text(value) for name, value in event.headers or []}
            self.status[event.stream_id] = int(fields[":status"])
            self.headers[event.stream_id] = fields
        elif isinstance(event, DataReceived):
            self.data[event.stream_id] = self.data.get(event.stream_id, b"") + event.data
            if event.flow_controlled_length:
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            self.ended.add(event.stream_id)
        elif isinstance(event, StreamReset):
            self.was_reset[event.stream_id] = int(event.error_code)

    def ask(self, path: str, *additions: tuple[str, str], protocol: str = "websocket") -> int:
        """Send an extended CONNECT and wait for its answer; returns the stream."""
        stream: int = self.connection.get_next_available_stream_id()
        head = [
            (":method", "CONNECT"),
            (":protocol", protocol),
            (":scheme", self.scheme),
            (":path", path),
            (":authority", "gateway.test"),
            ("sec-websocket-version", "13"),
            *additions,
        ]
        self.connection.send_headers(stream, head)
        self.flush()
        while stream not in self.status and stream not in self.was_reset:
            self.receive()
        return stream

    def open(self, path: str, *additions: tuple[str, str]) -> int:
        """Open a WebSocket."""
        stream = self.ask(path, *additions)
        assert self.status[stream] == 200
        assert stream not in self.ended
        return stream

    def send(self, stream: int, data: bytes) -> None:
        """Send bytes as the windows allow."""
        while data:
            room = min(self.connection.local_flow_control_window(stream), self.connection.max_outbound_frame_size)
            if room == 0:
                self.receive()
                continue
            self.connection.send_data(stream, data[:room])
            data = data[room:]
            self.flush()

    def take(self, stream: int, count: int) -> bytes:
        """Return the next bytes of a stream."""
        while len(self.data.get(stream, b"")) < count:
            assert stream not in self.ended
            assert stream not in self.was_reset
            self.receive()
        taken, self.data[stream] = self.data[stream][:count], self.data[stream][count:]
        return taken

    def read_frame(self, stream: int) -> tuple[int, bytes]:
        return read_frame(lambda count: self.take(stream, count))

    def wait_for_end(self, stream: int) -> None:
        while stream not in self.ended and stream not in self.was_reset:
            self.receive()


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()


@pytest.fixture(scope="module")
def echo_server() -> Iterator[EchoServer]:
    with EchoServer(max_size=None) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(upstream: Upstream, echo_server: EchoServer) -> Iterator[Gateway]:
    """Services that end WebSockets, and that pass them on as tunnels."""

    def service(name: str, port: int, protocol: str = "ws", **fields: Any) -> dict[str, Any]:
        protocols = ["ws", "wss"] if protocol == "ws" else ["http", "https"]
        route = {"name": name, "paths": [f"/{name}"], "protocols": protocols, "strip_path": True}
        return {"name": name, "protocol": protocol, "host": "127.0.0.1", "port": port, "routes": [route]} | fields

    config = document(
        services=[
            service("plain", echo_server.port),
            service("frames", echo_server.port, plugins=[{"name": "frames"}]),
            service("scripted", upstream.port),
            service("http", echo_server.port, "http"),
            service("http-scripted", upstream.port, "http"),
        ]
    )
    with Gateway(
        config,
        plugin_path=PLUGIN_DIRECTORY,
        plugins="bundled,frames",
        websocket_compression="client",
        proxy_access_log="logs/access.log",
    ) as running:
        yield running


@pytest.fixture(params=["prior knowledge", "TLS"])
def http2(request: pytest.FixtureRequest, gateway: Gateway) -> Iterator[Http2]:
    with Http2(gateway, is_tls=request.param == "TLS") as opened:
        yield opened


def test_the_server_announces_extended_connect(http2: Http2) -> None:
    while not http2.connection.remote_settings.enable_connect_protocol:
        http2.receive()


@pytest.mark.parametrize("path", ["/plain", "/frames", "/http"])
def test_messages_of_every_size_pass_both_ways(http2: Http2, path: str) -> None:
    stream = http2.open(path)
    for payload in (b"", b"hello", b"x" * 200, b"y" * 500_000):
        http2.send(stream, frame(TEXT, payload))
        assert http2.read_frame(stream) == (TEXT, payload)
    http2.send(stream, frame(CLOSE, b"\x03\xe8bye"))
    assert http2.read_frame(stream)[0] == CLOSE
    http2.wait_for_end(stream)
    assert stream in http2.ended


def test_several_sockets_and_requests_share_one_connection(http2: Http2) -> None:
    streams = [http2.open("/plain"), http2.open("/http"), http2.open("/frames")]
    for stream in streams:
        http2.send(stream, frame(TEXT, b"%d" % stream))
    for stream in reversed(streams):
        assert http2.read_frame(stream) == (TEXT, b"%d" % stream)


def test_the_answer_has_nothing_of_the_other_handshake_and_the_upstream_has_it(
    gateway: Gateway, upstream: Upstream
) -> None:
    def accept(request: Request, connection: Connection) -> None:
        ws.accept(request, connection, "Sec-WebSocket-Protocol: json\r\nX-Of-Upstream: 1\r\n")
        connection.wait_for_end()

    for service in ("scripted", "http-scripted"):
        path = upstream.script(accept)
        with Http2(gateway) as http2:
            stream = http2.open(f"/{service}{path}", ("sec-websocket-protocol", "json"), ("x-mine", "1"))
            answered = http2.headers[stream]
        assert answered["sec-websocket-protocol"] == "json"
        assert answered["x-of-upstream"] == "1"
        assert not {"sec-websocket-accept", "upgrade", "connection"} & set(answered)
        [request] = upstream.requests_to(path)
        assert request.method == "GET"
        assert request.headers["Upgrade"] == "websocket"
        assert len(request.headers.all("Sec-WebSocket-Key")) == 1
        assert request.headers["X-Mine"] == "1"
        assert request.headers["Host"] == f"127.0.0.1:{upstream.port}"


def test_compression_is_agreed_on_here_too(http2: Http2) -> None:
    stream = http2.open("/plain", ("sec-websocket-extensions", "permessage-deflate"))
    assert http2.headers[stream]["sec-websocket-extensions"].startswith("permessage-deflate")
    http2.send(stream, frame(0xC1, b"\xf2\x48\xcd\xc9\xc9\x07\x00"))
    assert http2.read_frame(stream) == (TEXT, b"Hello")


def test_plugins_guard_it_like_any_other(http2: Http2) -> None:
    refused = http2.ask("/frames", ("x-refuse", "1"))
    assert http2.status[refused] == 403
    http2.wait_for_end(refused)
    assert b"no WebSocket for you" in http2.data[refused]
    stream = http2.open("/frames")
    for payload in (b"drop this", b"upper shout"):
        http2.send(stream, frame(TEXT, payload))
    assert http2.read_frame(stream) == (TEXT, b"SHOUT")
    http2.send(stream, frame(TEXT, b"close now"))
    assert http2.read_frame(stream) == close_frame(4001, b"own side")


def test_bad_frames_are_told_and_end_the_stream_only(http2: Http2) -> None:
    stream, other = http2.open("/plain"), http2.open("/plain")
    http2.send(stream, frame(0x83))
    assert http2.read_frame(stream) == close_frame(1002, b"Unknown opcode")
    http2.wait_for_end(stream)
    http2.send(other, frame(TEXT, b"goes on"))
    assert http2.read_frame(other) == (TEXT, b"goes on")


def test_a_reset_of_the_client_is_1001_to_the_upstream(gateway: Gateway, upstream: Upstream) -> None:
    seen: list[tuple[int, bytes]] = []

    def run(request: Request, connection: Connection) -> None:
        ws.accept(request, connection)
        seen.append(read_frame(connection.reader.take))
        connection.close()

    with Http2(gateway) as http2:
        stream = http2.open(f"/scripted{upstream.script(run)}")
        http2.connection.reset_stream(stream, 8)
        http2.flush()
        assert wait_until(lambda: seen == [close_frame(1001)])


def test_what_is_refused_or_no_websocket_never_looks_accepted(gateway: Gateway, upstream: Upstream) -> None:
    wrong = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    for path, status in [
        ("/nowhere", 404),
        (f"/scripted{upstream.script(lambda _, peer: peer.respond(b'later', '429 Too Many Requests'))}", 429),
        (f"/http-scripted{upstream.script(lambda _, peer: peer.respond(b'a page'))}", 502),
        (f"/http-scripted{upstream.script(lambda _, peer: peer.send(wrong.encode()))}", 502),
        (f"/scripted{upstream.script(lambda _, peer: peer.send(wrong.encode()))}", 502),
    ]:
        with Http2(gateway) as http2:
            stream = http2.ask(path)
            assert http2.status[stream] == status, path


def test_another_version_or_protocol_is_refused(http2: Http2) -> None:
    stream = http2.ask("/plain", protocol="connect-udp")
    assert http2.status[stream] == 405


def test_a_client_that_does_not_read_stops_the_upstream(gateway: Gateway, upstream: Upstream) -> None:
    size, total = 100_000, 80
    sent = [0]

    def run(request: Request, connection: Connection) -> None:
        ws.accept(request, connection)
        for _ in range(total):
            connection.send(frame(0x82, bytes(size), is_masked=False))
            sent[0] += 1
        connection.wait_for_end()

    with Http2(gateway) as http2:
        stream = http2.open(f"/scripted{upstream.script(run)}")
        # The windows are full long before everything was sent; it stays so while nothing is read.
        assert not wait_until(lambda: sent[0] == total, 1)
        for _ in range(total):
            assert http2.read_frame(stream) == (0x82, bytes(size))
        assert sent[0] == total


def test_the_access_log_has_it_at_its_end(gateway: Gateway) -> None:
    with Http2(gateway) as http2:
        stream = http2.open("/plain?logged")
        http2.send(stream, frame(TEXT, b"x" * 5000))
        assert http2.read_frame(stream) == (TEXT, b"x" * 5000)
        http2.send(stream, frame(CLOSE, b"\x03\xe8"))
        http2.wait_for_end(stream)
    log = gateway.prefix / "logs" / "access.log"
    assert wait_until(lambda: '"GET /plain?logged HTTP/2" 101 5' in log.read_text()), log.read_text()
