"""PROXY protocol heads, versions 1 and 2: read where the listener asks for them, believed from trusted peers."""

import json
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import insecure_context
from tests.support.documents import catch_all, document
from tests.support.gateway import PLUGIN_DIRECTORY, Gateway
from tests.support.http1 import Client
from tests.support.stream_peers import StreamServer, received
from tests.support.upstream import Upstream

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n"


def version_2(command: int = 0x21, tlvs: bytes = b"") -> bytes:
    ends = socket.inet_aton("192.0.2.8") + socket.inet_aton("198.51.100.1") + struct.pack("!HH", 4712, 443)
    body = (ends if command == 0x21 else b"") + tlvs
    return SIGNATURE + bytes((command, 0x11 if command == 0x21 else 0)) + struct.pack("!H", len(body)) + body


def config(upstream: Upstream) -> dict[str, Any]:
    return catch_all(upstream)


@pytest.fixture(scope="module")
def gateway(upstream: Upstream) -> Iterator[Gateway]:
    listen = "127.0.0.1:0 proxy_protocol, 127.0.0.1:0 ssl http2 proxy_protocol, 127.0.0.1:0 http2 proxy_protocol"
    settings = {
        "trusted_ips": "127.0.0.1",
        "real_ip_header": "proxy_protocol",
        "nginx_http_client_header_timeout": "2s",
    }
    with Gateway(config(upstream), proxy_listen=listen, **settings) as running:
        yield running


def asked(address: tuple[str, int], head: bytes, source: str = "127.0.0.1") -> bytes:
    with socket.create_connection(address, timeout=20, source_address=(source, 0)) as client:
        client.sendall(head + b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return received(client)


@pytest.mark.parametrize(
    ("head", "seen"),
    [
        (V1, "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n", "2001:db8::1"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (version_2(), "192.0.2.8"),
        (version_2(0x20), "127.0.0.1"),
    ],
    ids=["v1", "v1 over IPv6", "v1 unknown", "v2", "v2 local"],
)
def test_upstreams_learn_the_client_of_a_trusted_balancer(
    gateway: Gateway, upstream: Upstream, head: bytes, seen: str
) -> None:
    assert asked(gateway.plain, head).startswith(b"HTTP/1.1 200")
    headers = upstream.requests[-1].headers
    assert (headers["x-real-ip"], headers["x-forwarded-for"]) == (seen, seen)


def test_a_head_of_an_untrusted_peer_is_read_and_not_believed(gateway: Gateway, upstream: Upstream) -> None:
    assert asked(gateway.plain, V1, "127.0.0.9").startswith(b"HTTP/1.1 200")
    assert upstream.requests[-1].headers["x-real-ip"] == "127.0.0.9"


def test_the_head_comes_before_tls_and_before_http2(gateway: Gateway, upstream: Upstream) -> None:
    connection = socket.create_connection(gateway.tls, timeout=20)
    connection.sendall(V1)
    with insecure_context("http/1.1").wrap_socket(connection, server_hostname="a") as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
    assert upstream.requests[-1].headers["x-real-ip"] == "192.0.2.7"
    with socket.create_connection(gateway.prior_knowledge, timeout=20) as client:
        client.sendall(V1 + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
        # The server's SETTINGS frame.
        assert client.recv(9)[3] == 4


@pytest.mark.parametrize(
    "head", [b"", b"PROXY TCP4 1.1.1.1\r\n", SIGNATURE + b"\x21\x11\xff\xff", b"PROXY" + b"x" * 200]
)
def test_connections_without_a_valid_head_are_refused(gateway: Gateway, upstream: Upstream, head: bytes) -> None:
    before = len(upstream.requests)
    try:
        assert asked(gateway.plain, head) == b""
    except ConnectionResetError:
        pass
    assert len(upstream.requests) == before


def test_a_head_that_does_not_come_is_waited_for_no_longer_than_a_request(gateway: Gateway) -> None:
    with socket.create_connection(gateway.plain, timeout=20) as client:
        client.sendall(V1[:10])
        assert client.recv(10) == b""
    assert "no PROXY protocol head in time" in gateway.output()


def test_requests_on_one_connection_have_one_client(gateway: Gateway, upstream: Upstream) -> None:
    with Client(gateway.plain) as client:
        client.send(V1)
        for _ in range(2):
            assert client.request("GET", "/").status == 200
            assert upstream.requests[-1].headers["x-real-ip"] == "192.0.2.7"


def test_streams_are_routed_and_logged_by_the_client_of_the_head(tmp_path: Path) -> None:
    path = tmp_path / "streams.jsonl"
    probe = {"name": "stream_probe", "config": {"path": str(path)}}
    with StreamServer() as server:
        route = {"protocols": ["tcp", "tls"], "sources": [{"ip": "192.0.2.0/24"}], "plugins": [probe]}
        service = {"protocol": "tcp", "host": "127.0.0.1", "port": server.port, "routes": [route]}
        settings = {
            "stream_listen": "127.0.0.1:0 proxy_protocol, 127.0.0.1:0 ssl proxy_protocol",
            "trusted_ips": "127.0.0.1",
            "plugin_path": PLUGIN_DIRECTORY,
            "plugins": "bundled,stream_probe",
        }
        with Gateway(document(services=[service]), **settings) as gateway:
            plain, tls = gateway.addresses("stream")
            with socket.create_connection(plain, timeout=20) as client:
                port = client.getsockname()[1]
                client.sendall(V1 + b"hello")
                client.shutdown(socket.SHUT_WR)
                assert received(client) == b"hellobye"
            with socket.create_connection(plain, timeout=20, source_address=("127.0.0.9", 0)) as client:
                client.sendall(V1 + b"hello")
                assert client.recv(10) == b""
            connection = socket.create_connection(tls, timeout=20)
            connection.sendall(version_2(tlvs=b"\xea\x00\x09\x01vpce-abc"))
            with insecure_context().wrap_socket(connection, server_hostname="a.test") as secured:
                secured.sendall(b"x")
                assert secured.recv(10) == b"x"
            until = time.monotonic() + 20
            records: list[dict[str, Any]] = []
            while len(records) < 2 and time.monotonic() < until:
                text = path.read_text(encoding="utf-8") if path.exists() else ""
                records = [json.loads(line) for line in text.splitlines() if '"log"' in line]
                time.sleep(0.01)
    assert (records[0]["ip"], records[0]["port"]) == ("127.0.0.1", port)
    assert records[0]["forwarded"] == ["192.0.2.7", 4711]
    assert records[0]["session"]["received"] == 5
    assert records[1]["forwarded"] == ["192.0.2.8", 4712]
