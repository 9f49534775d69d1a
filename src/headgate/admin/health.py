"""Health of upstreams over the Admin API (reference: admin-api 5): shown, and set by hand.

The states are `health.monitor`'s; nothing is written to the store, so a node without a database serves these, too.
"""

from typing import Any
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response

from headgate.admin.answers import AnswerError, Handler, Json, not_found
from headgate.admin.lookup import find_child, required
from headgate.admin.node import Node
from headgate.admin.pages import page, parse_query
from headgate.entities.entity_type import Entity
from headgate.health.monitor import HealthError

_BASE = "/upstreams/{upstreams}"


class HealthEndpoints:
    """The endpoints over one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._upstreams = node.entity_types["upstreams"]
        self._targets = node.entity_types["targets"]

    def all(self) -> list[tuple[str, dict[str, Handler]]]:
        """Return every path with its handlers."""
        over_target, over_address = f"{_BASE}/targets/{{targets}}", f"{_BASE}/targets/{{targets}}/{{address}}"
        table: list[tuple[str, dict[str, Handler]]] = self.readable()
        for path in (over_target, over_address):
            table += [
                (f"{path}/healthy", {"PUT": self._setting(is_healthy=True)}),
                (f"{path}/unhealthy", {"PUT": self._setting(is_healthy=False)}),
            ]
        return table

    def readable(self) -> list[tuple[str, dict[str, Handler]]]:
        """Return the paths that the Status API has, too."""
        return [(f"{_BASE}/health", {"GET": self._health})]

    def _upstream(self, request: Request) -> Entity:
        return required(self._node.reading, self._upstreams, unquote(request.path_params["upstreams"]))

    async def _health(self, request: Request) -> Response:
        upstream = self._upstream(request)
        node_id = self._node.bootstrap.node_id
        if request.query_params.get("balancer_health") == "1":
            try:
                data = self._node.health.balancer_health(upstream["id"])
            except HealthError as error:
                raise AnswerError(400, {"message": str(error)}) from None
            return Json({"data": data, "next": None, "node_id": node_id})

        def with_health(target: Entity) -> dict[str, Any]:
            try:
                health, data = self._node.health.target_health(upstream["id"], target)
            except HealthError:
                # No worker has it yet: as one whose name has no addresses.
                return {**target, "health": "DNS_ERROR"}
            return {**target, "health": health, "data": data}

        rows = self._node.reading.children("targets", "upstream", upstream["id"])
        query = parse_query(dict(request.query_params))
        return Json({**page(rows, query, request.url.path, is_nested=True, show=with_health), "node_id": node_id})

    def _setting(self, *, is_healthy: bool) -> Handler:
        async def put(request: Request) -> Response:
            upstream = self._upstream(request)
            keys = {name: unquote(value) for name, value in request.path_params.items()}
            target = find_child(self._node.reading, self._targets, "upstream", upstream["id"], keys["targets"])
            if target is None:
                raise not_found()
            try:
                await self._node.health.set_health(
                    upstream["id"], target, is_healthy=is_healthy, address=keys.get("address")
                )
            except HealthError as error:
                raise AnswerError(400, {"message": str(error)}) from None
            return Response(status_code=204)

        return put
