"""`headgate config`: work with declarative files."""

from pathlib import Path

import click

from headgate.cli.documents import parse, plugin_catalog
from headgate.cli.options import (
    conf_option,
    json_option,
    overrides,
    plugin_path_option,
    prefix_option,
    settings_or_fail,
    verbosity_options,
)
from headgate.cli.output import CommandError, fault_error, print_json
from headgate.errors import DeclarativeError, PluginLoadError

_EXAMPLE = """\
# A declarative configuration: everything the gateway serves, in one file.
# Load it with declarative_config = <this file>, or POST it to /config of the Admin API.
# headgate config parse <this file> shows every fault at once.

_format_version: "3.0"

services:
- name: example-service
  url: http://127.0.0.1:8080
  # retries: 5
  # connect_timeout: 60000    # milliseconds; also read_timeout, write_timeout
  routes:
  - name: example-route
    paths:
    - /example
    # strip_path: true          # /example/a goes to the service as /a
  plugins:
  - name: rate-limiting
    config:
      minute: 60
      policy: local

# Consumers and their credentials; protect the service with the key-auth plugin to use them.
# consumers:
# - username: someone
#   keyauth_credentials:
#   - key: a-long-random-text
"""


@click.group("config")
@verbosity_options
def command() -> None:
    """Work with declarative configuration files.

    \b
    Examples:
      headgate config init
      headgate config parse kong.yml
    """


@command.command("parse")
@click.argument("file")
@conf_option
@prefix_option
@plugin_path_option
@json_option
@verbosity_options
def parse_command(file: str, conf: str | None, prefix: str | None, plugin_path: tuple[str, ...], is_json: bool) -> None:
    """Check a declarative FILE against the loaded plugins; every fault is shown with its place.

    \b
    Example:
      headgate config parse kong.yml --plugin-path ./plugins
    """
    path = Path(file)
    if not path.is_file():
        raise CommandError(f"no file at: {file}")
    settings = settings_or_fail(conf, overrides(prefix, plugin_path))
    try:
        snapshot = parse(path, plugin_catalog(settings), is_broken_allowed=settings.general.allow_broken_plugins)
    except PluginLoadError as error:
        raise fault_error("in the plugins", error.faults) from error
    except DeclarativeError as error:
        if not is_json:
            raise CommandError(
                f"Failed parsing:\n{error.report().removeprefix('Failed parsing:').strip(chr(10))}"
            ) from error
        print_json({"valid": False, "message": error.message, "fields": error.fields})
        raise click.exceptions.Exit(1) from error
    if is_json:
        counts = {name: len(found) for name, found in snapshot.entities.items() if found}
        print_json({"valid": True, "entities": counts, "configuration_hash": snapshot.configuration_hash})
        return
    click.echo("parse successful")


@command.command("init")
@click.argument("file", default="kong.yml")
@verbosity_options
def init_command(file: str) -> None:
    """Write a commented example of a declarative file, by default ./kong.yml.

    \b
    Example:
      headgate config init
    """
    try:
        with open(file, "x", encoding="utf-8") as example:
            example.write(_EXAMPLE)
    except FileExistsError:
        raise CommandError(f"{file} already exists. Will not overwrite it.") from None
    click.echo(f"wrote {file}; next: headgate config parse {file}")
