"""`headgate config`: work with declarative files."""

import os
from contextlib import closing
from typing import TYPE_CHECKING

import click

from headgate.cli.differences import current_snapshot, print_differences
from headgate.cli.documents import STANDARD_STREAM, parse, plugin_catalog, readable_document
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
from headgate.errors import DeclarativeError, EntityError, GatewayError, PluginLoadError

if TYPE_CHECKING:
    from headgate.store.snapshot import Snapshot

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
      headgate config diff kong.yml
    """


@command.command("parse")
@click.argument("file")
@conf_option
@prefix_option
@plugin_path_option
@json_option
@verbosity_options
def parse_command(file: str, conf: str | None, prefix: str | None, plugin_path: tuple[str, ...], is_json: bool) -> None:
    """Check a declarative FILE (`-`: standard input) against the loaded plugins; every fault is shown with its place.

    \b
    Example:
      headgate config parse kong.yml --plugin-path ./plugins
    """
    path = readable_document(file)
    settings = settings_or_fail(conf, overrides(prefix, plugin_path))
    try:
        snapshot = parse(path, plugin_catalog(settings), settings)
    except PluginLoadError as error:
        raise fault_error("in the plugins", error.faults) from error
    except DeclarativeError as error:
        raise _parse_failure(error, is_json) from error
    if is_json:
        print_json({"valid": True, "entities": _counts(snapshot), "configuration_hash": snapshot.configuration_hash})
        return
    click.echo("parse successful")


def _counts(snapshot: "Snapshot") -> dict[str, int]:
    return {name: len(found) for name, found in snapshot.entities.items() if found}


def _parse_failure(error: DeclarativeError, is_json: bool) -> Exception:
    """Return what ends a command whose document has faults; as JSON they are printed here."""
    if not is_json:
        return CommandError(f"Failed parsing:\n{error.report().removeprefix('Failed parsing:').strip(chr(10))}")
    print_json({"valid": False, "message": error.message, "fields": error.fields})
    return click.exceptions.Exit(1)


@command.command("diff")
@click.argument("file")
@click.option("--exit-code", "has_exit_code", is_flag=True, help="Exit with 1 when something differs.")
@conf_option
@prefix_option
@plugin_path_option
@json_option
@verbosity_options
def diff_command(
    file: str, has_exit_code: bool, conf: str | None, prefix: str | None, plugin_path: tuple[str, ...], is_json: bool
) -> None:
    """Show what a declarative FILE would change, without changing it.

    It is compared with the database, or with what the node has in force when there is none. Entities that only the
    database has stay there on db_import; POST /config removes them.

    \b
    Example:
      headgate config diff kong.yml -c headgate.conf
    """
    from headgate.store.difference import differences

    path = readable_document(file)
    settings = settings_or_fail(conf, overrides(prefix, plugin_path))
    try:
        catalog = plugin_catalog(settings)
        wanted = parse(path, catalog, settings)
        found = list(differences(current_snapshot(settings, catalog), wanted, catalog.entity_types))
    except PluginLoadError as error:
        raise fault_error("in the plugins", error.faults) from error
    except DeclarativeError as error:
        raise _parse_failure(error, is_json) from error
    except GatewayError as error:
        raise CommandError(str(error)) from error
    counts = {name: sum(one.operation == name for one in found) for name in ("create", "update", "delete")}
    if is_json:
        changes = [
            {
                "operation": one.operation,
                "entity_type": one.entity_type,
                "name": one.name,
                "fields": {name: {"now": now, "then": then} for name, (now, then) in one.fields.items()},
            }
            for one in found
        ]
        print_json({"changes": changes, "summary": counts})
    else:
        print_differences(found)
        click.echo(f"{counts['create']} to create, {counts['update']} to update, {counts['delete']} not in {path.name}")
    if found and has_exit_code:
        raise click.exceptions.Exit(1)


@command.command("init")
@click.argument("file", default="kong.yml")
@verbosity_options
def init_command(file: str) -> None:
    """Write a commented example of a declarative file, by default ./kong.yml; `-` is standard output.

    \b
    Example:
      headgate config init
    """
    if file == STANDARD_STREAM:
        click.echo(_EXAMPLE, nl=False)
        return
    try:
        with open(file, "x", encoding="utf-8") as example:
            example.write(_EXAMPLE)
    except FileExistsError:
        raise CommandError(f"{file} already exists. Will not overwrite it.") from None
    click.echo(f"wrote {file}; next: headgate config parse {file}")


@command.command("db_import")
@click.argument("file")
@conf_option
@prefix_option
@plugin_path_option
@json_option
@verbosity_options
def db_import_command(
    file: str, conf: str | None, prefix: str | None, plugin_path: tuple[str, ...], is_json: bool
) -> None:
    """Put the entities of a declarative FILE into the database, all or none of them; nothing is removed.

    \b
    Example:
      headgate config db_import kong.yml -c headgate.conf
    """
    from headgate.node.database import open_store

    path = readable_document(file)
    settings = settings_or_fail(conf, overrides(prefix, plugin_path))
    if settings.datastore.database == "off":
        raise CommandError("config db_import needs a database", hint="Set database = sqlite or database = postgres.")
    try:
        catalog = plugin_catalog(settings)
        snapshot = parse(path, catalog, settings)
        if not is_json:
            click.echo("parse successful, beginning import")
        with closing(open_store(settings, catalog)) as store:
            store.load(snapshot)
    except PluginLoadError as error:
        raise fault_error("in the plugins", error.faults) from error
    except DeclarativeError as error:
        raise _parse_failure(error, is_json) from error
    except EntityError as error:
        raise CommandError(f"Failed importing: {error.message}") from error
    if is_json:
        print_json({"imported": _counts(snapshot)})
        return
    click.echo("import successful")


@command.command("db_export")
@click.argument("file", default="kong.yml")
@click.option("--plain", "is_plain", is_flag=True, help="Write secrets readable although there are encryption_keys.")
@conf_option
@prefix_option
@plugin_path_option
@verbosity_options
def db_export_command(
    file: str, is_plain: bool, conf: str | None, prefix: str | None, plugin_path: tuple[str, ...]
) -> None:
    """Write all entities of the database into a declarative FILE, by default ./kong.yml; `-` is standard output.

    With encryption_keys the fields that are encrypted in the database are so in the file; nodes and commands with the
    same keys can read it.

    \b
    Examples:
      headgate config db_export all.yml -c headgate.conf
      headgate config db_export - | headgate config diff - -c other.conf
    """
    from headgate.node.database import open_store
    from headgate.store.cipher import WITHOUT_KEYS, cipher_of_node
    from headgate.store.declarative import export_declarative

    settings = settings_or_fail(conf, overrides(prefix, plugin_path))
    if settings.datastore.database == "off":
        raise CommandError("config db_export needs a database", hint="Set database = sqlite or database = postgres.")
    try:
        catalog = plugin_catalog(settings)
        with closing(open_store(settings, catalog)) as store:
            cipher = WITHOUT_KEYS if is_plain else cipher_of_node(settings.datastore)
            text = export_declarative(store.snapshot(), catalog.entity_types, cipher)
    except PluginLoadError as error:
        raise fault_error("in the plugins", error.faults) from error
    if file == STANDARD_STREAM:
        click.echo(text, nl=False)
        return
    try:
        # It may hold secrets: only its owner may read it.
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise CommandError(f"{file} already exists. Will not overwrite it.") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as exported:
        exported.write(text)
    click.echo(f"wrote {file}")
