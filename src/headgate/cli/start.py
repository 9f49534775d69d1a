"""`headgate start`: run a node in the foreground, or in the background with `--detach`."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from headgate.cli.listening import print_listeners
from headgate.cli.options import (
    conf_option,
    overrides,
    plugin_path_option,
    prefix_option,
    settings_or_fail,
    verbosity_options,
)
from headgate.cli.output import CommandError, fault_error
from headgate.config.load import Settings
from headgate.node.children import StartFailedError
from headgate.node.prefix import Prefix, PrefixError
from headgate.supervisor import ListenerStatus, Sources, run

# Set by this command for the process it detaches: where to report that everything serves, or why not.
_DETACHED_FD = "HEADGATE_DETACHED_FD"


@click.command("start")
@conf_option
@prefix_option
@plugin_path_option
@click.option(
    "--allow-broken-plugins",
    is_flag=True,
    help="Start although a plugin cannot be loaded or configured: requests it applies to get 500.",
)
@click.option("--detach", is_flag=True, help="Run in the background: pid file and logs are below the prefix.")
@verbosity_options
def command(
    conf: str | None, prefix: str | None, plugin_path: tuple[str, ...], allow_broken_plugins: bool, detach: bool
) -> None:
    """Start a node.

    Everything is checked first: all faults of settings, plugins, declarative configuration and ports are printed
    together and nothing is started.

    \b
    Examples:
      headgate start
      headgate start -c headgate.conf --plugin-path ./plugins
      HEADGATE_DECLARATIVE_CONFIG=kong.yml headgate start --detach
    """
    given = overrides(prefix, plugin_path) | ({"allow_broken_plugins": "on"} if allow_broken_plugins else {})
    start(conf, given, is_detached=detach)


def start(conf: str | None, given: dict[str, str], *, is_detached: bool) -> None:
    """Start a node with settings given on the command line; in the foreground this returns when it has stopped."""
    settings = settings_or_fail(conf, given)
    place = Prefix(settings.prefix)
    if place.running_pid() is not None:
        raise CommandError(f"Headgate is already running in {settings.prefix}", hint=_running_hint(settings))
    place.prepare()
    conf = None if conf is None else str(Path(conf).expanduser().absolute())
    if is_detached:
        _detach(settings, conf, given)
        return
    detached_fd = os.environ.pop(_DETACHED_FD, "")
    environment = dict(os.environ)

    def on_started(running: Settings, listeners: Sequence[ListenerStatus]) -> None:
        print_listeners(running, listeners)
        click.echo("Headgate started")
        sys.stdout.flush()
        if detached_fd.isdigit():
            _report(int(detached_fd), {"event": "started"})

    try:
        run(
            settings,
            Sources(conf, environment, given),
            is_in_background=detached_fd.isdigit(),
            on_started=on_started,
        )
    except StartFailedError as error:
        if detached_fd.isdigit():
            _report(int(detached_fd), {"event": "fault", "faults": error.faults})
        raise fault_error("keep Headgate from starting", error.faults) from error
    except PrefixError as error:
        if detached_fd.isdigit():
            _report(int(detached_fd), {"event": "fault", "faults": [str(error)]})
        raise


def _running_hint(settings: Settings) -> str:
    return f"headgate stop -p {settings.prefix} stops it, headgate reload applies changed settings."


def _report(fd: int, document: dict[str, object]) -> None:
    with contextlib.suppress(OSError):
        os.write(fd, json.dumps(document).encode() + b"\n")
        os.close(fd)


def _detach(settings: Settings, conf: str | None, given: dict[str, str]) -> None:
    """Start the node in a session of its own and wait until it serves or has failed."""
    arguments = [sys.executable, "-m", "headgate", "start", "-p", str(settings.prefix)]
    if conf is not None:
        arguments += ["-c", conf]
    for directory in given.get("plugin_path", "").split(","):
        arguments += ["--plugin-path", directory] if directory else []
    if given.get("allow_broken_plugins") == "on":
        arguments.append("--allow-broken-plugins")
    reading_fd, writing_fd = os.pipe()
    inherited = [writing_fd]
    ready_fd = os.environ.get("HEADGATE_READY_FD", "")
    if ready_fd.isdigit():
        inherited.append(int(ready_fd))
    log_path = settings.prefix / "logs" / "error.log"
    with open(log_path, "ab") as log, open(reading_fd, "rb") as reports:
        node = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
            pass_fds=inherited,
            env={**os.environ, _DETACHED_FD: str(writing_fd)},
        )
        os.close(writing_fd)
        line = reports.readline()
    report = json.loads(line) if line else {"event": "fault", "faults": []}
    if report["event"] == "started":
        click.echo("Headgate started")
        return
    node.wait()
    if not report["faults"]:
        raise CommandError("Headgate did not start", hint=f"See {log_path}.")
    raise fault_error("keep Headgate from starting", report["faults"])
