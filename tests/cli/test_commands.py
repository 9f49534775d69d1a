"""Commands that need no running node: texts, exit codes, JSON forms."""

import json
import os
from pathlib import Path

import pytest

from headgate.cli.main import main

HINT = "  Run with --v (verbose) or --vv (debug) for more details\n"
GOOD = '_format_version: "3.0"\nservices:\n- name: s\n  host: a.test\n'
BAD = '_format_version: "3.0"\nservices:\n- name: s\n  foo: 1\nbar: []\n'


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("headgate.config.sources.DEFAULT_PATHS", ())
    monkeypatch.setenv("HEADGATE_PREFIX", str(tmp_path))
    monkeypatch.setenv("HEADGATE_PLUGINS", "off")


def test_no_command_prints_the_usage_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 1
    assert "Usage: headgate" in capsys.readouterr().err


def test_unknown_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nope"]) == 1
    error = capsys.readouterr().err
    assert "Error: No such command: nope\n" in error
    assert error.endswith(HINT)


@pytest.mark.parametrize(
    "command", ["start", "stop", "quit", "restart", "reload", "check", "health", "version", "config"]
)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"  headgate {command}" in capsys.readouterr().out


def test_version_alone_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out == "0.1.0\n"
    assert main(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["contract"] == "3.9.1"


def test_check_prints_every_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "h.conf"
    file.write_text("log_level = loud\nwokers = 1\n")
    monkeypatch.setenv("KONG_ROLE", "data_plane")
    assert main(["check", str(file)]) == 1
    error = capsys.readouterr().err
    assert "Error: 2 faults in the configuration:\n  - log_level has an invalid value: 'loud'" in error
    assert "  - role = data_plane is not available in this release: use traditional\n" in error
    assert main(["check", str(file), "--json"]) == 1
    assert len(json.loads(capsys.readouterr().out)["faults"]) == 2


def test_check_of_a_good_file_warns_about_unknown_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "h.conf"
    file.write_text("wokers = 1\n")
    assert main(["check", str(file)]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"configuration at {file} is valid\n"
    assert captured.err == f"Warning: {file}: unknown setting wokers (did you mean workers?)\n"


def test_warnings_are_told_beside_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "headgate.conf"
    file.write_text("wokers = 2\nlog_level = loud\n", encoding="utf-8")
    assert main(["start", "-c", str(file)]) == 1
    captured = capsys.readouterr().err
    assert captured.startswith(f"Warning: {file}: unknown setting wokers (did you mean workers?)\nError: log_level")


def test_check_covers_plugins_and_the_declarative_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    declarative = tmp_path / "kong.yml"
    declarative.write_text(BAD)
    monkeypatch.setenv("HEADGATE_DECLARATIVE_CONFIG", str(declarative))
    assert main(["check"]) == 1
    assert f"Error: error parsing declarative config file {declarative}:\n" in capsys.readouterr().err
    monkeypatch.setenv("HEADGATE_PLUGINS", "no-such-plugin")
    assert main(["check"]) == 1
    assert "no-such-plugin" in capsys.readouterr().err


def test_missing_settings_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "/no/such"]) == 1
    assert capsys.readouterr().err == f"Error: no file at: /no/such\n\n{HINT}"


def test_config_parse_says_successful_or_reports_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "kong.yml"
    file.write_text(GOOD)
    assert main(["config", "parse", str(file)]) == 0
    assert capsys.readouterr().out == "parse successful\n"
    assert main(["config", "parse", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["entities"] == {"services": 1}
    file.write_text(BAD)
    assert main(["config", "parse", str(file)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: Failed parsing:\nin 'services':\n  - in entry 1 of 'services':\n")
    assert "in 'foo': unknown field" in error


def test_config_init_writes_a_valid_example_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_PLUGINS", "bundled")
    file = str(tmp_path / "kong.yml")
    assert main(["config", "init", file]) == 0
    assert main(["config", "parse", file]) == 0
    assert main(["config", "init", file]) == 1
    assert f"Error: {file} already exists. Will not overwrite it.\n" in capsys.readouterr().err


def test_documents_come_through_pipes_and_go_to_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_PLUGINS", "bundled")

    def parse(text: str, *options: str) -> int:
        reading, writing = os.pipe()
        os.write(writing, text.encode())
        os.close(writing)
        try:
            return main(["config", "parse", f"/dev/fd/{reading}", *options])
        finally:
            os.close(reading)

    assert main(["config", "init", "-"]) == 0
    assert parse(capsys.readouterr().out) == 0
    assert parse('{"_format_version": "3.0", "services": [{"host": "h"}]}') == 0
    capsys.readouterr()
    assert parse(BAD, "--json") == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["fields"]["services"]
    assert printed.err == ""


@pytest.mark.parametrize("command", ["stop", "quit", "reload", "health"])
def test_commands_on_a_prefix_without_a_node(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "-p", str(tmp_path)]) == 1
    where = "at" if command == "health" else "in"
    error = capsys.readouterr().err
    assert error.startswith(f"Error: Headgate is not running {where} {tmp_path}\n")
    assert f"headgate start -p {tmp_path} starts it." in error
    assert main([command, "-p", "/no/such"]) == 1
    assert capsys.readouterr().err.startswith("Error: no such prefix: /no/such\n")


def test_traceback_is_shown_with_vv_only(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("headgate.cli.check.load_settings", fail)
    assert main(["check"]) == 1
    assert capsys.readouterr().err == f"Error: unexpected RuntimeError: boom\n\n{HINT}"
    assert main(["check", "--vv"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "is_allowed"), [([], False), (["--allow-broken-plugins"], True)])
def test_start_serves_with_broken_plugins_only_when_asked_to(
    arguments: list[str], is_allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    monkeypatch.setattr("headgate.cli.start.run", lambda settings, sources, **_: started.append((settings, sources)))
    assert main(["start", *arguments]) == 0
    [(settings, sources)] = started
    assert settings.general.allow_broken_plugins is is_allowed
    # A reload reads the settings anew, from the same sources.
    assert sources.overrides.get("allow_broken_plugins") == ("on" if is_allowed else None)


def test_check_tells_a_circle_in_the_order_of_plugins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "circle.yml"
    rules = "ordering: {{before: {{access: [{}]}}}}"
    file.write_text(
        '_format_version: "3.0"\n'
        "services:\n- name: s\n  host: a.test\n  routes:\n  - {name: r, paths: [/]}\n"
        f"plugins:\n- {{name: key-auth, {rules.format('acl')}}}\n"
        f"- {{name: acl, config: {{allow: [a]}}, {rules.format('key-auth')}}}\n"
    )
    monkeypatch.setenv("HEADGATE_PLUGINS", "bundled")
    monkeypatch.setenv("HEADGATE_DECLARATIVE_CONFIG", str(file))
    assert main(["check"]) == 1
    error = capsys.readouterr().err
    assert "in 'ordering': There is a circular dependency in the graph." in error
    assert "(acl before key-auth before acl)" in error
