"""Pages about writing plugins: commands exist, shown files are those that are written, shown output is real."""

import re
import shlex
from pathlib import Path

import click
import pytest

from headgate.cli.main import headgate, main
from headgate.cli.plugin.skeleton import write_skeleton
from tests.docs.test_examples import PAGES
from tests.support.gateway import ROOT


def _commands() -> list[str]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"^```(?:sh|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            for line in block.splitlines():
                words = re.sub(r"^\$ |^(\w+=\S+ )+", "", line)
                if words.startswith("headgate "):
                    found.append(words)
    return sorted(set(found))


@pytest.mark.parametrize("line", _commands())
def test_command_of_a_page_exists_with_its_options(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command: click.Command | None = headgate
    context = click.Context(headgate, obj={})
    while isinstance(command, click.Group):
        command = command.get_command(context, words.pop(0))
    assert command is not None
    command.make_context(command.name, words, parent=context)


@pytest.mark.parametrize("page", ["first-plugin.md", "packaging.md"])
def test_shown_file_is_the_one_that_is_written(page: str, tmp_path: Path) -> None:
    write_skeleton("hello", tmp_path / "hello")
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    shown = re.findall(r"<!-- skeleton( part)?: (\S+) -->\n```\w+\n(.*?)```", text, re.DOTALL)
    assert shown
    for part, name, block in shown:
        written = (tmp_path / "hello" / name).read_text(encoding="utf-8")
        assert block in written if part else block == written


def test_explanation_that_is_shown_is_the_one_that_is_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "explain.md").read_text(encoding="utf-8")
    document = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    shown = re.search(r"<!-- explain:begin -->\n```console\n\$ headgate (.*?)\n(.*?)```", text, re.DOTALL)
    assert document is not None
    assert shown is not None
    (tmp_path / "gateway.yml").write_text(document[1], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADGATE_PREFIX", str(tmp_path / "prefix"))
    monkeypatch.setattr("headgate.config.sources.DEFAULT_PATHS", ())
    assert main(shlex.split(shown[1])) == 0
    assert capsys.readouterr().out == shown[2]
