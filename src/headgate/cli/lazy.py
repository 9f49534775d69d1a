"""A group of commands that imports a command's module only when it is used.

Owns the rule that `headgate version` pays for nothing but itself, and the answer to an unknown name.
"""

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

import click

from headgate.cli.output import CommandError


class LazyGroup(click.Group):
    """Args: `modules` by command name, in the order of the help; each module has a `command`."""

    def __init__(self, *arguments: Any, modules: Mapping[str, str], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._modules = dict(modules)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which people need them."""
        return list(self._modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command; None when there is no such name."""
        if cmd_name not in self._modules:
            return None
        command: click.Command = importlib.import_module(self._modules[cmd_name]).command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command; an unknown one prints the usage and fails."""
        if args and self.get_command(ctx, args[0]) is None:
            click.echo(ctx.get_help(), err=True)
            similar = difflib.get_close_matches(args[0], self._modules, n=1)
            meant = f"Did you mean {similar[0]}? " if similar else ""
            raise CommandError(
                f"No such command: {args[0]}", hint=f"{meant}{ctx.command_path} --help lists the commands."
            )
        return super().resolve_command(ctx, args)
