"""From an empty folder to a plugin that another Python serves: the files, their own tests, the wheel."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from headgate.cli.main import main
from headgate.testing.gateway import Gateway


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("new")
    assert main(["plugin", "new", "hello-you", "--into", str(directory)]) == 0
    return directory / "hello-you"


def run(*arguments: str, cwd: Path, **environment: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Hello", "'Hello' is no name for a plugin"),
        (
            "hello_you",
            "use lower case letters, digits and single hyphens between them, a letter first\n\nheadgate plugin",
        ),
        ("../up", "is no name for a plugin"),
        ("json", "the plugin's package would hide the module json of the standard library"),
        ("class", "'class' is a word of the language Python"),
        ("click", "there is a module click already: "),
        ("key-auth", "a bundled plugin is called 'key-auth' already"),
    ],
)
def test_name_that_cannot_be_is_refused(
    name: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plugin", "new", name, "--into", str(tmp_path)]) == 1
    assert text in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_existing_folder_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "hello").mkdir()
    assert main(["plugin", "new", "hello", "--into", str(tmp_path)]) == 1
    assert f"Error: {tmp_path}/hello already exists. Will not overwrite it.\n" in capsys.readouterr().err
    assert list((tmp_path / "hello").iterdir()) == []


def test_new_plugin_is_valid_and_its_files_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugin", "new", "hello", "--into", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert sorted(told["files"]) == sorted(str(file) for file in tmp_path.rglob("*") if file.is_file())
    assert main(["plugin", "check", str(tmp_path / "hello")]) == 0
    assert main(["config", "parse", told["path"] + "/gateway.yml", "--plugin-path", told["path"]]) == 1
    assert "plugin 'hello' not enabled" in capsys.readouterr().err


@pytest.mark.wire
@pytest.mark.timeout(60)
def test_generated_tests_pass(project: Path) -> None:
    assert "3 passed" in run("pytest", "-q", "-p", "no:cacheprovider", cwd=project)


@pytest.mark.wire
@pytest.mark.timeout(60)
def test_wheel_is_all_that_a_gateway_needs(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = ("pip", "--disable-pip-version-check", "-q")
    run(*pip, "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", str(tmp_path), ".", cwd=project)
    (wheel,) = tmp_path.glob("headgate_plugin_hello_you-0.1.0-*.whl")
    target = tmp_path / "site"
    run(*pip, "install", "--no-deps", "--no-index", "--target", str(target), str(wheel), cwd=tmp_path)

    monkeypatch.setenv("PYTHONPATH", str(target))
    listed = json.loads(run("headgate", "plugin", "list", "--json", cwd=tmp_path))
    hello = next(plugin for plugin in listed["plugins"] if plugin["name"] == "hello-you")
    assert hello["origin"] == {
        "kind": "distribution",
        "distribution": "headgate-plugin-hello-you",
        "version": "0.1.0",
        "file": str(target / "hello_you" / "handler.py"),
    }
    # The tests of the project run the gateway with the installed plugin then, not with a second one of its name.
    assert "3 passed" in run("pytest", "-q", "-p", "no:cacheprovider", cwd=project)
    with Gateway(project / "gateway.yml", plugins="bundled,hello-you") as running:
        answer = running.request("GET", "/there")
        assert (answer.status, answer.headers["x-greeting"]) == (200, "Ahoy from /there")
