"""What plugins share over two workers of a real node: cached values, messages, secrets, timers."""

import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Authority
from tests.support.gateway import Gateway
from tests.support.http1 import wait_until

PLUGIN = """
import os

from headgate import Plugin, PluginConfig, kong
from headgate.schema import field


class Config(PluginConfig):
    secret: str | None = field(None, referenceable=True)


class Handler(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 10

    def init_worker(self):
        self.messages = []
        self.ticks = 0
        kong.worker_events.register(lambda data, event, source, pid: self.messages.append(data), "shared")
        kong.timer.every(0.01, self.tick)

    def tick(self):
        self.ticks += 1

    async def load(self):
        return os.getpid()

    async def access(self, conf):
        match kong.request.get_path():
            case "/forget":
                kong.cache.invalidate("key")
            case "/post":
                kong.worker_events.post("shared", "posted", os.getpid())
        hit = await kong.cache.get_with_level("key", None, self.load)
        spans = [span.name for span in kong.tracing.get_spans()]
        kong.response.exit(200, {
            "pid": os.getpid(), "value": hit.value, "level": hit.level, "messages": self.messages,
            "ticks": self.ticks, "secret": conf.secret, "spans": spans,
            "workers": [one["pid"] for one in kong.node.get_memory_stats()["workers_lua_vms"]],
            "requests": kong.nginx.get_statistics()["total_requests"],
        })
"""


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Gateway]:
    directory: Path = tmp_path_factory.mktemp("plugins")
    (directory / "shared.py").write_text(PLUGIN, encoding="utf-8")
    pair = authority.issue("vault.example")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WIRE_SECRET", "from the environment")
        patch.setenv("WIRE_PAIR", json.dumps({"cert": pair.certificate, "key": pair.key}))
        document = {
            "_format_version": "3.0",
            "vaults": [{"name": "env", "prefix": "wire", "config": {"prefix": "WIRE_"}}],
            "certificates": [
                {
                    "cert": "{vault://wire/pair/cert}",
                    "key": "{vault://wire/pair/key}",
                    "snis": [{"name": "vault.example"}],
                }
            ],
            "routes": [{"name": "all", "paths": ["/"]}],
            "plugins": [{"name": "shared", "config": {"secret": "{vault://wire/secret}"}}],
        }
        settings = {"plugins": "bundled,shared", "workers": 2, "tracing_instrumentations": "all"}
        with Gateway(document, plugin_path=directory, **settings) as running:
            yield running


def ask(node: Gateway, path: str = "/", pid: int | None = None) -> dict[str, Any]:
    """Ask a worker, or any; each connection may reach another one."""
    answers: list[dict[str, Any]] = []

    def is_found() -> bool:
        answers.append(json.loads(node.get(path).body))
        return pid is None or answers[-1]["pid"] == pid

    assert wait_until(is_found)
    return answers[-1]


def test_a_value_is_loaded_once_for_both_workers_and_forgotten_in_both(node: Gateway) -> None:
    first, second = node.worker_pids
    loaded_by = ask(node, pid=first)["value"]
    assert ask(node, pid=second)["value"] == loaded_by
    assert ask(node, pid=first)["level"] == 1
    assert ask(node, pid=second)["level"] == 1
    forgotten_by = ask(node, "/forget")["pid"]
    other = second if forgotten_by == first else first
    assert ask(node, pid=other)["value"] == forgotten_by


def test_the_status_says_how_much_of_the_shared_memory_is_in_use(node: Gateway) -> None:
    ask(node)
    shared = node.admin_request("GET", "/status?unit=b").json()["memory"]["lua_shared_dicts"]["headgate"]
    assert 0 < shared["allocated_slabs"] < shared["capacity"] == 16 * 1024**2


def test_a_value_is_shown_and_dropped_over_the_admin_api(node: Gateway) -> None:
    value = ask(node)["value"]
    assert node.admin_request("GET", "/cache/key").json() == {"message": value}
    assert node.admin_request("DELETE", "/cache/key").status == 204
    assert node.admin_request("GET", "/cache/key").status == 404
    # Who had it in its own memory does not use that any more: the first that is asked loads it.
    answer = ask(node)
    assert (answer["level"], answer["value"]) == (3, answer["pid"])
    assert node.admin_request("DELETE", "/cache").status == 204
    assert ask(node)["level"] == 3


def test_timers_of_both_workers_are_shown(node: Gateway) -> None:
    assert wait_until(lambda: ask(node)["ticks"] > 0)
    stats = node.admin_request("GET", "/timers").json()["stats"]
    assert stats["sys"]["total"] >= 2
    [timer] = [one for one in stats["timers"].values() if one["workers"] == 2]
    assert timer["stats"]["runs"] > 0
    assert timer["stats"]["elapsed_time"]["total"] > 0
    assert timer["name"] in stats["flamegraph"]["running"] + stats["flamegraph"]["pending"]


def test_a_message_reaches_both_workers(node: Gateway) -> None:
    poster = ask(node, "/post")["pid"]
    for pid in node.worker_pids:
        assert wait_until(lambda pid=pid: poster in ask(node, pid=pid)["messages"])


def test_secrets_timers_spans_and_numbers_are_there(node: Gateway) -> None:
    answer = ask(node)
    assert answer["secret"] == "from the environment"
    assert answer["spans"] == ["kong", "kong.router", "kong.access.plugin.shared"]
    assert answer["workers"] == sorted(node.worker_pids)
    assert answer["requests"] >= 1
    assert wait_until(lambda: ask(node)["ticks"] > 0)


def test_a_certificate_comes_from_the_vault(node: Gateway, authority: Authority) -> None:

    context = ssl.create_default_context(cadata=authority.pem)
    with (
        socket.create_connection(node.tls, timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="vault.example") as connection,
    ):
        assert connection.getpeercert()["subjectAltName"] == (("DNS", "vault.example"),)  # type: ignore[index]
