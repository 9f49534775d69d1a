"""`headgate plugin order`: the order in which plugins run."""

import click

from headgate.cli.documents import plugin_catalog
from headgate.cli.options import (
    conf_option,
    json_option,
    overrides,
    plugin_path_option,
    settings_or_fail,
    verbosity_options,
)
from headgate.cli.output import fault_error, print_json
from headgate.cli.table import print_table
from headgate.errors import PluginLoadError


@click.command("order")
@conf_option
@plugin_path_option
@json_option
@verbosity_options
def command(conf: str | None, plugin_path: tuple[str, ...], is_json: bool) -> None:
    """Show the order in which the loaded plugins run, in every phase.

    \b
    Example:
      headgate plugin order
    """
    from headgate.cli.plugin.described import phases_in_order

    settings = settings_or_fail(conf, overrides(None, plugin_path))
    try:
        catalog = plugin_catalog(settings)
    except PluginLoadError as error:
        raise fault_error("in the plugins", error.faults) from error
    plugins = list(catalog.values())
    if is_json:
        shown = [{"name": one.name, "priority": one.priority, "phases": phases_in_order(one)} for one in plugins]
        print_json({"plugins": shown})
        return
    rows = [
        (str(place), plugin.name, str(plugin.priority), ", ".join(phases_in_order(plugin)))
        for place, plugin in enumerate(plugins, 1)
    ]
    print_table(("place", "name", "priority", "phases"), rows)
