"""Options that several commands have, and the settings that they lead to."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from headgate.cli.output import fault_error, print_warning
from headgate.config.general import default_prefix
from headgate.config.load import Settings, load_settings
from headgate.errors import SettingsError
from headgate.node.prefix import Prefix

Command = TypeVar("Command", bound=Callable[..., Any])

conf_option = click.option("-c", "--conf", metavar="FILE", help="Settings file (name = value lines).")
prefix_option = click.option("-p", "--prefix", metavar="DIR", help="Working directory, instead of the setting.")
plugin_path_option = click.option(
    "--plugin-path", multiple=True, metavar="DIR", help="Directory with plugins; may be given several times."
)
declarative_option = click.option(
    "-d", "--declarative", metavar="FILE", help="Declarative file, instead of the configuration of the settings."
)
json_option = click.option("--json", "is_json", is_flag=True, help="Print the result as JSON.")


def verbosity_options(command: Command) -> Command:
    """Add `--v` and `--vv` to a command."""

    def keep(context: click.Context, parameter: click.Parameter, value: int | bool) -> None:
        level = 2 if parameter.name == "is_debug" and value else int(value)
        root = context.find_root()
        root.ensure_object(dict)
        root.obj["verbosity"] = max(level, root.obj.get("verbosity", 0))

    verbose = click.option(
        "-v", "--v", "verbosity", count=True, callback=keep, expose_value=False, is_eager=True, help="Verbose."
    )
    debug = click.option(
        "--vv",
        "is_debug",
        is_flag=True,
        callback=keep,
        expose_value=False,
        is_eager=True,
        help="Debug, with tracebacks.",
    )
    return verbose(debug(command))


def overrides(prefix: str | None, plugin_path: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the settings that options of the command line give."""
    given = {}
    if prefix is not None:
        given["prefix"] = str(Path(prefix).expanduser().absolute())
    if plugin_path:
        given["plugin_path"] = ",".join(str(Path(entry).expanduser().absolute()) for entry in plugin_path)
    return given


def settings_or_fail(conf: str | None, given: dict[str, str]) -> Settings:
    """Read all settings; a command error with every fault when there are some."""
    try:
        return load_settings(conf, os.environ, given)
    except SettingsError as error:
        for text in error.warnings:
            print_warning(text)
        raise fault_error("in the settings", error.faults) from error


def existing_prefix(prefix: str | None) -> Prefix:
    """Return the prefix a command works on: the option, the environment, or the default.

    Other settings do not matter for a running node, so faults in them do not keep anyone from stopping it.
    """
    chosen = prefix or os.environ.get("HEADGATE_PREFIX") or os.environ.get("KONG_PREFIX")
    if not chosen:
        try:
            chosen = str(load_settings(None, os.environ).prefix)
        except SettingsError:
            chosen = default_prefix()
    path = Path(chosen).expanduser().absolute()
    if not path.is_dir():
        raise click.ClickException(f"no such prefix: {path}")
    return Prefix(path)
