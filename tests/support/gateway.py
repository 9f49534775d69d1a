"""The gateway of `headgate.testing` with what tests of the gateway itself need: raw connections, TLS, process ids."""

from pathlib import Path
from typing import Any

import yaml

from headgate.testing import gateway as testing
from headgate.testing.gateway import StartFailed, command, run
from tests.support import processes
from tests.support.http1 import Client, Response

__all__ = ["PLUGIN_DIRECTORY", "PROXY_LISTEN", "ROOT", "Gateway", "StartFailed", "command", "run"]

ROOT = Path(__file__).resolve().parents[2]
PLUGIN_DIRECTORY = ROOT / "tests" / "wire" / "plugins"

# plain HTTP/1.1; TLS with HTTP/2 by ALPN; HTTP/2 by prior knowledge
PROXY_LISTEN = "127.0.0.1:0 reuseport, 127.0.0.1:0 ssl http2 reuseport, 127.0.0.1:0 http2 reuseport"


class Gateway(testing.Gateway):
    """A running gateway with a listener of each kind; a context manager."""

    def __init__(self, config: dict[str, Any] | str | None = None, **arguments: Any) -> None:
        super().__init__(config, **{"proxy_listen": PROXY_LISTEN} | arguments)

    # -- addresses ----------------------------------------------------------------------------------------------

    @property
    def plain(self) -> tuple[str, int]:
        """Address of the plain proxy listener."""
        return self.addresses("proxy")[0]

    @property
    def tls(self) -> tuple[str, int]:
        """Address of the TLS proxy listener."""
        return self.addresses("proxy")[1]

    @property
    def prior_knowledge(self) -> tuple[str, int]:
        """Address of the plain listener that speaks HTTP/2."""
        return self.addresses("proxy")[2]

    @property
    def admin(self) -> tuple[str, int]:
        """Address of the Admin API."""
        return self.addresses("admin")[0]

    def client(self, **arguments: Any) -> Client:
        """Open a connection to the plain listener."""
        return Client(self.plain, **arguments)

    def get(self, target: str, headers: dict[str, str] | None = None, method: str = "GET") -> Response:
        """Do one request on a connection of its own."""
        with self.client() as client:
            return client.request(method, target, headers)

    def admin_request(
        self, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Response:
        """Do one request to the Admin API."""
        with Client(self.admin) as client:
            return client.request(method, target, headers, body)

    def load(self, config: dict[str, Any] | str) -> Response:
        """POST a declarative document."""
        text = config if isinstance(config, str) else yaml.safe_dump(config, sort_keys=False)
        return self.admin_request("POST", "/config", text.encode(), {"Content-Type": "application/yaml"})

    # -- processes ----------------------------------------------------------------------------------------------

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the workers that run now."""
        return [pid for pid in processes.children(self.process.pid) if "worker" in processes.command_line(pid)]
