"""A plugin as people write them: three phases, PDK calls in each."""

from headgate import Plugin, PluginConfig, kong


class Config(PluginConfig):
    """The header to look for and to answer with."""

    header: str = "X-Bench"


class Handler(Plugin[Config]):
    """Reads and sets headers on the way in and out, and reads what a log entry needs."""

    VERSION = "1.0.0"
    PRIORITY = 10

    def access(self, conf: Config) -> None:
        """Read the request, change what goes upstream."""
        token = kong.request.get_header("authorization")
        kong.service.request.set_header(conf.header, "anonymous" if token is None else "known")
        kong.ctx.plugin.path = kong.request.get_path()

    def header_filter(self, conf: Config) -> None:
        """Change the response."""
        kong.response.set_header(conf.header, kong.ctx.plugin.path)

    def log(self, conf: Config) -> None:
        """Read what came of it."""
        if kong.response.get_status() >= 500:
            kong.log.warn("upstream failed for ", kong.ctx.plugin.path)
