"""Connections that no answer ends, across `headgate reload` and `headgate quit`: the old worker keeps them.

WebSockets of both kinds of services, TCP streams and UDP sessions. What is open when the worker's time is up is closed
in order, and logged like any other.
"""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.support.documents import document
from tests.support.gateway import PLUGIN_DIRECTORY, Gateway, run
from tests.support.http1 import Client, wait_until
from tests.support.http2_websockets import Http2
from tests.support.stream_peers import DatagramServer, StreamServer
from tests.support.websockets import EchoServer, close_frame, frame, handshake, read_frame

TEXT = 0x81


class Conversation(Protocol):
    """An open connection of some kind."""

    port: int
    phase: str

    def say(self, text: bytes) -> None:
        """Send and take the echo."""

    def leave(self) -> None:
        """End it from the client's side."""

    def expect_end(self) -> None:
        """Wait for the gateway's end, as this kind has it."""


class WebSocket:
    """Frames as bytes; through a `ws` service, or as a tunnel through `http`."""

    def __init__(self, gateway: Gateway, path: str, phase: str) -> None:
        self._client = Client(gateway.plain, timeout_s=20)
        assert handshake(self._client, path).status == 101
        self.port: int = self._client.socket.getsockname()[1]
        self.phase = phase

    def say(self, text: bytes) -> None:
        self._client.send(frame(TEXT, text))
        assert read_frame(self._client.reader.take) == (TEXT, text)

    def leave(self) -> None:
        self._client.send(frame(0x88, b"\x03\xe8"))
        assert read_frame(self._client.reader.take) == close_frame(1000)
        self._client.close()

    def expect_end(self) -> None:
        if self.phase == "ws_close":
            assert read_frame(self._client.reader.take) == close_frame(1001)
        assert self._client.is_closed_by_peer()
        self._client.close()


class Http2WebSocket:
    """A stream of HTTP/2 through a `ws` service."""

    phase = "ws_close"

    def __init__(self, gateway: Gateway) -> None:
        self._client = Http2(gateway)
        self._stream = self._client.open("/ws")
        self.port = self._client.local_port

    def say(self, text: bytes) -> None:
        self._client.send(self._stream, frame(TEXT, text))
        assert self._client.read_frame(self._stream) == (TEXT, text)

    def leave(self) -> None:
        self._client.send(self._stream, frame(0x88, b"\x03\xe8"))
        assert self._client.read_frame(self._stream) == close_frame(1000)
        self._client.close()

    def expect_end(self) -> None:
        assert self._client.read_frame(self._stream) == close_frame(1001)
        self._client.wait_for_end(self._stream)
        self._client.close()


class Stream:
    """Plain bytes."""

    phase = "log"

    def __init__(self, gateway: Gateway) -> None:
        self._socket = socket.create_connection(gateway.addresses("stream")[0], timeout=20)
        self.port: int = self._socket.getsockname()[1]

    def say(self, text: bytes) -> None:
        self._socket.sendall(text)
        answer = b""
        while len(answer) < len(text):
            more = self._socket.recv(100)
            assert more
            answer += more
        assert answer == text

    def leave(self) -> None:
        self._socket.close()

    def expect_end(self) -> None:
        assert self._socket.recv(100) == b""
        self._socket.close()


KINDS: dict[str, Callable[[Gateway], Conversation]] = {
    "WebSocket": lambda gateway: WebSocket(gateway, "/ws", "ws_close"),
    "WebSocket over HTTP/2": Http2WebSocket,
    "tunnel": lambda gateway: WebSocket(gateway, "/http", "log"),
    "TCP": Stream,
}


