"""Consumer groups and their members, in the shapes of their own that the reference gives (admin-api 9)."""

from collections.abc import Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from headgate.admin.answers import Handler, Json, not_found
from headgate.admin.entities import Endpoint, EntityEndpoints, answering, refusing
from headgate.admin.node import Node
from headgate.admin.pages import page, parse_query
from headgate.entities.registry import ENTITY_TYPES

_GROUPS = ENTITY_TYPES["consumer_groups"]
_CONSUMERS = ENTITY_TYPES["consumers"]
_MEMBERSHIPS = ENTITY_TYPES["consumer_group_consumers"]
Row = dict[str, Any]


class ConsumerGroupEndpoints:
    """Read endpoints of groups, members of a group, groups of a consumer."""

    def __init__(self, node: Node, entities: EntityEndpoints) -> None:
        self._node = node
        self._entities = entities

    def all(self) -> Iterator[Endpoint]:
        """Yield the endpoints; they come before the derived ones of the same path."""
        group, group_shown = "/consumer_groups/{key}", "/consumer_groups/{consumer_groups}"
        single = {method: refusing(_GROUPS, method) for method in ("PUT", "PATCH", "DELETE")}
        yield Endpoint(group, group_shown, {"GET": answering(self._group), **single})
        many: dict[str, Handler] = {method: refusing(_MEMBERSHIPS, method) for method in ("POST", "DELETE")}
        one: dict[str, Handler] = {"DELETE": refusing(_MEMBERSHIPS, "DELETE")}
        members, members_shown = f"{group}/consumers", f"{group_shown}/consumers"
        yield Endpoint(members, members_shown, {"GET": answering(self._members), **many})
        yield Endpoint(
            f"{members}/{{member}}", f"{members_shown}/{{consumers}}", {"GET": answering(self._member), **one}
        )
        groups, groups_shown = "/consumers/{key}/consumer_groups", "/consumers/{consumers}/consumer_groups"
        yield Endpoint(groups, groups_shown, {"GET": answering(self._groups_of_consumer), **many})

    def _consumers_of(self, group: Row) -> list[Row]:
        snapshot = self._node.snapshot
        memberships = snapshot.children("consumer_group_consumers", "consumer_group", group["id"])
        found = (snapshot.get("consumers", row["consumer"]["id"]) for row in memberships)
        return [consumer for consumer in found if consumer is not None]

    async def _group(self, request: Request) -> Response:
        group = self._entities.required(_GROUPS, request.path_params["key"])
        answer: Row = {"consumer_group": group}
        if request.query_params.get("list_consumers") != "false":
            answer["consumers"] = self._consumers_of(group)
        return Json(answer)

    async def _members(self, request: Request) -> Response:
        group = self._entities.required(_GROUPS, request.path_params["key"])
        query = parse_query(dict(request.query_params))
        return Json(page(self._consumers_of(group), query, request.url.path, is_nested=True))

    async def _member(self, request: Request) -> Response:
        group = self._entities.required(_GROUPS, request.path_params["key"])
        consumer = self._entities.required(_CONSUMERS, request.path_params["member"])
        if consumer["id"] not in {row["id"] for row in self._consumers_of(group)}:
            raise not_found()
        return Json({"consumer_group": group, "consumers": [consumer]})

    async def _groups_of_consumer(self, request: Request) -> Response:
        consumer = self._entities.required(_CONSUMERS, request.path_params["key"])
        snapshot = self._node.snapshot
        memberships = snapshot.children("consumer_group_consumers", "consumer", consumer["id"])
        found = (snapshot.get("consumer_groups", row["consumer_group"]["id"]) for row in memberships)
        rows = [group for group in found if group is not None]
        return Json(page(rows, parse_query(dict(request.query_params)), request.url.path, is_nested=True))
