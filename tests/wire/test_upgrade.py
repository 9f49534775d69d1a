"""Upgrades on an http route: to plugins a plain request, afterwards a byte stream."""

import base64
import hashlib
from typing import Any

from tests.support.documents import catch_all, service
from tests.support.gateway import Gateway
from tests.support.http1 import wait_until
from tests.support.upstream import Connection, Request, Upstream

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def config(upstream: Upstream) -> dict[str, Any]:
    document = catch_all(upstream)
    impatient = {"routes": [{"name": "impatient", "paths": ["/impatient"]}], "read_timeout": 200, "write_timeout": 300}
    document["services"].append(service(upstream, name="impatient") | impatient)
    return document


def _accept(key: str) -> str:
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


def _echo_websocket(request: Request, connection: Connection) -> None:
    assert request.headers["Upgrade"] == "websocket"
    assert request.headers["Connection"].lower() == "keep-alive, upgrade"
    accept = _accept(request.headers["Sec-WebSocket-Key"])
    connection.send(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
    )
    while data := connection.socket.recv(65536):
        connection.send(data)
    connection.close()


def _upgrade_request(path: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def test_upgraded_connection_carries_bytes_both_ways(gateway: Gateway, upstream: Upstream) -> None:
    path = upstream.script(_echo_websocket)
    with gateway.client() as client:
        client.send(_upgrade_request(path))
        response = client.read_response()
        assert response.status == 101
        assert response.headers["Upgrade"] == "websocket"
        assert response.headers["Connection"].lower() == "upgrade"
        assert response.headers["Sec-WebSocket-Accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        for message in (b"\x81\x85\x00\x00\x00\x00hello", b"x" * 100_000):
            client.send(message)
            assert client.reader.take(len(message)) == message


def test_bytes_sent_behind_the_upgrade_request_are_not_lost(gateway: Gateway, upstream: Upstream) -> None:
    path = upstream.script(_echo_websocket)
    with gateway.client() as client:
        client.send(_upgrade_request(path) + b"early")
        assert client.read_response().status == 101
        assert client.reader.take(5) == b"early"


def test_close_of_the_upstream_closes_the_upgraded_client(gateway: Gateway, upstream: Upstream) -> None:
    def ends_at_once(request: Request, connection: Connection) -> None:
        connection.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nbye")
        connection.close()

    path = upstream.script(ends_at_once)
    with gateway.client() as client:
        client.send(_upgrade_request(path))
        assert client.read_response().status == 101
        assert client.reader.read_to_end() == b"bye"


def test_close_of_the_upgraded_client_closes_the_upstream(gateway: Gateway, upstream: Upstream) -> None:
    path = upstream.script(_echo_websocket)
    before = upstream.open_connection_count
    with gateway.client() as client:
        client.send(_upgrade_request(path))
        assert client.read_response().status == 101
    assert wait_until(lambda: upstream.open_connection_count <= before)


def test_silence_for_longer_than_the_timeouts_of_the_service_ends_it(gateway: Gateway, upstream: Upstream) -> None:
    path = upstream.script(_echo_websocket)
    before = upstream.open_connection_count
    with gateway.client() as client:
        client.send(_upgrade_request(f"/impatient{path}"))
        assert client.read_response().status == 101
        client.send(b"x")
        assert client.reader.take(1) == b"x"
        assert client.is_closed_by_peer()
    assert wait_until(lambda: upstream.open_connection_count <= before)
    assert "idle for longer than the service's timeouts" in gateway.output()


def test_refused_upgrade_is_an_ordinary_response(gateway: Gateway, upstream: Upstream) -> None:
    path = upstream.script(lambda request, connection: connection.respond(b"no", "403 Forbidden"))
    with gateway.client() as client:
        client.send(_upgrade_request(path))
        response = client.read_response()
        assert (response.status, response.body) == (403, b"no")
        assert client.request("GET", "/").status == 200


def test_upgrade_to_another_protocol_is_not_passed_on(gateway: Gateway) -> None:
    response = gateway.get("/", {"Connection": "Upgrade", "Upgrade": "h2c"})
    assert "upgrade" not in {name.lower() for name, _ in response.json()["headers"]}
