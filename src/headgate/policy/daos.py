"""The entities and migrations that a plugin brings: its modules `daos` and `migrations`, beside its handler.

Owns where these modules are and what they must hold. What a declaration may say is `entities.declared`'s, running
migrations `store.sql`'s. All faults are lines of a PluginLoadError.
"""

import importlib
import importlib.util
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from headgate.entities.declared import declared_type
from headgate.entities.entity_type import EntityType
from headgate.entities.registry import ENTITY_TYPES, Registry
from headgate.errors import PluginLoadError
from headgate.schema import EntityDeclaration
from headgate.store.migration import Migration, MigrationError, migrations_of


def package_of(module: ModuleType) -> str | None:
    """Return the package in which a plugin's other modules are: the module itself, or that of its `handler`.

    None for a plugin that is a single file.
    """
    if hasattr(module, "__path__"):
        return module.__name__
    package, _, last = module.__name__.rpartition(".")
    return package if last == "handler" and package else None


def plugin_entities(plugin_name: str, package: str | None, load: Callable[[str], Any]) -> tuple[EntityType, ...]:
    """Return the entity types that `daos.ENTITIES` of a plugin declares; () without such a module.

    Args: load imports a module by name; it raises PluginLoadError.
    """
    module = own_module(package, "daos", load)
    if module is None:
        return ()
    declarations = getattr(module, "ENTITIES", None)
    if not isinstance(declarations, (list, tuple)):
        raise PluginLoadError(f"plugin '{plugin_name}': daos.py needs ENTITIES, a list of EntityDeclaration")
    faults = [
        f"plugin '{plugin_name}': ENTITIES of daos.py holds a {type(one).__name__}, not an EntityDeclaration"
        for one in declarations
        if not isinstance(one, EntityDeclaration)
    ]
    return declared_types(plugin_name, [one for one in declarations if isinstance(one, EntityDeclaration)], faults)


def declared_types(
    plugin_name: str, declarations: Iterable[EntityDeclaration], faults: Iterable[str] = ()
) -> tuple[EntityType, ...]:
    """Return the entity types of declarations. Args: faults, what was found before.

    Raises: PluginLoadError with every fault.
    """
    types: list[EntityType] = []
    told = list(faults)
    for declaration in declarations:
        try:
            types.append(declared_type(declaration))
        except ValueError as error:
            told.extend(f"plugin '{plugin_name}': {line}" for line in str(error).splitlines())
    if told:
        raise PluginLoadError(told)
    return tuple(types)


def plugin_migrations(
    plugin_name: str, package: str | None, load: Callable[[str], Any]
) -> tuple[Migration, ...] | None:
    """Return what the package `migrations` of a plugin lists; None without such a package."""
    module = own_module(package, "migrations", load)
    if module is None:
        return None
    try:
        return migrations_of(module, plugin_name, load)
    except MigrationError as error:
        raise PluginLoadError(f"plugin '{plugin_name}': {error}") from error


def with_plugin_entities(
    plugins: Iterable[tuple[str, tuple[EntityType, ...]]], core: Registry = ENTITY_TYPES
) -> Registry:
    """Return the gateway's entity types with those of plugins, plugin by plugin in the order of their names."""
    registry = core
    faults: list[str] = []
    for name, types in sorted(plugins, key=lambda plugin: plugin[0]):
        for entity_type in types:
            try:
                registry = registry.with_type(entity_type)
            except ValueError as error:
                faults.append(f"plugin '{name}': {error}")
    if faults:
        raise PluginLoadError(faults)
    return registry


def own_module(package: str | None, name: str, load: Callable[[str], Any]) -> Any:
    """Return a further module of a plugin; None when it has none of that name."""
    if package is None:
        return None
    importlib.invalidate_caches()
    full_name = f"{package}.{name}"
    return load(full_name) if importlib.util.find_spec(full_name) is not None else None
