"""permessage-deflate on WebSocket services: agreed on with each side by itself, plain to plugins, bounded."""

import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import ClientConnection

from tests.support import websockets as ws
from tests.support.documents import document
from tests.support.gateway import PLUGIN_DIRECTORY, Gateway
from tests.support.http1 import Client
from tests.support.upstream import Connection, Request, Upstream
from tests.support.websockets import EchoServer, close_frame, frame, handshake, open_websocket, read_frame

TEXT, DEFLATED_TEXT, DEFLATED_BINARY, CLOSE = 0x81, 0xC1, 0xC2, 0x88
ANSWER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
OFFER = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
LONG = "the same again and again, " * 2000


@pytest.fixture(scope="module")
def plain_server() -> Iterator[EchoServer]:
    """An echo server without extensions."""
    with EchoServer(max_size=None) as server:
        yield server


@pytest.fixture(scope="module")
def compressing_server() -> Iterator[EchoServer]:
    """An echo server that compresses when it may, as the library does by default."""
    with EchoServer(max_size=None, compression="deflate") as server:
        yield server


def _config(plain: EchoServer, compressing: EchoServer, scripted: Upstream) -> dict[str, Any]:
    def service(name: str, port: int, **fields: Any) -> dict[str, Any]:
        route = {"name": name, "paths": [f"/{name}"], "protocols": ["ws"]}
        return {"name": name, "protocol": "ws", "host": "127.0.0.1", "port": port, "routes": [route]} | fields

    return document(
        services=[
            service("plain", plain.port),
            service("compressing", compressing.port),
            service("frames", compressing.port, plugins=[{"name": "frames"}]),
            service("scripted", scripted.port),
        ]
    )


@pytest.fixture(scope="module", params=["client", "both"])
def gateway(
    request: pytest.FixtureRequest, plain_server: EchoServer, compressing_server: EchoServer, upstream: Upstream
) -> Iterator[Gateway]:
    """A gateway of either policy that compresses."""
    with Gateway(
        _config(plain_server, compressing_server, upstream),
        plugin_path=PLUGIN_DIRECTORY,
        plugins="bundled,frames",
        websocket_compression=request.param,
    ) as running:
        yield running


def opened(gateway: Gateway, name: str, **arguments: Any) -> ClientConnection:
    return open_websocket(gateway.plain, f"/{name}", **{"compression": "deflate"} | arguments)


def deflated(payload: bytes) -> bytes:
    """Return a payload as a compressed message has it."""
    compressor = zlib.compressobj(wbits=-15)
    data = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return data.removesuffix(b"\x00\x00\xff\xff")


def inflated(data: bytes) -> bytes:
    return zlib.decompressobj(wbits=-15).decompress(data + b"\x00\x00\xff\xff")


@pytest.mark.parametrize("name", ["plain", "compressing", "frames"])
def test_messages_of_every_size_come_back_as_they_were(gateway: Gateway, name: str) -> None:
    with opened(gateway, name) as connection:
        assert connection.response is not None
        assert connection.response.headers["Sec-WebSocket-Extensions"] == ANSWER
        for message in ("", "é", "x" * 200, LONG, bytes(range(256)) * 3000, b"\x00" * 1_000_000):
            connection.send(message)
            assert connection.recv(timeout=10) == message
        connection.send(["frag", "ment", "ed " * 100])
        assert connection.recv(timeout=10) == "fragment" + "ed " * 100
        assert connection.ping().wait(10)


@pytest.mark.parametrize("window", [9, 10, 15])
def test_a_client_may_limit_the_window(gateway: Gateway, window: int) -> None:
    factory = ClientPerMessageDeflateFactory(server_max_window_bits=window)
    with opened(gateway, "plain", compression=None, extensions=[factory]) as connection:
        assert connection.response is not None
        answered = connection.response.headers["Sec-WebSocket-Extensions"]
        assert answered == f"{ANSWER}; server_max_window_bits={window}"
        text = "".join(map(str, range(20_000)))
        connection.send(text)
        assert connection.recv(timeout=10) == text


@pytest.mark.parametrize("offer", ["", "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=8\r\n"])
def test_without_an_offer_that_can_be_met_messages_are_plain(gateway: Gateway, offer: str) -> None:
    with gateway.client() as client:
        response = handshake(client, "/compressing", offer)
        assert response.status == 101
        assert "Sec-WebSocket-Extensions" not in response.headers
        client.send(frame(TEXT, LONG.encode()))
        assert read_frame(client.reader.take) == (TEXT, LONG.encode())
        client.send(frame(DEFLATED_TEXT, deflated(b"unasked")))
        assert read_frame(client.reader.take) == close_frame(1002, b"Reserved bits are set")


def test_plugins_see_and_change_plain_messages(gateway: Gateway) -> None:
    with opened(gateway, "frames") as connection:
        for message in (f"upper {LONG}", "drop this", "plain"):
            connection.send(message)
        assert [connection.recv(timeout=10) for _ in range(2)] == [LONG.upper(), "plain"]


def test_what_is_shorter_plain_is_sent_plain(gateway: Gateway) -> None:
    with gateway.client() as client:
        assert handshake(client, "/plain", OFFER).status == 101
        for message in (b"short", LONG.encode()):
            client.send(frame(DEFLATED_TEXT, deflated(message)))
        assert read_frame(client.reader.take) == (TEXT, b"short")
        first, payload = read_frame(client.reader.take)
        assert first == DEFLATED_TEXT
        assert len(payload) < 1000
        assert inflated(payload) == LONG.encode()


