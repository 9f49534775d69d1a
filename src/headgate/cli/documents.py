"""Reading plugins and declarative documents for commands that check without a running node."""

from pathlib import Path
from typing import TYPE_CHECKING

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
    """Load the plugins that the settings name; PluginLoadError with every fault."""
    from headgate.policy.catalog import load_catalog

    configure_pdk(settings)
    return load_catalog(settings.general.plugins, settings.general.plugin_directories)


def parse(path: Path, catalog: "Catalog") -> "Snapshot":
    """Parse a declarative file; DeclarativeError with every fault."""
    from headgate.store.declarative import load_declarative

    return load_declarative(path.read_bytes(), plugin_types=catalog, filename=path.name)


def declarative_faults(settings: Settings, catalog: "Catalog") -> list[str]:
    """Return the faults of the declarative configuration that the settings name: one text, with its report."""
    from headgate.store.declarative import load_declarative

    datastore = settings.datastore
    try:
        if datastore.declarative_config is not None:
            where = f"error parsing declarative config file {datastore.declarative_config}"
            parse(Path(datastore.declarative_config).expanduser(), catalog)
        elif datastore.declarative_config_string is not None:
            where = "error parsing declarative config"
            load_declarative(datastore.declarative_config_string, plugin_types=catalog)
    except DeclarativeError as error:
        return [f"{where}:\n{error.report()}"]
    except OSError as error:
        return [f"{where}: {error.strerror}"]
    return []
