"""Changes while the node is busy with something else: none is lost, and one that is refused leaves what was there."""

import json
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from headgate.testing.gateway import Answer
from tests.support.gateway import Gateway
from tests.support.http1 import wait_until

pytestmark = pytest.mark.wire

PLUGINS = {
    "raising": """
from headgate import Plugin, PluginConfig, kong


class Config(PluginConfig):
    is_raising: bool = False


class Handler(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 10

    def configure(self, configs):
        if any(one.is_raising for one in configs or ()):
            raise RuntimeError("no such thing")

    def access(self, conf):
        kong.response.exit(200, {"is_raising": conf.is_raising})
""",
    "unmakeable": """
from headgate import Plugin, PluginConfig


class Handler(Plugin[PluginConfig]):
    VERSION = "1.0.0"
    PRIORITY = 9

    def __init__(self):
        raise RuntimeError("not today")

    def access(self, conf): ...
""",
}
ANSWER = {"name": "request-termination", "config": {"status_code": 200, "message": "here"}}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("plugins")
    for name, text in PLUGINS.items():
        (directory / name).mkdir()
        (directory / name / "handler.py").write_text(text, encoding="utf-8")
    settings: dict[str, Any] = {"plugins": "request-termination,raising,unmakeable", "workers": 1}
    with Gateway(None, plugin_path=directory, database="sqlite", **settings) as running:
        assert write(running, "POST", "/plugins", ANSWER).status == 201
        yield running


def write(node: Gateway, method: str, path: str, body: dict[str, Any]) -> Answer:
    return node.request(method, path, {"Content-Type": "application/json"}, json.dumps(body), to="admin")


def answers(node: Gateway, path: str) -> int:
    return node.request("GET", path).status


def test_a_change_that_cannot_be_compiled_leaves_all_and_the_next_is_taken(node: Gateway) -> None:
    assert write(node, "PUT", "/routes/one", {"paths": ["/one"]}).status == 200
    refused = write(node, "POST", "/routes/one/plugins", {"name": "unmakeable"})
    assert refused.status == 201
    text = "plugin 'unmakeable' cannot be made: RuntimeError: not today"
    assert refused.headers["x-headgate-not-in-force"] == text
    assert answers(node, "/one") == 200
    # What is written meanwhile is stored, and waits for a configuration that can run.
    later = write(node, "PUT", "/routes/two", {"paths": ["/two"]})
    assert (later.status, later.headers["x-headgate-not-in-force"]) == (200, text)
    assert (answers(node, "/one"), answers(node, "/two")) == (200, 404)
    removed = node.request("DELETE", f"/plugins/{refused.json()['id']}", to="admin")
    assert removed.status == 204
    assert "x-headgate-not-in-force" not in removed.headers
    assert answers(node, "/one") == answers(node, "/two") == 200
    # A change alone travels again, and fits.
    assert write(node, "PUT", "/routes/one", {"paths": ["/three"]}).status == 200
    assert (answers(node, "/one"), answers(node, "/three")) == (404, 200)


def test_a_plugin_that_raises_in_configure_is_told_of_and_everything_is_in_force(node: Gateway) -> None:
    assert write(node, "PUT", "/routes/own", {"paths": ["/own"]}).status == 200
    made = write(node, "POST", "/routes/own/plugins", {"name": "raising", "config": {"is_raising": True}})
    assert made.status == 201
    assert answers(node, "/own") == 200
    assert node.request("GET", "/own").json() == {"is_raising": True}
    assert [line for line in node.logs if "failed to execute plugin 'raising:configure (no such thing)" in line]
    assert write(node, "PATCH", f"/plugins/{made.json()['id']}", {"config": {"is_raising": False}}).status == 200
    assert node.request("GET", "/own").json() == {"is_raising": False}


def test_what_is_written_during_a_reload_is_served_after_it(node: Gateway) -> None:
    written: list[str] = []
    is_over = threading.Event()

    def go_on() -> None:
        number = 0
        while not is_over.wait(0.1):
            number += 1
            try:
                made = write(node, "PUT", f"/routes/r{number}", {"paths": [f"/r{number}"]})
            except OSError:
                # The Admin API changes hands: what was not answered counts as not written.
                continue
            if made.status == 200:
                written.append(f"/r{number}")

    writer = threading.Thread(target=go_on)
    writer.start()
    try:
        node.signal(signal.SIGHUP)
        assert wait_until(lambda: any("generation 2 serves" in line for line in node.logs), timeout_s=25)
    finally:
        is_over.set()
        writer.join()
    assert len(written) > 2
    assert write(node, "PUT", "/routes/last", {"paths": ["/last"]}).status == 200
    assert [path for path in (*written, "/last") if answers(node, path) != 200] == []