@pytest.mark.parametrize(
    ("bad", "status", "reason"),
    [
        # A kilobyte on the wire, a megabyte and a byte in memory.
        (frame(DEFLATED_BINARY, deflated(bytes(2**20 + 1))), 1009, b"Payload Too Large"),
        (bytes((DEFLATED_BINARY, 0xFF)) + (2**21).to_bytes(8, "big"), 1009, b"Payload Too Large"),
        (frame(DEFLATED_TEXT, b"no deflate data"), 1007, b"Invalid compressed data"),
        (frame(DEFLATED_TEXT, deflated(b"\xff" * 100)), 1007, b"Invalid UTF-8"),
        (frame(0xC9, b"ping"), 1002, b"Reserved bits are set"),
        (frame(0x01, b"x") + frame(0xC0, b"y"), 1002, b"Reserved bits are set"),
    ],
    ids=["bomb", "too long", "garbage", "no text", "control frame", "continuation"],
)
def test_bad_input_is_told_and_ends_the_connection(gateway: Gateway, bad: bytes, status: int, reason: bytes) -> None:
    with gateway.client() as client:
        assert handshake(client, "/plain", OFFER).status == 101
        client.send(bad)
        assert read_frame(client.reader.take) == close_frame(status, reason)
        assert client.is_closed_by_peer()


def test_a_stream_of_bombs_leaves_the_worker_to_others(gateway: Gateway) -> None:
    bomb = frame(DEFLATED_BINARY, deflated(bytes(2**20)))
    with gateway.client(receive_buffer_bytes=4096) as flooding, opened(gateway, "plain") as other:
        assert handshake(flooding, "/plain", OFFER).status == 101
        flooding.send(bomb * 50)
        other.send("still served")
        assert other.recv(timeout=10) == "still served"


def _answered(gateway: Gateway, upstream: Upstream, extensions: str) -> tuple[Client, Any]:
    """Open a WebSocket whose upstream answers with an extension and then echoes one raw frame."""
    seen: list[tuple[int, bytes]] = []

    def run(request: Request, connection: Connection) -> None:
        ws.accept(request, connection, extensions)
        seen.append(read_frame(connection.reader.take))
        connection.send(frame(DEFLATED_TEXT, deflated(LONG.encode()), is_masked=False))
        read_frame(connection.reader.take)
        connection.close()

    path = upstream.script(run)
    client = gateway.client()
    return client, (handshake(client, f"/scripted{path}"), seen, path)


@pytest.fixture(scope="module")
def both(plain_server: EchoServer, compressing_server: EchoServer, upstream: Upstream) -> Iterator[Gateway]:
    """A gateway that offers compression to upstreams."""
    services = _config(plain_server, compressing_server, upstream)["services"]
    for service in services:
        service.pop("plugins", None)
    with Gateway(document(services=services), websocket_compression="both") as running:
        yield running


def test_an_upstream_that_agrees_gets_compressed_messages_whatever_the_client_does(
    both: Gateway, upstream: Upstream
) -> None:
    client, (response, seen, path) = _answered(both, upstream, f"Sec-WebSocket-Extensions: {ANSWER}\r\n")
    with client:
        assert response.status == 101
        assert "Sec-WebSocket-Extensions" not in response.headers
        client.send(frame(TEXT, LONG.encode()))
        assert read_frame(client.reader.take) == (TEXT, LONG.encode())
        client.send(frame(CLOSE))
    [request] = upstream.requests_to(path)
    assert request.headers.all("Sec-WebSocket-Extensions") == [ANSWER]
    [(first, payload)] = seen
    assert (first, inflated(payload)) == (DEFLATED_TEXT, LONG.encode())


@pytest.mark.parametrize(
    "extensions",
    [
        "Sec-WebSocket-Extensions: permessage-deflate\r\n",
        f"Sec-WebSocket-Extensions: {ANSWER}; client_max_window_bits=10\r\n",
        "Sec-WebSocket-Extensions: x-other\r\n",
    ],
    ids=["with its own context", "another window", "another extension"],
)
def test_an_upstream_that_agrees_to_something_else_is_502(both: Gateway, upstream: Upstream, extensions: str) -> None:
    path = upstream.script(lambda request, connection: ws.accept(request, connection, extensions))
    with both.client() as client:
        assert handshake(client, f"/scripted{path}").status == 502


def test_a_plugin_that_removes_the_offer_turns_compression_off(
    compressing_server: EchoServer, upstream: Upstream
) -> None:
    route = {"paths": ["/"], "protocols": ["ws"]}
    service = {"protocol": "ws", "host": "127.0.0.1", "port": compressing_server.port, "routes": [route]}
    transformer = {"name": "request-transformer", "config": {"remove": {"headers": ["Sec-WebSocket-Extensions"]}}}
    config = document(services=[service | {"plugins": [transformer]}])
    with Gateway(config, websocket_compression="client") as own, opened(own, "") as connection:
        assert connection.response is not None
        assert "Sec-WebSocket-Extensions" not in connection.response.headers
        connection.send("hello")
        assert connection.recv(timeout=10) == "hello"


def test_the_limit_holds_for_what_is_decompressed(plain_server: EchoServer) -> None:
    route = {"paths": ["/"], "protocols": ["ws"]}
    service = {"protocol": "ws", "host": "127.0.0.1", "port": plain_server.port, "routes": [route]}
    settings = {"websocket_compression": "client", "websocket_client_max_payload_size": "1k"}
    with Gateway(document(services=[service]), **settings) as own, opened(own, "") as connection:
        connection.send("x" * 1024)
        assert connection.recv(timeout=10) == "x" * 1024
        connection.send("x" * 1025)
        with pytest.raises(ConnectionClosed) as caught:
            connection.recv(timeout=10)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009
