"""Commands that look at plugins: what they print, every fault at once, JSON forms."""

import json
from pathlib import Path
from typing import Any

import pytest

from headgate.cli.main import main

GOOD = '''
"""Adds what is wanted."""
from headgate import Plugin, PluginConfig
from headgate.schema import checks, field

class Config(PluginConfig):
    no_consumer = True
    entity_checks = (checks.at_least_one_of("config.a", "config.b"),)
    a: int | None = field(None, between=(1, 9), description="first | second")
    b: str | None = None
    needed: list[str]

class Handler(Plugin[Config]):
    VERSION = "1.2.3"
    PRIORITY = 900

    def access(self, conf): ...

    def log(self, conf): ...
'''
FAULTY = """
from headgate import Plugin

class Handler(Plugin):
    VERSION = "one"

    def acess(self, conf): ...

    def rewrite(self): ...

    def response(self, conf): ...

    async def body_filter(self, conf):
        yield 1
"""


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("headgate.config.sources.DEFAULT_PATHS", ())
    monkeypatch.setenv("HEADGATE_PREFIX", str(tmp_path / "prefix"))
    monkeypatch.setenv("HEADGATE_PLUGINS", "key-auth, good")
    monkeypatch.setenv("HEADGATE_PLUGIN_PATH", str(tmp_path))
    (tmp_path / "good.py").write_text(GOOD)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["plugin", *arguments]) == 0
    return capsys.readouterr().out


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    return json.loads(printed(capsys, *arguments, "--json"))


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["plugin", *arguments]) == 1
    return capsys.readouterr().err


@pytest.mark.parametrize("command", ["new", "list", "info", "check", "order", "docs"])
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"  headgate plugin {command}" in printed(capsys, command, "--help")


def test_list_shows_origin_and_version_of_loaded_and_other_plugins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in printed(capsys, "list").splitlines()}
    assert lines["name"] == "version priority enabled origin phases"
    assert lines["good"] == f"1.2.3 900 yes {tmp_path}/good.py access, log"
    assert lines["acl"].startswith("3.9.1 950 no bundled access")
    shown = document(capsys, "list")
    good = next(plugin for plugin in shown["plugins"] if plugin["name"] == "good")
    assert good["origin"] == {
        "kind": "path",
        "distribution": None,
        "version": None,
        "file": str(tmp_path / "good.py"),
    }
    priorities = [plugin["priority"] for plugin in shown["plugins"]]
    assert priorities == sorted(priorities, reverse=True)


def test_list_warns_of_a_plugin_that_cannot_be_loaded_and_shows_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.py").write_text("class Handler:\n    def (\n")
    assert main(["plugin", "list"]) == 0
    captured = capsys.readouterr()
    assert "good" in captured.out
    assert captured.err.startswith("Warning: plugin 'broken' cannot be imported: SyntaxError: ")
    assert captured.err.endswith(f"({tmp_path}/broken.py:2)\n")


def test_info_shows_facts_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [" ".join(line.split()) for line in printed(capsys, "info", "good").splitlines()]
    assert "scopes global, consumer_group, route, service" in lines
    assert "config.a integer between 1 and 9 first | second" in lines
    assert "config.needed array of string yes" in lines
    assert lines[-2:] == ["checks over several fields", "at_least_one_of: config.a, config.b"]
    shown = document(capsys, "info", "good")
    assert shown["schema"]["fields"][0] == {"consumer": {"type": "foreign", "reference": "consumers", "eq": None}}


def test_docs_are_markdown_with_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "docs", "good")
    assert text.startswith("# good\n\nAdds what is wanted.\n")
    assert "| `config.a` | integer |  | between 1 and 9 | first \\| second |\n" in text
    assert "| `config.needed` | array of string | required |  |  |\n" in text
    assert "- at_least_one_of: config.a, config.b\n" in text
    assert text.endswith("```yaml\nplugins:\n- name: good\n  config:\n    needed: []\n```\n")


def test_unknown_plugin_is_told_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    error = refusal(capsys, "info", "nope")
    assert error.startswith("Error: no plugin is called 'nope'\n\nThere are: acl, ")
    assert "good" in error


