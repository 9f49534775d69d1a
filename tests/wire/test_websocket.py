"""Services of the protocols ws and wss: endpoints on both sides, messages through plugins, ends of every kind."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection
from websockets.sync.server import ServerConnection
from websockets.typing import Subprotocol

from tests.support import websockets as ws
from tests.support.certificates import authority, insecure_context
from tests.support.documents import document
from tests.support.gateway import PLUGIN_DIRECTORY, Gateway
from tests.support.http1 import Client, wait_until
from tests.support.upstream import Connection, Request, Upstream
from tests.support.websockets import EchoServer, close_frame, frame, handshake, open_websocket, read_frame

TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that `ws_close` of the plugin writes to."""
    return tmp_path_factory.mktemp("report") / "closed.txt"


@pytest.fixture(scope="module")
def echo_server() -> Iterator[EchoServer]:
    """An echo server that knows one subprotocol and no limit."""

    def select(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        return next((one for one in offered if one == "json"), None)

    with EchoServer(max_size=None, select_subprotocol=select) as server:
        yield server


@pytest.fixture(scope="module")
def secure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EchoServer]:
    """An echo server with a certificate of the test authority."""
    context = authority().issue("127.0.0.1").server_context(tmp_path_factory.mktemp("tls"))
    with EchoServer(ssl=context) as server:
        yield server


def _service(name: str, port: int, protocol: str = "ws", **fields: Any) -> dict[str, Any]:
    route = {"name": name, "paths": [f"/{name}"], "protocols": ["ws", "wss"], "strip_path": True}
    return {"name": name, "protocol": protocol, "host": "127.0.0.1", "port": port, "routes": [route]} | fields


@pytest.fixture(scope="module")
def gateway(
    upstream: Upstream,
    echo_server: EchoServer,
    secure_server: EchoServer,
    report: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gateway]:
    """One service for each manner of being handled."""
    trusted = tmp_path_factory.mktemp("authority") / "ca.pem"
    trusted.write_text(authority().pem, encoding="ascii")

    def frames(**config: Any) -> dict[str, Any]:
        return {"plugins": [{"name": "frames", "config": config}]}

    services = [
        _service("plain", echo_server.port),
        _service("sync", echo_server.port, **frames(report_file=str(report))),
        _service("async", echo_server.port, **frames(is_async=True)),
        _service("limited", echo_server.port, **frames(limit=100)),
        _service("scripted", upstream.port),
        _service("idle", upstream.port, read_timeout=300, write_timeout=300),
        _service("verified", secure_server.port, "wss", tls_verify=True),
        _service("unverified", secure_server.port, "wss", tls_verify=True, host="localhost"),
        _service("keyed", echo_server.port, plugins=[{"name": "key-auth"}]),
        _service("nowhere", 1),
        _service("http", echo_server.port, "http")
        | {"routes": [{"name": "http", "paths": ["/http"], "strip_path": True}]},
        _service("secure", echo_server.port)
        | {"routes": [{"name": "secure", "paths": ["/secure"], "protocols": ["wss"]}]},
    ]
    consumers = [{"username": "alice", "keyauth_credentials": [{"key": "sesame"}]}]
    with Gateway(
        document(services=services, consumers=consumers),
        plugin_path=PLUGIN_DIRECTORY,
        plugins="bundled,frames",
        lua_ssl_trusted_certificate=trusted,
        proxy_access_log="logs/access.log",
    ) as running:
        yield running


@pytest.fixture
def client(gateway: Gateway) -> Iterator[Client]:
    """A raw WebSocket to the service without plugins."""
    with gateway.client() as opened:
        assert handshake(opened, "/plain").status == 101
        yield opened


def opened(gateway: Gateway, name: str, **arguments: Any) -> ClientConnection:
    return open_websocket(gateway.plain, f"/{name}", **arguments)


def closing(connection: ClientConnection) -> tuple[int, str]:
    """Return status and reason of the close frame that ends a connection."""
    with pytest.raises(ConnectionClosed) as caught:
        connection.recv(timeout=10)
    received = caught.value.rcvd
    assert received is not None
    return int(received.code), received.reason


