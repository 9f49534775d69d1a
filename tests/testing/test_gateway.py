"""The fixture for plugins' tests: the gateway on free ports, ready when it is returned, gone when the test ends."""

from pathlib import Path

import pytest

from headgate.testing.gateway import Gateway, StartFailed, StartGateway, gateway

__all__ = ["gateway"]

CONFIG = """
_format_version: "3.0"
routes: [{name: all, paths: [/]}]
plugins:
- {name: request-termination, config: {status_code: 203, message: here}}
"""

pytestmark = pytest.mark.wire


def test_gateway_serves_a_text_config_and_a_changed_one_after_a_reload(gateway: StartGateway) -> None:
    running = gateway(CONFIG)
    answer = running.request("GET", "/", {"Accept": "application/json"})
    assert (answer.status, answer.json()) == (203, {"message": "here"})
    assert running.base_url.startswith("http://127.0.0.1:")
    assert running.request("GET", "/routes/all", to="admin").json()["name"] == "all"
    running.write_config(CONFIG.replace("203", "202"))
    assert running.reload().stdout == "Headgate reloaded\n"
    assert running.request("GET", "/").status == 202
    assert any("reloaded, generation 2 serves" in line for line in running.logs)


def test_start_that_fails_raises_with_the_reasons(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match="nowhere plugin is enabled but not installed") as caught:
        Gateway(plugins="nowhere", plugin_path=tmp_path)
    assert caught.value.exit_code == 1
