"""Saved changes take over while requests go on; changes that cannot run are told and change nothing."""

import py_compile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headgate.cli.watching import WatchSet, forget_bytecode, watch_set
from headgate.config.load import load_settings
from headgate.testing.gateway import Gateway, command

PLUGIN = """
from headgate import Plugin, PluginConfig, kong

class Config(PluginConfig):
    pass

class Handler(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 10

    def header_filter(self, conf):
        kong.response.set_header("X-Edition", "{edition}")
"""
CONFIG = {
    "_format_version": "3.0",
    "routes": [{"name": "all", "paths": ["/"]}],
    "plugins": [{"name": "edition"}, {"name": "request-termination", "config": {"status_code": 200}}],
}
PATIENCE_S = 12.0


class Development(Gateway):
    """`headgate dev` in the place of `headgate start`."""

    def start_command(self) -> list[str]:
        return [*command(), "dev"]

    def until(self, is_reached: Callable[[str | None], bool]) -> None:
        """Send requests, none of which may fail, until one shows what is waited for."""
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            answer = self.request("GET", "/")
            assert answer.status == 200
            if is_reached(answer.headers.get("x-edition")):
                return
        raise AssertionError(self.output())


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    file = tmp_path / "plugins" / "edition.py"
    file.parent.mkdir()
    file.write_text(PLUGIN.format(edition="A"))
    return file


@pytest.fixture
def node(plugin: Path) -> Iterator[Development]:
    with Development(CONFIG, plugins="bundled,edition", plugin_path=plugin.parent) as running:
        yield running


def test_saved_changes_take_over_and_broken_ones_do_not(node: Development, plugin: Path) -> None:
    node.until(lambda edition: edition == "A" and f"watching {plugin.parent}" in node.output())
    plugin.write_text(PLUGIN.format(edition="B"))
    node.until(lambda edition: edition == "B")
    node.until(lambda _: "reloaded in" in node.output())

    plugin.write_text(PLUGIN.format(edition="C") + "        kong.(\n")
    node.until(lambda _: "not reloaded, the code and configuration before go on:" in node.output())
    fault = f"  plugin 'edition' cannot be imported: SyntaxError: invalid syntax ({plugin}:13)\n"
    node.until(lambda edition: fault in node.output() and edition == "B")

    node.write_config({**CONFIG, "plugins": [{"name": "edition", "config": {"unknown": 1}}]})
    node.until(lambda _: node.output().count("not reloaded") == 2)
    plugin.write_text(PLUGIN.format(edition="D"))
    node.write_config(CONFIG)
    node.until(lambda edition: edition == "D")


def test_only_what_may_change_the_node_is_watched() -> None:
    wanted = WatchSet(frozenset({Path("/code")}), frozenset({Path("/etc/gateway.yml")}))
    seen = ["/code/a.py", "/code/b/schema.py", "/code/b/page.html", "/etc/gateway.yml"]
    unseen = ["/etc/other.yml", "/code/a.py~", "/code/__pycache__/a.py", "/code/.git/x.py", "/code/tests/test_a.py"]
    assert [path for path in (*seen, *unseen) if wanted.concerns(Path(path))] == seen


def test_package_of_an_editable_plugin_is_watched_and_an_installed_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("edited_one", "kept_one"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('watching must run no code of plugins')\n")
        information = tmp_path / f"{name}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (information / "entry_points.txt").write_text(f"[headgate.plugins]\n{name} = {name}.handler\n")
    monkeypatch.syspath_prepend(tmp_path)
    given = {"prefix": str(tmp_path), "plugins": "bundled, edited-one", "plugin_path": str(tmp_path / "kept_one")}
    settings = load_settings(None, {}, given)
    assert watch_set(settings).folders == {tmp_path / "edited_one", tmp_path / "kept_one"}
    monkeypatch.setattr("headgate.cli.watching.sysconfig.get_path", lambda _: str(tmp_path))
    assert watch_set(settings).folders == {tmp_path / "kept_one"}


def test_bytecode_of_changed_sources_is_forgotten(tmp_path: Path) -> None:
    source = tmp_path / "one.py"
    source.write_text("value = 1\n")
    py_compile.compile(str(source))
    forget_bytecode([source, tmp_path / "gone.py", tmp_path / "data.txt"])
    assert list((tmp_path / "__pycache__").iterdir()) == []
