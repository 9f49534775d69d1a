"""Checking one plugin: where it lies, whether it loads, and every fault that its code shows without running.

Owns how a path becomes an origin (a file, a package with handler.py, a project with pyproject.toml) and the checks that
a start does not make because a plugin could still work: misspelt phases, methods that cannot be called as phases are.
"""

import inspect
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headgate.cli.output import CommandError
from headgate.errors import GatewayError, PluginLoadError
from headgate.pdk import Plugin
from headgate.pdk._node import node
from headgate.pdk.plugin import config_model_of
from headgate.policy.catalog import (
    ENTRY_POINT_GROUP,
    PATH_PACKAGE,
    Catalog,
    Origin,
    PluginType,
    class_faults,
    load_from,
    load_handler,
    misspelt_phases,
    phases_of,
)
from headgate.schema import PluginConfig
from headgate.schema.describe import schema_json

_ARGUMENT_COUNTS = {"init_worker": 0}
"""How many arguments a phase's method is called with, beside `self`; all others get one."""


@dataclass(frozen=True)
class Checked:
    """What came of checking one plugin."""

    name: str
    where: str
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """A plugin found below a path; `import_path` are directories its modules are imported from."""

    name: str
    origin: Origin
    import_path: tuple[str, ...] = ()


def places(path: Path) -> list[Place]:
    """Return the plugins that a path holds.

    Raises: CommandError when it holds none.
    """
    path = path.expanduser().absolute()
    if path.is_file():
        if path.name == "handler.py":
            return [_package(path.parent)]
        if path.name == "handler.lua":
            return [_lua_plugin(path.parent)]
        if path.suffix != ".py":
            raise CommandError(f"{path} is no Python file")
        name = path.stem.replace("_", "-")
        return [Place(name, Origin(str(path), f"{PATH_PACKAGE}.{path.stem.replace('-', '_')}", path=path))]
    if (path / "handler.py").is_file():
        return [_package(path)]
    if (path / "handler.lua").is_file():
        return [_lua_plugin(path)]
    if lua_plugins := sorted(path.glob("kong/plugins/*/handler.lua")):
        return [_lua_plugin(file.parent) for file in lua_plugins]
    if (path / "pyproject.toml").is_file():
        return _project(path)
    raise CommandError(
        f"no plugin in {path}",
        hint="A plugin is a file NAME.py, a folder with handler.py, or a project whose pyproject.toml has "
        f'[project.entry-points."{ENTRY_POINT_GROUP}"].',
    )


def _package(folder: Path) -> Place:
    module = f"{PATH_PACKAGE}.{folder.name.replace('-', '_')}.handler"
    file = folder / "handler.py"
    return Place(folder.name.replace("_", "-"), Origin(str(file), module, path=file))


def _lua_plugin(folder: Path) -> Place:
    if folder.parts[-3:-1] != ("kong", "plugins"):
        raise CommandError(
            f"{folder} is not below kong/plugins", hint="A Lua plugin is a folder kong/plugins/NAME with handler.lua."
        )
    file = folder / "handler.lua"
    origin = Origin(str(file), f"kong.plugins.{folder.name}.handler", path=file, is_lua=True)
    return Place(folder.name, origin, (str(folder.parents[2]),))


def _project(folder: Path) -> list[Place]:
    file = folder / "pyproject.toml"
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise CommandError(f"{file} is not valid: {error}") from error
    points = document.get("project", {}).get("entry-points", {}).get(ENTRY_POINT_GROUP, {})
    if not points:
        raise CommandError(
            f"{file} names no plugin",
            hint=f'It needs a table [project.entry-points."{ENTRY_POINT_GROUP}"]: name = "package.handler".',
        )
    found = []
    roots = tuple(str(root) for root in (folder, folder / "src") if root.is_dir())
    for name, value in points.items():
        module, _, attribute = str(value).partition(":")
        found.append(Place(name, Origin(f"entry point {value} of {file}", module, attribute or "Handler"), roots))
    return found


