"""A plugin with `response` and a filter, which exclude each other."""

from headgate import Plugin, PluginConfig


class Config(PluginConfig):
    """Nothing."""


class Handler(Plugin[Config]):
    """Both."""

    VERSION = "1.0.0"
    PRIORITY = 1

    def response(self, conf: Config) -> None: ...

    def header_filter(self, conf: Config) -> None: ...
