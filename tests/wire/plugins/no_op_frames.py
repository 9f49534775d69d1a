"""Looks at every message and leaves it as it is."""

from headgate import Plugin, PluginConfig, kong


class Handler(Plugin[PluginConfig]):
    VERSION = "1.0.0"
    PRIORITY = 10

    def ws_client_frame(self, conf: PluginConfig) -> None:
        kong.websocket.client.get_frame()

    def ws_upstream_frame(self, conf: PluginConfig) -> None:
        kong.websocket.upstream.get_frame()
