"""Plugins that wait, hold or are broken, end to end: what they cost others, and what the log says of them."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support import processes
from tests.support.documents import document, service
from tests.support.gateway import PLUGIN_DIRECTORY, Gateway
from tests.support.http1 import wait_until
from tests.support.upstream import Connection, Request, Upstream

SETTINGS = {
    "plugins": "bundled,limits,fails-to-import",
    "plugin_path": f"{PLUGIN_DIRECTORY},{PLUGIN_DIRECTORY / 'broken'}",
    "allow_broken_plugins": "on",
    "blocking_threads": 2,
    "handler_timeout_ms": 2000,
    "slow_handler_ms": 40,
}
MEGABYTE = 1024 * 1024


def config(upstream: Upstream) -> dict[str, Any]:
    routes = [
        {"name": "all", "paths": ["/"], "strip_path": False},
        {"name": "broken", "paths": ["/broken"], "plugins": [{"name": "fails-to-import"}]},
        {
            "name": "rejected",
            "paths": ["/rejected"],
            "plugins": [{"name": "rate-limiting", "config": {"policy": "telepathy"}}],
        },
    ]
    return document(services=[service(upstream, routes=routes)])


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


def let_go(gate: Path) -> None:
    with open(gate, "wb") as pipe:
        pipe.write(b"!")


def _load(gateway: Gateway, upstream: Upstream, action: str, gate: Path | None = None) -> None:
    plugin = {"name": "limits", "config": {"action": action, "gate": None if gate is None else str(gate)}}
    limited = {"name": "limited", "paths": ["/limited"], "strip_path": False, "plugins": [plugin]}
    free = {"name": "free", "paths": ["/"], "strip_path": False}
    response = gateway.load(document(services=[service(upstream, routes=[limited, free])]))
    assert response.status == 201, response.body


@pytest.mark.parametrize(("path", "name"), [("/broken", "fails-to-import"), ("/rejected", "rate-limiting")])
def test_a_broken_plugin_costs_its_own_route_only(gateway: Gateway, upstream: Upstream, path: str, name: str) -> None:
    assert gateway.load(config(upstream)).status == 201
    assert gateway.get(path).status == 500
    assert gateway.get("/").status == 200
    [broken] = [one for one in gateway.admin_request("GET", "/status").json()["broken_plugins"] if one["name"] == name]
    assert wait_until(lambda: f"[{name}] BrokenPluginError" in gateway.output())
    assert f"(plugin instance {broken['id']}, phase access)" in gateway.output()


def test_a_blocking_handler_keeps_nobody_else_waiting(gateway: Gateway, upstream: Upstream, gate: Path) -> None:
    _load(gateway, upstream, "block", gate)
    with gateway.client() as client:
        client.send(b"POST /limited HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
        for _ in range(3):
            assert gateway.get("/free").status == 200
        let_go(gate)
        answer = client.read_response()
    assert answer.json() == {"body": "hello", "pid": gateway.worker_pids[0]}


def test_an_async_handler_that_never_ends_is_500_after_its_time(gateway: Gateway, upstream: Upstream) -> None:
    _load(gateway, upstream, "hang")
    assert gateway.get("/limited").status == 500
    assert wait_until(lambda: "[limits] HandlerTimeoutError: no end after 2000 ms" in gateway.output())


def test_a_handler_that_holds_the_engine_is_logged(gateway: Gateway, upstream: Upstream) -> None:
    _load(gateway, upstream, "hold engine")
    assert gateway.get("/limited").status == 200
    assert wait_until(lambda: "[limits] handler held its thread for 8" in gateway.output())
    assert "phase log)" in gateway.output()


def test_an_async_body_filter_holds_the_upstream_back(gateway: Gateway, upstream: Upstream, gate: Path) -> None:
    size = 128 * MEGABYTE
    sent = [0]
    finished = threading.Event()

    def large(request: Request, connection: Connection) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        block = b"x" * 65536
        try:
            while sent[0] < size:
                connection.send(block)
                sent[0] += len(block)
        finally:
            finished.set()

    path = upstream.script(large)
    plugin = {"name": "limits", "config": {"action": "hold body", "gate": str(gate)}}
    held = {"name": "held", "paths": ["/"], "strip_path": False, "plugins": [plugin]}
    assert gateway.load(document(services=[service(upstream, routes=[held])])).status == 201
    before = processes.memory_bytes(gateway.worker_pids[0])
    with gateway.client() as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        # The filter waits with its first chunk: had the engine gone on, all would have been through in this time.
        assert not finished.wait(1)
        assert sent[0] < 32 * MEGABYTE
        assert processes.memory_bytes(gateway.worker_pids[0]) - before < 16 * MEGABYTE
    let_go(gate)
    assert finished.wait(10)


@pytest.mark.timeout(60)
def test_a_plugin_that_broke_meanwhile_keeps_the_old_workers_unless_broken_ones_are_allowed(
    upstream: Upstream, tmp_path: Path
) -> None:
    plugin = tmp_path / "changing.py"
    plugin.write_text(
        "from headgate import Plugin, kong\n\n\n"
        "class Handler(Plugin):\n"
        '    VERSION = "1.0.0"\n'
        "    PRIORITY = 1\n\n"
        "    def header_filter(self, conf):\n"
        '        kong.response.set_header("X-Changing", "whole")\n',
        encoding="utf-8",
    )
    changing = {"name": "changing", "paths": ["/changing"], "plugins": [{"name": "changing"}]}
    whole = {"name": "whole", "paths": ["/"]}
    started = document(services=[service(upstream, routes=[changing, whole])])
    settings = {"plugins": "bundled,changing", "plugin_path": tmp_path}
    with Gateway(started, **settings) as gateway:
        plugin.write_text("import a_library_that_was_removed\n", encoding="utf-8")
        finished = gateway.reload()
        assert finished.returncode == 1, finished.stdout
        assert "a_library_that_was_removed" in finished.stderr + gateway.output()
        assert gateway.get("/changing").headers["X-Changing"] == "whole"
    with Gateway(started, allow_broken_plugins="on", **settings) as gateway:
        assert (gateway.get("/changing").status, gateway.get("/").status) == (500, 200)