@pytest.mark.parametrize("name", ["plain", "sync", "async", "verified"])
def test_messages_of_every_size_come_back_as_they_were(gateway: Gateway, name: str) -> None:
    with opened(gateway, name) as connection:
        for message in ("", "é", "x" * 200, b"\x00\xff" * 40_000, "y" * 900_000):
            connection.send(message)
            assert connection.recv(timeout=10) == message
        connection.send(["frag", "ment", "ed"])
        assert connection.recv(timeout=10) == "fragmented"
        assert connection.ping().wait(10)


@pytest.mark.parametrize("name", ["plain", "sync", "async"])
def test_order_is_kept_when_many_messages_are_on_their_way(gateway: Gateway, name: str) -> None:
    with opened(gateway, name) as connection:
        sender = threading.Thread(target=lambda: [connection.send(f"m{number}") for number in range(2000)])
        sender.start()
        assert [connection.recv(timeout=10) for _ in range(2000)] == [f"m{number}" for number in range(2000)]
        sender.join()


def test_over_tls(gateway: Gateway) -> None:
    with open_websocket(gateway.tls, "/plain", ssl=insecure_context(), server_hostname="a.test") as connection:
        connection.send("hello")
        assert connection.recv(timeout=10) == "hello"


def test_subprotocol_is_the_upstreams_choice_and_extensions_are_not_negotiated(gateway: Gateway) -> None:
    offered = [Subprotocol("xml"), Subprotocol("json")]
    with opened(gateway, "plain", subprotocols=offered, compression="deflate") as connection:
        assert connection.subprotocol == "json"
        assert connection.response is not None
        assert "Sec-WebSocket-Extensions" not in connection.response.headers


@pytest.mark.parametrize("name", ["sync", "async"])
def test_handlers_change_and_drop_messages(gateway: Gateway, name: str) -> None:
    with opened(gateway, name) as connection:
        for message in ("upper shout", "drop this", "plain"):
            connection.send(message)
        assert [connection.recv(timeout=10) for _ in range(2)] == ["SHOUT", "plain"]


@pytest.mark.parametrize("name", ["sync", "async"])
def test_a_handler_closes_both_sides(gateway: Gateway, name: str) -> None:
    with opened(gateway, name) as connection:
        connection.send("close now")
        assert closing(connection) == (4001, "own side")


@pytest.mark.parametrize("name", ["sync", "async"])
def test_a_handler_that_raises_closes_with_1011(gateway: Gateway, name: str) -> None:
    with opened(gateway, name) as connection:
        connection.send("raise")
        assert closing(connection) == (1011, "An unexpected error occurred")


def test_a_handler_changes_a_close_frame(gateway: Gateway) -> None:
    with gateway.client() as client:
        assert handshake(client, "/sync").status == 101
        client.send(frame(CLOSE, (4100).to_bytes(2, "big") + b"asked"))
        assert read_frame(client.reader.take) == close_frame(4200, b"changed")
        assert client.is_closed_by_peer()


def test_the_handshake_changes_headers_both_ways(gateway: Gateway, upstream: Upstream) -> None:
    with opened(gateway, "sync") as connection:
        assert connection.response is not None
        assert connection.response.headers["X-Seen"] == "handshake"


def test_a_refused_handshake_is_an_ordinary_answer(gateway: Gateway) -> None:
    with pytest.raises(InvalidStatus) as caught:
        opened(gateway, "sync", additional_headers={"X-Refuse": "1"})
    assert caught.value.response.status_code == 403
    assert b"no WebSocket for you" in (caught.value.response.body or b"")


def test_authentication_guards_a_websocket(gateway: Gateway) -> None:
    with pytest.raises(InvalidStatus) as caught:
        opened(gateway, "keyed")
    assert caught.value.response.status_code == 401
    with opened(gateway, "keyed", additional_headers={"apikey": "sesame"}) as connection:
        connection.send("in")
        assert connection.recv(timeout=10) == "in"


def test_close_phase_and_access_log_come_at_the_end(gateway: Gateway, report: Path) -> None:
    report.unlink(missing_ok=True)
    with opened(gateway, "sync") as connection:
        connection.send("x" * 5000)
        assert connection.recv(timeout=10) == "x" * 5000
        connection.close(1000)

    def is_told() -> bool:
        # The connection of a test before may still be telling its own end.
        status, protocol, size, frames = report.read_text().split() if report.exists() else ("", "", "0", "")
        return (status, protocol, frames) == ("101", "ws", "text,text,close,close") and int(size) > 5000

    assert wait_until(is_told)
    log = gateway.prefix / "logs" / "access.log"
    assert wait_until(lambda: '"GET /sync HTTP/1.1" 101 5' in log.read_text())


