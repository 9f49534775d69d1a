"""The plugins of this node: what the setting `plugins` names, found, imported and checked.

Owns where plugins come from: the modules of the bundled package, installed distributions (entry points of the group
`headgate.plugins`), the directories of the setting `plugin_path`, and Lua plugins on `lua_package_path`. What they do
is `runner`'s. All faults are reported at once, one clear line each.
"""

import difflib
import importlib
import importlib.machinery
import importlib.util
import inspect
import logging
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from headgate.entities.entity_type import Entity, EntityType
from headgate.entities.registry import ENTITY_TYPES, Registry
from headgate.errors import PluginLoadError
from headgate.lua import search
from headgate.pdk._node import node
from headgate.pdk.admin_api import AdminPath
from headgate.pdk.plugin import Plugin, config_model_of
from headgate.phases import Phase
from headgate.policy.admin_paths import checked_paths, plugin_admin_paths
from headgate.policy.daos import (
    declared_types,
    package_of,
    plugin_entities,
    plugin_migrations,
    with_plugin_entities,
)
from headgate.schema import PluginConfig, record_definition
from headgate.schema.stored import has_read_form, read
from headgate.store.migration import Migration

BUNDLED_PACKAGE = "headgate.plugins"
ENTRY_POINT_GROUP = "headgate.plugins"
PATH_PACKAGE = "headgate_plugin_path"
"""Modules found on `plugin_path` are imported below this name, so that none shadows an installed one."""

HANDLER_PHASES = (
    "init_worker",
    "configure",
    "certificate",
    "rewrite",
    "access",
    "response",
    "header_filter",
    "body_filter",
    "preread",
    "log",
    "ws_handshake",
    "ws_client_frame",
    "ws_upstream_frame",
    "ws_close",
)
"""Phases that call handlers, in the order of a request's way."""

UNKNOWN_PRIORITY = 2**63 - 1
"""Of a plugin that cannot be loaded: before all others, since it may be the one that lets nobody in."""

_VERSION = re.compile(r"v?\d+(\.\d+){0,2}([-+][\w.+-]*)?")
_SIMILARITY = 0.75

_log = logging.getLogger("headgate.policy")


@dataclass(frozen=True)
class PluginType:
    """One plugin: its code, not one of its instances. `phases` are those it has handlers for; `origin` says where
    from.
    """

    name: str
    version: str
    priority: int
    handler: type[Plugin[Any]]
    config_model: type[PluginConfig]
    phases: frozenset[str]
    origin: str
    package: str | None = None
    entities: tuple[EntityType, ...] = ()
    is_lua: bool = False
    fault: str | None = None
    """Why its code cannot be used; the other fields but the name are stand-ins then."""


@dataclass(frozen=True)
class AdminPaths:
    """The paths of all plugins for the Admin API; `faults`, by plugin, says why those of some are not among them."""

    paths: tuple[AdminPath, ...]
    faults: Mapping[str, Sequence[str]]


