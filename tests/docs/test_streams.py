"""The declarative file and the plugin of docs/streams.md, in a gateway with peers behind it."""

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.certificates import authority, common_name, insecure_context
from tests.support.gateway import ROOT, Gateway
from tests.support.stream_peers import DatagramServer, StreamServer, datagram_client, received

PAGE = (ROOT / "docs" / "streams.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("page")
    (directory / "shown.py").write_text(block("python"), encoding="utf-8")
    sealed = authority().issue("vault.example").server_context(directory)
    with ExitStack() as stack:
        servers = {
            "15432": stack.enter_context(StreamServer()).port,
            "15433": stack.enter_context(StreamServer(context=sealed)).port,
            "15353": stack.enter_context(DatagramServer()).port,
        }
        text = block("yaml") + "plugins: [{name: shown, protocols: [tcp, udp], config: {deny: [127.0.0.9]}}]\n"
        for shown, port in servers.items():
            text = text.replace(shown, str(port))
        listen = "127.0.0.1:0 reuseport, 127.0.0.1:0 ssl reuseport, 127.0.0.1:0 udp"
        settings = {"stream_listen": listen, "plugins": "bundled,shown", "plugin_path": directory}
        yield stack.enter_context(Gateway(text, **settings))


def asked(address: tuple[str, int], source: str = "127.0.0.1") -> bytes:
    with socket.create_connection(address, timeout=20, source_address=(source, 0)) as client:
        try:
            client.sendall(b"hello")
            client.shutdown(socket.SHUT_WR)
            return received(client)
        except (ConnectionResetError, BrokenPipeError, OSError):
            return b""


def test_the_example_serves_what_the_page_says(gateway: Gateway) -> None:
    plain, tls, udp = gateway.addresses("stream")
    assert asked(plain) == b"hellobye"
    for name, shown in (("other.example", "localhost"), ("vault.example", "vault.example")):
        connection = socket.create_connection(tls, timeout=20)
        with insecure_context().wrap_socket(connection, server_hostname=name) as client:
            assert common_name(client.getpeercert(True)) == shown
            client.sendall(b"x")
            assert client.recv(10) == b"x"
    with datagram_client(udp) as client:
        client.send(b"name?")
        assert client.recv(100) == b"0:name?"


def test_the_plugin_of_the_page_denies_and_logs(gateway: Gateway) -> None:
    assert asked(gateway.addresses("stream")[0], "127.0.0.9") == b""
    assert "status: 403, err: denied" in gateway.output()


def test_flags_of_the_page_are_flags(tmp_path: Path) -> None:
    from headgate.config.load import load_settings

    (tmp_path / "headgate.conf").write_text(block("ini"), encoding="utf-8")
    listeners = load_settings(str(tmp_path / "headgate.conf"), {}, {}).listeners.stream_listen
    assert [(one.is_ssl, one.is_udp) for one in listeners] == [(False, False), (True, False), (False, True)]
