"""`headgate version`."""

import platform

import click

from headgate.cli.options import json_option, verbosity_options
from headgate.cli.output import print_json
from headgate.version import CONTRACT_VERSION, VERSION


@click.command("version")
@click.option("-a", "--all", "is_all", is_flag=True, help="Also the contract and what it runs on.")
@json_option
@verbosity_options
def command(is_all: bool, is_json: bool) -> None:
    """Print the version.

    \b
    Examples:
      headgate version
      headgate version -a
    """
    if is_json:
        print_json({"headgate": VERSION, "contract": CONTRACT_VERSION, "python": platform.python_version()})
        return
    if not is_all:
        click.echo(VERSION)
        return
    click.echo(f"Headgate: {VERSION}")
    click.echo(f"contract: Kong Gateway {CONTRACT_VERSION}")
    click.echo(f"Python: {platform.python_version()} ({platform.machine()}, {platform.system()} {platform.release()})")
