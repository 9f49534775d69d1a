"""`headgate quit`: end a node after its requests."""

import signal
import time

import click

from headgate.cli.options import existing_prefix, prefix_option, verbosity_options
from headgate.cli.stop import STOP_TIMEOUT_S
from headgate.cli.stopping import pid_or_fail, send, wait_for_end


@click.command("quit")
@prefix_option
@click.option(
    "-t", "--timeout", default=10.0, show_default=True, metavar="SECONDS", help="Time for requests to finish."
)
@click.option(
    "-w", "--wait", default=0.0, show_default=True, metavar="SECONDS", help="Wait before asking the node to quit."
)
@verbosity_options
def command(prefix: str | None, timeout: float, wait: float) -> None:
    """Stop a running node gracefully: it takes no new connections and finishes its requests.

    \b
    Example:
      headgate quit -t 60
    """
    place = existing_prefix(prefix)
    pid = pid_or_fail(place)
    if wait > 0:
        time.sleep(wait)
    send(pid, signal.SIGQUIT)
    if wait_for_end(place, timeout):
        click.echo("Headgate stopped (gracefully)")
        return
    send(pid, signal.SIGTERM)
    wait_for_end(place, STOP_TIMEOUT_S)
    click.echo("Timeout, Headgate stopped forcefully")
