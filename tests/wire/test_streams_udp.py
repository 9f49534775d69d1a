"""Streams over UDP: sessions by their two ends, bounded, ended by silence."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import processes
from tests.support.documents import document
from tests.support.gateway import PLUGIN_DIRECTORY, Gateway
from tests.support.http1 import wait_until
from tests.support.stream_peers import DatagramServer, datagram_client

SESSIONS = 50
IDLE_MS = 1500


@pytest.fixture(scope="module")
def server() -> Iterator[DatagramServer]:
    with DatagramServer(count=2) as running:
        yield running


@pytest.fixture(scope="module")
def log_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "streams.jsonl"


@pytest.fixture(scope="module")
def gateway(server: DatagramServer, log_path: Path) -> Iterator[Gateway]:
    """A listener on one address and one on all of them; clients on 127.0.0.2 and 127.0.0.3 are treated otherwise."""

    def acting(last: int, **config: Any) -> dict[str, Any]:
        probe = {"name": "stream_probe", "config": {"path": str(log_path), **config}}
        return {
            "name": f"from-{last}",
            "protocols": ["udp"],
            "sources": [{"ip": f"127.0.0.{last}"}],
            "plugins": [probe],
        }

    service = {
        "name": "datagrams",
        "protocol": "udp",
        "host": "127.0.0.1",
        "port": server.port,
        "read_timeout": IDLE_MS,
        "write_timeout": 1,
        "routes": [acting(1), acting(2, action="refuse"), acting(3, action="answer"), acting(4, action="wait")],
    }
    nowhere = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    nowhere.bind(("127.0.0.1", 0))
    refusing = service | {"name": "refusing", "port": nowhere.getsockname()[1], "routes": [acting(5)]}
    nowhere.close()
    flooded = service | {
        "name": "flooded",
        "routes": [{"name": "flooded", "protocols": ["udp"], "sources": [{"ip": "127.0.0.6"}]}],
    }
    with Gateway(
        document(services=[service, refusing, flooded]),
        stream_listen="127.0.0.1:0 udp, 0.0.0.0:0 udp",
        udp_sessions=SESSIONS,
        plugin_path=PLUGIN_DIRECTORY,
        plugins="bundled,stream_probe",
    ) as running:
        yield running


def client_of(gateway: Gateway, source: str = "127.0.0.1", listener: int = 0, to: str = "127.0.0.1") -> socket.socket:
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(20)
    client.bind((source, 0))
    client.connect((to, gateway.addresses("stream")[listener][1]))
    return client


def logged(path: Path, port: int) -> dict[str, Any]:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        for line in lines:
            record: dict[str, Any] = json.loads(line)
            if record.get("port") == port:
                return record
        time.sleep(0.01)
    raise AssertionError(f"no record of {port}")


@pytest.mark.parametrize(("listener", "to"), [(0, "127.0.0.1"), (1, "127.0.0.1"), (1, "127.0.0.77")])
def test_datagrams_of_two_ends_are_one_session_that_silence_ends(
    gateway: Gateway, server: DatagramServer, log_path: Path, listener: int, to: str
) -> None:
    before = len(server.peers)
    with client_of(gateway, listener=listener, to=to) as client:
        port = client.getsockname()[1]
        for text in (b"one", b"three"):
            client.send(text)
            # Answers come from the address that was asked, or this connected socket would not take them.
            assert {client.recv(100), client.recv(100)} == {b"0:" + text, b"1:" + text}
    assert len(server.peers) == before + 1
    record = logged(log_path, port)
    assert record["session"]["received"] == 8
    assert record["session"]["sent"] == 2 * (8 + 2 * 2)
    assert record["upstream"] == {"received": record["session"]["sent"], "sent": 8}
    assert (record["session"]["status"], record["protocol"], record["route_name"]) == (200, "udp", "from-1")
    assert record["latencies"]["session"] >= IDLE_MS


def test_what_comes_while_preread_waits_is_delivered(gateway: Gateway) -> None:
    with client_of(gateway, "127.0.0.4") as client:
        for number in range(5):
            client.send(b"%d" % number)
        answers = {client.recv(100) for _ in range(10)}
    assert answers == {b"%d:%d" % (copy, number) for copy in (0, 1) for number in range(5)}


def test_preread_refuses_and_answers(gateway: Gateway, server: DatagramServer, log_path: Path) -> None:
    before = len(server.peers)
    with client_of(gateway, "127.0.0.2") as client:
        client.send(b"let me in")
        refused = logged(log_path, client.getsockname()[1])
    with client_of(gateway, "127.0.0.3") as client:
        client.send(b"hello")
        assert client.recv(100) == b"answered\n"
        answered = logged(log_path, client.getsockname()[1])
    assert (refused["session"]["status"], refused["session"]["sent"]) == (403, 0)
    assert (answered["session"]["status"], answered["session"]["sent"]) == (200, 9)
    assert len(server.peers) == before


def test_an_upstream_that_is_not_there_ends_the_session_with_502(gateway: Gateway, log_path: Path) -> None:
    with client_of(gateway, "127.0.0.5") as client:
        client.send(b"anybody?")
        record = logged(log_path, client.getsockname()[1])
    assert record["session"]["status"] == 502


def test_socat_asks_over_udp(gateway: Gateway) -> None:
    if shutil.which("socat") is None:
        pytest.skip("socat is not installed (Debian: socat)")
    host, port = gateway.addresses("stream")[0]
    asked = subprocess.run(
        ["socat", "-t2", "-", f"UDP:{host}:{port}"], input=b"hello", capture_output=True, timeout=25, check=True
    )
    assert asked.stdout == b"0:hello1:hello"


def test_a_flood_from_many_ports_is_bounded_and_ends_the_idlest(gateway: Gateway) -> None:
    # One that a test before has replaced may still be on its way out.
    assert wait_until(lambda: len(gateway.worker_pids) == 1)
    (worker,) = gateway.worker_pids
    before = processes.memory_bytes(worker)
    descriptors = Path(f"/proc/{worker}/fd")
    with client_of(gateway, "127.0.0.6") as faithful:
        faithful.send(b"first")
        assert faithful.recv(100).endswith(b":first")
        faithful.recv(100)
        # A port for each datagram, far more than the table holds.
        for number in range(40 * SESSIONS):
            with client_of(gateway, "127.0.0.6") as stranger:
                stranger.send(b"x" * 1000)
            if number % 20 == 0:
                # A session that is used is not the idlest.
                faithful.send(b"again")
                assert faithful.recv(100).endswith(b":again")
                faithful.recv(100)
    # Sockets of the table and of sessions about to end, beside what a worker has open anyway.
    assert len(list(descriptors.iterdir())) < 3 * SESSIONS + 100
    assert processes.memory_bytes(worker) - before < 30 * 1024 * 1024
    told = [line for line in gateway.logs if f"udp_sessions ({SESSIONS}) are open" in line]
    assert told
    with datagram_client(gateway.addresses("stream")[0]) as client:
        # What is left of the flood may push a datagram out of a socket's queue: a client of UDP asks again.
        client.settimeout(1)
        assert any(_is_answered(client, b"after") for _ in range(10))


def _is_answered(client: socket.socket, datagram: bytes) -> bool:
    client.send(datagram)
    try:
        return client.recv(100).endswith(b":" + datagram)
    except TimeoutError:
        return False


def test_the_listener_survives_a_reload(gateway: Gateway) -> None:
    with client_of(gateway) as client:
        client.send(b"before")
        assert client.recv(100).endswith(b":before")
        client.recv(100)
        assert gateway.reload().returncode == 0
        client.send(b"after")
        assert client.recv(100).endswith(b":after")
