"""`headgate plugin new`: the folder of a new plugin."""

from pathlib import Path

import click

from headgate.cli.options import json_option, verbosity_options
from headgate.cli.output import CommandError, print_json
from headgate.cli.plugin.skeleton import name_fault, suggested_name, write_skeleton


@click.command("new")
@click.argument("name")
@click.option("--into", default=".", metavar="DIR", help="Directory in which the folder is made (default: this one).")
@json_option
@verbosity_options
def command(name: str, into: str, is_json: bool) -> None:
    """Write the folder NAME: a plugin that runs, with its tests, ready for pip.

    \b
    Example:
      headgate plugin new hello && cd hello && pytest
    """
    from headgate.policy.catalog import bundled_names

    fault = name_fault(name, set(bundled_names()))
    if fault is not None:
        suggestion = suggested_name(name)
        hint = f"headgate plugin new {suggestion} would do." if suggestion is not None else None
        raise CommandError(fault, hint=hint)
    target = Path(into).expanduser() / name
    try:
        files = write_skeleton(name, target)
    except FileExistsError:
        raise CommandError(f"{target} already exists. Will not overwrite it.") from None
    if is_json:
        print_json({"name": name, "path": str(target.absolute()), "files": [str(file.absolute()) for file in files]})
        return
    for file in files:
        click.echo(f"  {file}")
    click.echo(
        f"\nWrote the plugin {name}. Next:\n\n"
        f"  pip install -e {target}          make it known to this Python\n"
        f"  headgate plugin check {target}   look for faults\n"
        f"  pytest {target}                  run its tests\n"
    )
