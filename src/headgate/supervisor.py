"""The supervisor: the first process of a node, parent of control and workers.

Owns the listening sockets, the signals, the replacement of dead children and the change from one generation to the
next. It touches no request and no entity, imports no plugin, and is the only process that binds ports. Called by
`headgate start`.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headgate.config.listeners import Listener
from headgate.config.load import Settings, load_settings
from headgate.errors import SettingsError
from headgate.node import default_certificate, logs
from headgate.node.children import Child, Generation, GenerationPlan, StartFailedError
from headgate.node.forking import Template, is_forking_possible
from headgate.node.memory_directory import MemoryDirectoryError
from headgate.node.prefix import Prefix, PrefixError
from headgate.node.sockets import SocketTable
from headgate.node.ticket_secret import TicketSecret

_log = logging.getLogger("headgate.supervisor")
_FIRST_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 5.0
# A child that served this long has not died of its start, so the next one starts at once.
_STABLE_AFTER_S = 10.0


@dataclass(frozen=True)
class Sources:
    """Where the settings were read from, for reading them again on reload."""

    conf_path: str | None
    environment: Mapping[str, str]
    overrides: Mapping[str, str]

    def load(self) -> Settings:
        """Read all settings; SettingsError with every fault."""
        return load_settings(self.conf_path, self.environment, self.overrides)


@dataclass(frozen=True)
class ListenerStatus:
    """One line of what listens where."""

    setting_name: str
    address: str
    port: int
    is_ssl: bool
    is_http2: bool
    is_udp: bool = False


Started = Callable[[Settings, list[ListenerStatus]], None]


class Supervisor:
    """One node.

    Args: `settings` as read from `sources`; `is_in_background` sends logs to files; `on_started` is told once, when
    everything serves.
    """

    def __init__(self, settings: Settings, sources: Sources, *, is_in_background: bool, on_started: Started) -> None:
        self._settings = settings
        self._sources = sources
        self._is_in_background = is_in_background
        self._on_started = on_started
        self._prefix = Prefix(settings.prefix)
        self._sockets = SocketTable()
        self._template = Template(settings.general.plugins) if is_forking_possible() else None
        self._generation: Generation | None = None
        self._stopping_generations: list[Generation] = []
        self._generation_number = 0
        self._ticket_secret: TicketSecret | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._watching: set[asyncio.Task[None]] = set()
        self._reloading: asyncio.Task[None] | None = None
        self._is_reload_wanted = False
        self._stop_signal: asyncio.Future[int] | None = None

    async def run(self) -> None:
        """Start the node and serve until a signal stops it.

        Raises: StartFailedError or PrefixError with every fault; nothing is left running then.
        """
        loop = asyncio.get_running_loop()
        self._stop_signal = loop.create_future()
        self._prefix.prepare()
        self._prefix.take()
        try:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
                loop.add_signal_handler(number, self._take_stop_signal, number)
            loop.add_signal_handler(signal.SIGHUP, self._take_reload_signal)
            loop.add_signal_handler(signal.SIGUSR1, self._reopen_logs)
            await self._start_or_stop()
        finally:
            if self._template is not None:
                await self._template.stop()
            self._sockets.close_except(None)
            self._prefix.memory.remove()
            self._prefix.release()

    async def _start_or_stop(self) -> None:
        stop_signal = self._stop_signal
        if stop_signal is None:
            raise RuntimeError("run() makes the future")
        self._make_memory_directory()
        starting = asyncio.ensure_future(self._start_first())
        await asyncio.wait((starting, stop_signal), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
            return
        starting.result()
        number = await stop_signal
        await self._stop(number)

    def _make_memory_directory(self) -> None:
        swept = self._prefix.memory.sweep()
        if swept:
            _log.info("removed the shared memory of nodes that have died: %s", ", ".join(map(str, swept)))
        try:
            self._prefix.memory.make()
        except MemoryDirectoryError as error:
            raise PrefixError(str(error)) from error

    async def _start_first(self) -> None:
        settings = self._settings
        table, faults = self._sockets.open(_wanted(settings))
        if faults:
            raise StartFailedError(faults)
        self._sockets = table
        generation = self._make_generation(settings, table)
        try:
            await generation.start()
        except asyncio.CancelledError:
            await generation.stop()
            raise
        self._generation = generation
        self._watch(generation)
        _take_over(generation)
        self._prefix.write_environment(settings)
        self._on_started(settings, self.listeners())
        self._tell_ready()
        _log.log(logs.NOTICE, "started with %d workers in %s", len(generation.workers), settings.prefix)

    def _make_generation(self, settings: Settings, table: SocketTable) -> Generation:
        self._generation_number += 1
        if any(entry.is_ssl for entry in settings.listeners.all()):
            default_certificate.ensure(self._prefix.path / "ssl")
        plan = GenerationPlan(
            number=self._generation_number,
            settings=settings,
            sockets=table,
            node_id=self._prefix.node_id(settings),
            link_path=self._prefix.link_path(self._generation_number),
            memory_path=self._prefix.memory.path / "dict",
            log_path=error_log_path(settings, self._is_in_background),
            ticket_secret=self._ticket_secret_of(settings),
            template=self._template,
        )
        return Generation(plan)

    def _ticket_secret_of(self, settings: Settings) -> TicketSecret:
        """Return the node's secret; sessions go on over a reload unless their lifetime changes."""
        lifetime_s = settings.tls.session_timeout_s
        if self._ticket_secret is None or self._ticket_secret.lifetime_s != lifetime_s:
            self._ticket_secret = TicketSecret(lifetime_s)
        return self._ticket_secret

    def listeners(self) -> list[ListenerStatus]:
        """Return what listens where, with the ports in use."""
        return [
            ListenerStatus(
                bound.listener.setting_name,
                bound.address,
                bound.port,
                bound.listener.is_ssl,
                bound.listener.is_http2 and bound.listener.setting_name == "proxy_listen",
                bound.listener.is_udp,
            )
            for bound in self._sockets.all()
        ]

    def _tell_ready(self) -> None:
        """Write one line to the file descriptor in `HEADGATE_READY_FD`: listeners and process ids."""
        text = os.environ.get("HEADGATE_READY_FD", "")
        generation = self._generation
        if not text.isdigit() or generation is None:
            return
        control = generation.control
        document = {
            "event": "ready",
            "listeners": [
                {
                    "setting": entry.setting_name,
                    "address": entry.address,
                    "port": entry.port,
                    "ssl": entry.is_ssl,
                    "http2": entry.is_http2,
                    "udp": entry.is_udp,
                }
                for entry in self.listeners()
            ],
            "pids": {
                "supervisor": os.getpid(),
                "control": None if control is None else control.pid,
                "workers": [worker.pid for worker in generation.workers],
            },
        }
        with contextlib.suppress(OSError):
            os.write(int(text), json.dumps(document).encode() + b"\n")

    # -- children ------------------------------------------------------------------------------------------------------

    def _watch(self, generation: Generation) -> None:
        for child in generation.children:
            self._start_task(self._keep_alive(generation, child), self._watching)

    async def _keep_alive(self, generation: Generation, child: Child) -> None:
        """Replace a child whenever it dies, for as long as its generation is the current one."""
        backoff_s = 0.0
        while True:
            started_s = time.monotonic()
            await child.ended.wait()
            if generation is not self._generation:
                return
            was_stable = child.ready.is_set() and time.monotonic() - started_s >= _STABLE_AFTER_S
            texts = f": {'; '.join(child.faults)}" if child.faults else ""
            _log.error("%s (pid %d) %s, starting a new one%s", child.name, child.pid, child.end_text(), texts)
            # The first replacement comes at once, also after an early death; only repeated ones wait.
            if was_stable:
                backoff_s = 0.0
            elif backoff_s:
                await asyncio.sleep(backoff_s)
            if generation is not self._generation:
                return
            backoff_s = min(max(backoff_s * 2, _FIRST_BACKOFF_S), _LONGEST_BACKOFF_S)
            replacement = await generation.spawn(child.role, child.index, is_replacement=True)
            if replacement.role == "control":
                replacement.take_over()
            generation.children.remove(child)
            generation.children.append(replacement)
            child = replacement

    # -- signals -------------------------------------------------------------------------------------------------------

    def _take_stop_signal(self, number: int) -> None:
        if self._stop_signal is None or self._stop_signal.done():
            if number != signal.SIGQUIT:
                # A second, harder signal during a graceful stop.
                for generation in self._stopping_generations:
                    generation.signal(signal.SIGTERM)
            return
        self._stop_signal.set_result(number)

    async def _stop(self, number: int) -> None:
        is_graceful = number == signal.SIGQUIT
        _log.log(
            logs.NOTICE, "%s received, stopping%s", signal.Signals(number).name, " gracefully" if is_graceful else ""
        )
        # At first, so that children whom the signal has reached too are not replaced.
        generation, self._generation = self._generation, None
        if self._reloading is not None:
            self._reloading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reloading
        # A reload that was nearly done has put its own in place.
        newer, self._generation = self._generation, None
        for task in self._watching:
            task.cancel()
        self._stopping_generations = [one for one in (generation, newer) if one is not None]
        await asyncio.gather(*(one.drain() if is_graceful else one.stop() for one in self._stopping_generations))
        if self._retiring and not is_graceful:
            for task in self._retiring:
                task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        _log.log(logs.NOTICE, "stopped")

    def _reopen_logs(self) -> None:
        logs.reopen()
        if self._generation is not None:
            self._generation.signal(signal.SIGUSR1)

    # -- reload --------------------------------------------------------------------------------------------------------

    def _take_reload_signal(self) -> None:
        if self._generation is None:
            return
        if self._reloading is not None and not self._reloading.done():
            self._is_reload_wanted = True
            return
        self._reloading = asyncio.ensure_future(self._reload_until_current())

    async def _reload_until_current(self) -> None:
        while True:
            self._is_reload_wanted = False
            request = self._prefix.read_json(self._prefix.reload_request_path) or {}
            # A later HUP without a request must not ask for the same file again.
            self._prefix.reload_request_path.unlink(missing_ok=True)
            faults = await self._reload(request)
            for fault in faults:
                _log.error("reload refused, the running configuration stays: %s", fault)
            self._prefix.write_json(self._prefix.reload_result_path, {"id": request.get("id"), "faults": faults})
            if not self._is_reload_wanted:
                return

    async def _reload(self, request: Mapping[str, Any]) -> list[str]:
        """Start a new generation beside the running one and change over; the faults when that is not possible."""
        _log.log(logs.NOTICE, "reloading")
        sources = self._sources
        if isinstance(request.get("conf"), str):
            sources = Sources(request["conf"], sources.environment, sources.overrides)
        try:
            settings = sources.load()
        except SettingsError as error:
            return error.faults
        if settings.prefix != self._settings.prefix:
            return [
                f"prefix cannot be changed by a reload (from {self._settings.prefix} to {settings.prefix}); restart"
            ]
        table, faults = self._sockets.open(_wanted(settings))
        if faults:
            return faults
        generation = self._make_generation(settings, table)
        try:
            await generation.start()
        except StartFailedError as error:
            table.close_except(self._sockets)
            return error.faults
        except asyncio.CancelledError:
            await generation.stop()
            table.close_except(self._sockets)
            raise
        old, self._generation = self._generation, generation
        previous_table, self._sockets = self._sockets, table
        self._settings, self._sources = settings, sources
        self._watch(generation)
        self._prefix.write_environment(settings)
        logs.configure_logging(
            settings.general.log_level, error_log_path(settings, self._is_in_background), "supervisor"
        )
        if old is not None:
            await old.hand_over()
        # The control process before may have taken a new document until now: the new one looks for it.
        _take_over(generation)
        if old is not None:
            self._start_task(self._retire(old), self._retiring)
        previous_table.close_except(table)
        for text in (*settings.warnings, *settings.notices):
            _log.warning("%s", text)
        _log.log(logs.NOTICE, "reloaded, generation %d serves", generation.plan.number)
        return []

    async def _retire(self, generation: Generation) -> None:
        """Let an old generation finish."""
        try:
            await generation.drain()
        except asyncio.CancelledError:
            await generation.stop()
            raise

    def _start_task(self, work: Any, tasks: "set[asyncio.Task[None]]") -> None:
        task = asyncio.ensure_future(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)