class Peers:
    """Upstreams, and what the plugin wrote."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        self.websocket = stack.enter_context(EchoServer())
        self.stream = stack.enter_context(StreamServer())
        self.datagrams = stack.enter_context(DatagramServer())
        self._directory = directory
        self._used = 0
        self.path = directory / "0"

    def config(self) -> dict[str, Any]:
        """Return a document with a service of each kind, which reports into a fresh file."""
        self._used += 1
        self.path = self._directory / str(self._used)

        def service(name: str, port: int, protocol: str, **route: Any) -> dict[str, Any]:
            return {
                "name": name,
                "protocol": protocol,
                "host": "127.0.0.1",
                "port": port,
                "routes": [{"name": name, **route}],
            }

        local = [{"ip": "127.0.0.0/8"}]
        return document(
            services=[
                service("ws", self.websocket.port, "ws", protocols=["ws"], paths=["/ws"]),
                service("http", self.websocket.port, "http", protocols=["http"], paths=["/http"]),
                service("tcp", self.stream.port, "tcp", protocols=["tcp"], sources=local),
                service("udp", self.datagrams.port, "udp", protocols=["udp"], sources=local),
            ],
            plugins=[{"name": "last_words", "config": {"path": str(self.path)}}],
        )

    def record_of(self, port: int) -> dict[str, Any]:
        """Wait for the line about the connection of this client port."""

        def found() -> list[dict[str, Any]]:
            lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
            return [record for record in map(json.loads, lines) if record["port"] == port]

        assert wait_until(lambda: bool(found()), 20)
        [record] = found()
        return record


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    with ExitStack() as stack:
        yield Peers(stack, tmp_path_factory.mktemp("last-words"))


def started(peers: Peers, shutdown_timeout: str) -> Gateway:
    """Start a gateway; a drained worker has this time."""
    return Gateway(
        peers.config(),
        stream_listen="127.0.0.1:0, 127.0.0.1:0 udp",
        worker_shutdown_timeout=shutdown_timeout,
        plugin_path=PLUGIN_DIRECTORY,
        plugins="bundled,last_words",
    )


@pytest.mark.timeout(60)
def test_after_a_reload_old_connections_go_on_at_the_old_worker_and_new_ones_at_the_new(peers: Peers) -> None:
    with started(peers, "60s") as gateway, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        [old] = gateway.worker_pids
        before = [begin(gateway) for begin in KINDS.values()]
        for one in before:
            one.say(b"before")
        client.settimeout(20)
        client.connect(gateway.addresses("stream")[1])
        client.send(b"before")
        assert client.recv(100) == b"0:before"
        assert gateway.reload().returncode == 0
        for one in before:
            one.say(b"after")
        after = [begin(gateway) for begin in KINDS.values()]
        for one in after:
            one.say(b"new")
        # The next datagram begins a session in the new worker; the old one ends by itself.
        client.send(b"after")
        assert client.recv(100) == b"0:after"
        for one in before + after:
            one.leave()
        new = {record["pid"] for record in map(peers.record_of, [one.port for one in after])}
        assert len(new - {old}) == 1
        for one in before:
            record = peers.record_of(one.port)
            assert (record["pid"], record["phase"]) == (old, one.phase)
        record = peers.record_of(client.getsockname()[1])
        assert (record["pid"], record["counted"]["received"], record["counted"]["sent"]) == (old, 6, 8)
        assert wait_until(lambda: set(gateway.worker_pids) == new, 20), "the old worker ends with its last connection"


@pytest.mark.timeout(60)
def test_what_is_open_when_the_time_of_a_worker_is_up_is_closed_in_order_and_logged(peers: Peers) -> None:
    with started(peers, "2s") as gateway:
        for command in ("reload", "quit"):
            [worker] = gateway.worker_pids
            conversations = [begin(gateway) for begin in KINDS.values()]
            for conversation in conversations:
                conversation.say(b"x" * 100)
            # The command may take longer than the worker has.
            asking = threading.Thread(target=run, args=(command,), kwargs={"prefix": gateway.prefix})
            asking.start()
            for conversation in conversations:
                conversation.say(b"still here")
            for conversation in conversations:
                conversation.expect_end()
            for conversation in conversations:
                record = peers.record_of(conversation.port)
                assert (record["pid"], record["phase"]) == (worker, conversation.phase)
                assert record["counted"]["received"] >= 110
                assert record["counted"]["sent"] >= 110
            asking.join(30)
            assert wait_until(lambda worker=worker: worker not in gateway.worker_pids)  # type: ignore[misc]
        assert gateway.wait() == 0
        assert gateway.output().count("closed: the worker is going away") == 2 * len(KINDS)
        assert "was killed" not in gateway.output()
