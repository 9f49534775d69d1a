"""Edits gRPC metadata both ways and answers calls that ask for it, for the tests of gRPC."""

from headgate import Plugin, PluginConfig, kong


class Config(PluginConfig):
    """Nothing to configure."""


class Handler(Plugin[Config]):
    """Adds a request and a response field; refuses calls with `x-refuse`."""

    VERSION = "1.0.0"
    PRIORITY = 50

    def access(self, conf: Config) -> None:
        """Add to the request, or refuse it."""
        if kong.request.get_header("x-refuse"):
            kong.response.exit(403, "refused by a plugin")
        kong.service.request.set_header("x-from-plugin", "request")

    async def header_filter(self, conf: Config) -> None:
        """Add to the response."""
        kong.response.set_header("x-from-plugin", "response")