def test_a_refused_handshake_is_told_to_the_close_phase(gateway: Gateway, report: Path) -> None:
    report.unlink(missing_ok=True)
    with gateway.client() as client:
        assert handshake(client, "/sync", "X-Refuse: 1\r\n").status == 403
    assert wait_until(report.exists)
    assert report.read_text().startswith("403 ws ")


@pytest.mark.parametrize(
    ("bad", "status", "reason"),
    [
        (frame(TEXT, b"x", is_masked=False), 1002, b"Frame is not masked"),
        (frame(0xC1, b"x"), 1002, b"Reserved bits are set"),
        (frame(0x83), 1002, b"Unknown opcode"),
        (frame(0x80, b"x"), 1002, b"Continuation without a message"),
        (frame(0x01, b"x") + frame(TEXT, b"y"), 1002, b"New message inside a message"),
        (frame(0x09, b"x"), 1002, b"Control frame is fragmented or too long"),
        (frame(PING, bytes(126)), 1002, b"Control frame is fragmented or too long"),
        (frame(CLOSE, b"x"), 1002, b"Close frame of one byte"),
        (frame(CLOSE, (1005).to_bytes(2, "big")), 1002, b"Invalid close status"),
        (frame(TEXT, b"\xc3\x28"), 1007, b"Invalid UTF-8"),
        (frame(CLOSE, b"\x03\xe8\xff"), 1007, b"Invalid UTF-8"),
        (bytes((BINARY, 0xFF)) + (2**20 + 1).to_bytes(8, "big"), 1009, b"Payload Too Large"),
        (frame(0x02, bytes(2**20)) + bytes((0x80, 0x81)), 1009, b"Payload Too Large"),
    ],
)
def test_bad_input_of_a_client_is_told_and_ends_the_connection(
    client: Client, bad: bytes, status: int, reason: bytes
) -> None:
    client.send(bad)
    assert read_frame(client.reader.take) == close_frame(status, reason)
    assert client.is_closed_by_peer()


def test_a_plugin_sets_the_limit_and_the_upstream_is_told_1001(gateway: Gateway, upstream: Upstream) -> None:
    with opened(gateway, "limited") as connection:
        connection.send("x" * 100)
        assert connection.recv(timeout=10) == "x" * 100
        connection.send("x" * 101)
        assert closing(connection) == (1009, "Payload Too Large")


def _scripted(gateway: Gateway, upstream: Upstream, script: Any) -> Client:
    """Open a raw WebSocket to an upstream that answers the handshake and then runs a script."""

    def run(request: Request, connection: Connection) -> None:
        ws.accept(request, connection)
        script(connection)
        connection.close()

    client = gateway.client()
    assert handshake(client, f"/scripted{upstream.script(run)}").status == 101
    return client


def test_what_a_client_breaks_is_told_to_the_upstream_as_1001(gateway: Gateway, upstream: Upstream) -> None:
    seen: list[tuple[int, bytes]] = []
    with _scripted(gateway, upstream, lambda peer: seen.append(read_frame(peer.reader.take))) as client:
        client.send(frame(0x83))
        assert client.reader.read_to_end()
    assert wait_until(lambda: seen == [close_frame(1001)])


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (frame(TEXT, b"x"), close_frame(1002, b"Frame is masked")),
        (frame(TEXT, b"\xff", is_masked=False), close_frame(1007, b"Invalid UTF-8")),
        (bytes((BINARY, 127)) + (2**24 + 1).to_bytes(8, "big"), close_frame(1009, b"Payload Too Large")),
    ],
)
def test_bad_input_of_an_upstream_is_told_and_the_client_gets_1001(
    gateway: Gateway, upstream: Upstream, bad: bytes, told: tuple[int, bytes]
) -> None:
    seen: list[tuple[int, bytes]] = []

    def break_rules(peer: Connection) -> None:
        peer.send(bad)
        seen.append(read_frame(peer.reader.take))

    with _scripted(gateway, upstream, break_rules) as client:
        assert read_frame(client.reader.take) == close_frame(1001)
    assert wait_until(lambda: seen == [told])


