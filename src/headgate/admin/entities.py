"""Read endpoints of every entity, derived from the registry; writes are refused with the texts of a declarative store.

Owns the paths (reference: admin-api 2): collection, entity, children of a parent, the parent of a child. It knows no
single entity but where the reference makes an exception: certificates (found by SNI), targets, consumer groups.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response

from headgate.admin.answers import Handler, Json, not_found
from headgate.admin.node import Node
from headgate.admin.pages import page, parse_query
from headgate.entities.entity_type import EntityType
from headgate.entities.registry import ENTITY_TYPES
from headgate.errors import INVALID_PRIMARY_KEY, EntityError, lua_style, unsupported_write

_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_WRITES = {"POST": "insert", "PUT": "upsert", "PATCH": "update", "DELETE": "delete"}
# Targets are reached below their upstream, memberships below group and consumer.
_WITHOUT_COLLECTION = ("targets", "consumer_group_consumers")
Row = dict[str, Any]


@dataclass(frozen=True)
class Endpoint:
    """One path: its form for the router, its form in /endpoints, and its methods."""

    path: str
    shown: str
    methods: dict[str, Handler]

    @property
    def without_writes(self) -> "Endpoint":
        """The same path for reading only: other methods are not allowed, and `Allow` says so."""
        return replace(self, methods={name: handler for name, handler in self.methods.items() if name not in _WRITES})


def is_id(key: str) -> bool:
    """Say whether a key in a path is an id rather than a name."""
    return _UUID.fullmatch(key) is not None


class EntityEndpoints:
    """The endpoints of all entity types over the configuration in force."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def all(self) -> Iterator[Endpoint]:
        """Yield every endpoint; exceptions of the reference come before what they replace."""
        yield from self._target_endpoints()
        for kind in self._node.entity_types.values():
            path = collection_path(kind)
            if path is None or kind.name in _WITHOUT_COLLECTION:
                continue
            shown = f"{{{kind.name}}}"
            yield Endpoint(path, path, self._collection(kind))
            yield Endpoint(f"{path}/{{key:path}}", f"{path}/{shown}", self._single(kind))
            for field, foreign in kind.foreign.items():
                parent = self._node.entity_types[foreign.reference]
                parent_path = collection_path(parent)
                if parent_path is None:
                    continue
                nested = kind.nested_under.get(field)
                if nested is not None:
                    over = f"{parent_path}/{{parent}}/{nested}"
                    over_shown = f"{parent_path}/{{{parent.name}}}/{nested}"
                    yield Endpoint(over, over_shown, self._children(kind, field, parent))
                    yield Endpoint(f"{over}/{{key}}", f"{over_shown}/{shown}", self._child(kind, field, parent))
                upward = f"{path}/{{key}}/{field}"
                yield Endpoint(upward, f"{path}/{shown}/{field}", self._parent(kind, field, parent))

    # -- looking up ----------------------------------------------------------------------------------------------------

    def find(self, kind: EntityType, key: str) -> Row | None:
        """Return an entity by id or endpoint key; certificates also by the name of an SNI.

        Raises: EntityError of code 1 for a name where the type has no endpoint key.
        """
        snapshot = self._node.snapshot
        if is_id(key):
            return snapshot.get(kind.name, key.lower())
        if kind.name == "certificates":
            sni = snapshot.by("snis", "name", key)
            return None if sni is None else snapshot.get("certificates", sni["certificate"]["id"])
        if kind.endpoint_key is None:
            key_text = lua_style({"id": key})
            raise EntityError(
                INVALID_PRIMARY_KEY,
                message=f"invalid primary key: '{key_text}'",
                fields={"id": "expected a valid UUID"},
            )
        return snapshot.by(kind.name, kind.endpoint_key, key)

    def required(self, kind: EntityType, key: str) -> Row:
        """Return an entity by the key in a path; 404 when there is none."""
        found = self.find(kind, unquote(key))
        if found is None:
            raise not_found()
        return found

    def shown(self, kind: EntityType, row: Row) -> Row:
        """Return an entity as the API shows it: a certificate has the names of its SNIs."""
        if kind.name != "certificates":
            return row
        snis = self._node.snapshot.children("snis", "certificate", row["id"])
        return {**row, "snis": sorted(sni["name"] for sni in snis)}

    # -- methods -------------------------------------------------------------------------------------------------------

    def _collection(self, kind: EntityType) -> dict[str, Handler]:
        async def get(request: Request) -> Response:
            arguments = dict(request.query_params)
            rows: Any = self._node.snapshot.all(kind.name)
            if kind.name == "consumers" and "custom_id" in arguments:
                if not arguments["custom_id"]:
                    return Json({"message": "custom_id must be an unempty string"}, 400)
                found = self._node.snapshot.by("consumers", "custom_id", arguments["custom_id"])
                return Json({"data": [] if found is None else [found], "next": None})
            return Json(page(rows, parse_query(arguments), request.url.path, show=lambda row: self.shown(kind, row)))

        return {"GET": answering(get), "POST": refusing(kind, "POST")}

    def _single(self, kind: EntityType) -> dict[str, Handler]:
        async def get(request: Request) -> Response:
            key = request.path_params["key"]
            found = self.find(kind, unquote(key))
            if found is None:
                if kind.name == "certificates" and not is_id(key):
                    return Json({"message": "SNI not found"}, 404)
                raise not_found()
            return Json(self.shown(kind, found))

        return {"GET": answering(get), **{method: refusing(kind, method) for method in ("PUT", "PATCH", "DELETE")}}

    def _children(self, kind: EntityType, field: str, parent: EntityType) -> dict[str, Handler]:
        async def get(request: Request) -> Response:
            owner = self.required(parent, request.path_params["parent"])
            rows = self._node.snapshot.children(kind.name, field, owner["id"])
            query = parse_query(dict(request.query_params))
            return Json(page(rows, query, request.url.path, is_nested=True, show=lambda row: self.shown(kind, row)))

        return {"GET": answering(get), "POST": refusing(kind, "POST")}

    def _child(self, kind: EntityType, field: str, parent: EntityType) -> dict[str, Handler]:
        async def get(request: Request) -> Response:
            owner = self.required(parent, request.path_params["parent"])
            found = self.required(kind, request.path_params["key"])
            if (found.get(field) or {}).get("id") != owner["id"]:
                raise not_found()
            return Json(self.shown(kind, found))

        return {"GET": answering(get), **{method: refusing(kind, method) for method in ("PUT", "PATCH", "DELETE")}}

    def _parent(self, kind: EntityType, field: str, parent: EntityType) -> dict[str, Handler]:
        async def get(request: Request) -> Response:
            if kind.name == "snis":
                raise not_found()
            child = self.required(kind, request.path_params["key"])
            reference = child.get(field)
            owner = None if reference is None else self._node.snapshot.get(parent.name, reference["id"])
            if owner is None:
                raise not_found()
            return Json(self.shown(parent, owner))

        return {"GET": answering(get), **{method: refusing(parent, method) for method in ("PUT", "PATCH")}}

    def _target_endpoints(self) -> Iterator[Endpoint]:
        """Targets live below their upstream only: newest first, one per address and port, found by either key."""
        kind, upstreams = ENTITY_TYPES["targets"], ENTITY_TYPES["upstreams"]

        def rows_of(request: Request) -> tuple[Row, list[Row]]:
            owner = self.required(upstreams, request.path_params["parent"])
            return owner, list(self._node.snapshot.children("targets", "upstream", owner["id"]))

        def newest_first(row: Row) -> list[Any]:
            return [-(row.get("created_at") or 0), row["id"]]

        async def get_all(request: Request) -> Response:
            _, rows = rows_of(request)
            query = parse_query(dict(request.query_params))
            return Json(page(rows, query, request.url.path, is_nested=True, key=newest_first))

        async def get_one(request: Request) -> Response:
            _, rows = rows_of(request)
            key = unquote(request.path_params["key"])
            found = next((row for row in rows if key in (row["id"], row["target"])), None)
            if found is None:
                raise not_found()
            return Json(found)

        base, shown = "/upstreams/{parent}/targets", "/upstreams/{upstreams}/targets"
        yield Endpoint(base, shown, {"GET": answering(get_all), "POST": refusing(kind, "POST")})
        yield Endpoint(f"{base}/all", f"{shown}/all", {"GET": answering(get_all)})
        writes = {method: refusing(kind, method) for method in ("PUT", "PATCH", "DELETE")}
        yield Endpoint(f"{base}/{{key}}", f"{shown}/{{targets}}", {"GET": answering(get_one), **writes})


def collection_path(kind: EntityType) -> str | None:
    """Return the path of a type's collection; None for types without endpoints."""
    return "/" + kind.admin_path.strip("/") if kind.admin_path else None


def refusing(kind: EntityType, method: str) -> Handler:
    """Return the handler that refuses a write to a type."""

    async def refuse(request: Request) -> Response:
        key = request.path_params.get("key")
        is_by_name = key is not None and not is_id(key)
        error = unsupported_write(_WRITES[method], kind.name, kind.endpoint_key if is_by_name else None)
        return Json(error.body(), error.status)

    return refuse


def answering(handler: Handler) -> Handler:
    """Turn entity errors into their answer."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except EntityError as error:
            return Json(error.body(), error.status)

    return answer
