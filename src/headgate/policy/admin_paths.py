"""The paths that plugins bring for the Admin API: the module `api` beside a plugin's handler.

Owns what such a module must hold. Only control imports it. All faults are lines of a PluginLoadError.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from headgate.errors import PluginLoadError
from headgate.pdk.admin_api import AdminPath
from headgate.policy.daos import own_module

_PATH: Final = re.compile(r"(/([\w.~-]+|:\w+|\{\w+\}))+")
_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")


def plugin_admin_paths(plugin_name: str, package: str | None, load: Callable[[str], Any]) -> tuple[AdminPath, ...]:
    """Return what `api.PATHS` of a plugin lists; () without such a module.

    Args: load imports a module by name; it raises PluginLoadError.
    """
    module = own_module(package, "api", load)
    if module is None:
        return ()
    paths = getattr(module, "PATHS", None)
    if not isinstance(paths, (list, tuple)):
        raise PluginLoadError(f"plugin '{plugin_name}': api.py needs PATHS, a list of AdminPath")
    return checked_paths(plugin_name, "api.py", paths)


def checked_paths(plugin_name: str, file_name: str, paths: Sequence[Any]) -> tuple[AdminPath, ...]:
    """Return paths as they are. Raises: PluginLoadError with every fault of them."""
    faults = [f"plugin '{plugin_name}': {file_name}: {text}" for path in paths for text in _faults(path)]
    if faults:
        raise PluginLoadError(faults)
    return tuple(paths)


def _faults(path: Any) -> list[str]:
    if not isinstance(path, AdminPath):
        return [f"PATHS holds a {type(path).__name__}, not an AdminPath"]
    faults = []
    # What stands in a plugin's file need not be of the types it should be.
    text: Any = path.path
    methods: Mapping[str, Any] = path.methods
    if not isinstance(text, str) or _PATH.fullmatch(text) is None:
        faults.append(f"'{text}' is no path: segments of letters, digits and . _ ~ -, or {{name}}")
    faults.extend(f"{text}: there is no method '{name}'" for name in methods if name not in _METHODS)
    faults.extend(f"{text}: {name} is no function" for name, run in methods.items() if not callable(run))
    if not methods:
        faults.append(f"{path.path}: it has no methods")
    return faults
