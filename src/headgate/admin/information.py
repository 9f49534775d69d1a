"""Endpoints about the node itself: /, /status, /status/ready, /plugins/enabled, /schemas, /endpoints, /tags."""

import os
import platform
import socket
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response

from headgate.admin.answers import AnswerError, Json, message
from headgate.admin.bodies import read_body
from headgate.admin.node import Node
from headgate.admin.pages import page, parse_query
from headgate.store.snapshot import EMPTY_HASH
from headgate.version import CONTRACT_VERSION, VERSION

_COUNTERS = (
    "connections_active",
    "connections_reading",
    "connections_writing",
    "connections_waiting",
    "connections_accepted",
    "connections_handled",
    "total_requests",
)
_UNITS = {"b": (1, ""), "k": (1024, " KiB"), "m": (1024**2, " MiB"), "g": (1024**3, " GiB")}


class InformationEndpoints:
    """What the node says about itself."""

    def __init__(self, node: Node, paths: list[str]) -> None:
        self._node = node
        self._paths = paths
        self.document: dict[str, Any] = {}
        self._is_draining = False

    async def root(self, request: Request) -> Response:
        """Answer the root document, which clients read versions and settings from."""
        node = self._node
        counters = [reply.counters for reply in (await node.publisher.stats()).values()]
        running, timers = (sum(own.get(name, 0) for own in counters) for name in ("timers_running", "timers_total"))
        in_use = sorted({entity["name"] for entity in node.snapshot.all("plugins")})
        return Json(
            {
                "tagline": "Welcome to Headgate",
                "version": CONTRACT_VERSION,
                "headgate_version": VERSION,
                "edition": "community",
                "hostname": socket.gethostname(),
                "node_id": node.bootstrap.node_id,
                "lua_version": f"Python {platform.python_version()}",
                "timers": {"running": running, "pending": timers - running},
                "plugins": {
                    "available_on_server": {
                        name: {"version": kind.version, "priority": kind.priority}
                        for name, kind in node.catalog.items()
                    },
                    "enabled_in_cluster": in_use,
                },
                "configuration": node.settings.configuration(),
                "pids": {"master": os.getppid(), "workers": node.publisher.worker_pids},
            }
        )

    async def status(self, request: Request) -> Response:
        """Answer memory, the counters summed over the workers, and the hash of the configuration."""
        unit = request.query_params.get("unit", "m")
        scale_text = request.query_params.get("scale", "2")
        if unit.lower() not in _UNITS:
            raise AnswerError(400, {"message": f"invalid unit '{unit}' (expected 'k/K', 'm/M', or 'g/G')"})
        if not (scale_text.isascii() and scale_text.isdigit()):
            raise AnswerError(400, {"message": "scale must be equal or greater than 0"})
        if len(scale_text) > 1:
            raise AnswerError(400, {"message": "scale must be at most 9"})
        factor, suffix = _UNITS[unit.lower()]

        def shown(size_bytes: int) -> Any:
            return size_bytes if factor == 1 else f"{size_bytes / factor:.{int(scale_text)}f}{suffix}"

        replies = await self._node.publisher.stats()
        counters = {name: sum(reply.counters.get(name, 0) for reply in replies.values()) for name in _COUNTERS}
        # All workers see one memory: the one that looked last has seen most.
        used = max((reply.counters.get("shared_dict_used_bytes", 0) for reply in replies.values()), default=0)
        capacity = self._node.settings.general.shared_dict_size_bytes
        return Json(
            {
                "memory": {
                    "lua_shared_dicts": {"headgate": {"allocated_slabs": shown(used), "capacity": shown(capacity)}},
                    "workers_lua_vms": [
                        {"pid": pid, "http_allocated_gc": shown(reply.resident_bytes)}
                        for pid, reply in sorted(replies.items())
                    ],
                },
                "server": counters,
                "database": {"reachable": self._node.is_database_reachable},
                "configuration_hash": self._node.snapshot.configuration_hash,
                **({"broken_plugins": broken} if (broken := self._node.broken_plugins) else {}),
            }
        )

    async def ready(self, request: Request) -> Response:
        """Answer 200 when the node can take traffic, else 503 with the reason."""
        wanted = self._node.bootstrap.worker_count
        serving = self._node.publisher.ready_workers()
        if self._is_draining or self._node.is_exiting:
            return message(503, "draining")
        if serving < wanted:
            text = f"router builds not yet complete, router ready in {serving} of {wanted} workers"
            return message(503, text)
        if not self._node.is_database_reachable:
            return message(503, "failed to connect to database")
        if self._node.snapshot.configuration_hash == EMPTY_HASH:
            return message(503, "no configuration available (empty configuration present)")
        return message(200, "ready")

    async def drain(self, request: Request) -> Response:
        """Mark the node as draining, so that load balancers take it out."""
        body = await read_body(request, self._node.settings.http.admin_max_body_bytes)
        if (body.values or {}).get("status") != "draining":
            raise AnswerError(400, {"message": "status must be draining"})
        self._is_draining = True
        return Response(status_code=204)

    async def enabled_plugins(self, request: Request) -> Response:
        """Answer the names of the loaded plugins."""
        return Json({"enabled_plugins": sorted(self._node.catalog)})

    async def openapi(self, request: Request) -> Response:
        """Answer the OpenAPI document of this API."""
        return Json(self.document)

    async def no_data_planes(self, request: Request) -> Response:
        """Refuse: this node is no control plane of others."""
        text = "this endpoint is only available when Kong is configured to run as Control Plane for the cluster"
        return message(400, text)

    async def no_filters(self, request: Request) -> Response:
        """Refuse: there are no WebAssembly filters."""
        return message(400, "this endpoint is only available when wasm is enabled")

    async def endpoints(self, request: Request) -> Response:
        """Answer all paths."""
        return Json({"data": sorted(set(self._paths), key=lambda path: path.split("/"))})

    async def tags(self, request: Request) -> Response:
        """Answer every tag with the entity that has it, or those of one tag."""
        wanted = unquote(request.path_params["tag"]) if "tag" in request.path_params else None
        reading = self._node.reading
        rows = [
            {"tag": tag, "entity_name": name, "entity_id": entity["id"]}
            for name in self._node.entity_types
            for entity in reading.all(name)
            for tag in entity.get("tags") or ()
            if wanted is None or tag == wanted
        ]
        query = parse_query({name: value for name, value in request.query_params.items() if name != "tags"})
        key = ("tag", "entity_name", "entity_id")
        return Json(page(rows, query, request.url.path, key=lambda row: [row[name] for name in key]))
