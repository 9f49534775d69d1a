"""`headgate config diff`: against a database, against what a node has in force, as text and as JSON."""

import json
from pathlib import Path

import pytest

from headgate.cli.main import main
from headgate.node.kept import keep
from headgate.store.declarative import load_declarative

BEFORE = '_format_version: "3.0"\nservices:\n- {name: s, host: a.example}\n- {name: gone, host: g}\n'
AFTER = '_format_version: "3.0"\nservices:\n- {name: s, host: b.example}\n- {name: new, host: n}\n'
TEXT = '~ services s\n    host  "a.example" -> "b.example"\n+ services new\n- services gone\n'


@pytest.fixture(autouse=True)
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADGATE_PREFIX", str(tmp_path / "prefix"))
    monkeypatch.setenv("HEADGATE_PLUGINS", "off")
    (tmp_path / "after.yml").write_text(AFTER)
    (tmp_path / "before.yml").write_text(BEFORE)
    (tmp_path / "prefix").mkdir()
    return tmp_path / "prefix"


def out(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main(["config", *arguments]) == code
    return capsys.readouterr().out


def sorted_blocks(text: str) -> list[str]:
    return sorted(text.strip().replace("\n    ", " | ").splitlines())


def test_without_a_database_it_is_what_is_in_force(
    capsys: pytest.CaptureFixture[str], prefix: Path, tmp_path: Path
) -> None:
    after = str(tmp_path / "after.yml")
    assert out(capsys, "diff", after).endswith("2 to create, 0 to update, 0 not in after.yml\n")
    keep(prefix, load_declarative(BEFORE, plugin_types={}))
    shown = out(capsys, "diff", after, "--exit-code", code=1)
    summary = "1 to create, 1 to update, 1 not in after.yml"
    assert sorted_blocks(shown) == sorted_blocks(f"{TEXT}{summary}")
    assert out(capsys, "diff", str(tmp_path / "before.yml"), "--exit-code") == (
        "0 to create, 0 to update, 0 not in before.yml\n"
    )


def test_with_a_database_it_is_what_is_stored_and_nothing_is_written(
    capsys: pytest.CaptureFixture[str], prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_DATABASE", "sqlite")
    after = str(tmp_path / "after.yml")
    assert json.loads(out(capsys, "diff", after, "--json"))["summary"] == {"create": 2, "update": 0, "delete": 0}
    assert not (prefix / "headgate.db").exists()
    out(capsys, "db_import", str(tmp_path / "before.yml"))
    found = json.loads(out(capsys, "diff", after, "--json"))
    assert found["summary"] == {"create": 1, "update": 1, "delete": 1}
    assert found["changes"][0] == {
        "operation": "update",
        "entity_type": "services",
        "name": "s",
        "fields": {"host": {"now": "a.example", "then": "b.example"}},
    } or found["changes"][1]["fields"] == {"host": {"now": "a.example", "then": "b.example"}}


def test_a_faulty_document_is_reported_as_parse_does(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "bad.yml").write_text('_format_version: "3.0"\nservices:\n- {name: s}\n')
    assert main(["config", "diff", str(tmp_path / "bad.yml")]) == 1
    assert "in 'host': required field missing" in capsys.readouterr().err
