"""Streams say how their upstream's targets are: what cannot be reached is left alone, until it is set healthy again."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.documents import document
from tests.support.gateway import PLUGIN_DIRECTORY, Gateway
from tests.support.http1 import wait_until
from tests.support.stream_peers import StreamServer, received

WORKERS = 2


@pytest.fixture
def alive() -> Iterator[StreamServer]:
    with StreamServer() as server:
        yield server


@pytest.fixture
def refusing() -> Iterator[int]:
    """A port that nobody listens on, and nobody gets: connecting is refused at once."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def start(directory: Path, refusing: int, alive: int, passive: dict[str, Any], **service: Any) -> Gateway:
    """Start a gateway that writes a record of each stream."""
    path = directory / "streams.jsonl"
    path.touch()
    config = document(
        upstreams=[
            {
                "name": "up",
                "targets": [{"target": f"127.0.0.1:{refusing}"}, {"target": f"127.0.0.1:{alive}"}],
                "healthchecks": {"passive": passive},
            }
        ],
        services=[
            {
                "name": "s",
                "protocol": "tcp",
                "host": "up",
                "port": 1,
                "routes": [{"protocols": ["tcp"], "sources": [{"ip": "127.0.0.0/8"}]}],
                "plugins": [{"name": "stream_probe", "config": {"path": str(path)}}],
            }
            | service
        ],
    )
    settings = {"plugins": "bundled,stream_probe", "plugin_path": PLUGIN_DIRECTORY, "workers": WORKERS}
    return Gateway(config, stream_listen="127.0.0.1:0 reuseport", **settings)


def stream(gateway: Gateway, directory: Path) -> dict[str, Any]:
    """Send a stream through the gateway; returns its record."""
    with socket.create_connection(gateway.addresses("stream")[0], timeout=20) as client:
        port = client.getsockname()[1]
        client.shutdown(socket.SHUT_WR)
        received(client)
    found: list[dict[str, Any]] = []

    def is_logged() -> bool:
        lines = (directory / "streams.jsonl").read_text(encoding="utf-8").splitlines()
        found.extend(record for record in map(json.loads, lines) if record.get("port") == port)
        return bool(found)

    assert wait_until(is_logged)
    return found[0]


def healths(gateway: Gateway) -> dict[int, str]:
    """Return the health of each target as the Admin API shows it, by port."""
    response = gateway.admin_request("GET", "/upstreams/up/health")
    assert response.status == 200, response.body
    return {int(one["target"].rpartition(":")[2]): one["health"] for one in response.json()["data"]}


def tries(records: list[dict[str, Any]], port: int) -> int:
    return sum(one["port"] == port for record in records for one in record["tries"])


def test_a_target_that_refuses_is_left_alone_after_so_many_failures(
    tmp_path: Path, refusing: int, alive: StreamServer
) -> None:
    passive = {"type": "tcp", "unhealthy": {"tcp_failures": 3}, "healthy": {"successes": 1}}
    with start(tmp_path, refusing, alive.port, passive) as gateway:
        assert wait_until(lambda: healths(gateway) == {refusing: "HEALTHY", alive.port: "HEALTHY"})
        seen: list[dict[str, Any]] = []

        def is_left_alone() -> bool:
            seen.append(stream(gateway, tmp_path))
            return healths(gateway)[refusing] == "UNHEALTHY"

        assert wait_until(is_left_alone)
        # No client felt it; each worker counts to three at the latest, and they count together.
        assert {record["session"]["status"] for record in seen} == {200}
        assert 3 <= tries(seen, refusing) <= 3 * WORKERS
        later = [stream(gateway, tmp_path) for _ in range(12)]
        assert (tries(later, refusing), tries(later, alive.port)) == (0, 12)
        assert healths(gateway)[alive.port] == "HEALTHY"
        # By hand it is tried again.
        put = gateway.admin_request("PUT", f"/upstreams/up/targets/127.0.0.1:{refusing}/healthy")
        assert put.status == 204
        assert wait_until(lambda: tries([stream(gateway, tmp_path)], refusing) == 1)


def test_nothing_is_left_alone_without_checks(tmp_path: Path, refusing: int, alive: StreamServer) -> None:
    with start(tmp_path, refusing, alive.port, {"type": "tcp", "unhealthy": {"tcp_failures": 0}}) as gateway:
        records = [stream(gateway, tmp_path) for _ in range(4 * WORKERS)]
        assert tries(records, refusing) >= WORKERS
        assert {record["session"]["status"] for record in records} == {200}
        assert healths(gateway)[refusing] == "HEALTHCHECKS_OFF"


def test_when_all_have_failed_streams_end_without_being_tried(tmp_path: Path, refusing: int) -> None:
    passive = {"type": "tcp", "unhealthy": {"tcp_failures": 1}}
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port: int = other.getsockname()[1]
        with start(tmp_path, refusing, port, passive, retries=5) as gateway:
            assert stream(gateway, tmp_path)["session"]["status"] in (502, 503)
            assert wait_until(lambda: set(healths(gateway).values()) == {"UNHEALTHY"})

            def is_ended_untried() -> bool:
                record = stream(gateway, tmp_path)
                return record["session"]["status"] == 503 and record["tries"] == []

            assert wait_until(is_ended_untried)
