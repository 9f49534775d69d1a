"""What `headgate config diff` compares with, and how it shows what differs."""

import json
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headgate.cli.documents import parse
from headgate.cli.output import uses_colour
from headgate.config.load import Settings

if TYPE_CHECKING:
    from headgate.policy.catalog import Catalog
    from headgate.store.difference import Difference
    from headgate.store.snapshot import Snapshot

_SIGNS = {"create": ("+", "green"), "update": ("~", "yellow"), "delete": ("-", "red")}
_LONGEST_VALUE = 80


def current_snapshot(settings: Settings, catalog: "Catalog") -> "Snapshot":
    """Return what the database holds; without one what the node has in force, else its declarative file.

    Nothing is written: an empty database counts as an empty configuration.
    Raises: GatewayError.
    """
    from headgate.store.snapshot import EMPTY

    datastore = settings.datastore
    if datastore.database == "off":
        from headgate.node.kept import kept

        snapshot = kept(settings.prefix)
        if snapshot is not None or datastore.declarative_config is None:
            return snapshot or EMPTY
        return parse(Path(datastore.declarative_config).expanduser(), catalog, settings)
    from headgate.node.database import engine_of, migrator_of, open_store

    if datastore.database == "sqlite" and not (settings.prefix / datastore.sqlite_path).exists():
        return EMPTY
    engine = engine_of(settings)
    try:
        is_empty = migrator_of(engine, catalog).state().needs_bootstrap
    finally:
        engine.dispose()
    if is_empty:
        return EMPTY
    with closing(open_store(settings, catalog)) as store:
        return store.snapshot()


def print_differences(found: Iterable["Difference"]) -> None:
    """Print a line for each entity that differs, and one below for each of its fields."""
    is_coloured = uses_colour(sys.stdout)
    for one in found:
        sign, colour = _SIGNS[one.operation]
        line = f"{sign} {one.entity_type} {one.name}"
        click.echo(click.style(line, fg=colour) if is_coloured else line)
        width = max(map(len, one.fields), default=0)
        for name, (now, then) in one.fields.items():
            click.echo(f"    {name:<{width}}  {_shown(now)} -> {_shown(then)}")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."