def test_frames_to_the_upstream_are_masked_and_whole(gateway: Gateway, upstream: Upstream) -> None:
    seen: list[bytes] = []

    def keep(peer: Connection) -> None:
        seen.append(peer.reader.take(6 + 4))
        read_frame(peer.reader.take)

    with _scripted(gateway, upstream, keep) as client:
        client.send(frame(0x01, b"ab") + frame(0x80, b"cd"))
        client.send(frame(CLOSE))
        client.reader.read_to_end()
    [raw] = seen
    assert raw[:2] == bytes((TEXT, 0x84))
    assert bytes(byte ^ raw[2 + place % 4] for place, byte in enumerate(raw[6:])) == b"abcd"
    assert raw[2:6] != ws.MASK


def test_ping_between_fragments_is_passed_on_at_once(gateway: Gateway, upstream: Upstream) -> None:
    def answer(peer: Connection) -> None:
        first, payload = read_frame(peer.reader.take)
        assert first == PING
        peer.send(frame(PONG, payload, is_masked=False))
        peer.wait_for_end()

    with _scripted(gateway, upstream, answer) as client:
        client.send(frame(0x01, b"begun") + frame(PING, b"there?"))
        assert read_frame(client.reader.take) == (PONG, b"there?")


def test_a_close_of_the_upstream_reaches_the_client_with_status_and_reason(
    gateway: Gateway, upstream: Upstream
) -> None:
    seen: list[tuple[int, bytes]] = []

    def leave(peer: Connection) -> None:
        peer.send(frame(CLOSE, b"\x0f\xa0done", is_masked=False))
        seen.append(read_frame(peer.reader.take))

    with _scripted(gateway, upstream, leave) as client:
        assert read_frame(client.reader.take) == close_frame(4000, b"done")
        client.send(frame(CLOSE, b"\x0f\xa1too"))
        assert client.is_closed_by_peer()
    assert wait_until(lambda: seen == [close_frame(4001, b"too")])


def test_an_upstream_that_vanishes_is_1001_to_the_client(gateway: Gateway, upstream: Upstream) -> None:
    with _scripted(gateway, upstream, lambda peer: peer.send(frame(TEXT, b"last", is_masked=False))) as client:
        assert read_frame(client.reader.take) == (TEXT, b"last")
        assert read_frame(client.reader.take) == close_frame(1001)
        assert client.is_closed_by_peer()


def test_a_client_that_vanishes_is_1001_to_the_upstream(gateway: Gateway, upstream: Upstream) -> None:
    seen: list[tuple[int, bytes]] = []
    with _scripted(gateway, upstream, lambda peer: seen.append(read_frame(peer.reader.take))):
        pass
    assert wait_until(lambda: seen == [close_frame(1001)])


def test_an_upstream_that_does_not_answer_a_close_is_answered_for(gateway: Gateway, upstream: Upstream) -> None:
    def hang_up(peer: Connection) -> None:
        read_frame(peer.reader.take)

    with _scripted(gateway, upstream, hang_up) as client:
        client.send(frame(CLOSE, b"\x03\xe8bye"))
        assert read_frame(client.reader.take) == close_frame(1000)
        assert client.is_closed_by_peer()


def test_an_idle_connection_is_closed_after_the_services_timeout(gateway: Gateway, upstream: Upstream) -> None:
    def wait(request: Request, connection: Connection) -> None:
        ws.accept(request, connection)
        connection.wait_for_end()

    with gateway.client() as client:
        assert handshake(client, f"/idle{upstream.script(wait)}").status == 101
        assert read_frame(client.reader.take) == close_frame(1001)
        assert client.is_closed_by_peer()


def test_a_client_that_does_not_read_stops_the_upstream(gateway: Gateway, upstream: Upstream) -> None:
    total, size = 200, 1_000_000
    sent = [0]
    finished = threading.Event()

    def flood(peer: Connection) -> None:
        for _ in range(total):
            peer.send(frame(BINARY, bytes(size), is_masked=False))
            sent[0] += 1
        finished.set()
        peer.wait_for_end()

    def run(request: Request, connection: Connection) -> None:
        ws.accept(request, connection)
        flood(connection)

    client = Client(gateway.plain, receive_buffer_bytes=65536)
    with client:
        assert handshake(client, f"/scripted{upstream.script(run)}").status == 101
        # What fits into socket buffers and our bounds is far from everything.
        assert not finished.wait(1)
        assert sent[0] < total // 2
        for _ in range(total):
            assert read_frame_size(client) == size
    assert finished.is_set()


