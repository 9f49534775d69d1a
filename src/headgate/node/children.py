"""Child processes as the supervisor sees them: start, events, end; and one generation of control with its workers.

Owns spawning (inherited sockets, bootstrap line, channel) and the order of a generation's start. Replacing dead
children and the signals of the node are the supervisor's.
"""

import asyncio
import contextlib
import json
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from headgate.config.load import Settings
from headgate.node.bootstrap import Bootstrap, ChildListener, child_arguments, child_environment
from headgate.node.forking import Template
from headgate.node.sockets import Bound, SocketTable
from headgate.node.ticket_secret import TicketSecret

START_TIMEOUT_S = 120.0
_KILL_AFTER_S = 3.0
_HAND_OVER_S = 5.0
# A report of faults in a large declarative file is one line.
_EVENT_LIMIT_BYTES = 64 * 1024 * 1024


class Process(Protocol):
    """The part of an asyncio process that is used here."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    def send_signal(self, signal: int) -> None: ...
    async def wait(self) -> int: ...


class StartFailedError(Exception):
    """A generation cannot start; `faults` are for a person."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = list(dict.fromkeys(faults))


@dataclass(eq=False)
class Child:
    """One running child: `events` are those it has reported, `ended` is set when it is gone."""

    role: str
    index: int
    process: Process
    channel: socket.socket
    faults: list[str] = field(default_factory=list)
    checked: asyncio.Event = field(default_factory=asyncio.Event)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: list["asyncio.Task[None]"] = field(default_factory=list)

    @property
    def name(self) -> str:
        """`control` or `worker 0`."""
        return self.role if self.role == "control" else f"{self.role} {self.index}"

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    def signal(self, number: int) -> None:
        """Send a signal, unless the child is gone."""
        with contextlib.suppress(ProcessLookupError):
            if self.process.returncode is None:
                self.process.send_signal(number)

    def take_over(self) -> None:
        """Tell the child that it serves alone from now on."""
        with contextlib.suppress(OSError):
            self.channel.send(b"take over\n")

    async def stop(self, timeout_s: float = _KILL_AFTER_S) -> None:
        """End the child with TERM, after `timeout_s` with KILL, and wait for it."""
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.ended.wait(), timeout_s)
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self.ended.wait()

    async def drain(self, timeout_s: float) -> None:
        """Let the child finish its requests, at most `timeout_s`, then end it."""
        self.signal(signal.SIGQUIT)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), timeout_s)
            return
        await self.stop()

    def end_text(self) -> str:
        """Say how the child ended: `exited with status 1`, `was killed by SIGKILL`."""
        code = self.process.returncode
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return f"was killed by {signal.Signals(-code).name}"
        return f"exited with status {code}"

    def watch(self) -> None:
        """Start to follow the child's events and its end."""
        self._tasks = [asyncio.ensure_future(self._follow_events()), asyncio.ensure_future(self._follow_end())]

    async def _follow_events(self) -> None:
        reader, writer = await asyncio.open_connection(sock=self.channel, limit=_EVENT_LIMIT_BYTES)
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                event = json.loads(line)
                if event["event"] == "fault":
                    self.faults += event["faults"]
                elif event["event"] == "checked":
                    self.checked.set()
                elif event["event"] == "ready":
                    self.ready.set()
                elif event["event"] == "draining":
                    self.draining.set()
        # Keeping the writer open until the child is gone: closing it tells the child to stop.
        await self.process.wait()
        writer.close()

    async def _follow_end(self) -> None:
        await self.process.wait()
        # What it reported last is read before anybody asks why it ended.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._tasks[0]), 1.0)
        self.draining.set()
        self.ended.set()


@dataclass(frozen=True)
class GenerationPlan:
    """What a generation is started with."""

    number: int
    settings: Settings
    sockets: SocketTable
    node_id: str
    link_path: Path
    memory_path: Path
    log_path: Path | None
    ticket_secret: TicketSecret
    template: Template | None = None
    began_at_ms: int = field(default_factory=lambda: int(time.time() * 1000))


