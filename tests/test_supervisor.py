"""The supervisor with stand-ins for its children: start, replacement, reload, signals."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from headgate.config.load import Settings
from headgate.node.children import StartFailedError
from headgate.node.prefix import Prefix
from headgate.supervisor import ListenerStatus, Sources, Supervisor

CHILD = str(Path(__file__).parent / "node" / "child_process.py")


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate.node.children.child_arguments", lambda role, fd: [CHILD, "--channel-fd", str(fd)])
    monkeypatch.setattr("headgate.supervisor.is_forking_possible", lambda: False)


class Running:
    """A supervisor in this process, and what it has said."""

    def __init__(self, prefix: Path) -> None:
        self.prefix = Prefix(prefix)
        self.conf = prefix / "h.conf"
        self.listeners: list[ListenerStatus] = []
        self.started = asyncio.Event()

    def write(self, **settings: str) -> None:
        base = {"proxy_listen": "127.0.0.1:0 reuseport", "admin_listen": "off", "status_listen": "off", "workers": "2"}
        lines = [f"{name} = {value}\n" for name, value in (base | settings).items()]
        self.conf.write_text("".join(lines))

    async def run(self) -> None:
        sources = Sources(str(self.conf), {}, {"prefix": str(self.prefix.path)})
        supervisor = Supervisor(sources.load(), sources, is_in_background=False, on_started=self._on_started)
        await supervisor.run()

    def _on_started(self, settings: Settings, listeners: list[ListenerStatus]) -> None:
        self.listeners = listeners
        self.started.set()

    async def ask(self) -> list[str]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.listeners[0].port)
        try:
            return (await reader.read()).decode().split()
        finally:
            writer.close()

    async def reload_result(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            path = self.prefix.reload_result_path
            while (result := self.prefix.read_json(path)) is None:  # noqa: ASYNC110 a file
                await asyncio.sleep(0.01)
        self.prefix.reload_result_path.unlink()
        return result

    async def ask_until(self, condition: Callable[[list[str]], bool]) -> list[str]:
        async with asyncio.timeout(10):
            while True:
                answer = await self.ask()
                if answer and condition(answer):
                    return answer
                await asyncio.sleep(0.01)


def scenario(tmp_path: Path, play: Callable[[Running], Awaitable[None]], **settings: str) -> None:
    async def whole() -> None:
        running = Running(tmp_path)
        running.write(**settings)
        task = asyncio.ensure_future(running.run())
        started = asyncio.ensure_future(running.started.wait())
        await asyncio.wait((task, started), return_when=asyncio.FIRST_COMPLETED, timeout=20)
        started.cancel()
        if task.done():
            task.result()
        try:
            await play(running)
        finally:
            if not task.done():
                os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(task, 10)

    asyncio.run(whole())


def test_node_starts_answers_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        assert running.prefix.running_pid() == os.getpid()
        assert (await running.ask())[0] == "worker"
        assert running.listeners[0].port != 0

    scenario(tmp_path, play)
    assert Prefix(tmp_path).running_pid() is None
    assert not Prefix(tmp_path).memory.path.exists()


def test_ready_line_goes_to_the_given_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    monkeypatch.setenv("HEADGATE_READY_FD", str(writing))

    async def play(running: Running) -> None:
        ready = json.loads(os.read(reading, 65536))
        assert ready["event"] == "ready"
        assert ready["listeners"][0]["port"] == running.listeners[0].port
        assert ready["listeners"][0]["setting"] == "proxy_listen"
        assert len(ready["pids"]["workers"]) == 2

    scenario(tmp_path, play)
    os.close(reading)
    os.close(writing)


def test_killed_worker_is_replaced_on_the_same_socket(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        first = await running.ask()
        os.kill(int(first[3]), signal.SIGKILL)
        replaced = await running.ask_until(lambda answer: answer[1] == first[1] and answer[3] != first[3])
        assert replaced[2] == first[2]

    scenario(tmp_path, play, workers="1")


def test_reload_changes_to_a_new_generation_on_the_same_port(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        assert (await running.ask())[2] == "1"
        running.write(workers="3")
        running.prefix.write_json(running.prefix.reload_request_path, {"id": "a", "conf": None})
        os.kill(os.getpid(), signal.SIGHUP)
        assert await running.reload_result() == {"id": "a", "faults": []}
        await running.ask_until(lambda answer: answer[2] == "2")

    scenario(tmp_path, play)


def test_refused_reload_keeps_the_old_generation_and_tells_all_faults(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        running.write(log_level="loud", database="cassandra")
        os.kill(os.getpid(), signal.SIGHUP)
        assert len((await running.reload_result())["faults"]) == 2
        running.write()
        (tmp_path / "script").write_text("worker-fails")
        os.kill(os.getpid(), signal.SIGHUP)
        assert (await running.reload_result())["faults"] == ["worker fault one", "worker fault two"]
        assert (await running.ask())[2] == "1"

    scenario(tmp_path, play)


def test_a_stop_during_a_reload_replaces_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also when the signal goes to the whole group, as a terminal's or `timeout`'s does."""

    async def play(running: Running) -> None:
        worker_pid = int((await running.ask())[3])
        (tmp_path / "script").write_text("worker-waits")
        running.prefix.write_json(running.prefix.reload_request_path, {"id": "a", "conf": None})
        os.kill(os.getpid(), signal.SIGHUP)
        async with asyncio.timeout(10):
            while running.prefix.reload_request_path.exists():  # noqa: ASYNC110 a file
                await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(worker_pid, signal.SIGTERM)

    with caplog.at_level("INFO"):
        scenario(tmp_path, play)
    assert "stopped" in caplog.messages
    assert not [text for text in caplog.messages if "starting a new one" in text]


def test_faults_of_control_come_first_and_nothing_is_left_running(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("control-fails worker-dies")

    async def play(running: Running) -> None:
        raise AssertionError("must not start")

    with pytest.raises(StartFailedError) as caught:
        scenario(tmp_path, play)
    assert caught.value.faults == ["control fault one", "control fault two"]


def test_worker_that_dies_at_start_is_named(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("worker-dies")

    async def play(running: Running) -> None:
        raise AssertionError("must not start")

    with pytest.raises(StartFailedError) as caught:
        scenario(tmp_path, play, workers="1")
    assert caught.value.faults == ["worker 0 exited with status 7 at start"]


def test_taken_port_refuses_the_start(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        raise AssertionError("must not start")

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(StartFailedError, match=f"cannot listen on 127.0.0.1:{port} "):
            scenario(tmp_path, play, proxy_listen=f"127.0.0.1:{port} reuseport")
