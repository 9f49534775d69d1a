"""Has the upstream of a request verified with an authority; services of grpcs have no field for it."""

from headgate import Plugin, PluginConfig, kong


class Config(PluginConfig):
    """`authority`: PEM."""

    authority: str


class Handler(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 10

    def access(self, conf: Config) -> None:
        kong.service.set_tls_verify(True)
        kong.service.set_tls_verify_store(conf.authority)
