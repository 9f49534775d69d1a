"""Reading plugins and declarative documents for commands that check without a running node."""

from pathlib import Path
from typing import TYPE_CHECKING

from headgate.cli.output import CommandError
from headgate.config.load import Settings
from headgate.errors import DeclarativeError

if TYPE_CHECKING:
    from headgate.policy.catalog import Catalog
    from headgate.store.snapshot import Snapshot


def configure_pdk(settings: Settings) -> None:
    """Make the settings known to plugins, which may read them while they are imported."""
    from headgate.pdk import configure_node

    configure_node(settings.node_configuration(), settings.general.node_id)


def plugin_catalog(settings: Settings) -> "Catalog":
    """Load the plugins that the settings name; PluginLoadError with every fault, unless the settings allow them."""
    from headgate.engine import core_entity_types
    from headgate.policy.catalog import load_catalog

    configure_pdk(settings)
    general = settings.general
    return load_catalog(
        general.plugins,
        general.plugin_directories,
        is_broken_allowed=general.allow_broken_plugins,
        core_types=core_entity_types(settings.datastore.router_flavor),
    )


STANDARD_STREAM = "-"
"""The name of a file that stands for standard input, or output."""


def readable_document(file: str) -> Path:
    """Return the path of a declarative file that a person names; `-` is standard input.

    Raises: CommandError.
    """
    path = Path("/dev/stdin" if file == STANDARD_STREAM else file)
    if not path.exists() or path.is_dir():
        raise CommandError(f"no file at: {file}")
    return path


def parse(path: Path, catalog: "Catalog", settings: Settings) -> "Snapshot":
    """Parse a declarative file, sealed values with the node's keys; DeclarativeError with every fault."""
    from headgate.policy.configuration import load_configuration
    from headgate.store.cipher import cipher_of_node

    return load_configuration(
        path.read_bytes(),
        catalog,
        # What comes through a pipe has no ending that tells its format.
        filename=None if path.is_relative_to("/dev") else path.name,
        is_broken_allowed=settings.general.allow_broken_plugins,
        cipher=cipher_of_node(settings.datastore),
    )


def declarative_faults(settings: Settings, catalog: "Catalog") -> list[str]:
    """Return the faults of the declarative configuration that the settings name: one text, with its report."""
    from headgate.policy.configuration import load_configuration

    datastore = settings.datastore
    try:
        if datastore.declarative_config is not None:
            where = f"error parsing declarative config file {datastore.declarative_config}"
            parse(Path(datastore.declarative_config).expanduser(), catalog, settings)
        elif datastore.declarative_config_string is not None:
            where = "error parsing declarative config"
            load_configuration(
                datastore.declarative_config_string,
                catalog,
                is_broken_allowed=settings.general.allow_broken_plugins,
            )
    except DeclarativeError as error:
        return [f"{where}:\n{error.report()}"]
    except OSError as error:
        return [f"{where}: {error.strerror}"]
    return []
