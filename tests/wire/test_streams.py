"""Streams over TCP and TLS: bytes both ways, phases, refusals, what upstreams are shown."""

import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import authority, common_name, insecure_context
from tests.support.documents import document
from tests.support.gateway import PLUGIN_DIRECTORY, Gateway
from tests.support.stream_peers import StreamServer, received

LOOPBACK = [{"ip": "127.0.0.0/8"}]
PLUGINS = {"plugin_path": PLUGIN_DIRECTORY, "plugins": "bundled,stream_probe"}


class Peers:
    """The upstreams of this file."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        context = authority().issue("upstream.test", "127.0.0.1").server_context(directory)
        context.load_verify_locations(cadata=authority().pem)
        context.verify_mode = ssl.CERT_OPTIONAL
        self.plain = stack.enter_context(StreamServer())
        # At an address of its own: a port that another test has given back, and still asks, is not this one.
        self.unreached = stack.enter_context(StreamServer(address="127.0.0.10"))
        self.tls = stack.enter_context(StreamServer(context=context))


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    with ExitStack() as stack:
        yield Peers(stack, tmp_path_factory.mktemp("upstream"))


@pytest.fixture(scope="module")
def log_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "streams.jsonl"


@pytest.fixture(scope="module")
def gateway(peers: Peers, log_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Routes by server name and one for what is left; `source` on 127.0.0.2 to 127.0.0.9 selects a plugin's action."""
    shown, client = authority().issue("a.test", "answer.test"), authority().issue("gateway client")
    trusted = tmp_path_factory.mktemp("authority") / "ca.pem"
    trusted.write_text(authority().pem, encoding="ascii")

    def service(name: str, protocol: str, port: int, *routes: dict[str, Any], **fields: Any) -> dict[str, Any]:
        return {"name": name, "protocol": protocol, "host": "127.0.0.1", "port": port, "routes": list(routes)} | fields

    def acting(name: str, last: int, **config: Any) -> dict[str, Any]:
        probe = {"name": "stream_probe", "config": {"path": str(log_path), **config}}
        return {"name": name, "protocols": ["tcp"], "sources": [{"ip": f"127.0.0.{last}"}], "plugins": [probe]}

    def named(name: str, *snis: str, protocols: tuple[str, ...] = ("tls",), **fields: Any) -> dict[str, Any]:
        return {"name": name, "protocols": list(protocols), "snis": list(snis)} | fields

    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    config = document(
        certificates=[
            {"cert": shown.certificate, "key": shown.key, "snis": [{"name": "a.test"}]},
            {"id": "0f4f4b3c-54a3-4a55-8a8c-2e8d2f6a9b11", "cert": client.certificate, "key": client.key},
        ],
        ca_certificates=[{"id": "7b1c8f0a-9c55-4d0e-8a57-5c40c7f3a3d1", "cert": authority().pem}],
        plugins=[
            {
                "name": "stream_probe",
                "config": {"path": str(log_path)},
                "protocols": ["tcp", "tls", "tls_passthrough", "udp"],
            }
        ],
        upstreams=[
            {
                "name": "some-down",
                "targets": [
                    {"target": f"127.0.0.1:{silent.getsockname()[1]}", "weight": 100},
                    {"target": f"127.0.0.1:{peers.plain.port}", "weight": 100},
                ],
            }
        ],
        services=[
            service(
                "echo",
                "tcp",
                peers.plain.port,
                {"name": "rest", "protocols": ["tcp", "tls"], "sources": LOOPBACK},
                named("ended", "a.test", "default.test"),
                acting("waiting", 5, action="wait"),
            ),
            service(
                "unreached",
                "tcp",
                peers.unreached.port,
                acting("refusing", 2, action="refuse"),
                acting("answering", 3, action="answer"),
                acting("raising", 4, action="raise"),
                host=peers.unreached.address,
            ),
            service("through", "tcp", peers.tls.port, named("through", "through.test", protocols=("tls_passthrough",))),
            service(
                "again",
                "tls",
                peers.tls.port,
                named("again", "again.test", preserve_host=True),
                tls_verify=False,
                client_certificate="0f4f4b3c-54a3-4a55-8a8c-2e8d2f6a9b11",
            ),
            service(
                "verified",
                "tls",
                peers.tls.port,
                named("verified", "verified.test"),
                tls_verify=True,
                ca_certificates=["7b1c8f0a-9c55-4d0e-8a57-5c40c7f3a3d1"],
            ),
            service(
                "mismatch",
                "tls",
                peers.tls.port,
                named("mismatch", "mismatch.test"),
                host="localhost",
                tls_verify=True,
                retries=0,
            ),
            service("down", "tcp", silent.getsockname()[1], acting("down", 6), retries=1),
            service("balanced", "tcp", 1, acting("balanced", 7), host="some-down"),
            service("quiet", "tcp", peers.plain.port, acting("quiet", 8), read_timeout=200, write_timeout=300),
        ],
        routes=[acting("homeless", 9)],
    )
    listen = "127.0.0.1:0 reuseport, 127.0.0.1:0 ssl reuseport"
    with silent, Gateway(config, stream_listen=listen, lua_ssl_trusted_certificate=trusted, **PLUGINS) as running:
        yield running


