"""Refuses streams in preread as configured, and writes what it saw of each to a file in log."""

import asyncio
import json

from headgate import Plugin, PluginConfig, kong
from headgate.errors import PhaseError
from headgate.schema import STREAM_PROTOCOLS


class Config(PluginConfig):
    protocols = STREAM_PROTOCOLS
    default_protocols = STREAM_PROTOCOLS

    path: str
    action: str = "none"
    target_port: int | None = None


class Handler(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 500

    def certificate(self, conf: Config) -> None:
        with open(conf.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"phase": "certificate", "subsystem": kong.nginx.get_subsystem()}) + "\n")

    async def preread(self, conf: Config) -> None:
        kong.ctx.plugin.subsystem = kong.nginx.get_subsystem()
        try:
            kong.request.get_header("host")
        except PhaseError as error:
            kong.ctx.plugin.refused = str(error)
        if conf.action == "wait":
            await asyncio.sleep(0.05)
        if conf.action == "refuse":
            kong.response.exit(403, "not for you")
        if conf.action == "answer":
            kong.response.exit(200, "answered\n")
        if conf.action == "raise":
            raise RuntimeError("broken on purpose")
        if conf.action == "plain":
            kong.service.request.disable_tls()
        if conf.target_port is not None:
            kong.service.set_target("127.0.0.1", conf.target_port)

    def log(self, conf: Config) -> None:
        kong.log.set_serialize_value("seen.subsystem", kong.nginx.get_subsystem())
        record = kong.log.serialize()
        record |= {
            "phase": "log",
            "preread": {"subsystem": kong.ctx.plugin.subsystem, "refused": kong.ctx.plugin.refused},
            "protocol": kong.client.get_protocol() if kong.router.get_route() else None,
            "ip": kong.client.get_ip(),
            "port": kong.client.get_port(),
            "forwarded": [kong.client.get_forwarded_ip(), kong.client.get_forwarded_port()],
            "server_name": kong.client.tls.get_server_name(),
            "route_name": (kong.router.get_route() or {}).get("name"),
        }
        try:
            kong.request.get_path()
        except PhaseError as error:
            record["refused"] = str(error)
        with open(conf.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
