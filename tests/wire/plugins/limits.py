"""Handlers that take their time: on the loop, on a thread, holding the engine, or until a test lets them go."""

import asyncio
import os
import time

from headgate import Plugin, PluginConfig, blocking, kong


class Config(PluginConfig):
    """What to do; `gate` is a named pipe whose first byte lets a waiting handler go."""

    action: str
    gate: str | None = None


def wait_at(gate: str) -> None:
    """Wait for a byte, as a library without asyncio would."""
    with open(gate, "rb") as pipe:
        pipe.read(1)


class Handler(Plugin[Config]):
    """One action per configuration."""

    VERSION = "1.0.0"
    PRIORITY = 500

    @blocking
    def access(self, conf: Config) -> None:
        if conf.action == "block":
            body = kong.request.get_raw_body()
            wait_at(str(conf.gate))
            kong.response.exit(200, {"body": body.decode(), "pid": os.getpid()})

    async def header_filter(self, conf: Config) -> None:
        if conf.action == "hang":
            await asyncio.Event().wait()

    async def body_filter(self, conf: Config) -> None:
        if conf.action == "hold body":
            await asyncio.to_thread(wait_at, str(conf.gate))

    def log(self, conf: Config) -> None:
        if conf.action == "hold engine":
            # The one place where a test sleeps: what is tested is that this is noticed.
            time.sleep(0.08)