def connected(gateway: Gateway, source: str = "127.0.0.1") -> socket.socket:
    """Connect to the plain listener from an address of this host."""
    return socket.create_connection(gateway.addresses("stream")[0], timeout=20, source_address=(source, 0))


def secured(gateway: Gateway, name: str | None, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
    connection = socket.create_connection(gateway.addresses("stream")[1], timeout=20)
    return (context or insecure_context()).wrap_socket(connection, server_hostname=name)


def logged(path: Path, port: int) -> dict[str, Any]:
    """Wait for the record of the stream of this client port."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        for line in lines:
            record: dict[str, Any] = json.loads(line)
            if record.get("port") == port:
                return record
        time.sleep(0.01)
    raise AssertionError(f"no record of {port}")


def test_bytes_pass_both_ways_and_the_log_phase_counts_them(gateway: Gateway, log_path: Path) -> None:
    with connected(gateway) as client:
        port = client.getsockname()[1]
        client.sendall(b"x" * 300_000)
        client.shutdown(socket.SHUT_WR)
        answer = received(client)
    # After its own end the client still gets the rest: the half-close went through.
    assert (len(answer), answer[-3:]) == (300_003, b"bye")
    record = logged(log_path, port)
    assert record["session"] == {
        "received": 300_000,
        "sent": 300_003,
        "status": 200,
        "server_port": gateway.addresses("stream")[0][1],
    }
    assert record["upstream"] == {"received": 300_003, "sent": 300_000}
    assert (record["route_name"], record["protocol"], record["client_ip"]) == ("rest", "tcp", "127.0.0.1")
    assert record["seen"] == {"subsystem": "stream"}
    assert record["preread"]["subsystem"] == "stream"
    assert "cannot be called in preread phase" in record["preread"]["refused"]
    assert "log phase of streams" in record["refused"]
    assert "request" not in record
    assert record["tries"][0]["port"] == record["service"]["port"]


def test_an_upstream_that_ends_first_leaves_the_client_its_half(gateway: Gateway) -> None:
    def greet(connection: socket.socket) -> None:
        connection.sendall(b"hello")
        connection.shutdown(socket.SHUT_WR)
        heard.append(received(connection))

    heard: list[bytes] = []
    with StreamServer(greet) as server:
        config = document(
            services=[
                {
                    "protocol": "tcp",
                    "host": "127.0.0.1",
                    "port": server.port,
                    "routes": [{"protocols": ["tcp"], "sources": LOOPBACK}],
                }
            ]
        )
        with (
            Gateway(config, stream_listen="127.0.0.1:0") as own,
            socket.create_connection(own.addresses("stream")[0], timeout=20) as client,
        ):
            assert received(client) == b"hello"
            client.sendall(b"still here")
            client.shutdown(socket.SHUT_WR)
            until = time.monotonic() + 20
            while not heard and time.monotonic() < until:
                time.sleep(0.01)
    assert heard == [b"still here"]


@pytest.mark.parametrize(
    ("source", "answer", "status"),
    [("127.0.0.2", b"", 403), ("127.0.0.3", b"answered\n", 200), ("127.0.0.4", b"", 500), ("127.0.0.9", b"", 503)],
    ids=["refused", "answered", "raised", "without service"],
)
def test_what_ends_in_preread_reaches_no_upstream(
    gateway: Gateway, peers: Peers, log_path: Path, source: str, answer: bytes, status: int
) -> None:
    with connected(gateway, source) as client:
        port = client.getsockname()[1]
        assert received(client) == answer
    record = logged(log_path, port)
    assert (record["session"]["status"], record["session"]["sent"]) == (status, len(answer))
    assert record["tries"] == []
    assert peers.unreached.clients() == []


def test_a_refusal_and_a_fault_are_told_with_their_cause(gateway: Gateway) -> None:
    for source in ("127.0.0.2", "127.0.0.4"):
        with connected(gateway, source) as client:
            assert received(client) == b""
    assert "unable to proxy stream connection, status: 403, err: not for you" in gateway.output()
    assert "RuntimeError: broken on purpose" in gateway.output()


def test_preread_may_wait(gateway: Gateway, log_path: Path) -> None:
    with connected(gateway, "127.0.0.5") as client:
        port = client.getsockname()[1]
        client.sendall(b"early")
        client.shutdown(socket.SHUT_WR)
        assert received(client) == b"earlybye"
    assert logged(log_path, port)["latencies"]["plugins"]["stream_probe"]["preread"] >= 40


def test_connecting_is_tried_again_and_its_failure_is_502(gateway: Gateway, log_path: Path) -> None:
    with connected(gateway, "127.0.0.6") as client:
        port = client.getsockname()[1]
        assert received(client) == b""
    record = logged(log_path, port)
    assert record["session"]["status"] == 502
    # Told at the next try; the last failure is the status.
    assert [one.get("state") for one in record["tries"]] == ["failed", None]
    for _ in range(4):
        with connected(gateway, "127.0.0.7") as client:
            client.shutdown(socket.SHUT_WR)
            assert received(client) == b"bye"


def test_a_silent_stream_ends_after_the_larger_timeout(gateway: Gateway, log_path: Path) -> None:
    with connected(gateway, "127.0.0.8") as client:
        port = client.getsockname()[1]
        client.sendall(b"once")
        assert client.recv(10) == b"once"
        assert client.recv(10) == b""
    record = logged(log_path, port)
    assert record["session"]["status"] == 200
    assert record["latencies"]["session"] >= 300


def test_tls_ends_here_with_the_certificate_of_its_name(gateway: Gateway, log_path: Path) -> None:
    with secured(gateway, "a.test", authority().client_context()) as client:
        port = client.getsockname()[1]
        assert common_name(client.getpeercert(True)) == "a.test"
        client_cipher = (client.cipher() or ("",))[0]
        client.sendall(b"secret")
        assert client.recv(100) == b"secret"
    record = logged(log_path, port)
    assert (record["route_name"], record["protocol"]) == ("ended", "tls")
    assert record["session"]["tls"]["version"] == "TLSv1.3"
    assert record["session"]["tls"]["cipher"] == client_cipher
    assert record["session"]["received"] == 6
    phases = [json.loads(line) for line in log_path.read_text(encoding="utf-8").splitlines()]
    assert {"phase": "certificate", "subsystem": "stream"} in phases


@pytest.mark.parametrize("name", ["unknown.test", None])
def test_unknown_names_and_none_get_the_default_certificate(gateway: Gateway, name: str | None) -> None:
    with secured(gateway, name) as client:
        assert common_name(client.getpeercert(True)) == "localhost"
        client.sendall(b"x")
        assert client.recv(10) == b"x"


def test_streams_agree_on_no_protocol_whatever_the_client_offers(gateway: Gateway) -> None:
    with secured(gateway, "a.test", insecure_context("h2", "postgresql")) as client:
        assert client.selected_alpn_protocol() is None


def test_passthrough_leaves_the_bytes_to_the_upstream(gateway: Gateway, peers: Peers, log_path: Path) -> None:
    with secured(gateway, "through.test") as client:
        port = client.getsockname()[1]
        assert common_name(client.getpeercert(True)) == "upstream.test"
        client.sendall(b"sealed")
        assert client.recv(100) == b"sealed"
    assert peers.tls.server_names[-1] == "through.test"
    record = logged(log_path, port)
    assert (record["protocol"], record["server_name"]) == ("tls_passthrough", "through.test")
    assert "tls" not in record["session"]
    assert record["session"]["received"] > 300


def test_upstreams_are_shown_name_and_client_certificate(gateway: Gateway, peers: Peers) -> None:
    with secured(gateway, "again.test") as client:
        client.sendall(b"x")
        assert client.recv(10) == b"x"
    assert peers.tls.server_names[-1] == "again.test"
    assert common_name(peers.tls.client_certificates[-1]) == "gateway client"


def test_upstreams_are_verified(gateway: Gateway, log_path: Path) -> None:
    with secured(gateway, "verified.test") as client:
        client.sendall(b"x")
        assert client.recv(10) == b"x"
    with secured(gateway, "mismatch.test") as client:
        port = client.getsockname()[1]
        with contextlib.suppress(ssl.SSLError):
            assert client.recv(10) == b""
    assert logged(log_path, port)["session"]["status"] == 502


def test_plain_bytes_on_a_tls_listener_are_refused(gateway: Gateway) -> None:
    with socket.create_connection(gateway.addresses("stream")[1], timeout=20) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        try:
            assert received(client) == b""
        except ConnectionResetError:
            pass
    assert "no TLS ClientHello" in gateway.output()


def test_openssl_and_socat_speak_through_the_gateway(gateway: Gateway, tmp_path: Path) -> None:
    if shutil.which("openssl") is None or shutil.which("socat") is None:
        pytest.skip("openssl or socat is not installed (Debian: openssl, socat)")
    trusted = tmp_path / "ca.pem"
    trusted.write_text(authority().pem, encoding="ascii")
    host, port = gateway.addresses("stream")[1]
    arguments = ["-connect", f"{host}:{port}", "-servername", "a.test", "-CAfile", str(trusted)]
    verifying = ["-verify_return_error", "-verify_hostname", "a.test", "-quiet", "-no_ign_eof"]
    asked = subprocess.run(
        ["openssl", "s_client", *arguments, *verifying],
        input=b"hello openssl\n",
        capture_output=True,
        timeout=25,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
    host, port = gateway.addresses("stream")[0]
    heard = subprocess.run(
        ["socat", "-t10", "-", f"TCP:{host}:{port}"], input=b"hello socat", capture_output=True, timeout=25, check=True
    )
    assert heard.stdout == b"hello socatbye"


def test_a_stream_survives_a_reload_and_new_ones_reach_new_workers(gateway: Gateway) -> None:
    with connected(gateway) as client:
        client.sendall(b"before")
        assert client.recv(10) == b"before"
        assert gateway.reload().returncode == 0
        client.sendall(b"after")
        assert client.recv(10) == b"after"
        with connected(gateway) as other:
            other.shutdown(socket.SHUT_WR)
            assert received(other) == b"bye"


def test_without_a_route_the_stream_is_closed_and_a_scan_does_not_flood_the_log() -> None:
    config = document(
        services=[
            {
                "protocol": "tcp",
                "host": "127.0.0.1",
                "port": 9,
                "routes": [{"protocols": ["tls_passthrough"], "snis": ["known.test"]}],
            }
        ]
    )
    listen = "127.0.0.1:0, 127.0.0.1:0 ssl"
    with Gateway(config, stream_listen=listen, proxy_stream_access_log="logs/streams.log basic") as gateway:
        plain, tls = gateway.addresses("stream")
        for _ in range(60):
            with socket.create_connection(plain, timeout=20) as client:
                assert received(client) == b""
        with pytest.raises((ssl.SSLError, OSError)), socket.create_connection(tls, timeout=20) as client:
            insecure_context().wrap_socket(client, server_hostname="other.test")
        lines = [line for line in gateway.logs if "no Route found with those values" in line]
        path = gateway.prefix / "logs" / "streams.log"
        until = time.monotonic() + 20
        while time.monotonic() < until and len(path.read_text(encoding="ascii").splitlines()) < 61:
            time.sleep(0.05)
        access = path.read_text(encoding="ascii").splitlines()
    assert 1 <= len(lines) < 60
    assert len(access) == 61
    assert access[0].startswith("127.0.0.1 [")
    assert " TCP 500 0 0 0.0" in access[0]


def test_expressions_choose_streams(peers: Peers) -> None:
    def written(name: str, protocol: str, expression: str, priority: int) -> dict[str, Any]:
        return {"name": name, "protocols": [protocol], "expression": expression, "priority": priority}

    def greet(connection: socket.socket) -> None:
        connection.sendall(b"other")

    with StreamServer(greet) as other:
        config = document(
            services=[
                {
                    "protocol": "tcp",
                    "host": "127.0.0.1",
                    "port": peers.plain.port,
                    "routes": [
                        written("near", "tcp", "net.src.ip in 127.0.0.0/8 && net.dst.ip == 127.0.0.1", 1),
                        written("named", "tls", 'tls.sni =^ ".test" && net.protocol == "tls" && net.src.port > 0', 0),
                    ],
                },
                {
                    "protocol": "tcp",
                    "host": "127.0.0.1",
                    "port": other.port,
                    "routes": [written("nearer", "tcp", 'net.src.ip == 127.0.0.2 && net.protocol == "tcp"', 2)],
                },
                {
                    "protocol": "tcp",
                    "host": "127.0.0.1",
                    "port": peers.tls.port,
                    "routes": [written("through", "tls_passthrough", 'tls.sni == "through.test"', 3)],
                },
            ]
        )
        listen = "127.0.0.1:0, 127.0.0.1:0 ssl"
        with Gateway(config, stream_listen=listen, router_flavor="expressions") as gateway:
            with connected(gateway, "127.0.0.2") as client:
                assert received(client) == b"other"
            with connected(gateway, "127.0.0.3") as client:
                client.shutdown(socket.SHUT_WR)
                assert received(client) == b"bye"
            for name, shown in (("through.test", "upstream.test"), ("a.test", "localhost")):
                with secured(gateway, name) as client:
                    assert common_name(client.getpeercert(True)) == shown
                    client.sendall(b"x")
                    assert client.recv(10) == b"x"
            with pytest.raises((ssl.SSLError, OSError)):
                secured(gateway, "a.example")
