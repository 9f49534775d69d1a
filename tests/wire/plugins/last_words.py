"""Tells at the end of each request, WebSocket and stream which process served it and what it counted."""

import json
import os

from headgate import Plugin, PluginConfig, kong
from headgate.schema import ALL_PROTOCOLS


class Config(PluginConfig):
    """`path`: the file that gets one line of JSON for each end."""

    protocols = ALL_PROTOCOLS
    default_protocols = ALL_PROTOCOLS

    path: str


class Handler(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 1

    def log(self, conf: Config) -> None:
        self._tell(conf, "log")

    def ws_close(self, conf: Config) -> None:
        self._tell(conf, "ws_close")

    def _tell(self, conf: Config, phase: str) -> None:
        record = kong.log.serialize()
        counted = record.get("session") or {
            "received": record["request"]["size"],
            "sent": record["response"]["size"],
            "status": record["response"]["status"],
        }
        line = {"pid": os.getpid(), "phase": phase, "port": kong.client.get_port(), "counted": counted}
        with open(conf.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
