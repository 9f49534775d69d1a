"""The configuration that a command looks at, compiled as a worker compiles it."""

from pathlib import Path

from headgate.cli.documents import parse
from headgate.cli.output import CommandError, fault_error
from headgate.config.load import Settings
from headgate.errors import DeclarativeError, PlanError
from headgate.node.kept import kept
from headgate.policy.catalog import Catalog
from headgate.policy.compile import CompiledPlan, compile_plan
from headgate.store.declarative import load_declarative
from headgate.store.snapshot import Snapshot


def loaded_snapshot(settings: Settings, catalog: Catalog, declarative: str | None) -> Snapshot:
    """Return the entities of a declarative file, else of the document that the settings name, else of the node.

    Raises: CommandError with every fault, or when there is no configuration at all.
    """
    datastore = settings.datastore
    file = declarative or datastore.declarative_config
    try:
        if file is not None:
            return parse(Path(file).expanduser(), catalog, settings)
        if datastore.declarative_config_string is not None:
            return load_declarative(
                datastore.declarative_config_string, plugin_types=catalog, entity_types=catalog.entity_types
            )
    except DeclarativeError as error:
        raise CommandError(f"{file or 'declarative_config_string'} has faults:\n{error.report()}") from error
    except FileNotFoundError:
        raise CommandError(f"no file at: {file}") from None
    snapshot = kept(settings.prefix)
    if snapshot is None:
        raise CommandError(
            f"there is no configuration: no declarative file, and no node has run in {settings.prefix}",
            hint="Give one with --declarative FILE, or the settings of a node with -c.",
        )
    return snapshot


def compiled(settings: Settings, snapshot: Snapshot, catalog: Catalog) -> CompiledPlan:
    """Return the plan that workers with these settings would serve."""
    general = settings.general
    try:
        return compile_plan(
            snapshot,
            catalog,
            router_flavor=settings.datastore.router_flavor,
            ordering_algorithm=general.plugin_ordering_algorithm,
            is_broken_allowed=general.allow_broken_plugins,
        )
    except PlanError as error:
        raise fault_error("in the configuration", error.faults) from error
