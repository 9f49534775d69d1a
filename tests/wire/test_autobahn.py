"""The Autobahn TestSuite against a WebSocket service with no-op handlers on both frame phases.

It needs a Python 2.7, where its package is installed into a folder of the test. `make autobahn` runs the long chapters
about limits, performance and compression (9, 12, 13) as well and writes `docs/websocket-autobahn.md`.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.documents import document
from tests.support.gateway import PLUGIN_DIRECTORY, ROOT, Gateway
from tests.support.http1 import wait_until

PAGE = ROOT / "docs" / "websocket-autobahn.md"
IS_WHOLE = os.environ.get("HEADGATE_TEST_AUTOBAHN") == "all"
# Of compression one case of each kind of payload, and of each kind of offer, stands for the rest.
LONG = [
    "9.*",
    *(f"{chapter}.{kind}.{case}" for chapter in ("12", "13") for kind in range(1, 8) for case in range(2, 19)),
]
GOOD = {"OK", "INFORMATIONAL"}
# Cases of 9 send up to 16 MiB in one message.
LARGEST_MESSAGE = "16m"


def _python2() -> str | None:
    """Return a Python 2.7: named by the environment, on the path, or of pyenv."""
    versions = Path.home() / ".pyenv" / "versions"
    places = [os.environ.get("HEADGATE_TEST_PYTHON2"), shutil.which("python2.7"), *map(str, versions.glob("2.7.*"))]
    for place in filter(None, places):
        program = f"{place}/bin/python" if Path(place).is_dir() else place
        if subprocess.run([program, "-c", ""], capture_output=True, check=False).returncode == 0:
            return program
    return None


def _installed(cache: Path) -> list[str]:
    """Return the command of the suite, installed into a folder that later runs find again."""
    python2 = _python2()
    if python2 is None:
        pytest.skip("NOT RUN: the Autobahn TestSuite needs a Python 2.7 (HEADGATE_TEST_PYTHON2 names one)")
    folder = cache / "autobahntestsuite"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        # Twisted and its kin are the last versions for this Python.
        install = [
            python2,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--target",
            str(folder),
            "autobahntestsuite",
            "cffi<1.15.2",
        ]
        finished = subprocess.run(install, capture_output=True, text=True, check=False)
        if finished.returncode:
            pytest.skip(f"NOT RUN: the Autobahn TestSuite cannot be installed: {finished.stderr[-500:]}")
        (folder / "complete").touch()
    # A site directory: namespace packages come from its .pth files.
    script = f"import site; site.addsitedir({str(folder)!r}); from autobahntestsuite.wstest import run; run()"
    return [python2, "-c", script]


@contextlib.contextmanager
def _echo_server(suite: list[str]) -> Iterator[int]:
    """Run the suite's own echo server, which answers a message before it looks at the next one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    server = subprocess.Popen(
        [*suite, "-m", "echoserver", "-w", f"ws://127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert wait_until(lambda: _accepts(port), 30)
        yield port
    finally:
        server.terminate()
        server.wait()


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def suite(request: pytest.FixtureRequest) -> list[str]:
    """The command of the suite."""
    return _installed(Path(request.config.cache.mkdir("autobahn")))  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def report(suite: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Every case's result by its number."""
    directory = tmp_path_factory.mktemp("autobahn")
    with _echo_server(suite) as echo_port:
        service = {"name": "echo", "protocol": "ws", "host": "127.0.0.1", "port": echo_port}
        route = {"name": "echo", "paths": ["/"], "protocols": ["ws"]}
        config = document(services=[service | {"routes": [route], "plugins": [{"name": "no-op-frames"}]}])
        with Gateway(
            config,
            plugin_path=PLUGIN_DIRECTORY,
            plugins="bundled,no-op-frames",
            websocket_client_max_payload_size=LARGEST_MESSAGE,
            websocket_upstream_max_payload_size=LARGEST_MESSAGE,
            websocket_compression="both",
        ) as gateway:
            host, port = gateway.plain
            spec = {
                "outdir": str(directory / "reports"),
                "servers": [{"agent": "headgate", "url": f"ws://{host}:{port}"}],
                "cases": ["*"],
                "exclude-cases": [] if IS_WHOLE else LONG,
                "exclude-agent-cases": {},
            }
            (directory / "spec.json").write_text(json.dumps(spec))
            finished = subprocess.run(
                [*suite, "-m", "fuzzingclient", "-s", str(directory / "spec.json")],
                cwd=directory,
                capture_output=True,
                text=True,
                check=False,
            )
            assert finished.returncode == 0, finished.stdout[-2000:] + finished.stderr[-2000:]
    index = json.loads((directory / "reports" / "index.json").read_text())
    cases: dict[str, dict[str, Any]] = index["headgate"]
    return cases


# The suite waits a second or more in several cases.
@pytest.mark.timeout(7200 if IS_WHOLE else 300)
def test_every_case_passes(report: dict[str, dict[str, Any]]) -> None:
    bad = {
        number: (case["behavior"], case["behaviorClose"])
        for number, case in sorted(report.items())
        if case["behavior"] not in GOOD or case["behaviorClose"] not in GOOD
    }
    assert not bad, bad
    assert len(report) > 200
    if IS_WHOLE:
        PAGE.write_text(_page(report), encoding="utf-8")


def _page(report: dict[str, dict[str, Any]]) -> str:
    """Return the summary for the documentation: one line for each chapter of the suite."""
    chapters: dict[int, Counter[str]] = {}
    for number, case in report.items():
        chapters.setdefault(int(number.split(".")[0]), Counter())[case["behavior"]] += 1
    lines = [
        "# Autobahn TestSuite",
        "",
        "The fuzzing client against a `ws` service with no-op handlers for both frame phases, before the echo",
        "server of the suite, with `websocket_compression = both`. Written by `make autobahn`.",
        "",
        "| chapter | cases | OK | informational | other |",
        "|---|---|---|---|---|",
    ]
    for chapter, counts in sorted(chapters.items()):
        good, informational = counts["OK"], counts["INFORMATIONAL"]
        total = counts.total()
        lines.append(f"| {chapter} | {total} | {good} | {informational} | {total - good - informational} |")
    return "\n".join(lines) + "\n"