def read_frame_size(client: Client) -> int:
    """Take one frame of a server and return the size of its payload."""
    _, second = client.reader.take(2)
    assert second == 127
    size = int.from_bytes(client.reader.take(8), "big")
    client.reader.take(size)
    return size


@pytest.mark.parametrize(
    "headers",
    ["Sec-WebSocket-Accept: nonsense\r\n", "", None],
    ids=["wrong accept", "no accept", "an extension"],
)
def test_an_invalid_answer_of_the_upstream_is_502(gateway: Gateway, upstream: Upstream, headers: str | None) -> None:
    def answer(request: Request, connection: Connection) -> None:
        if headers is None:
            ws.accept(request, connection, "Sec-WebSocket-Extensions: permessage-deflate\r\n")
        else:
            connection.send(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"{headers}\r\n".encode()
            )
        connection.wait_for_end()

    with gateway.client() as client:
        assert handshake(client, f"/scripted{upstream.script(answer)}").status == 502


def test_an_upstream_that_refuses_is_told_to_the_client(gateway: Gateway, upstream: Upstream) -> None:
    path = upstream.script(lambda _, connection: connection.respond(b"not now", "429 Too Many Requests"))
    with gateway.client() as client:
        response = handshake(client, f"/scripted{path}")
        assert (response.status, response.body) == (429, b"not now")
        # The connection goes on as HTTP.
        assert handshake(client, "/plain").status == 101


def test_the_upstream_gets_a_handshake_of_our_own(gateway: Gateway, upstream: Upstream) -> None:
    path = upstream.script(lambda _, connection: connection.respond(b""))
    with gateway.client() as client:
        handshake(client, f"/scripted{path}", "Sec-WebSocket-Extensions: permessage-deflate\r\nX-Mine: 1\r\n")
    [request] = upstream.requests_to(path)
    assert request.headers["Sec-WebSocket-Key"] != ws.KEY
    assert request.headers.all("Sec-WebSocket-Version") == ["13"]
    assert "Sec-WebSocket-Extensions" not in request.headers
    assert request.headers["X-Mine"] == "1"
    assert request.headers["X-Forwarded-Path"] == f"/scripted{path}"


def test_no_connection_to_the_upstream_is_502(gateway: Gateway) -> None:
    with gateway.client() as client:
        assert handshake(client, "/nowhere").status == 502


def test_an_upstream_certificate_is_verified(gateway: Gateway) -> None:
    with gateway.client() as client:
        assert handshake(client, "/unverified").status == 502


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"Upgrade": None}, 426),
        ({"Sec-WebSocket-Version": "8"}, 426),
        ({"Sec-WebSocket-Key": None}, 400),
        ({"Sec-WebSocket-Key": "c2hvcnQ="}, 400),
        ({"Content-Length": "1"}, 400),
    ],
)
def test_what_is_no_handshake_is_refused(gateway: Gateway, changes: dict[str, str | None], status: int) -> None:
    fields: dict[str, str | None] = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": ws.KEY,
        "Sec-WebSocket-Version": "13",
    }
    headers = {name: value for name, value in (fields | changes).items() if value is not None}
    response = gateway.get("/plain", headers)
    assert response.status == status
    if status == 426:
        assert response.headers["Sec-WebSocket-Version"] == "13"
        assert response.headers["Upgrade"] == "websocket"


def test_a_wss_route_wants_tls(gateway: Gateway) -> None:
    with gateway.client() as client:
        assert handshake(client, "/secure").status == 426
    with open_websocket(gateway.tls, "/secure", ssl=insecure_context(), server_hostname="a.test") as connection:
        connection.send("hello")
        assert connection.recv(timeout=10) == "hello"


def test_through_an_http_service_it_stays_a_tunnel(gateway: Gateway) -> None:
    with opened(gateway, "http", compression="deflate") as connection:
        assert connection.response is not None
        connection.send("hello")
        assert connection.recv(timeout=10) == "hello"


def test_both_sides_can_be_closed_at_once(gateway: Gateway, upstream: Upstream) -> None:
    def leave(peer: Connection) -> None:
        peer.send(frame(CLOSE, b"\x03\xe9", is_masked=False))
        read_frame(peer.reader.take)

    with _scripted(gateway, upstream, leave) as client:
        client.send(frame(CLOSE, b"\x03\xe8"))
        assert read_frame(client.reader.take)[0] == CLOSE
        assert client.is_closed_by_peer()
