"""Streams whose TLS ends here and begins anew, between `openssl s_client` and `openssl s_server`."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Authority, authority
from tests.support.documents import document
from tests.support.gateway import Gateway
from tests.support.http1 import wait_until
from tests.support.openssl import OpensslServer, openssl_or_skip

STRANGER = Authority()
OURS = "11111111-0000-4000-8000-000000000001"
THEIRS = "11111111-0000-4000-8000-000000000002"
CLIENT = "22222222-0000-4000-8000-000000000001"
NAMES = ("good.test", "wrong-authority.test", "another-name.test", "no-certificate.test", "through.test")


@pytest.fixture(scope="module")
def authority_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    path.write_text(authority().pem, encoding="ascii")
    return path


@pytest.fixture(scope="module")
def server(authority_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpensslServer]:
    """A server that lets in clients with a certificate of the test authority only."""
    openssl_or_skip()
    pair = authority().issue("upstream.test", "127.0.0.1")
    demands = ["-Verify", "1", "-verify_return_error", "-CAfile", str(authority_file)]
    with OpensslServer(pair, tmp_path_factory.mktemp("s_server"), *demands) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(server: OpensslServer) -> Iterator[Gateway]:
    """A service for each way in which the upstream and we believe each other, or do not."""

    def service(name: str, protocol: str = "tls", **fields: Any) -> dict[str, Any]:
        route = "tls_passthrough" if protocol == "tcp" else "tls"
        base = {"name": name, "protocol": protocol, "host": "127.0.0.1", "port": server.port, "retries": 0}
        if protocol == "tls":
            base |= {"tls_verify": True, "ca_certificates": [OURS], "client_certificate": CLIENT}
        return base | fields | {"routes": [{"name": name, "protocols": [route], "snis": [f"{name}.test"]}]}

    shown, presented = authority().issue(*NAMES), authority().issue("gateway client")
    config = document(
        certificates=[
            {"cert": shown.certificate, "key": shown.key, "snis": [{"name": name} for name in NAMES]},
            {"id": CLIENT, "cert": presented.certificate, "key": presented.key},
        ],
        ca_certificates=[{"id": OURS, "cert": authority().pem}, {"id": THEIRS, "cert": STRANGER.pem}],
        services=[
            service("good"),
            service("wrong-authority", ca_certificates=[THEIRS]),
            service("another-name", host="localhost"),
            service("no-certificate", client_certificate=None),
            service("through", "tcp"),
        ],
    )
    with Gateway(config, stream_listen="127.0.0.1:0 ssl", proxy_stream_access_log="logs/streams.log") as running:
        yield running


class Client:
    """`openssl s_client`, which believes the test authority only; a context manager."""

    def __init__(self, gateway: Gateway, authority_file: Path, name: str, *arguments: str) -> None:
        host, port = gateway.addresses("stream")[0]
        command = ["openssl", "s_client", "-connect", f"{host}:{port}", "-servername", name, "-quiet"]
        command += ["-CAfile", str(authority_file), "-verify_return_error", "-verify_hostname"]
        self._stack = ExitStack()
        self._process = self._stack.enter_context(
            subprocess.Popen(
                [*command, arguments[0] if arguments else name, *arguments[1:]],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._stack.close()

    def ask(self, line: bytes) -> bytes:
        """Send a line and return the next one; empty when the connection has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()
        return self._process.stdout.readline()


def test_tls_ends_here_and_the_upstream_is_verified_and_shown_who_calls(
    gateway: Gateway, server: OpensslServer, authority_file: Path
) -> None:
    for version in ("-tls1_2", "-tls1_3"):
        with Client(gateway, authority_file, "good.test", "good.test", version) as client:
            assert client.ask(b"hello\n") == b"olleh\n"
            assert client.ask(b"again\n") == b"niaga\n"
    assert wait_until(lambda: server.output.count("Peer certificate: CN = gateway client") == 2)


@pytest.mark.parametrize("name", ["wrong-authority.test", "another-name.test"])
def test_an_upstream_that_is_not_believed_is_not_spoken_to(gateway: Gateway, authority_file: Path, name: str) -> None:
    before = len(gateway.logs)
    with Client(gateway, authority_file, name) as client:
        assert client.ask(b"secret\n") == b""
    assert any("TLS handshake failed: invalid peer certificate" in line for line in gateway.logs[before:])
    log = gateway.prefix / "logs" / "streams.log"
    assert wait_until(lambda: " TCP 502 0 " in log.read_text())


def test_an_upstream_that_wants_a_certificate_and_gets_none_ends_the_stream(
    gateway: Gateway, authority_file: Path
) -> None:
    with Client(gateway, authority_file, "no-certificate.test") as client:
        assert client.ask(b"secret\n") == b""


def test_passed_through_the_client_itself_has_to_show_its_certificate(
    gateway: Gateway, authority_file: Path, tmp_path: Path
) -> None:
    pair = authority().issue("own client")
    path = tmp_path / "client.pem"
    path.write_text(pair.key + pair.certificate, encoding="ascii")
    with Client(gateway, authority_file, "through.test", "upstream.test", "-cert", str(path)) as client:
        assert client.ask(b"hello\n") == b"olleh\n"
    with Client(gateway, authority_file, "through.test", "upstream.test") as client:
        assert client.ask(b"hello\n") == b""
