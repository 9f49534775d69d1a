"""`headgate stop`: end a node at once."""

import signal

import click

from headgate.cli.options import existing_prefix, prefix_option, verbosity_options
from headgate.cli.output import CommandError
from headgate.cli.stopping import pid_or_fail, send, wait_for_end

STOP_TIMEOUT_S = 15.0


@click.command("stop")
@prefix_option
@verbosity_options
def command(prefix: str | None) -> None:
    """Stop a running node at once; requests in flight are cut. See quit for the gentle way.

    \b
    Example:
      headgate stop -p /usr/local/headgate
    """
    stop(prefix)
    click.echo("Headgate stopped")


def stop(prefix: str | None) -> None:
    """Send TERM to the node and wait for its end."""
    place = existing_prefix(prefix)
    pid = pid_or_fail(place)
    send(pid, signal.SIGTERM)
    if not wait_for_end(place, STOP_TIMEOUT_S):
        raise CommandError(f"Headgate (pid {pid}) still runs {STOP_TIMEOUT_S:.0f} s after it was told to stop")
