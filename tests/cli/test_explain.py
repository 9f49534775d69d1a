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
        (["--header", "nonsense"], "--header: expected NAME:VALUE, got: nonsense"),
        (["--source", "nowhere"], "--source: expected IP, IP:PORT or [IP]:PORT"),
        (["--scheme", "tcp"], "--port: a stream needs the port that it connects to, here or with the destination"),
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


STREAMS = """
_format_version: "3.0"
services:
- {name: db, protocol: tcp, host: db.test, port: 5432}
- {name: sealed, protocol: tcp, host: sealed.test, port: 443}
routes:
- {name: near, service: {name: db}, protocols: [tcp], sources: [{ip: 10.0.0.0/8}], destinations: [{port: 9000}]}
- {name: passed, service: {name: sealed}, protocols: [tls_passthrough], snis: [sealed.test]}
plugins:
- {name: file-log, instance_name: streams, protocols: [tcp, tls_passthrough], config: {path: /dev/null}}
- {name: file-log, instance_name: web, route: {name: near}, protocols: [tcp], config: {path: /dev/null}}
"""


def test_stream_is_explained_by_its_addresses_and_server_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "streams.yml"
    path.write_text(
        STREAMS.replace("{name: db}", "db").replace("{name: sealed}", "sealed").replace("{name: near}", "near")
    )
    arguments = ["explain", "-d", str(path), "--scheme", "tcp", "--source", "10.1.2.3:5555", "--destination"]
    assert main([*arguments, "127.0.0.1:9000"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[:2] == ["route near", "service db"]
    assert "* route near web runs: level 10 (route) is the most specific level that applies" in lines
    assert "log file-log" in lines
    assert main(["explain", "-d", str(path), "--scheme", "tls", "--port", "9443", "--sni", "sealed.test"]) == 0
    assert capsys.readouterr().out.startswith("route    passed")
    assert main(["explain", "-d", str(path), "--scheme", "tcp", "--port", "9000", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["route"] is None
    assert told["notes"] == ["No route matched: only global instances run, in log; the stream is closed."]