class Generation:
    """Control and workers that run one state of settings and code."""

    def __init__(self, plan: GenerationPlan) -> None:
        self.plan = plan
        self.children: list[Child] = []

    @property
    def workers(self) -> list[Child]:
        """The workers, by index."""
        found = [child for child in self.children if child.role == "worker"]
        return sorted(found, key=lambda child: child.index)

    @property
    def control(self) -> Child | None:
        """The control process."""
        return next((child for child in self.children if child.role == "control"), None)

    async def start(self) -> None:
        """Start control and workers and wait until all serve; workers load while control checks the configuration.

        Raises: StartFailedError with every fault; all children are gone then.
        """
        count = self.plan.settings.general.worker_count
        try:
            self.children.append(await self.spawn("control", 0))
            for index in range(count):
                self.children.append(await self.spawn("worker", index))
            await asyncio.wait_for(self._all_ready(), START_TIMEOUT_S)
        except TimeoutError:
            await self.stop()
            raise StartFailedError([f"not all processes were ready within {START_TIMEOUT_S:.0f} s"]) from None
        except StartFailedError:
            await self.stop()
            raise

    async def _all_ready(self) -> None:
        waits = {asyncio.ensure_future(child.ready.wait()): child for child in self.children}
        ends = {asyncio.ensure_future(child.ended.wait()): child for child in self.children}
        try:
            while not all(child.ready.is_set() for child in self.children):
                waiting = [task for task in (*waits, *ends) if not task.done()]
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if any(child.ended.is_set() or child.faults for child in self.children):
                    await self._fail()
        finally:
            for task in (*waits, *ends):
                task.cancel()

    async def _fail(self) -> None:
        control = self.control
        if control is not None and not control.checked.is_set() and not control.faults:
            # Control's text is the better one (it names file and entity): give it the time to find the same fault.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(control.ended.wait(), 5.0)
        faults = list(control.faults) if control is not None else []
        if not faults:
            faults = [fault for child in self.children for fault in child.faults]
        if not faults:
            faults = [f"{child.name} {child.end_text()} at start" for child in self.children if child.ended.is_set()]
        raise StartFailedError(faults)

    async def spawn(self, role: str, index: int, *, is_replacement: bool = False) -> Child:
        """Start one child with its sockets and its bootstrap line."""
        plan = self.plan
        count = plan.settings.general.worker_count
        listeners: list[ChildListener] = []
        for bound in self._bound_for(role):
            own = bound.for_process(index, count) if role == "worker" else bound.sockets[:1]
            listeners += [_child_listener(bound, entry) for entry in own]
        bootstrap = Bootstrap(
            role=role,
            index=index,
            generation=plan.number,
            worker_count=count,
            node_id=plan.node_id,
            settings=plan.settings,
            listeners=tuple(listeners),
            link_path=plan.link_path,
            shared_memory_path=plan.memory_path,
            log_path=plan.log_path,
            is_replacement=is_replacement,
            ticket_state=plan.ticket_secret.state(),
            began_at_ms=plan.began_at_ms,
        )
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await self._process(role, theirs.fileno(), [listener.fd for listener in listeners])
        except BaseException:
            # A stop while the process is being made, for one; asyncio ends what it has begun, a fork finds nobody.
            ours.close()
            raise
        with contextlib.suppress(ConnectionError):
            ours.sendall(bootstrap.encode())
        ours.setblocking(False)
        child = Child(role, index, process, ours)
        child.watch()
        return child

    async def _process(self, role: str, fd: int, descriptors: list[int]) -> Process:
        """Return a new process of a role: forked from the template, else an interpreter of its own."""
        template = self.plan.template
        forked = None if template is None else await template.fork(role, fd, descriptors)
        if forked is not None:
            return forked
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *child_arguments(role, fd),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=[fd, *descriptors],
            env=child_environment(),
        )

    def _bound_for(self, role: str) -> list[Bound]:
        if role == "worker":
            return self.plan.sockets.of_setting("proxy_listen") + self.plan.sockets.of_setting("stream_listen")
        return self.plan.sockets.of_setting("admin_listen") + self.plan.sockets.of_setting("status_listen")

    def signal(self, number: int) -> None:
        """Send a signal to all children."""
        for child in self.children:
            child.signal(number)

    async def stop(self) -> None:
        """End all children."""
        await asyncio.gather(*(child.stop() for child in self.children))

    async def hand_over(self) -> None:
        """Have workers stop accepting and end control; returns when new connections reach other processes only."""
        for worker in self.workers:
            worker.signal(signal.SIGQUIT)
        waits = [worker.draining.wait() for worker in self.workers]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*waits), _HAND_OVER_S)
        if self.control is not None:
            await self.control.stop()

    async def drain(self) -> None:
        """Let workers finish their requests within the setting's time, then end all; control goes at once."""
        timeout_s = self.plan.settings.general.worker_shutdown_timeout_ms / 1000
        stopping = [child.drain(timeout_s) for child in self.workers]
        if self.control is not None:
            stopping.append(self.control.stop())
        await asyncio.gather(*stopping)


def _child_listener(bound: Bound, entry: socket.socket) -> ChildListener:
    listener = bound.listener
    return ChildListener(
        setting_name=listener.setting_name,
        fd=entry.fileno(),
        address=bound.address,
        port=bound.port,
        is_ssl=listener.is_ssl,
        is_http2=listener.is_http2,
        is_proxy_protocol=listener.is_proxy_protocol,
        is_udp=listener.is_udp,
    )
