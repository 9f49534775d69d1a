"""Answers handshakes with certificates of its own, by what the name asks for; async where the name begins so."""

import asyncio
import base64
from collections.abc import Awaitable

from headgate import Plugin, PluginConfig, kong


class Config(PluginConfig):
    chain: str
    key: str
    other_key: str


class Handler(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 10

    def certificate(self, conf: Config) -> Awaitable[None] | None:
        name = kong.client.tls.get_server_name() or ""
        if name.startswith("async-"):
            return self._fetched(conf, name)
        self._choose(conf, name)
        return None

    async def _fetched(self, conf: Config, name: str) -> None:
        if name == "async-never.test":
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        self._choose(conf, name.removeprefix("async-"))

    def _choose(self, conf: Config, name: str) -> None:
        if name == "own.test":
            kong.client.tls.set_certificate(conf.chain, conf.key)
        elif name == "der.test":
            kong.client.tls.set_certificate(_der(conf.chain), _der(conf.key))
        elif name == "mismatch.test":
            kong.client.tls.set_certificate(conf.chain, conf.other_key)
        elif name == "raise.test":
            raise RuntimeError("no certificate today")
        elif name == "fresh.test":
            kong.client.tls.disable_session_reuse()


def _der(pem: str) -> bytes:
    lines = pem.split("-----")[2].split()
    return base64.b64decode("".join(lines))
