"""Finding plugins for commands that look at them: those the settings load, and those that could be loaded."""

from collections.abc import Sequence
from dataclasses import dataclass

from headgate.cli.documents import configure_pdk
from headgate.cli.output import CommandError, fault_error
from headgate.config.load import Settings
from headgate.errors import PluginLoadError
from headgate.policy.catalog import Catalog, PluginType, available_names, bundled_names, load_catalog


@dataclass(frozen=True)
class Found:
    """Everything that was found: `plugins` in static order, `faults` of those that cannot be loaded."""

    plugins: Sequence[PluginType]
    enabled: frozenset[str]
    faults: Sequence[str]


def find_all(settings: Settings) -> Found:
    """Load every plugin that can be found, whether the settings name it or not; one at fault hides no other."""
    configure_pdk(settings)
    wanted = settings.general.plugins
    enabled = {name for name in wanted if name not in ("bundled", "off")}
    if "bundled" in wanted:
        enabled |= set(bundled_names())
    directories = settings.general.plugin_directories
    names = sorted({*available_names(directories), *enabled})
    faults: list[str] = []
    try:
        plugins = list(load_catalog(names, directories).values())
    except PluginLoadError:
        plugins = []
        for name in names:
            try:
                plugins += load_catalog([name], directories).values()
            except PluginLoadError as error:
                faults += error.faults
        plugins = list(Catalog(plugins).values())
    return Found(plugins, frozenset(enabled), faults)


def find_one(settings: Settings, name: str) -> PluginType:
    """Load one plugin by name, whether the settings name it or not; a command error when there is none."""
    configure_pdk(settings)
    directories = settings.general.plugin_directories
    known = available_names(directories)
    if name not in known:
        raise CommandError(f"no plugin is called '{name}'", hint=f"There are: {', '.join(known)}.")
    try:
        return load_catalog([name], directories)[name]
    except PluginLoadError as error:
        raise fault_error(f"in the plugin '{name}'", error.faults) from error
