"""A described request, explained from a file without a running node."""

import json
from pathlib import Path

import pytest

from headgate.cli.main import main

DOCUMENT = """
_format_version: "3.0"
services:
- name: shop
  url: http://shop.test/base
  routes:
  - {name: items, paths: [/items], hosts: [shop.test]}
consumers:
- {username: anna, custom_id: a-1, groups: [{name: gold}]}
consumer_groups:
- name: gold
plugins:
- {name: key-auth, ordering: {after: {access: [request-termination]}}}
- {name: request-termination, instance_name: all, config: {status_code: 200}}
- {name: request-termination, instance_name: golden, consumer_group: gold, config: {status_code: 201}}
- {name: correlation-id, service: shop}
"""


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("headgate.config.sources.DEFAULT_PATHS", ())
    monkeypatch.setenv("HEADGATE_PREFIX", str(tmp_path / "prefix"))


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "kong.yml"
    path.write_text(DOCUMENT)
    return str(path)


def test_request_is_explained_in_words(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--host", "shop.test", "--path", "/items/1?x=1", "--consumer", "anna", "-d", file]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[:7] == [
        "route items",
        "service shop",
        "path /items/1",
        "matched by /items",
        "sent upstream /base/1",
        "consumer anna",
        "consumer groups gold",
    ]
    at = lines.index("plugin request-termination")
    assert lines[at + 1 : at + 3] == [
        "* consumer_group gold golden runs: level 9 (consumer group) is the most specific level that applies",
        "- global all is not run: level 12 (global) comes after level 9 (consumer group)",
    ]
    assert "access correlation-id, request-termination, key-auth" in lines


def test_the_settings_name_the_file_and_json_has_everything(
    file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_DECLARATIVE_CONFIG", file)
    assert main(["explain", "--host", "other.test", "--path", "/items", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["route"] is None
    assert [plugin["name"] for plugin in told["plugins"] if plugin["winner"]] == []
    assert told["match"]["normalized_path"] == "/items"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--path", "http://shop.test/items"], "--scheme http --host shop.test --path /items"),
        (["--consumer", "nobody"], "no consumer has the username, custom id or id 'nobody'"),
        (["--header", "nonsense"], "a header is NAME:VALUE, got: nonsense"),
        (["--declarative", "/no/such.yml"], "no file at: /no/such.yml"),
    ],
)
def test_bad_descriptions_are_refused_with_help(
    arguments: list[str], text: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", "-d", file, *arguments]) == 1
    assert text in capsys.readouterr().err


def test_without_any_configuration_it_says_how_to_give_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: there is no configuration: ")
    assert "Give one with --declarative FILE" in error
