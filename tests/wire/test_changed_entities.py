"""Two nodes on one database, two workers each: messages, cached entities and `crud` events, whoever writes."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.testing.gateway import command, environment
from tests.support.gateway import Gateway
from tests.support.http1 import wait_until

PLUGIN = """
import os

from headgate import Plugin, PluginConfig, kong


class Handler(Plugin[PluginConfig]):
    VERSION = "1.0.0"
    PRIORITY = 10

    def init_worker(self):
        self.messages, self.changes = [], []
        kong.cluster_events.subscribe("mine", self.messages.append)
        kong.worker_events.register(self.changed, "crud", "consumers")
        kong.worker_events.register(self.changed, "crud", "consumers:delete")

    def changed(self, data, event, source, pid):
        old = data["old_entity"]
        self.changes.append([event, data["operation"], data["entity"]["username"], old and old["custom_id"]])

    def load(self, name):
        consumer = kong.db.consumers.select_by_username(name)
        return consumer and consumer["custom_id"]

    async def access(self, conf):
        path, name = kong.request.get_path(), kong.request.get_query_arg("name")
        if path == "/send":
            kong.cluster_events.broadcast("mine", name)
        if path == "/write":
            await kong.db.consumers.upsert_by_username(name, {"custom_id": kong.request.get_query_arg("custom_id")})
        if path == "/delete":
            await kong.db.consumers.delete_by_username(name)
        if path == "/forget":
            kong.cache.invalidate("counted")
        found = kong.db.consumers.select_by_username("u")
        key = kong.db.consumers.cache_key(found) if found else "nobody"
        kong.response.exit(200, {
            "pid": os.getpid(), "messages": self.messages, "changes": self.changes,
            "cached": kong.cache.get(key, None, self.load, "u"),
            "counted": kong.cache.get_with_level("counted", None, os.getpid).level,
        })
"""


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory: Path = tmp_path_factory.mktemp("plugins")
    (directory / "changed.py").write_text(PLUGIN, encoding="utf-8")
    return directory


DOCUMENT: dict[str, Any] = {
    "_format_version": "3.0",
    "routes": [{"name": "all", "paths": ["/"]}],
    "plugins": [{"name": "changed"}],
}


@pytest.fixture(scope="module")
def nodes(plugins: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Gateway]]:
    directory: Path = tmp_path_factory.mktemp("nodes")
    settings: dict[str, Any] = {
        "plugins": "bundled,changed",
        "workers": 2,
        "database": "sqlite",
        "sqlite_path": str(directory / "shared.db"),
    }
    (directory / "kong.json").write_text(json.dumps(DOCUMENT), encoding="utf-8")
    for arguments in (["migrations", "bootstrap"], ["config", "db_import", str(directory / "kong.json")]):
        done = subprocess.run(
            [*command(), *arguments],
            env=environment(settings | {"plugin_path": plugins}, directory),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    with (
        Gateway(None, plugin_path=plugins, **settings) as one,
        Gateway(None, plugin_path=plugins, **settings) as two,
    ):
        yield one, two


def ask(node: Gateway, target: str = "/", pid: int | None = None) -> dict[str, Any]:
    """Ask a worker, or any; each connection may reach another one."""
    answers: list[dict[str, Any]] = []

    def is_found() -> bool:
        answers.append(json.loads(node.get(target).body))
        return pid is None or answers[-1]["pid"] == pid

    assert wait_until(is_found)
    return answers[-1]


def everywhere(nodes: tuple[Gateway, ...], part: str, wanted: Any) -> None:
    """Wait until every worker of every node answers with something."""
    for node in nodes:
        for pid in node.worker_pids:
            assert wait_until(lambda node=node, pid=pid: ask(node, pid=pid)[part] == wanted), ask(node, pid=pid)[part]


def test_a_message_reaches_every_worker_of_both_nodes(nodes: tuple[Gateway, Gateway]) -> None:
    ask(nodes[0], "/send?name=hello")
    everywhere(nodes, "messages", ["hello"])


def test_a_write_is_told_everywhere_and_empties_every_cache(nodes: tuple[Gateway, Gateway]) -> None:
    ask(nodes[1], "/write?name=u&custom_id=first")
    everywhere(nodes, "cached", "first")
    ask(nodes[0], "/write?name=u&custom_id=second")
    everywhere(nodes, "cached", "second")
    ask(nodes[0], "/delete?name=u")
    everywhere(
        nodes,
        "changes",
        [
            ["consumers", "create", "u", None],
            ["consumers", "update", "u", "first"],
            ["consumers", "delete", "u", None],
            ["consumers:delete", "delete", "u", None],
        ],
    )


def test_an_invalidation_reaches_the_other_node(nodes: tuple[Gateway, Gateway]) -> None:
    other = nodes[1].worker_pids[0]
    ask(nodes[1], pid=other)
    assert ask(nodes[1], pid=other)["counted"] == 1
    ask(nodes[0], "/forget")
    assert wait_until(lambda: ask(nodes[1])["counted"] == 3)


def test_a_new_document_tells_what_differs(plugins: Path) -> None:
    def document(*consumers: dict[str, str]) -> dict[str, Any]:
        return DOCUMENT | {"consumers": list(consumers)}

    with Gateway(
        document({"username": "u", "custom_id": "first"}),
        plugin_path=plugins,
        plugins="bundled,changed",
        workers=2,
    ) as node:
        everywhere((node,), "cached", "first")
        changed = document({"username": "u", "custom_id": "second"}, {"username": "v"})
        for _ in range(2):
            assert node.load(changed).status == 201
        # The answer comes when every worker has forgotten what was cached.
        assert [ask(node, pid=pid)["cached"] for pid in node.worker_pids] == ["second", "second"]
        everywhere((node,), "changes", [["consumers", "update", "u", "first"], ["consumers", "create", "v", None]])
