"""`headgate dev`: a node that takes over every saved change of plugin code and configuration.

The node is `headgate start` in a child process, changed by the same reload as that of `headgate reload`: new workers
serve before the old ones go, and what cannot start changes nothing. This process imports no plugin.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, cast

import click

from headgate.cli.options import (
    conf_option,
    overrides,
    plugin_path_option,
    prefix_option,
    settings_or_fail,
    verbosity_options,
)
from headgate.cli.output import CommandError, uses_colour
from headgate.cli.reload import request_reload
from headgate.cli.watching import Watcher, WatchSet, forget_bytecode, watch_set
from headgate.config.load import Settings, load_settings
from headgate.errors import SettingsError
from headgate.node.prefix import Prefix

_READY_LIMIT_BYTES = 1024 * 1024


@click.command("dev")
@conf_option
@prefix_option
@plugin_path_option
@verbosity_options
def command(conf: str | None, prefix: str | None, plugin_path: tuple[str, ...]) -> None:
    """Start a node in the foreground that follows every saved change.

    Watched are the directories of `plugin_path`, plugins installed with pip install -e, the settings file and the
    declarative file. On a change new workers take over without a failed request; a change that cannot run is reported
    and the code before goes on.

    \b
    Example:
      headgate dev -c headgate.conf --plugin-path ./plugins
    """
    given = overrides(prefix, plugin_path)
    settings = settings_or_fail(conf, given)
    arguments = ["-p", str(settings.prefix)]
    if conf is not None:
        arguments += ["-c", str(Path(conf).expanduser().absolute())]
    for directory in plugin_path:
        arguments += ["--plugin-path", str(Path(directory).expanduser().absolute())]
    code = asyncio.run(Development(settings, conf, given, arguments).run())
    if code != 0:
        raise click.exceptions.Exit(1)


class Development:
    """One run: the node, what is watched, and the lines about changes."""

    def __init__(self, settings: Settings, conf: str | None, given: dict[str, str], arguments: Sequence[str]) -> None:
        self._settings = settings
        self._conf = conf
        self._given = given
        self._arguments = arguments
        self._place = Prefix(settings.prefix)

    async def run(self) -> int:
        """Serve until a signal ends the node; returns its exit code."""
        # Watching starts first, so that nothing saved during the start is missed.
        watcher = Watcher(watch_set(self._settings))
        ready, writing_fd = _pipe()
        node = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "headgate", "start", *self._arguments),
            pass_fds=(writing_fd,),
            env=self._environment() | {"HEADGATE_READY_FD": str(writing_fd)},
            # The terminal's signals come here first and go on to the node once.
            start_new_session=True,
        )
        os.close(writing_fd)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1):
            loop.add_signal_handler(number, _send, node, number)
        ended = asyncio.ensure_future(node.wait())
        following = asyncio.ensure_future(self._follow(watcher, ready))
        try:
            await asyncio.wait((ended, following), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                _send(node, signal.SIGTERM)
                await ended
                following.result()
        finally:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following
        return ended.result()

    def _environment(self) -> dict[str, str]:
        """Return the node's environment: one worker when nobody said how many, since each has to start at a change."""
        workers = {} if "workers" in self._settings.given else {"HEADGATE_WORKERS": "1"}
        return {**os.environ, **workers}

    async def _follow(self, watcher: Watcher, ready: BinaryIO) -> None:
        """Wait until the node serves, then reload it after every change."""
        try:
            await self._wait_until_ready(ready)
            _say(_watched_text(watcher.wanted))
            while True:
                changed = await watcher.changes()
                started_s = time.monotonic()
                _say(f"changed: {', '.join(sorted(map(_short, changed)))}", "cyan")
                forget_bytecode(changed)
                if await self._reload():
                    _say(f"reloaded in {time.monotonic() - started_s:.2f} s", "green")
                    watcher = await self._renewed(watcher)
        finally:
            await watcher.stop()

    async def _wait_until_ready(self, ready: BinaryIO) -> None:
        reader = asyncio.StreamReader(limit=_READY_LIMIT_BYTES)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), ready)
        line = await reader.readline()
        transport.close()
        if not line:
            # It has ended: that is what the caller waits for beside this.
            await asyncio.Event().wait()
        outer = os.environ.get("HEADGATE_READY_FD", "")
        if outer.isdigit():
            with contextlib.suppress(OSError):
                os.write(int(outer), line)

    async def _reload(self) -> bool:
        """Have the node reload; says why when it cannot."""
        pid = self._place.running_pid()
        if pid is None:
            return False
        try:
            faults = await asyncio.to_thread(request_reload, self._place, pid, None)
        except CommandError as error:
            faults = [error.message]
        if faults:
            _say("not reloaded, the code and configuration before go on:", "red")
            for fault in faults:
                click.echo(_coloured("\n".join(f"  {line}" for line in fault.splitlines()), "red"))
        return not faults

    async def _renewed(self, watcher: Watcher) -> Watcher:
        """Return a watcher of what the settings name now."""
        try:
            wanted = watch_set(load_settings(self._conf, os.environ, self._given))
        except SettingsError:
            return watcher
        if wanted == watcher.wanted:
            return watcher
        await watcher.stop()
        _say(_watched_text(wanted))
        return Watcher(wanted)


def _pipe() -> tuple[BinaryIO, int]:
    """Return the reading end as a file, the writing end as a descriptor."""
    reading_fd, writing_fd = os.pipe()
    return cast(BinaryIO, os.fdopen(reading_fd, "rb", buffering=0)), writing_fd


def _send(node: asyncio.subprocess.Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        node.send_signal(number)


def _watched_text(wanted: WatchSet) -> str:
    paths = sorted(map(_short, (*wanted.folders, *wanted.files)))
    return f"watching {', '.join(paths)}" if paths else "nothing to watch: no plugin_path, no settings file"


def _short(path: Path) -> str:
    """Return a path as seen from the current directory when it lies below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _say(text: str, colour: str | None = None) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')} {_coloured(text, colour)}")
    sys.stdout.flush()


def _coloured(text: str, colour: str | None) -> str:
    return click.style(text, fg=colour) if colour is not None and uses_colour(sys.stdout) else text
