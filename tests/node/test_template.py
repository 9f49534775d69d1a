"""Template processes: what they import, and children that are the asker's own."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from headgate.node.forking import ForkedProcess, Template, is_forking_possible
from headgate.node.template import SourceState

pytestmark = pytest.mark.skipif(not is_forking_possible(), reason="needs Linux")

# What only control may import, and only when it needs it; workers share all that a template has.
NOT_FOR_WORKERS = ("fastapi", "starlette", "uvicorn", "sqlalchemy", "alembic", "psycopg", "yaml", "click", "rich")


def test_template_imports_what_workers_need_and_has_one_thread() -> None:
    program = (
        "import os, sys, json; from headgate.node.template import preload; preload(['bundled']);"
        "print(json.dumps([sorted(sys.modules), len(os.listdir('/proc/self/task'))]))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules, threads = json.loads(answer.stdout)
    assert threads == 1, "what is forked while other threads run is broken"
    tops = {name.partition(".")[0] for name in modules}
    assert [name for name in NOT_FOR_WORKERS if name in tops] == []
    assert "headgate.control" not in modules
    assert not [name for name in modules if name.startswith(("headgate.admin.", "headgate.store.sql"))]
    assert {"headgate.worker", "headgate._engine", "headgate.plugins.key_auth"} <= set(modules)


def test_changed_and_removed_files_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one_of_template", "other_of_template"):
        (tmp_path / f"{name}.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("one_of_template", "other_of_template"):
        monkeypatch.setitem(sys.modules, name, __import__(name))
    state = SourceState()
    assert state.is_current()
    (tmp_path / "one_of_template.py").write_text("value = 22\n")
    assert not state.is_current()
    state = SourceState()
    (tmp_path / "other_of_template.py").unlink()
    assert not state.is_current()


def scenario(play: Callable[[Template], Awaitable[None]]) -> None:
    async def whole() -> None:
        template = Template(["off"])
        try:
            await play(template)
        finally:
            await template.stop()

    asyncio.run(asyncio.wait_for(whole(), 25))


async def forked(template: Template) -> tuple[ForkedProcess, socket.socket]:
    """Return a child in the place of control, and our end of its channel; it waits for its bootstrap line."""
    ours, theirs = socket.socketpair()
    with theirs:
        child = await template.fork("control", theirs.fileno(), [])
    assert child is not None
    return child, ours


def _field(pid: int, number: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[number - 3]


def test_forked_child_is_ours_and_its_end_is_noticed() -> None:
    async def play(template: Template) -> None:
        child, channel = await forked(template)
        with channel:
            assert _field(child.pid, 4) == str(os.getpid()), "its parent"
            child.send_signal(signal.SIGTERM)
            assert await child.wait() == -signal.SIGTERM
        assert not os.path.exists(f"/proc/{child.pid}")  # noqa: ASYNC240 not a file

    scenario(play)


def test_children_outlive_their_template_and_a_new_one_forks_the_next() -> None:
    async def play(template: Template) -> None:
        first, channel = await forked(template)
        await template.stop()
        second, other = await forked(template)
        with channel, other:
            assert first.returncode is None
            for child in (first, second):
                child.send_signal(signal.SIGKILL)
                assert await child.wait() == -signal.SIGKILL

    scenario(play)


def test_without_a_template_there_is_no_fork(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("headgate.node.forking.sys.executable", "/bin/false")

    async def play(template: Template) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            assert await template.fork("control", theirs.fileno(), []) is None

    scenario(play)
