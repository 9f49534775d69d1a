"""Finding, importing and checking plugins."""

import logging
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from headgate.errors import PluginLoadError
from headgate.policy.catalog import Catalog, load_catalog
from headgate.schema import PluginConfig

GOOD = """
from headgate import Plugin, PluginConfig, kong

class Config(PluginConfig):
    header: str = "X"

class Handler(Plugin[Config]):
    VERSION = "1.2.3"
    PRIORITY = 7
    def access(self, conf): ...
    async def log(self, conf): ...
"""

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write_file


def load(directory: Path, *names: str) -> Catalog:
    return load_catalog(names, [str(directory)])


def faults(directory: Path, *names: str) -> list[str]:
    with pytest.raises(PluginLoadError) as caught:
        load(directory, *names)
    return caught.value.faults


def test_a_file_of_the_plugin_path_is_a_plugin(write: Write, tmp_path: Path) -> None:
    path = write("my_plugin.py", GOOD)
    plugin = load(tmp_path, "my-plugin")["my-plugin"]
    assert (plugin.version, plugin.priority, plugin.phases) == ("1.2.3", 7, {"access", "log"})
    assert plugin.config_model(header="Y").header == "Y"  # type: ignore[attr-defined]
    assert plugin.origin == str(path)


def test_a_folder_with_a_handler_is_a_plugin_and_may_import_its_own_files(write: Write, tmp_path: Path) -> None:
    write("my-plugin/settings.py", "PRIORITY = 99\n")
    handler = GOOD.replace("PRIORITY = 7", "PRIORITY = settings.PRIORITY")
    write("my-plugin/handler.py", f"from . import settings\n{handler}")
    assert load(tmp_path, "my-plugin")["my-plugin"].priority == 99


def test_a_plugin_is_loaded_anew_by_a_second_catalog(write: Write, tmp_path: Path) -> None:
    write("p/handler.py", GOOD)
    assert load(tmp_path, "p")["p"].priority == 7
    write("p/handler.py", GOOD.replace("PRIORITY = 7", "PRIORITY = 888"))
    assert load(tmp_path, "p")["p"].priority == 888


def test_without_a_configuration_class_the_configuration_is_empty(write: Write, tmp_path: Path) -> None:
    write("p.py", GOOD.replace("Plugin[Config]", "Plugin"))
    assert load(tmp_path, "p")["p"].config_model is PluginConfig


def test_bundled_and_names_are_loaded_once_each_in_the_order_of_running(write: Write, tmp_path: Path) -> None:
    write("p.py", GOOD)
    catalog = load(tmp_path, "bundled", "p", "p", "key-auth")
    assert {"key-auth", "p"} <= set(catalog)
    assert len(set(catalog)) == len(list(catalog))
    order = [(plugin.priority, name) for name, plugin in catalog.items()]
    assert order == sorted(order, reverse=True)


def test_off_in_the_first_place_loads_nothing() -> None:
    assert len(load_catalog(["off", "key-auth"])) == 0
    assert list(load_catalog(["key-auth", "off"])) == ["key-auth"]


def test_a_plugin_that_is_nowhere_is_reported_with_the_places_searched(tmp_path: Path) -> None:
    [fault] = faults(tmp_path, "ghost")
    assert fault.startswith("ghost plugin is enabled but not installed; looked in headgate.plugins, entry points")
    assert str(tmp_path) in fault


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("\nraise RuntimeError('no')\n", "RuntimeError: no", 2),
        ("\n\ndef broken(:\n", "SyntaxError: invalid syntax", 3),
        ("import missing_module\n", "ModuleNotFoundError: No module named 'missing_module'", 1),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3", 2),
    ],
)
def test_an_import_that_fails_is_one_line_with_the_place(
    write: Write, tmp_path: Path, text: str, message: str, line: int
) -> None:
    path = write("p.py", text)
    assert faults(tmp_path, "p") == [f"plugin 'p' cannot be imported: {message} ({path}:{line})"]


def test_all_faults_of_all_plugins_are_reported(write: Write, tmp_path: Path) -> None:
    write("p.py", GOOD.replace("PRIORITY = 7", "PRIORITY = 1.5").replace('"1.2.3"', '"1.2.3.4"'))
    write(
        "q.py",
        GOOD.replace("PRIORITY = 7", "").replace("async def log", "def response(self, conf): ...\n    def body_filter"),
    )
    assert faults(tmp_path, "p", "q", "ghost")[:4] == [
        'Plugin "p" cannot be loaded because its PRIORITY field is not a valid integer number, got: "1.5".',
        'Plugin "p" cannot be loaded because its VERSION field does not follow the "x.y.z" format, got: "1.2.3.4".',
        'Plugin "q" cannot be loaded because its PRIORITY field is not a valid integer number, got: "nil".',
        'Plugin "q" can\'t be loaded because it implements both `response` and '
        "`header_filter` or `body_filter` methods.",
    ]


def test_a_module_without_a_handler_is_refused(write: Write, tmp_path: Path) -> None:
    path = write("p.py", "class Handler: ...\n")
    assert faults(tmp_path, "p") == [
        f"plugin 'p' cannot be loaded: {path} has no class Handler derived from headgate.Plugin"
    ]


def test_one_name_from_two_places_names_both(write: Write, tmp_path: Path) -> None:
    path = write("key_auth.py", GOOD)
    assert faults(tmp_path, "key-auth") == [
        f"plugin 'key-auth' is there 2 times: bundled module headgate.plugins.key_auth and {path}; keep one"
    ]


def test_a_misspelt_phase_is_warned_about(write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write("p.py", GOOD.replace("def access", "def acces"))
    with caplog.at_level(logging.WARNING, "headgate.policy"):
        load(tmp_path, "p")
    assert caplog.messages == ["plugin 'p' has a method 'acces' that no phase calls; did you mean 'access'?"]


def test_an_installed_distribution_brings_plugins_by_entry_point(
    monkeypatch: pytest.MonkeyPatch, write: Write, tmp_path: Path
) -> None:
    write("installed_plugin.py", GOOD.replace("class Handler", "class Mine"))
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = metadata.EntryPoint("installed_plugin", "installed_plugin:Mine", "headgate.plugins")
    monkeypatch.setattr(metadata, "entry_points", lambda group: [entry])
    assert load_catalog(["installed-plugin"])["installed-plugin"].handler.__name__ == "Mine"


def test_there_is_one_handler_object_per_plugin(write: Write, tmp_path: Path) -> None:
    write("p.py", GOOD)
    catalog = load(tmp_path, "p")
    assert catalog.handler("p") is catalog.handler("p")


def test_an_editable_installation_that_is_on_the_plugin_path_too_is_one_plugin(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("edited_twice/handler.py", GOOD)
    write("edited_twice/__init__.py", "")
    write("edited_twice-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: edited-twice\nVersion: 1.0\n")
    write("edited_twice-1.0.dist-info/entry_points.txt", "[headgate.plugins]\nedited-twice = edited_twice.handler\n")
    monkeypatch.syspath_prepend(tmp_path)
    plugin = load(tmp_path, "edited-twice")["edited-twice"]
    assert plugin.origin == "entry point edited_twice.handler of edited-twice"
    other = tmp_path / "other"
    write("other/edited_twice/handler.py", GOOD)
    [fault] = faults(other, "edited-twice")
    assert fault.startswith("plugin 'edited-twice' is there 2 times: entry point edited_twice.handler of edited-twice")
    assert str(path) not in fault
