"""The phases as coroutines, each of which gives the loop a turn before it reports."""

import asyncio

from headgate import Plugin, PluginConfig, kong


class Config(PluginConfig):
    """What to do in which phase."""

    raise_in: str | None = None
    exit_in: str | None = None


async def act(conf: Config, phase: str) -> None:
    """Wait a turn of the loop, then raise or answer if it is this phase's turn."""
    await asyncio.sleep(0)
    if conf.raise_in == phase:
        raise ValueError(f"told to raise in {phase}")
    if conf.exit_in == phase:
        kong.response.exit(299, {"answered_in": phase})


class Handler(Plugin[Config]):
    """Every phase of a request, in coroutines."""

    VERSION = "1.0.0"
    PRIORITY = 400

    async def rewrite(self, conf: Config) -> None:
        await act(conf, "rewrite")
        kong.ctx.shared.async_seen = ["rewrite"]

    async def access(self, conf: Config) -> None:
        await act(conf, "access")
        kong.ctx.shared.async_seen = [*(kong.ctx.shared.async_seen or []), "access"]
        kong.service.request.set_header("X-Async", "access")

    async def header_filter(self, conf: Config) -> None:
        await act(conf, "header_filter")
        seen = [*(kong.ctx.shared.async_seen or []), "header_filter"]
        kong.response.set_header("X-Async", ",".join(seen))
        kong.response.clear_header("Content-Length")

    async def body_filter(self, conf: Config) -> None:
        await act(conf, "body_filter")
        body = kong.response.get_raw_body()
        if body is not None:
            kong.response.set_raw_body(body + b" and more")

    async def log(self, conf: Config) -> None:
        await act(conf, "log")
