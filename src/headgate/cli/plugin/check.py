"""`headgate plugin check`: every fault of a plugin's code, before anything runs it."""

import dataclasses
from pathlib import Path

import click

from headgate.cli.documents import configure_pdk
from headgate.cli.options import (
    conf_option,
    json_option,
    overrides,
    plugin_path_option,
    settings_or_fail,
    verbosity_options,
)
from headgate.cli.output import fault_error, print_json


@click.command("check")
@click.argument("plugin", metavar="PATH|NAME")
@conf_option
@plugin_path_option
@json_option
@verbosity_options
def command(plugin: str, conf: str | None, plugin_path: tuple[str, ...], is_json: bool) -> None:
    """Load a plugin and report all its faults at once; exit code 1 when there are some.

    PATH is a file, a folder with handler.py or handler.lua, or a project with pyproject.toml or
    kong/plugins, installed or not. Of a Lua plugin, calls that this gateway does not have are told too.

    \b
    Examples:
      headgate plugin check ./hello
      headgate plugin check ./plugins/greeting.py
      headgate plugin check key-auth
      headgate plugin check ./kong/plugins/my-plugin
    """
    from headgate.cli.plugin.checking import Checked, check_place, handler_faults, module_faults, places
    from headgate.cli.plugin.found import find_one

    settings = settings_or_fail(conf, overrides(None, plugin_path))
    configure_pdk(settings)
    path = Path(plugin).expanduser()
    if path.exists():
        results = [check_place(place) for place in places(path)]
    else:
        found = find_one(settings, plugin)
        faults_of_code = (*handler_faults(found.name, found.handler), *module_faults(found))
        results = [Checked(found.name, found.origin, faults_of_code)]
    faults = [fault for result in results for fault in result.faults]
    if is_json:
        print_json({"valid": not faults, "plugins": [dataclasses.asdict(result) for result in results]})
        if faults:
            raise click.exceptions.Exit(1)
        return
    for result in results:
        if not result.faults:
            click.echo(f"plugin {result.name} is valid ({result.where})")
    if faults:
        raise fault_error(f"in {plugin}", faults)