def _take_over(generation: Generation) -> None:
    if generation.control is not None:
        generation.control.take_over()


def _wanted(settings: Settings) -> list[tuple[Listener, int]]:
    count = settings.general.worker_count
    listeners = settings.listeners
    wanted = [(listener, count) for listener in (*listeners.proxy_listen, *listeners.stream_listen)]
    # One control process serves the other APIs, so one socket is enough whatever the flag says.
    return wanted + [
        (listener, 1) for listener in (*settings.listeners.admin_listen, *settings.listeners.status_listen)
    ]


def error_log_path(settings: Settings, is_in_background: bool) -> Path | None:
    """Return where errors are written: None is stderr, used in the foreground unless the setting was given."""
    if not is_in_background and "proxy_error_log" not in settings.given:
        return None
    log = settings.general.proxy_error_log
    return None if log is None else settings.prefix / log.split()[0]


def run(settings: Settings, sources: Sources, *, is_in_background: bool, on_started: Started) -> None:
    """Run a node in this process until it is stopped.

    Raises: StartFailedError or PrefixError with every fault.
    """
    import setproctitle

    setproctitle.setproctitle(f"headgate: supervisor {settings.prefix}")
    logs.configure_logging(settings.general.log_level, error_log_path(settings, is_in_background), "supervisor")
    for text in settings.warnings:
        _log.warning("%s", text)
    for text in settings.notices:
        _log.log(logs.NOTICE, "%s", text)
    supervisor = Supervisor(settings, sources, is_in_background=is_in_background, on_started=on_started)
    asyncio.run(supervisor.run())
