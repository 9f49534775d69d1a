"""A Lua plugin in streams: its phases, the functions and variables that streams have, over TCP, TLS and UDP."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.certificates import insecure_context
from tests.support.documents import document
from tests.support.gateway import ROOT, Gateway
from tests.support.http1 import wait_until
from tests.support.stream_peers import DatagramServer, StreamServer, received


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """Listeners of each kind, with the plugin for all of them."""

    def service(name: str, port: int, *protocols: str) -> dict[str, Any]:
        route = {"name": name, "protocols": list(protocols), "sources": [{"ip": "127.0.0.0/8"}]}
        times = {"read_timeout": 500, "write_timeout": 500}
        return {"protocol": protocols[0], "host": "127.0.0.1", "port": port, "routes": [route]} | times

    with StreamServer() as tcp, DatagramServer() as udp:
        config = document(
            services=[service("tcp", tcp.port, "tcp", "tls"), service("udp", udp.port, "udp")],
            plugins=[{"name": "stream-gate", "protocols": ["tcp", "tls", "udp"]}],
        )
        with Gateway(
            config,
            stream_listen="127.0.0.1:0, 127.0.0.1:0 ssl, 127.0.0.1:0 udp",
            lua_package_path=f"{ROOT / 'tests' / 'lua' / 'data'}/?.lua",
            plugins="bundled,stream-gate",
        ) as running:
            yield running


def is_logged(gateway: Gateway, text: str) -> bool:
    return wait_until(lambda: f"[stream-gate] {text}" in gateway.output())


def test_preread_waits_and_log_counts_bytes_of_a_connection(gateway: Gateway) -> None:
    with socket.create_connection(gateway.addresses("stream")[0], timeout=20) as client:
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        assert received(client) == b"hellobye"
    assert is_logged(gateway, "preread TCP for nil")
    assert is_logged(gateway, "log 200 5/5 8/8 true")


def test_what_preread_refuses_is_closed_and_told(gateway: Gateway) -> None:
    address = gateway.addresses("stream")[0]
    with socket.create_connection(address, timeout=20, source_address=("127.0.0.9", 0)) as client:
        assert received(client) == b""
    assert wait_until(lambda: "status: 403, err: denied by Lua" in gateway.output())
    assert is_logged(gateway, "log 403 0/0 0/0 nil")


def test_the_server_name_is_known_where_tls_ends_here(gateway: Gateway) -> None:
    with (
        socket.create_connection(gateway.addresses("stream")[1], timeout=20) as raw,
        insecure_context().wrap_socket(raw, server_hostname="lua.test") as client,
    ):
        client.sendall(b"x")
        assert client.recv(10) == b"x"
    assert is_logged(gateway, "certificate in stream")
    assert is_logged(gateway, "preread TCP for lua.test")


def test_sessions_of_datagrams_have_the_same_phases(gateway: Gateway) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(20)
        client.connect(gateway.addresses("stream")[2])
        client.send(b"one")
        assert client.recv(100) == b"0:one"
    assert is_logged(gateway, "preread UDP for nil")
    assert is_logged(gateway, "log 200 3/3 5/5 true")
