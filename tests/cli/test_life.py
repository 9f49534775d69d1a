"""A node's life through the command line, with the real processes: start, reload, health, quit."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.wire, pytest.mark.timeout(90)]
DOCUMENT = """\
_format_version: "3.0"
services:
- name: s
  url: http://127.0.0.1:1
  routes:
  - name: r
    paths: [/a]
"""
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    (tmp_path / "kong.yml").write_text(DOCUMENT)
    (tmp_path / "h.conf").write_text(
        "proxy_listen = 127.0.0.1:0 reuseport\n"
        "admin_listen = 127.0.0.1:0, 127.0.0.1:0 ssl\nstatus_listen = 127.0.0.1:0\n"
        f"workers = 2\nplugins = request-termination\ndeclarative_config = {tmp_path / 'kong.yml'}\n"
    )
    return tmp_path


@pytest.fixture
def headgate(prefix: Path) -> Iterator[Run]:
    def run(*arguments: str, **options: object) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "headgate", *arguments, "-p", str(prefix)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)  # type: ignore[call-overload, no-any-return]

    yield run
    run("stop")


def start(headgate: Run, prefix: Path) -> dict[str, object]:
    reading, writing = os.pipe()
    environment = {**os.environ, "HEADGATE_READY_FD": str(writing)}
    arguments = ("start", "-c", str(prefix / "h.conf"), "--detach")
    started = headgate(*arguments, pass_fds=[writing], env=environment)
    os.close(writing)
    assert (started.stdout, started.stderr) == ("Headgate started\n", "")
    with os.fdopen(reading) as stream:
        ready: dict[str, object] = json.loads(stream.readline())
    return ready


def get(port: int, path: str) -> dict[str, object]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
        found: dict[str, object] = json.load(answer)
    return found


def test_start_reload_and_quit(headgate: Run, prefix: Path) -> None:
    ready = start(headgate, prefix)
    listeners = ready["listeners"]
    assert isinstance(listeners, list)
    ports = {entry["setting"]: entry["port"] for entry in reversed(listeners)}
    assert get(ports["admin_listen"], "/routes/r")["name"] == "r"
    assert get(ports["status_listen"], "/status/ready") == {"message": "ready"}
    assert headgate("health").stdout == f"headgate....running\n\nHeadgate is healthy at {prefix}\n"
    again = headgate("start", "-c", str(prefix / "h.conf"))
    assert again.returncode == 1
    assert again.stderr.startswith(f"Error: Headgate is already running in {prefix}\n")

    (prefix / "kong.yml").write_text(DOCUMENT.replace("name: r", "name: renamed"))
    assert headgate("reload").stdout == "Headgate reloaded\n"
    assert get(ports["admin_listen"], "/routes/renamed")["name"] == "renamed"

    (prefix / "kong.yml").write_text("services: 1")
    refused = headgate("reload")
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: error parsing declarative config file ")
    assert refused.stderr.count("\n\nThe node goes on with its old configuration.\n") == 1
    assert get(ports["admin_listen"], "/routes/renamed")["name"] == "renamed"

    assert headgate("quit").stdout == "Headgate stopped (gracefully)\n"
    assert headgate("health").returncode == 1


def test_detached_start_reports_faults(headgate: Run, prefix: Path) -> None:
    (prefix / "kong.yml").write_text(DOCUMENT + "bar: 1\n")
    failed = headgate("start", "-c", str(prefix / "h.conf"), "--detach")
    assert failed.returncode == 1
    assert "in 'bar': unknown field" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_posted_configuration_survives_a_restart_and_a_dead_control(headgate: Run, prefix: Path) -> None:
    settings = prefix / "h.conf"
    settings.write_text("".join(line + "\n" for line in settings.read_text().splitlines() if "declarative" not in line))
    ready = start(headgate, prefix)
    pids, listeners = ready["pids"], ready["listeners"]
    assert isinstance(pids, dict)
    assert isinstance(listeners, list)
    port = next(entry["port"] for entry in listeners if entry["setting"] == "admin_listen")
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/config", DOCUMENT.encode(), {"Content-Type": "application/yaml"}
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 201
    os.kill(pids["control"], signal.SIGKILL)
    # The supervisor keeps the socket open: this waits in its queue until the new control process accepts.
    assert get(port, "/routes/r")["name"] == "r"
    assert headgate("stop").stdout == "Headgate stopped\n"
    ready = start(headgate, prefix)
    listeners = ready["listeners"]
    assert isinstance(listeners, list)
    port = next(entry["port"] for entry in listeners if entry["setting"] == "admin_listen")
    assert get(port, "/routes/r")["name"] == "r"
