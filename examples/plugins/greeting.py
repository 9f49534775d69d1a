"""The quick start's own plugin: greets the consumer by name, and turns away who asks too rudely."""

from headgate import Plugin, PluginConfig, kong


class Config(PluginConfig):
    """What the plugin can be told."""

    header: str = "X-Greeting"
    greeting: str = "Hello"


class Handler(Plugin[Config]):
    """One object for each worker serves all requests; what belongs to a request is in `kong.ctx.plugin`."""

    VERSION = "1.0.0"
    PRIORITY = 100

    def access(self, conf: Config) -> None:
        """Decide before anything is sent upstream."""
        if kong.request.get_header("x-mood") == "rude":
            kong.response.exit(403, {"message": "please ask nicely"})
        consumer = kong.client.get_consumer()
        kong.ctx.plugin.name = consumer["username"] if consumer else "stranger"

    def header_filter(self, conf: Config) -> None:
        """Change the response's head on its way out."""
        kong.response.set_header(conf.header, f"{conf.greeting}, {kong.ctx.plugin.name or 'stranger'}!")
