"""Lua plugins of the founding documents, run from their files unmodified, in the real gateway."""

from typing import Any

import pytest

from tests.support.gateway import ROOT, Gateway
from tests.support.http1 import wait_until
from tests.support.upstream import Upstream
from tests.support.websockets import EchoServer, open_websocket

DATA = ROOT / "tests" / "lua" / "data"
BENCH = ROOT / "bench" / "plugins"
PLUGINS = ("seed-all-phases", "seed-multi-protocol", "my-custom-plugin", "three-phases-lua")
SETTINGS: dict[str, Any] = {
    "lua_package_path": f"{DATA}/?.lua;{BENCH}/?.lua",
    "plugins": "bundled," + ",".join(PLUGINS),
}


def config(upstream: Upstream) -> dict[str, Any]:
    return {
        "_format_version": "3.0",
        "services": [{"name": "s", "url": upstream.url, "routes": [{"name": "r", "paths": ["/"]}]}],
        "plugins": [{"name": name} for name in PLUGINS],
    }


def logged(gateway: Gateway, text: str) -> bool:
    gateway.get("/")
    return wait_until(lambda: text in gateway.output())


@pytest.mark.parametrize(
    "phase", ["init_worker", "configure", "rewrite", "access", "header_filter", "body_filter", "log"]
)
def test_the_seeds_handler_logs_every_phase_of_a_request(gateway: Gateway, phase: str) -> None:
    assert logged(gateway, f"[seed-all-phases] {phase}")


def test_the_multi_protocol_handler_keeps_its_word_from_access_to_log(gateway: Gateway) -> None:
    assert logged(gateway, "[seed-multi-protocol] finishing non-WebSocket request")


def test_a_plugin_split_into_modules_requires_them(gateway: Gateway) -> None:
    assert logged(gateway, "[my-custom-plugin] access phase")
    assert logged(gateway, "[my-custom-plugin] body_filter phase")


def test_a_lua_plugin_changes_both_heads_with_its_configuration(gateway: Gateway) -> None:
    answer = gateway.get("/some/path")
    assert answer.headers.get("X-Bench") == "/some/path"
    assert ["X-Bench", "anonymous"] in answer.json()["headers"]


def test_the_seeds_handlers_run_the_phases_of_a_websocket_and_functions_change_frames() -> None:
    seeds = ("seed-all-phases", "seed-multi-protocol")
    shout = "kong.websocket.client.set_frame_data((kong.websocket.client.get_frame()):upper())"
    with EchoServer() as echo:
        document = {
            "_format_version": "3.0",
            "services": [
                {
                    "name": "s",
                    "url": f"ws://127.0.0.1:{echo.port}",
                    "routes": [{"name": "r", "paths": ["/"], "protocols": ["ws", "wss"]}],
                }
            ],
            "plugins": [
                *({"name": name, "protocols": ["ws", "wss"]} for name in seeds),
                {"name": "pre-function", "config": {"ws_client_frame": [shout]}, "protocols": ["ws", "wss"]},
            ],
        }
        with Gateway(document, **SETTINGS) as running:
            with open_websocket(running.plain) as client:
                client.send("hello")
                assert client.recv(timeout=10) == "HELLO"
            for phase in ("ws_handshake", "ws_client_frame", "ws_upstream_frame", "ws_close"):
                assert wait_until(lambda phase=phase: f"[seed-all-phases] {phase}" in running.output())
            assert wait_until(lambda: "finishing WebSocket request" in running.output())
