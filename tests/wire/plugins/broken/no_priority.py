"""A plugin that forgot its priority."""

from headgate import Plugin, PluginConfig


class Config(PluginConfig):
    """Nothing."""


class Handler(Plugin[Config]):
    """No PRIORITY."""

    VERSION = "1.0.0"

    def access(self, conf: Config) -> None: ...
