"""`headgate migrations`: bring the database to the schema of this release and of its plugins."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import click

from headgate.cli.options import (
    conf_option,
    overrides,
    plugin_path_option,
    prefix_option,
    settings_or_fail,
    verbosity_options,
)
from headgate.cli.output import CommandError, fault_error
from headgate.errors import PluginLoadError

if TYPE_CHECKING:
    from headgate.store.sql.migrate import MigrationState, Migrator

Command = TypeVar("Command", bound=Callable[..., object])

NEEDS_BOOTSTRAP_EXIT = 3
PENDING_EXIT = 4
NEW_EXIT = 5


@click.group("migrations")
@verbosity_options
def command() -> None:
    """Make and change the tables of the database.

    \b
    Examples:
      headgate migrations bootstrap      once, on an empty database
      headgate migrations up             after an upgrade, while old nodes still run
      headgate migrations finish         when all nodes are upgraded
    """


def _options(function: Command) -> Command:
    """Add the options that all these commands have."""
    timeout = click.option(
        "--lock-timeout", type=click.FloatRange(0), default=60, show_default=True, metavar="S", help="Seconds to wait."
    )
    quiet = click.option("-q", "--quiet", "is_quiet", is_flag=True, help="Print nothing but errors.")
    return conf_option(prefix_option(plugin_path_option(timeout(quiet(verbosity_options(function))))))


@contextmanager
def _migrator(
    conf: str | None, prefix: str | None, plugin_path: tuple[str, ...], lock_timeout: float, is_quiet: bool
) -> "Iterator[Migrator]":
    from headgate.cli.documents import plugin_catalog
    from headgate.node.database import engine_of, migrator_of
    from headgate.store.migration import MigrationError
    from headgate.store.sql.connect import DatabaseError

    settings = settings_or_fail(conf, overrides(prefix, plugin_path))
    if settings.datastore.database == "off":
        raise CommandError(
            "there are no migrations with database = off", hint="Set database = sqlite or database = postgres."
        )
    try:
        engine = engine_of(settings)
        try:
            report: Callable[[str], None] = (lambda line: None) if is_quiet else click.echo
            yield migrator_of(engine, plugin_catalog(settings), lock_timeout_s=lock_timeout, report=report)
        finally:
            engine.dispose()
    except PluginLoadError as error:
        raise fault_error("in the plugins", error.faults) from error
    except (DatabaseError, MigrationError) as error:
        raise CommandError(str(error)) from error


@command.command("bootstrap")
@_options
@click.option("-f", "--force", "is_forced", is_flag=True, help="Drop everything first.")
def bootstrap_command(
    conf: str | None,
    prefix: str | None,
    plugin_path: tuple[str, ...],
    lock_timeout: float,
    is_quiet: bool,
    is_forced: bool,
) -> None:
    """Make all tables of an empty database."""
    with _migrator(conf, prefix, plugin_path, lock_timeout, is_quiet) as migrator:
        if is_forced:
            migrator.reset()
        if not migrator.bootstrap() and not is_quiet:
            click.echo("Database already bootstrapped")


@command.command("up")
@_options
def up_command(
    conf: str | None, prefix: str | None, plugin_path: tuple[str, ...], lock_timeout: float, is_quiet: bool
) -> None:
    """Run the new migrations; nodes of the version before can go on."""
    with _migrator(conf, prefix, plugin_path, lock_timeout, is_quiet) as migrator:
        has_run = migrator.up()
        if is_quiet:
            return
        if not has_run:
            click.echo("Database is already up-to-date")
        elif migrator.state().pending:
            click.echo("\nDatabase has pending migrations; run 'headgate migrations finish' when ready")


@command.command("finish")
@_options
def finish_command(
    conf: str | None, prefix: str | None, plugin_path: tuple[str, ...], lock_timeout: float, is_quiet: bool
) -> None:
    """Run what waits until no node of the version before is left."""
    with _migrator(conf, prefix, plugin_path, lock_timeout, is_quiet) as migrator:
        if not migrator.finish() and not is_quiet:
            click.echo("No pending migrations to finish")


@command.command("list")
@_options
def list_command(
    conf: str | None, prefix: str | None, plugin_path: tuple[str, ...], lock_timeout: float, is_quiet: bool
) -> None:
    """Show what ran. Exit code: 3 needs bootstrap, 4 has pending ones, 5 has new ones, else 0."""
    with _migrator(conf, prefix, plugin_path, lock_timeout, is_quiet) as migrator:
        state = migrator.state()
    if not is_quiet:
        for line in _lines(state):
            click.echo(line)
    code = _exit_code(state)
    if code:
        raise click.exceptions.Exit(code)


@command.command("status")
@_options
def status_command(
    conf: str | None, prefix: str | None, plugin_path: tuple[str, ...], lock_timeout: float, is_quiet: bool
) -> None:
    """Show what ran as JSON."""
    with _migrator(conf, prefix, plugin_path, lock_timeout, is_quiet) as migrator:
        state = migrator.state()
    document: dict[str, object] = {"needs_bootstrap": state.needs_bootstrap}
    for key, found in (
        ("executed_migrations", state.executed),
        ("pending_migrations", state.pending),
        ("new_migrations", state.new),
    ):
        document[key] = [{"namespace": subsystem, "migrations": names} for subsystem, names in found.items()]
    click.echo(json.dumps(document, indent=2))


@command.command("reset")
@_options
@click.option("-y", "--yes", "is_confirmed", is_flag=True, help="Do not ask.")
def reset_command(
    conf: str | None,
    prefix: str | None,
    plugin_path: tuple[str, ...],
    lock_timeout: float,
    is_quiet: bool,
    is_confirmed: bool,
) -> None:
    """Drop every table of the database, with all that is in it."""
    if not is_confirmed:
        if not sys.stdin.isatty():
            raise CommandError("not a tty: invoke 'reset' non-interactively with the --yes flag")
        click.confirm("Are you sure? This operation is irreversible.", abort=True)
    with _migrator(conf, prefix, plugin_path, lock_timeout, is_quiet) as migrator:
        if not migrator.reset():
            raise CommandError("Database not bootstrapped, nothing to reset")
    if not is_quiet:
        click.echo("Database successfully reset")


def _exit_code(state: "MigrationState") -> int:
    if state.needs_bootstrap:
        return NEEDS_BOOTSTRAP_EXIT
    if state.pending:
        return PENDING_EXIT
    return NEW_EXIT if state.new else 0


def _lines(state: "MigrationState") -> Iterator[str]:
    if state.needs_bootstrap:
        yield "Database needs bootstrapping; run 'headgate migrations bootstrap'"
        return
    for title, found in (
        ("Executed migrations:", state.executed),
        ("Pending migrations:", state.pending),
        ("New migrations available:", state.new),
    ):
        if found:
            yield title
            for subsystem, names in found.items():
                yield f"{subsystem}: {', '.join(names)}"
    if state.pending:
        yield "\nRun 'headgate migrations finish' to finish them"
    elif state.new:
        yield "\nRun 'headgate migrations up' to proceed"
