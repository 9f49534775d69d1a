"""`headgate plugin info`: everything about one plugin."""

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


@click.command("info")
@click.argument("name")
@conf_option
@plugin_path_option
@json_option
@verbosity_options
def command(name: str, conf: str | None, plugin_path: tuple[str, ...], is_json: bool) -> None:
    """Show a plugin's phases, protocols, scopes and the fields of its configuration.

    \b
    Example:
      headgate plugin info rate-limiting
    """
    from headgate.cli.plugin import described
    from headgate.cli.plugin.found import find_one

    plugin = find_one(settings_or_fail(conf, overrides(None, plugin_path)), name)
    if is_json:
        print_json(described.details(plugin))
        return
    facts = [
        ("name", plugin.name),
        ("version", plugin.version),
        ("priority", str(plugin.priority)),
        ("origin", str(described.origin_of(plugin))),
        ("phases", ", ".join(described.phases_in_order(plugin))),
        ("protocols", ", ".join(plugin.config_model.protocols)),
        ("scopes", ", ".join(described.allowed_scopes(plugin))),
    ]
    print_table(("fact", "value"), facts, has_header=False)
    rows = [
        (row.path, row.type, "yes" if row.is_required else "", row.default_text, "; ".join(row.rules), row.description)
        for row in described.field_rows(plugin)
    ]
    if rows:
        click.echo()
        print_table(("field", "type", "required", "default", "rules", "description"), rows)
    checks = described.check_texts(plugin)
    if checks:
        click.echo("\nchecks over several fields")
    for check in checks:
        click.echo(f"  {check}")
