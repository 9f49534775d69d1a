"""`kong`, the object behind every PDK call; its parts are modules of this package."""

from typing import TYPE_CHECKING

from headgate.pdk.client import Client, client
from headgate.pdk.cluster import Cluster, cluster
from headgate.pdk.cluster_events import ClusterEvents, cluster_events
from headgate.pdk.configuration import Configuration, configuration
from headgate.pdk.ctx import Context
from headgate.pdk.db import Database, db
from headgate.pdk.dns import Dns, dns
from headgate.pdk.ip import Ip, ip
from headgate.pdk.jwe import Jwe, jwe
from headgate.pdk.log import Logger, log
from headgate.pdk.nginx import Nginx, nginx
from headgate.pdk.node import NodeModule, node
from headgate.pdk.plugin import PluginModule, plugin
from headgate.pdk.request import Request, request
from headgate.pdk.response import Response, response
from headgate.pdk.router import Router, router
from headgate.pdk.service import Service, service
from headgate.pdk.table import Table, table
from headgate.pdk.telemetry import Telemetry, telemetry
from headgate.pdk.timer import TimerModule, timer
from headgate.pdk.tracing import Tracer, tracing
from headgate.pdk.vault import Vault, vault
from headgate.pdk.websocket import WebSocket, websocket
from headgate.pdk.worker_events import WorkerEvents, worker_events

if TYPE_CHECKING:
    from headgate.pdk.cache import Cache
    from headgate.pdk.shared_dict import SharedDict

COMPATIBLE_VERSION = "3.9.1"


def version_number(version: str) -> int:
    """Return Kong's decimal form: major*100, minor*10 and patch, the latter two in at least two digits, joined."""
    major, minor, patch = (int(part) for part in version.split("."))
    return int(f"{major * 100}{minor * 10:02d}{patch:02d}")


class Kong:
    """The plugin development kit: Kong's names, resolved to the current request."""

    def __init__(self) -> None:
        self.version: str = COMPATIBLE_VERSION
        """The version of Kong Gateway whose contract plugins can expect."""
        self.version_num: int = version_number(COMPATIBLE_VERSION)
        self.request: Request = request
        self.response: Response = response
        self.service: Service = service
        self.client: Client = client
        self.ctx: Context = Context()
        self.log: Logger = log
        self.router: Router = router
        self.ip: Ip = ip
        self.node: NodeModule = node
        self.configuration: Configuration = configuration
        self.plugin: PluginModule = plugin
        self.table: Table = table
        self.db: Database = db
        self.cluster: Cluster = cluster
        self.cluster_events: ClusterEvents = cluster_events
        self.nginx: Nginx = nginx
        self.vault: Vault = vault
        self.timer: TimerModule = timer
        self.dns: Dns = dns
        self.jwe: Jwe = jwe
        self.tracing: Tracer = tracing
        self.worker_events: WorkerEvents = worker_events
        self.telemetry: Telemetry = telemetry
        self.websocket: WebSocket = websocket

    @property
    def default_workspace(self) -> str | None:
        """Id of the workspace `default`."""
        workspace: str | None = configuration["default_workspace"]
        return workspace

    @property
    def cache(self) -> "Cache":
        """Values that are costly to get, kept in worker memory and in node memory."""
        # Imported on use: plugins without shared state need no shared memory.
        from headgate.pdk.cache import cache

        return cache

    @property
    def core_cache(self) -> "Cache":
        """As `cache`, with keys of its own."""
        from headgate.pdk.cache import core_cache

        return core_cache

    def shared_dict(self, name: str) -> "SharedDict":
        """Return a dictionary that all workers of the node share.

        Phases: any.
        """
        # Imported on use: plugins without shared state need no shared memory.
        from headgate.pdk.shared_dict import SharedDict

        return SharedDict(name)


kong = Kong()