def check_place(place: Place) -> Checked:
    """Load one plugin and return every fault of it."""
    if place.origin.is_lua:
        return _check_lua(place)
    with _importable(place.import_path):
        try:
            handler = load_handler(place.name, place.origin)
        except PluginLoadError as error:
            return Checked(place.name, place.origin.description, tuple(error.faults))
        faults = handler_faults(place.name, handler)
        try:
            faults += module_faults(load_from(place.name, place.origin))
        except PluginLoadError as error:
            faults += [fault for fault in error.faults if fault not in faults]
    return Checked(place.name, place.origin.description, tuple(faults))


def _check_lua(place: Place) -> Checked:
    """Load a Lua plugin and return its faults, and the calls it makes that are not there."""
    # Imported on use: checking Python plugins needs no Lua machine.
    from headgate.lua.checking import unsupported_calls

    assert place.origin.path is not None
    configuration = node.configuration
    templates = "".join(f"{root}/?.lua;{root}/?/init.lua;" for root in place.import_path)
    configuration["lua_package_path"] = templates + str(configuration.get("lua_package_path") or ";;")
    try:
        handler = load_handler(place.name, place.origin)
        faults = handler_faults(place.name, handler)
    except PluginLoadError as error:
        faults = list(error.faults)
    else:
        try:
            faults += module_faults(load_from(place.name, place.origin))
        except PluginLoadError as error:
            faults += [fault for fault in error.faults if fault not in faults]
    faults += unsupported_calls(place.origin.path.parent)
    return Checked(place.name, place.origin.description, tuple(faults))


def module_faults(plugin: PluginType) -> list[str]:
    """Return every fault of what stands beside a loaded plugin's handler.

    Its entities beside others', its migrations, its paths in the Admin API.
    """
    faults: list[str] = []
    try:
        catalog = Catalog([plugin])
        faults += catalog.admin_paths().faults.get(plugin.name, ())
        catalog.migrations()
    except PluginLoadError as error:
        faults += error.faults
    return faults


def handler_faults(name: str, handler: type[Plugin[Any]]) -> list[str]:
    """Return every fault of a plugin's class."""
    faults = class_faults(name, handler)
    faults += [f"plugin '{name}' {text}" for text in misspelt_phases(handler)]
    phases = phases_of(handler)
    if not phases:
        faults.append(f"plugin '{name}' has no phase: nothing would ever call it")
    for phase in sorted(phases):
        text = _argument_fault(handler, phase)
        if text is not None:
            faults.append(f"plugin '{name}': {text}")
    model = config_model_of(handler)
    if model is not None and issubclass(model, PluginConfig):
        try:
            schema_json(model)
        # A model is the plugin's code: whatever building its schema raises is that plugin's fault.
        except Exception as error:
            if any(str(error) in fault for fault in faults):
                return faults
            kind = "" if isinstance(error, GatewayError) else f"{type(error).__name__}: "
            faults.append(f"plugin '{name}' has a configuration that cannot be used: {kind}{error}")
    return faults


def _argument_fault(handler: type[Plugin[Any]], phase: str) -> str | None:
    """Say why a method cannot be called as its phase is; None when it can."""
    method = inspect.getattr_static(handler, phase)
    function = getattr(handler, phase)
    count = _ARGUMENT_COUNTS.get(phase, 1)
    bound = [] if isinstance(method, staticmethod) or inspect.ismethod(function) else [None]
    where = _place_of(function)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return f"{phase} has a yield in it, so that calling it does nothing{where}"
    try:
        inspect.signature(function).bind(*bound, *([None] * count))
    except TypeError:
        expected = f"{phase}(self)" if count == 0 else f"{phase}(self, {'configs' if phase == 'configure' else 'conf'})"
        return f"{phase} cannot be called: write it as {expected}{where}"
    except ValueError:
        return None
    return None


def _place_of(function: Any) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f" ({code.co_filename}:{code.co_firstlineno})" if code is not None else ""


@contextmanager
def _importable(directories: tuple[str, ...]) -> Iterator[None]:
    """Have modules of a project found first, whether it is installed or not; they are forgotten afterwards."""
    saved = list(sys.path)
    known = set(sys.modules)
    sys.path[:0] = directories
    try:
        yield
    finally:
        sys.path[:] = saved
        for name in set(sys.modules) - known:
            file = getattr(sys.modules[name], "__file__", None)
            if file is not None and any(Path(file).is_relative_to(directory) for directory in directories):
                del sys.modules[name]
