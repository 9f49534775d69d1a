"""Headgate: an API gateway with a Rust engine and decisions in Python.

The names a plugin needs are here: `Plugin`, `PluginConfig`, `blocking`, `kong`, and `EntityError`, which `kong.db`
raises. They are loaded on first use, so that importing a submodule (the command line, the supervisor) does not pull in
the plugin runtime.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headgate.errors import EntityError
    from headgate.pdk import Plugin, blocking, kong
    from headgate.schema import PluginConfig

__all__ = ["EntityError", "Plugin", "PluginConfig", "__version__", "blocking", "kong"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in ("Plugin", "blocking", "kong"):
        from headgate import pdk

        value = getattr(pdk, name)
    elif name == "EntityError":
        from headgate import errors

        value = errors.EntityError
    elif name == "PluginConfig":
        from headgate import schema

        value = schema.PluginConfig
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value
