"""WebSockets over HTTP/2 (RFC 8441): one stream each, through ws services and as tunnels through http services."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import websockets as ws
from tests.support.documents import document
from tests.support.gateway import PLUGIN_DIRECTORY, Gateway
from tests.support.http1 import wait_until
from tests.support.http2_websockets import Http2
from tests.support.upstream import Connection, Request, Upstream
from tests.support.websockets import EchoServer, close_frame, frame, read_frame

TEXT, CLOSE = 0x81, 0x88


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
    assert wait_until(lambda: '"GET /plain?logged HTTP/2.0" 101 5' in log.read_text()), log.read_text()
