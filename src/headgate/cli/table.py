"""Tables on stdout: aligned and in colour on a terminal, plain columns in a pipe."""

import sys
from collections.abc import Sequence

import click

from headgate.cli.output import uses_colour


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, has_header: bool = True) -> None:
    """Print rows of text under the names of their columns."""
    if uses_colour(sys.stdout):
        _print_rich(columns, rows, has_header)
        return
    lines = [columns, *rows] if has_header else rows
    widths = [max((len(line[place]) for line in lines), default=0) for place in range(len(columns))]
    for line in lines:
        click.echo("  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip())


def _print_rich(columns: Sequence[str], rows: Sequence[Sequence[str]], has_header: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, header_style="bold", pad_edge=False, show_header=has_header)
    for place, column in enumerate(columns):
        shown.add_column(column, style="cyan" if place == 0 else "", overflow="fold")
    for row in rows:
        shown.add_row(*map(Text, row))
    Console().print(shown)
