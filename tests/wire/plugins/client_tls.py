"""Asks clients for certificates as the name says, and answers what it sees of their side of the connection."""

import json

from headgate import Plugin, PluginConfig, kong


class Config(PluginConfig):
    authority: str
    path: str


class Handler(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 10

    def certificate(self, conf: Config) -> None:
        name = kong.client.tls.get_server_name() or ""
        if name == "any.test":
            kong.client.tls.request_client_certificate()
        elif name == "named.test":
            kong.client.tls.request_client_certificate(conf.authority)
        elif name == "plain.test":
            kong.client.tls.disable_http2_alpn()

    def access(self, conf: Config) -> None:
        verified = kong.request.get_header("x-verified")
        if verified is not None:
            kong.client.tls.set_client_verify(verified)
        chain = kong.client.tls.get_full_client_certificate_chain()
        kong.response.exit(
            200,
            {
                "name": kong.client.tls.get_server_name(),
                "chain": chain,
                "http": kong.request.get_http_version(),
            },
        )

    def log(self, conf: Config) -> None:
        with open(conf.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(kong.log.serialize()["request"]["tls"]["client_verify"]) + "\n")