def test_check_tells_all_faults_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "faulty.py"
    file.write_text(FAULTY)
    faults = [line for line in refusal(capsys, "check", str(file)).splitlines() if line.startswith("  - ")]
    assert faults == [
        '  - Plugin "faulty" cannot be loaded because its PRIORITY field is not a valid integer number, got: "nil".',
        '  - Plugin "faulty" cannot be loaded because its VERSION field does not follow the "x.y.z" format, '
        'got: "one".',
        '  - Plugin "faulty" can\'t be loaded because it implements both `response` and `header_filter` or '
        "`body_filter` methods.",
        "  - plugin 'faulty' has a method 'acess' that no phase calls; did you mean 'access'?",
        f"  - plugin 'faulty': body_filter has a yield in it, so that calling it does nothing ({file}:13)",
        f"  - plugin 'faulty': rewrite cannot be called: write it as rewrite(self, conf) ({file}:9)",
    ]
    assert main(["plugin", "check", str(file), "--json"]) == 1
    assert len(json.loads(capsys.readouterr().out)["plugins"][0]["faults"]) == 6


def test_check_covers_what_a_plugin_stores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "storing").mkdir()
    (tmp_path / "storing" / "handler.py").write_text(GOOD)
    (tmp_path / "storing" / "daos.py").write_text("ENTITIES = 1\n")
    error = refusal(capsys, "check", str(tmp_path / "storing"))
    assert error.startswith("Error: plugin 'storing': daos.py needs ENTITIES, a list of EntityDeclaration\n")


def test_check_takes_names_files_and_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "inner-one").mkdir()
    (tmp_path / "inner-one" / "handler.py").write_text(GOOD)
    for given, name in (
        ("key-auth", "key-auth"),
        (tmp_path / "good.py", "good"),
        (tmp_path / "inner-one", "inner-one"),
    ):
        assert printed(capsys, "check", str(given)).startswith(f"plugin {name} is valid (")
    assert refusal(capsys, "check", str(tmp_path)).startswith(f"Error: no plugin in {tmp_path}\n")


def test_order_is_that_of_priorities_and_per_route_that_of_the_rules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [line.split()[:3] for line in printed(capsys, "order").splitlines()[1:]] == [
        ["1", "key-auth", "1250"],
        ["2", "good", "900"],
    ]
    file = tmp_path / "kong.yml"
    file.write_text(
        '_format_version: "3.0"\n'
        "routes: [{name: one, paths: [/]}]\n"
        "plugins:\n"
        "- name: key-auth\n"
        "- {name: good, config: {a: 1, needed: []}, ordering: {before: {access: [key-auth]}}}\n"
    )
    assert printed(capsys, "order", "-d", str(file)) == "route one\naccess  good, key-auth\nlog     good\n"
    shown = document(capsys, "order", "-d", str(file))
    assert shown["routes"][0]["order"] == {"access": ["good", "key-auth"], "log": ["good"]}


STREAM_AND_FRAMES = """
from headgate import Plugin, PluginConfig

class Config(PluginConfig):
    protocols = default_protocols = ("http", "https", "ws", "wss", "tcp")

class Handler(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = {priority}

    def access(self, conf): ...

    def preread(self, conf): ...

    def ws_handshake(self, conf): ...

    def ws_client_frame(self, conf): ...

    def ws_close(self, conf): ...

    def log(self, conf): ...
"""


def test_order_shows_streams_and_websocket_services_with_their_phases(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_PLUGINS", "first, second")
    for name, priority in (("first", 2), ("second", 1)):
        (tmp_path / f"{name}.py").write_text(STREAM_AND_FRAMES.replace("{priority}", str(priority)))
    file = tmp_path / "kong.yml"
    file.write_text(
        '_format_version: "3.0"\n'
        "services:\n"
        "- {name: db, protocol: tcp, host: h, port: 9, routes: [{name: db, protocols: [tcp], sources: [{port: 9}]}]}\n"
        "- {name: chat, protocol: ws, host: h, port: 80, routes: [{name: chat, protocols: [ws], paths: [/chat]}]}\n"
        "routes: [{name: plain, paths: [/]}]\n"
        "plugins:\n"
        "- {name: second}\n"
        "- {name: first}\n"
    )
    routes = {one["name"]: one for one in document(capsys, "order", "-d", str(file))["routes"]}
    both = ["first", "second"]
    assert {name: one["order"] for name, one in routes.items()} == {
        "plain": {"access": both, "log": both},
        "chat": {"ws_handshake": both, "ws_client_frame": both, "ws_close": both},
        "db": {"preread": both, "log": both},
    }
    assert routes["db"]["protocols"] == ["tcp"]
    text = printed(capsys, "order", "-d", str(file))
    assert "route db\npreread  first, second\nlog      first, second\n" in text
    assert "route chat\nws_handshake     first, second\n" in text


def test_mistyped_command_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    error = refusal(capsys, "lst")
    assert "Error: No such command: lst\n\nDid you mean list? headgate plugin --help lists the commands.\n" in error
