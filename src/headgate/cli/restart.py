"""`headgate restart`: stop a node, then start it."""

import contextlib

import click

from headgate.cli.options import (
    conf_option,
    existing_prefix,
    overrides,
    plugin_path_option,
    prefix_option,
    settings_or_fail,
    verbosity_options,
)
from headgate.cli.start import start
from headgate.cli.stop import stop
from headgate.cli.stopping import wait_for_end

_WAIT_S = 5.0


@click.command("restart")
@conf_option
@prefix_option
@plugin_path_option
@click.option("--detach", is_flag=True, help="Run in the background.")
@verbosity_options
def command(conf: str | None, prefix: str | None, plugin_path: tuple[str, ...], detach: bool) -> None:
    """Stop the node that runs in the prefix, if any, and start one. Unlike reload it cuts requests.

    \b
    Example:
      headgate restart -c headgate.conf --detach
    """
    # Faults of the new settings are shown before the running node is stopped for nothing.
    settings = settings_or_fail(conf, overrides(prefix, plugin_path))
    with contextlib.suppress(click.ClickException):
        stop(str(settings.prefix))
        wait_for_end(existing_prefix(str(settings.prefix)), _WAIT_S)
    start(conf, overrides(prefix, plugin_path), is_detached=detach)
