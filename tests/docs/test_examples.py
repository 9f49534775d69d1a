"""What the documentation shows is what happens: README's quick start, plugins and declarative files of the pages."""

import importlib.util
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from headgate.engine import core_entity_types
from headgate.policy.catalog import load_catalog
from headgate.store.declarative import load_declarative
from tests.support.gateway import ROOT, Gateway

PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")])


def _blocks(language: str) -> Iterator[Any]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for number, block in enumerate(re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)):
            yield pytest.param(block, id=f"{page.name}-{number}")


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def quickstart() -> Iterator[Gateway]:
    """The quick start's files, on free ports."""
    demo_upstream = _load(ROOT / "examples" / "demo_upstream.py")
    server = demo_upstream.start(0)
    text = (ROOT / "examples" / "quickstart.yml").read_text(encoding="utf-8")
    config = text.replace(str(demo_upstream.PORT), str(server.server_port))
    try:
        with Gateway(config, plugins="bundled,greeting", plugin_path=ROOT / "examples" / "plugins") as running:
            running.demo_port = server.server_port  # type: ignore[attr-defined]
            yield running
    finally:
        server.shutdown()
        server.server_close()


def _shown_commands() -> list[tuple[str, str]]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- quickstart:begin -->\n```console\n(.*?)```", text, re.DOTALL)
    assert found is not None
    pairs = re.findall(r"^\$ (.*?)\n(.*?)(?=^\$ |\Z)", found[1], re.MULTILINE | re.DOTALL)
    return [(command, output.strip()) for command, output in pairs]


def _masked(output: str) -> list[str]:
    """Leave out what differs from run to run: times, ids, latencies, and the length of a body with a port in it."""
    text = output.replace("\r", "")
    text = re.sub(r"[0-9a-f]{32}", "<id>", text)
    text = re.sub(r"^(Date|X-Kong-\w+-Latency|RateLimit-Reset|Content-Length): .*$", r"\1: <value>", text, flags=re.M)
    text = re.sub(r"^((?:X-)?RateLimit-Remaining(?:-Minute)?): \d$", r"\1: <value>", text, flags=re.M)
    return re.sub(r"127\.0\.0\.1:\d+", "<address>", text).strip().splitlines()


@pytest.mark.parametrize(("command", "shown"), _shown_commands(), ids=[command for command, _ in _shown_commands()])
def test_quick_start_gives_the_output_that_readme_shows(quickstart: Gateway, command: str, shown: str) -> None:
    address = f"{quickstart.plain[0]}:{quickstart.plain[1]}"
    arguments = shlex.split(command.replace("127.0.0.1:8000", address))
    finished = subprocess.run([*arguments, "-s"], capture_output=True, text=True, timeout=10, check=True)
    assert _masked(finished.stdout) == _masked(shown)


@pytest.mark.parametrize("block", [each for each in _blocks("python") if "class Handler" in each.values[0]])
def test_plugin_of_a_page_loads(tmp_path: Path, block: str) -> None:
    (tmp_path / "shown.py").write_text(block, encoding="utf-8")
    catalog = load_catalog(["shown"], [str(tmp_path)])
    assert catalog["shown"].phases


@pytest.mark.parametrize("block", [each for each in _blocks("python") if "class Handler" not in each.values[0]])
def test_other_python_of_a_page_runs(block: str) -> None:
    exec(compile(block, "page", "exec"), {"__name__": "page"})


@pytest.mark.parametrize("block", list(_blocks("yaml")))
def test_declarative_file_of_a_page_is_valid(block: str) -> None:
    # The flavour that knows every field of routes.
    catalog = load_catalog(["bundled"], [], core_types=core_entity_types("expressions"))
    snapshot = load_declarative(block, plugin_types=catalog, entity_types=catalog.entity_types)
    assert snapshot.entities
