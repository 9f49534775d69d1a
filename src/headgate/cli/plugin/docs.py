"""`headgate plugin docs`: Markdown about a plugin's configuration, made from its code."""

import inspect
from collections.abc import Iterator
from typing import Any

import click
import yaml

from headgate.cli.options import (
    conf_option,
    json_option,
    overrides,
    plugin_path_option,
    settings_or_fail,
    verbosity_options,
)
from headgate.cli.output import print_json
from headgate.cli.plugin import described
from headgate.policy.catalog import PluginType

_SAMPLES = {"string": "text", "number": 1, "integer": 1, "boolean": True, "array": [], "set": [], "map": {}}


@click.command("docs")
@click.argument("name")
@conf_option
@plugin_path_option
@json_option
@verbosity_options
def command(name: str, conf: str | None, plugin_path: tuple[str, ...], is_json: bool) -> None:
    """Write the reference page of a plugin's configuration as Markdown on stdout.

    \b
    Example:
      headgate plugin docs rate-limiting > rate-limiting.md
    """
    from headgate.cli.plugin.found import find_one

    plugin = find_one(settings_or_fail(conf, overrides(None, plugin_path)), name)
    text = markdown(plugin)
    if is_json:
        print_json({"name": plugin.name, "markdown": text})
        return
    click.echo(text, nl=False)


def markdown(plugin: PluginType) -> str:
    """Return the page of a plugin."""
    return "\n".join(_lines(plugin)) + "\n"


def _lines(plugin: PluginType) -> Iterator[str]:
    yield f"# {plugin.name}"
    introduction = inspect.getdoc(inspect.getmodule(plugin.handler)) or inspect.getdoc(plugin.handler)
    if introduction:
        yield ""
        yield introduction.split("\n\n")[0]
    yield ""
    yield "| | |"
    yield "|---|---|"
    yield f"| version | {plugin.version} |"
    yield f"| priority | {plugin.priority} |"
    yield f"| phases | {_codes(described.phases_in_order(plugin))} |"
    yield f"| scopes | {_codes(described.allowed_scopes(plugin))} |"
    yield f"| protocols | {_codes(plugin.config_model.protocols)} |"
    rows = described.field_rows(plugin)
    yield ""
    yield "## Configuration"
    yield ""
    if not rows:
        yield "There is nothing to configure."
    else:
        yield "| field | type | default | rules | description |"
        yield "|---|---|---|---|---|"
    for row in rows:
        default = f"`{_cell(row.default_text)}`" if row.has_default else ("required" if row.is_required else "")
        rules = "; ".join(row.rules)
        yield f"| `{row.path}` | {row.type} | {default} | {_cell(rules)} | {_cell(row.description)} |"
    checks = described.check_texts(plugin)
    if checks:
        yield ""
        yield "Over several fields:"
        yield ""
    for check in checks:
        yield f"- {check}"
    yield ""
    yield "## Example"
    yield ""
    yield "```yaml"
    yield yaml.safe_dump({"plugins": [_example(plugin, rows)]}, sort_keys=False).rstrip()
    yield "```"


def _example(plugin: PluginType, rows: list[described.FieldRow]) -> dict[str, Any]:
    """Return an instance with every required field of the first level."""
    config: dict[str, Any] = {}
    for row in rows:
        parts = row.path.split(".")
        if row.is_required and len(parts) == 2:
            config[parts[1]] = _SAMPLES.get(row.type.split()[0], {})
    return {"name": plugin.name} | ({"config": config} if config else {})


def _codes(texts: Any) -> str:
    return ", ".join(f"`{text}`" for text in texts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
