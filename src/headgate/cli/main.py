"""Entry point of the command line: the group of commands and the mapping from errors to lines.

Owns the rule that nobody sees a traceback without `--vv`. Every failure is `Error: <text>` on stderr and exit code 1.
"""

import os
import sys
import traceback

import click

from headgate.cli.lazy import LazyGroup
from headgate.cli.options import verbosity_options
from headgate.cli.output import CommandError, print_error
from headgate.errors import GatewayError

_COMMANDS = (
    *("start", "stop", "quit", "restart", "reload", "check", "health", "version"),
    *("dev", "config", "migrations", "plugin", "explain"),
)


@click.group(
    cls=LazyGroup,
    modules={name: f"headgate.cli.{name}" for name in _COMMANDS},
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
      headgate plugin new hello              write a plugin of your own
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
    except BrokenPipeError:
        # Whoever read has seen enough; what is left in the buffer must not be tried again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
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
