"""`headgate reload`: new processes with new settings and code, the old ones finish their requests."""

import signal
import time
import uuid
from pathlib import Path

import click

from headgate.cli.options import conf_option, existing_prefix, prefix_option, verbosity_options
from headgate.cli.output import CommandError, fault_error
from headgate.cli.stopping import pid_or_fail, send
from headgate.node.prefix import Prefix

_TIMEOUT_S = 150.0
_POLL_S = 0.02


@click.command("reload")
@conf_option
@prefix_option
@verbosity_options
def command(conf: str | None, prefix: str | None) -> None:
    """Reload settings, plugins and declarative configuration of a running node without losing a request.

    When something is wrong, every fault is printed and the node goes on as before. The node keeps the environment and
    the options it was started with; -c names another settings file from now on.

    \b
    Examples:
      headgate reload
      headgate reload -c headgate.conf
    """
    place = existing_prefix(prefix)
    pid = pid_or_fail(place)
    if conf is not None and not Path(conf).is_file():
        raise CommandError(f"no file at: {conf}")
    faults = request_reload(place, pid, None if conf is None else str(Path(conf).absolute()))
    if faults:
        raise fault_error("keep Headgate from reloading", faults, hint="The node goes on with its old configuration.")
    click.echo("Headgate reloaded")


def request_reload(place: Prefix, pid: int, conf: str | None) -> list[str]:
    """Have a running node reload and wait for the end; returns what keeps it from that.

    Args: `pid` of the supervisor; `conf`: absolute path of another settings file.
    Raises: CommandError when the node ends or does not answer.
    """
    request_id = uuid.uuid4().hex
    place.write_json(place.reload_request_path, {"id": request_id, "conf": conf})
    send(pid, signal.SIGHUP)
    deadline_s = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < deadline_s:
        result = place.read_json(place.reload_result_path)
        if result is not None and result.get("id") == request_id:
            return [str(fault) for fault in result["faults"]]
        if place.running_pid() is None:
            raise CommandError("Headgate ended during the reload", hint=f"See {place.path / 'logs' / 'error.log'}.")
        time.sleep(_POLL_S)
    raise CommandError(f"the node has not answered within {_TIMEOUT_S:.0f} s")
