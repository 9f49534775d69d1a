"""`headgate check`: every fault of settings, plugins and declarative configuration, without starting anything."""

import os
from pathlib import Path

import click

from headgate.cli.documents import declarative_faults, plugin_catalog
from headgate.cli.options import json_option, verbosity_options
from headgate.cli.output import fault_error, print_json
from headgate.config.load import load_settings
from headgate.errors import PluginLoadError, SettingsError


@click.command("check")
@click.argument("conf", required=False)
@json_option
@verbosity_options
def command(conf: str | None, is_json: bool) -> None:
    """Check settings, plugins and declarative configuration without starting anything.

    CONF is a settings file; without it the default places are looked at. The environment counts as at start.

    \b
    Examples:
      headgate check
      headgate check ./headgate.conf --json
    """
    faults: list[str] = []
    texts: list[str] = []
    path: Path | None = Path(conf).absolute() if conf is not None else None
    try:
        settings = load_settings(conf, os.environ)
    except SettingsError as error:
        faults = error.faults
    else:
        path = settings.conf_path
        texts = [*settings.warnings, *settings.notices]
        try:
            catalog = plugin_catalog(settings)
        except PluginLoadError as error:
            faults = error.faults
        else:
            faults = declarative_faults(settings, catalog)
    if is_json:
        print_json(
            {"valid": not faults, "faults": faults, "warnings": texts, "conf": None if path is None else str(path)}
        )
        if faults:
            raise click.exceptions.Exit(1)
        return
    for text in texts:
        click.echo(f"Warning: {text}", err=True)
    if faults:
        raise fault_error("in the configuration", faults)
    click.echo(f"configuration at {path} is valid" if path else "configuration is valid (no settings file was found)")
