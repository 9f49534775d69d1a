"""Entry point of the command line: the group of commands and the mapping from errors to lines.

Owns the rule that nobody sees a traceback without `--vv`. Every failure is `Error: <text>` on stderr and exit code 1.
"""

import importlib
import sys
import traceback
from typing import Any

import click

from headgate.cli.options import verbosity_options
from headgate.cli.output import CommandError, print_error
from headgate.errors import GatewayError

_COMMANDS = ("start", "stop", "quit", "restart", "reload", "check", "health", "version", "config")


class Commands(click.Group):
    """The commands, each loaded from its own module when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of a node's life."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command; None when there is no such name."""
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"headgate.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command; an unknown one prints the usage and fails."""
        if args and self.get_command(ctx, args[0]) is None:
            click.echo(ctx.get_help(), err=True)
            raise CommandError(f"No such command: {args[0]}", hint="headgate --help lists the commands.")
        return super().resolve_command(ctx, args)


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@verbosity_options
@click.pass_context
def headgate(context: click.Context) -> None:
    """Headgate, an API gateway: a Rust engine that moves bytes, Python plugins that decide.

    \b
    Examples:
      headgate start -c headgate.conf        start in the foreground
      headgate start --detach                start in the background
      headgate check                         show every fault in the settings
      headgate config parse kong.yml         show every fault in a declarative file
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(1)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    state: dict[str, int] = {}
    try:
        result = headgate.main(args=arguments, prog_name="headgate", standalone_mode=False, obj=state)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as exit_request:
        return int(exit_request.exit_code)
    except click.Abort:
        click.echo("Aborted", err=True)
        return 1
    except CommandError as error:
        _show(error, state)
    except click.UsageError as error:
        hint = f"{error.ctx.command_path} --help shows how to use it." if error.ctx is not None else None
        _show(CommandError(error.format_message(), hint=hint), state)
    except click.ClickException as error:
        _show(CommandError(error.format_message()), state)
    except GatewayError as error:
        _show(CommandError(str(error)), state)
    except OSError as error:
        named = f": {error.filename}" if error.filename else ""
        _show(CommandError(f"{error.strerror or error}{named}"), state)
    except Exception as error:
        _show(CommandError(f"unexpected {type(error).__name__}: {error}"), state)
    return 1


def _show(error: CommandError, state: dict[str, int]) -> None:
    verbosity = state.get("verbosity", 0)
    print_error(error, verbosity)
    if verbosity > 1:
        traceback.print_exc()


if __name__ == "__main__":
    sys.exit(main())
