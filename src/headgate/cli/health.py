"""`headgate health`: is a node running in this prefix."""

import click

from headgate.cli.options import existing_prefix, json_option, prefix_option, verbosity_options
from headgate.cli.output import CommandError, print_json


@click.command("health")
@prefix_option
@json_option
@verbosity_options
def command(prefix: str | None, is_json: bool) -> None:
    """Say whether a node runs in the prefix; exit code 1 when it does not.

    \b
    Example:
      headgate health -p /usr/local/headgate
    """
    place = existing_prefix(prefix)
    pid = place.running_pid()
    if is_json:
        print_json({"healthy": pid is not None, "pid": pid, "prefix": str(place.path)})
        if pid is None:
            raise click.exceptions.Exit(1)
        return
    if pid is None:
        raise CommandError(
            f"Headgate is not running at {place.path}", hint=f"headgate start -p {place.path} starts it."
        )
    click.echo(f"headgate....running\n\nHeadgate is healthy at {place.path}")
