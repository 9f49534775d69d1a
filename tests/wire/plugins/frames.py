"""Frame handlers that tests drive by the messages they send, sync or async."""

import asyncio
import os
from typing import Any

from headgate import Plugin, PluginConfig, kong


class Config(PluginConfig):
    """`report_file`: where `ws_close` writes its record. `limit`: of the client's messages."""

    report_file: str | None = None
    limit: int | None = None
    is_async: bool = False


def act(side: Any) -> None:
    payload, kind, status = side.get_frame()
    command, _, argument = payload.decode("utf-8", "replace").partition(" ")
    if kind == "close" and status == 4100:
        side.set_status(4200)
        side.set_frame_data("changed")
    elif command == "upper":
        side.set_frame_data(argument.upper())
    elif command == "drop":
        side.drop_frame()
    elif command == "close":
        side.close(4001, "own side", 4002, "other side")
    elif command == "raise":
        raise ValueError("told to raise")


class Handler(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 10

    def ws_handshake(self, conf: Config) -> None:
        if kong.request.get_header("x-refuse"):
            kong.response.exit(403, {"message": "no WebSocket for you"})
        if conf.limit:
            kong.websocket.client.set_max_payload_size(conf.limit)
        kong.service.request.set_header("X-Seen", "handshake")
        kong.response.set_header("X-Seen", "handshake")
        kong.ctx.plugin.frames = []

    async def _later(self, side: Any) -> None:
        await asyncio.sleep(0)
        act(side)

    def ws_client_frame(self, conf: Config) -> Any:
        kong.ctx.plugin.frames.append(kong.websocket.client.get_frame()[1])
        return self._later(kong.websocket.client) if conf.is_async else act(kong.websocket.client)

    def ws_upstream_frame(self, conf: Config) -> Any:
        kong.ctx.plugin.frames.append(kong.websocket.upstream.get_frame()[1])
        return self._later(kong.websocket.upstream) if conf.is_async else act(kong.websocket.upstream)

    def ws_close(self, conf: Config) -> None:
        if conf.report_file:
            record = kong.log.serialize()
            status, protocol = record["response"]["status"], record["service"]["protocol"]
            frames = ",".join(kong.ctx.plugin.frames or ())
            line = f"{status} {protocol} {record['request']['size']} {frames}\n"
            descriptor = os.open(conf.report_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(descriptor, line.encode())
            os.close(descriptor)

    def access(self, conf: Config) -> None:
        kong.response.exit(500, "access must not run")

    def log(self, conf: Config) -> None:
        raise AssertionError("log must not run")
