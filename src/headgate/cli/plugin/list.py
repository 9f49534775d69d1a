"""`headgate plugin list`: which plugins there are, and where each comes from."""

import click

from headgate.cli.options import (
    conf_option,
    json_option,
    overrides,
    plugin_path_option,
    settings_or_fail,
    verbosity_options,
)
from headgate.cli.output import print_json
from headgate.cli.table import print_table


@click.command("list")
@conf_option
@plugin_path_option
@json_option
@verbosity_options
def command(conf: str | None, plugin_path: tuple[str, ...], is_json: bool) -> None:
    """List every plugin that can be found, in the order in which they run, with version and origin.

    A plugin is enabled when the setting `plugins` names it.

    \b
    Examples:
      headgate plugin list
      headgate plugin list --plugin-path ./plugins --json
    """
    from headgate.cli.plugin.described import origin_of, phases_in_order, summary
    from headgate.cli.plugin.found import find_all

    found = find_all(settings_or_fail(conf, overrides(None, plugin_path)))
    if is_json:
        shown = [summary(plugin) | {"enabled": plugin.name in found.enabled} for plugin in found.plugins]
        print_json({"plugins": shown, "faults": list(found.faults)})
        return
    rows = [
        (
            plugin.name,
            plugin.version,
            str(plugin.priority),
            "yes" if plugin.name in found.enabled else "no",
            str(origin_of(plugin)),
            ", ".join(phases_in_order(plugin)),
        )
        for plugin in found.plugins
    ]
    print_table(("name", "version", "priority", "enabled", "origin", "phases"), rows)
    for fault in found.faults:
        click.echo(f"Warning: {fault}", err=True)
