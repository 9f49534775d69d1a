"""What commands print and how they fail.

Owns the form of errors on stderr, JSON output, and when colours are used: only on a terminal, never with NO_COLOR.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import click


class CommandError(click.ClickException):
    """A command failed: `Error: <text>`, then the faults and hints, exit code 1.

    Args: `faults` are printed as a list below the text; `hint` says what to do next; `document` is the `--json` form.
    """

    exit_code = 1

    def __init__(
        self,
        text: str,
        faults: Sequence[str] = (),
        *,
        hint: str | None = None,
        document: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(text)
        self.faults = list(faults)
        self.hint = hint
        self.document = document


def fault_error(what: str, faults: Sequence[str], *, hint: str | None = None) -> CommandError:
    """Return the error for a list of faults: a single one is the error itself."""
    if len(faults) == 1:
        return CommandError(faults[0], hint=hint)
    return CommandError(f"{len(faults)} faults {what}:", faults, hint=hint)


def uses_colour(stream: TextIO) -> bool:
    """Say whether a stream takes colours."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def print_json(document: Mapping[str, Any]) -> None:
    """Print the `--json` form of a result."""
    click.echo(json.dumps(document, indent=2, sort_keys=True))


def print_warning(text: str) -> None:
    """Print what is doubtful on stderr."""
    label = click.style("Warning:", fg="yellow", bold=True) if uses_colour(sys.stderr) else "Warning:"
    click.echo(f"{label} {text}", err=True)


def print_error(error: CommandError, verbosity: int) -> None:
    """Print a failed command's error on stderr."""
    label = click.style("Error:", fg="red", bold=True) if uses_colour(sys.stderr) else "Error:"
    lines = [f"{label} {error.message}"]
    for fault in error.faults:
        first, *rest = fault.splitlines() or [""]
        lines.append(f"  - {first}")
        lines += [f"    {line}" for line in rest]
    if error.hint:
        lines += ["", error.hint]
    if verbosity == 0:
        lines += ["", "  Run with --v (verbose) or --vv (debug) for more details"]
    click.echo("\n".join(lines), err=True)