class Catalog(Mapping[str, PluginType]):
    """Plugin types by name, in the order in which they run: PRIORITY descending, then name descending.

    Handlers are made on first use, one object per plugin and process.
    """

    def __init__(self, types: Sequence[PluginType], core_types: Registry = ENTITY_TYPES) -> None:
        ordered = sorted(types, key=lambda plugin: (plugin.priority, plugin.name.encode()), reverse=True)
        self._types = {plugin.name: plugin for plugin in ordered}
        self._handlers: dict[str, Plugin[Any]] = {}
        self._found_paths: AdminPaths | None = None
        self.entity_types = with_plugin_entities(((plugin.name, plugin.entities) for plugin in types), core_types)

    def __getitem__(self, name: str) -> PluginType:
        return self._types[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __len__(self) -> int:
        return len(self._types)

    def migrations(self) -> dict[str, tuple[Migration, ...] | None]:
        """Import the migrations of the plugins that have entities, by plugin name; None where the plugin has none.

        Raises: PluginLoadError.
        """
        found: dict[str, tuple[Migration, ...] | None] = {}
        for plugin in sorted(self._types.values(), key=lambda entry: entry.name):
            own = _migrations(plugin)
            if own is not None or plugin.entities:
                found[plugin.name] = own
        return found

    def admin_paths(self) -> AdminPaths:
        """Import the paths that plugins bring for the Admin API, plugin by plugin in the order of their names.

        A plugin whose paths cannot be had brings none; why is in `faults`.
        """
        if self._found_paths is None:
            paths: list[AdminPath] = []
            faults: dict[str, list[str]] = {}
            for plugin in sorted(self._types.values(), key=lambda entry: entry.name):
                try:
                    paths.extend(self._admin_paths(plugin))
                except PluginLoadError as error:
                    faults[plugin.name] = error.faults
            self._found_paths = AdminPaths(tuple(paths), faults)
        return self._found_paths

    def _admin_paths(self, plugin: PluginType) -> tuple[AdminPath, ...]:
        if not plugin.is_lua:
            return plugin_admin_paths(plugin.name, plugin.package, _importer(plugin.name))
        from headgate.lua.api import admin_paths
        from headgate.lua.vm import vm

        return checked_paths(plugin.name, "api.lua", admin_paths(vm(), plugin.name, self.entity_types))

    def read_forms(self) -> dict[str, Callable[[Entity], Entity]]:
        """Return what makes of a stored entity the one that plugins read, for the types where the two differ."""
        forms: dict[str, Callable[[Entity], Entity]] = {
            kind.name: partial(read, kind.model) for kind in self.entity_types.values() if has_read_form(kind.model)
        }
        models = {name: one.config_model for name, one in self.items() if has_read_form(one.config_model)}
        if models:
            forms["plugins"] = lambda one: read(models[one["name"]], one) if one["name"] in models else one
        return forms

    def describe_entities(self) -> None:
        """Tell `kong.db` what it must know of the types of entities."""
        kinds = self.entity_types.values()
        node.entity_types = self.entity_types
        node.read_forms = self.read_forms()
        node.cache_keys = {kind.name: kind.cache_key for kind in kinds if kind.cache_key}
        node.primary_keys = {kind.name: kind.primary_key for kind in kinds if kind.own_key is not None}
        node.key_forms = self.entity_types.key_forms
        node.unique_kinds = {
            (kind.name, field): typed
            for kind in kinds
            for field in kind.lookup_fields
            if (typed := record_definition(kind.model).fields[field].definition.kind) != "string"
        }

    def handler(self, name: str) -> Plugin[Any]:
        """Return the handler object of a plugin, making it when there is none yet."""
        handler = self._handlers.get(name)
        if handler is None:
            handler = self._handlers[name] = self._types[name].handler()
        return handler


@dataclass(frozen=True)
class Origin:
    """A place where a plugin's code was found; `module:attribute`, or a file of `plugin_path`, or a Lua handler."""

    description: str
    module: str
    attribute: str = "Handler"
    path: Path | None = None
    is_lua: bool = False


def load_catalog(
    names: Sequence[str],
    plugin_path: Sequence[str] = (),
    *,
    is_broken_allowed: bool = False,
    core_types: Registry = ENTITY_TYPES,
) -> Catalog:
    """Load the plugins that the setting `plugins` names: `bundled`, names, or `off` as the first element.

    Args: `is_broken_allowed`: a plugin that cannot be loaded is in the catalog, with its `fault`; `core_types`: the
    gateway's own entity types, which depend on the router flavour.
    Raises: PluginLoadError with one line per fault.
    """
    bundled = _bundled()
    wanted: dict[str, None] = {}
    if names and names[0] != "off":
        for name in names:
            if name == "bundled":
                wanted.update(dict.fromkeys(sorted(bundled)))
            elif name != "off":
                wanted[name] = None
    installed = _installed()
    directories = [Path(directory) for directory in plugin_path]
    types: list[PluginType] = []
    faults: list[str] = []
    for name in wanted:
        origins = [*bundled.get(name, ()), *installed.get(name, ()), *_on_path(name, directories), *_in_lua(name)]
        try:
            plugin = _load(name, origins, directories)
            if is_broken_allowed:
                # Looked at here: without its tables, or with those of another one, all of the plugin is broken.
                _migrations(plugin)
                with_plugin_entities(((each.name, each.entities) for each in (*types, plugin)), core_types)
            types.append(plugin)
        except PluginLoadError as error:
            if is_broken_allowed:
                types.append(_broken(name, "; ".join(error.faults)))
            faults.extend(error.faults)
    if faults and not is_broken_allowed:
        raise PluginLoadError(faults)
    for fault in faults:
        _log.error("%s", fault)
    return Catalog(types, core_types)


def _broken(name: str, fault: str) -> PluginType:
    return PluginType(
        name, "unknown", UNKNOWN_PRIORITY, Plugin, PluginConfig, frozenset(), "cannot be loaded", fault=fault
    )


def bundled_names() -> list[str]:
    """Return the names of the bundled plugins."""
    return sorted(_bundled())


def available_names(plugin_path: Sequence[str] = ()) -> list[str]:
    """Return the names of all plugins that can be found, loaded or not; nothing is imported.

    In the directories of `plugin_path` a file counts when it has the word Handler in it.
    """
    names = {*_bundled(), *_installed()}
    for directory in map(Path, plugin_path):
        for file in (*directory.glob("*.py"), *directory.glob("*/handler.py")):
            stem = file.parent.name if file.name == "handler.py" and file.parent != directory else file.stem
            if not stem.startswith(("_", ".")) and b"Handler" in file.read_bytes():
                names.add(_dashed(stem))
    return sorted({*names, *search.plugin_names()})


def _bundled() -> dict[str, list[Origin]]:
    package = importlib.import_module(BUNDLED_PACKAGE)
    origins: dict[str, list[Origin]] = {}
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.startswith("_"):
            continue
        path = f"{BUNDLED_PACKAGE}.{module.name}"
        if module.ispkg and importlib.util.find_spec(f"{path}.handler") is not None:
            path += ".handler"
        origins[_dashed(module.name)] = [Origin(f"bundled module {path}", path)]
    return origins


def _installed() -> dict[str, list[Origin]]:
    origins: dict[str, list[Origin]] = {}
    for entry in metadata.entry_points(group=ENTRY_POINT_GROUP):
        distribution = entry.dist.name if entry.dist is not None else "unknown distribution"
        origins.setdefault(_dashed(entry.name), []).append(
            Origin(f"entry point {entry.value} of {distribution}", entry.module, entry.attr or "Handler")
        )
    return origins


def _on_path(name: str, directories: Sequence[Path]) -> list[Origin]:
    origins: list[Origin] = []
    for directory in directories:
        for stem in dict.fromkeys((name, name.replace("-", "_"), name.replace("_", "-"))):
            module = f"{PATH_PACKAGE}.{stem.replace('-', '_')}"
            file, package_file = directory / f"{stem}.py", directory / stem / "handler.py"
            if file.is_file():
                origins.append(Origin(str(file), module, path=file))
            if package_file.is_file():
                origins.append(Origin(str(package_file), f"{module}.handler", path=package_file))
    return origins


def _in_lua(name: str) -> list[Origin]:
    module = f"kong.plugins.{name}.handler"
    file = search.find(module, search.paths())
    return [] if file is None else [Origin(str(file), module, path=file, is_lua=True)]


def _distinct(origins: Sequence[Origin]) -> Sequence[Origin]:
    """Return the origins, those of one file once: an editable installation may be on `plugin_path` too."""
    if len(origins) < 2:
        return origins
    by_file: dict[Path | str, Origin] = {}
    for origin in origins:
        by_file.setdefault(_file_of(origin) or origin.description, origin)
    return list(by_file.values())


def _file_of(origin: Origin) -> Path | None:
    if origin.path is not None:
        return origin.path.resolve()
    try:
        spec = importlib.util.find_spec(origin.module)
    # The package around a module is code: whatever it raises is told when it is loaded.
    except Exception:
        return None
    return Path(spec.origin).resolve() if spec is not None and spec.origin is not None else None


def _load(name: str, origins: Sequence[Origin], directories: Sequence[Path]) -> PluginType:
    if not origins:
        searched = [BUNDLED_PACKAGE, f"entry points of the group {ENTRY_POINT_GROUP}", *map(str, directories)]
        searched += search.tried(f"kong.plugins.{name}.handler")
        raise PluginLoadError(f"{name} plugin is enabled but not installed; looked in {', '.join(searched)}")
    origins = _distinct(origins)
    if len(origins) > 1:
        found = " and ".join(origin.description for origin in origins)
        raise PluginLoadError(f"plugin '{name}' is there {len(origins)} times: {found}; keep one")
    plugin = load_from(name, origins[0])
    for text in misspelt_phases(plugin.handler):
        _log.warning("plugin '%s' %s", name, text)
    return plugin


def load_from(name: str, origin: Origin) -> PluginType:
    """Import and check one plugin from the place where it was found.

    Raises: PluginLoadError with every fault.
    """
    handler = load_handler(name, origin)
    faults = class_faults(name, handler)
    if faults:
        raise PluginLoadError(faults)
    model = config_model_of(handler) or PluginConfig
    if origin.is_lua:
        return PluginType(
            name,
            handler.VERSION,
            handler.PRIORITY,
            handler,
            model,
            phases_of(handler),
            origin.description,
            entities=_lua_entities(name),
            is_lua=True,
        )
    package = package_of(sys.modules[origin.module])
    return PluginType(
        name,
        handler.VERSION,
        handler.PRIORITY,
        handler,
        model,
        phases_of(handler),
        origin.description,
        package,
        plugin_entities(name, package, _importer(name)),
    )


def load_handler(name: str, origin: Origin) -> type[Plugin[Any]]:
    """Import the class of one plugin, unchecked.

    Raises: PluginLoadError when that is not possible.
    """
    if origin.is_lua and origin.path is not None:
        # Imported on use: a node without Lua plugins has no Lua machine.
        from headgate.lua.handler import load_plugin

        return load_plugin(name, origin.path)[0]
    module = _import(name, origin)
    handler = getattr(module, origin.attribute, None)
    if not (isinstance(handler, type) and issubclass(handler, Plugin)):
        raise PluginLoadError(
            f"plugin '{name}' cannot be loaded: {origin.description} has no class "
            f"{origin.attribute} derived from headgate.Plugin"
        )
    return handler


def _lua_entities(name: str) -> tuple[EntityType, ...]:
    from headgate.lua.daos import declarations
    from headgate.lua.vm import vm

    return declared_types(name, declarations(vm(), name))


def _migrations(plugin: PluginType) -> tuple[Migration, ...] | None:
    if not plugin.is_lua:
        return plugin_migrations(plugin.name, plugin.package, _importer(plugin.name))
    from headgate.lua.migrations import migrations
    from headgate.lua.vm import vm

    return migrations(vm(), plugin.name, [entity_type.name for entity_type in plugin.entities])


def _importer(plugin_name: str) -> Callable[[str], ModuleType]:
    """Return a function that imports a further module of a plugin, with faults told as those of its handler are."""
    return lambda module: _import(plugin_name, Origin(module, module))


def _import(name: str, origin: Origin) -> ModuleType:
    try:
        if origin.path is not None:
            return _import_path(origin.module, origin.path)
        return importlib.import_module(origin.module)
    # A plugin may call sys.exit at import: a fault of that plugin like any other.
    except (Exception, SystemExit) as error:
        where = _place(error)
        text = error.msg if isinstance(error, SyntaxError) else str(error)
        kind = type(error).__name__
        raise PluginLoadError(f"plugin '{name}' cannot be imported: {kind}: {text}{where}") from error


def _import_path(module_name: str, path: Path) -> ModuleType:
    """Import a file of `plugin_path`, or `handler` of a package there, anew."""
    _ensure_package(PATH_PACKAGE, None, [])
    if not module_name.endswith(".handler"):
        return _execute(module_name, path, None)
    package = module_name.removesuffix(".handler")
    for loaded in [key for key in sys.modules if key == package or key.startswith(f"{package}.")]:
        del sys.modules[loaded]
    init = path.parent / "__init__.py"
    if init.is_file():
        _execute(package, init, [str(path.parent)])
    else:
        _ensure_package(package, None, [str(path.parent)])
    importlib.invalidate_caches()
    return importlib.import_module(module_name)


def _ensure_package(name: str, loader: Any, locations: list[str]) -> None:
    if name in sys.modules:
        return
    spec = importlib.machinery.ModuleSpec(name, loader, is_package=True)
    spec.submodule_search_locations = locations
    sys.modules[name] = importlib.util.module_from_spec(spec)


def _execute(name: str, path: Path, locations: list[str] | None) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=locations)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _place(error: BaseException) -> str:
    """Return ` (file:line)` of the plugin's line that failed: the innermost one that is not the import machinery's."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}:{error.lineno})"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen importlib") and frame.filename not in (__file__, importlib.__file__)
    ]
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""


def phases_of(handler: type[Plugin[Any]]) -> frozenset[str]:
    """Return the phases that a class has methods for."""
    return frozenset(phase for phase in HANDLER_PHASES if callable(getattr(handler, phase, None)))


def class_faults(name: str, handler: type[Plugin[Any]]) -> list[str]:
    """Return every reason why a class cannot be a plugin."""
    faults: list[str] = []
    version = getattr(handler, "VERSION", None)
    priority = getattr(handler, "PRIORITY", None)
    if isinstance(priority, bool) or not isinstance(priority, int):
        faults.append(
            f'Plugin "{name}" cannot be loaded because its PRIORITY field is not a valid integer number, '
            f'got: "{_shown(priority)}".'
        )
    if not isinstance(version, str) or _VERSION.fullmatch(version) is None:
        faults.append(
            f'Plugin "{name}" cannot be loaded because its VERSION field does not follow the "x.y.z" format, '
            f'got: "{_shown(version)}".'
        )
    phases = phases_of(handler)
    if "response" in phases and phases & {"header_filter", "body_filter"}:
        faults.append(
            f'Plugin "{name}" can\'t be loaded because it implements both `response` and '
            "`header_filter` or `body_filter` methods."
        )
    model = config_model_of(handler) or PluginConfig
    if not issubclass(model, PluginConfig):
        faults.append(f"no configuration schema found for plugin: {name}")
        return faults
    try:
        record_definition(cast("Any", model))
    except TypeError as error:
        faults.append(f"error loading plugin schemas: on plugin '{name}': {error}")
    return faults


def misspelt_phases(handler: type[Plugin[Any]]) -> list[str]:
    """Return a text for each public method that looks like a misspelt phase: nothing would ever call it."""
    known = {*HANDLER_PHASES, *(phase.label for phase in Phase)}
    texts = []
    for method, _ in inspect.getmembers(handler, callable):
        if method.startswith("_") or method in known:
            continue
        similar = difflib.get_close_matches(method, HANDLER_PHASES, n=1, cutoff=_SIMILARITY)
        if similar:
            texts.append(f"has a method '{method}' that no phase calls; did you mean '{similar[0]}'?")
    return texts


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _shown(value: Any) -> str:
    return "nil" if value is None else str(value)
