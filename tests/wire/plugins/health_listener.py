"""Remembers what it hears of the health of upstreams, and answers with it when asked."""

import os
from typing import Any

from headgate import Plugin, PluginConfig, kong


class Config(PluginConfig):
    """Nothing to configure."""


class Handler(Plugin[Config]):
    """Answers requests with `X-Ask: heard`."""

    VERSION = "1.0.0"
    PRIORITY = 50

    def init_worker(self) -> None:
        """Listen."""
        self.heard: list[str] = []
        kong.worker_events.register(self.on_health, "balancer", "health")

    def on_health(self, data: dict[str, Any], event: str, source: str, pid: int) -> None:
        """Remember one change."""
        self.heard.append(f"{data['upstream']} {data['ip']}:{data['port']} {data['health']}")

    def access(self, conf: Config) -> None:
        """Answer when asked."""
        if kong.request.get_header("X-Ask") == "heard":
            kong.response.exit(200, "; ".join(self.heard), {"X-Worker": str(os.getpid())})
