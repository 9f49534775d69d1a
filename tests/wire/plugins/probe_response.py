"""A plugin of the buffered kind: it sees the upstream's whole body before the client sees anything."""

import asyncio

from headgate import Plugin, PluginConfig, kong


class Config(PluginConfig):
    """How to behave."""

    is_async: bool = False
    raise_in: str | None = None
    exit_in: str | None = None


class Handler(Plugin[Config]):
    """Only `response`, which excludes the filters."""

    VERSION = "1.0.0"
    PRIORITY = 300

    async def response(self, conf: Config) -> None:
        if conf.is_async:
            await asyncio.sleep(0)
        body = kong.service.response.get_raw_body()
        if conf.raise_in == "response":
            raise ValueError("told to raise in response")
        if conf.exit_in == "response":
            kong.response.exit(299, {"answered_in": "response", "upstream_bytes": len(body)})
        kong.response.set_header("X-Body-Bytes", str(len(body)))
