"""`headgate plugin`: write, look at and check plugins; a module for each command."""

import click

from headgate.cli.lazy import LazyGroup
from headgate.cli.options import verbosity_options

_COMMANDS = ("new", "list", "info", "check", "order", "docs")


@click.group("plugin", cls=LazyGroup, modules={name: f"headgate.cli.plugin.{name}" for name in _COMMANDS})
@verbosity_options
def command() -> None:
    """Write, look at and check plugins.

    \b
    Examples:
      headgate plugin new hello
      headgate plugin check ./hello
      headgate plugin list
      headgate plugin info rate-limiting
    """
