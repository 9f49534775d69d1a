"""The endpoints of every entity, derived from the registry.

Owns the paths (reference: admin-api 2): collection, entity, children of a parent, the parent of a child. Reading is
here, writing is `writes`. It knows no single entity but where the reference makes an exception: certificates (found by
SNI), targets.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from headgate.admin.answers import AnswerError, not_found
from headgate.admin.lookup import find_child, reference_id, required
from headgate.admin.pages import page, parse_query
from headgate.admin.writes import (
    Write,
    child_writes,
    children_writes,
    collection_writes,
    entity_writes,
    parent_writes,
)
from headgate.entities.entity_type import Entity, EntityType
from headgate.entities.registry import Registry
from headgate.store.base import Operations

# Targets are reached below their upstream, memberships below group and consumer.
_WITHOUT_COLLECTION = ("targets", "consumer_group_consumers")


@dataclass(frozen=True)
class Question:
    """What a read endpoint is asked: the decoded keys in the path, the query, the path itself."""

    keys: Mapping[str, str]
    query: Mapping[str, str]
    path: str


@dataclass(frozen=True)
class Found:
    """The answer of a read: one entity, a body of its own, or a body that stands for an entity."""

    entity: Entity | None = None
    body: Any = None


Read: TypeAlias = Callable[[Operations, Question], Found]


@dataclass(frozen=True)
class Endpoint:
    """One path: its form for the router, its form in /endpoints, its type, its way of reading, its writes.

    shape: what GET answers: `entity`, `page` of entities, or `own`.
    """

    path: str
    shown: str
    kind: EntityType
    read: Read
    shape: str
    writes: Mapping[str, Write] = field(default_factory=dict)


class EntityEndpoints:
    """The endpoints of all entity types of a registry. Args: show, how an entity is shown."""

    def __init__(self, entity_types: Registry, show: Callable[[EntityType, Entity], Entity]) -> None:
        self._types = entity_types
        self._show = show

    def all(self) -> Iterator[Endpoint]:
        """Yield every endpoint; exceptions of the reference come before what they replace."""
        yield from self._target_endpoints()
        for kind in self._types.values():
            path = collection_path(kind)
            if path is None or kind.name in _WITHOUT_COLLECTION:
                continue
            shown = f"{path}/{{{kind.name}}}"
            yield Endpoint(path, path, kind, self._collection(kind), "page", collection_writes(kind))
            yield Endpoint(f"{path}/{{key}}", shown, kind, _single(kind), "entity", entity_writes(kind))
            for name, foreign in kind.foreign.items():
                parent = self._types[foreign.reference]
                if collection_path(parent) is None:
                    continue
                if name in kind.nested_under:
                    yield from self._nested(kind, name, parent)
                if kind.name == "snis":
                    continue
                reading, writes = _parent(kind, name, parent), parent_writes(kind, name, parent)
                yield Endpoint(f"{path}/{{key}}/{name}", f"{shown}/{name}", parent, reading, "entity", writes)

    def _nested(self, kind: EntityType, name: str, parent: EntityType) -> Iterator[Endpoint]:
        parent_path, nested = collection_path(parent), kind.nested_under[name]
        over, shown = f"{parent_path}/{{parent}}/{nested}", f"{parent_path}/{{{parent.name}}}/{nested}"
        reading = self._children(kind, name, parent)
        yield Endpoint(over, shown, kind, reading, "page", children_writes(kind, name, parent))
        child = _child(kind, name, parent)
        writes = child_writes(kind, name, parent)
        yield Endpoint(f"{over}/{{key}}", f"{shown}/{{{kind.name}}}", kind, child, "entity", writes)

    def _collection(self, kind: EntityType) -> Read:
        def read(operations: Operations, asked: Question) -> Found:
            query = dict(asked.query)
            if kind.name == "consumers" and "custom_id" in query:
                if not query["custom_id"]:
                    raise AnswerError(400, {"message": "custom_id must be an unempty string"})
                found = operations.select("consumers", query["custom_id"], by="custom_id")
                return Found(body={"data": [] if found is None else [found], "next": None})
            rows = operations.all(kind.name)
            return Found(body=page(rows, parse_query(query), asked.path, show=lambda row: self._show(kind, row)))

        return read

    def _children(self, kind: EntityType, name: str, parent: EntityType) -> Read:
        def read(operations: Operations, asked: Question) -> Found:
            owner = required(operations, parent, asked.keys["parent"])
            rows = operations.children(kind.name, name, owner["id"])
            query = parse_query(dict(asked.query))
            return Found(body=page(rows, query, asked.path, is_nested=True, show=lambda row: self._show(kind, row)))

        return read

    def _target_endpoints(self) -> Iterator[Endpoint]:
        """Targets live below their upstream only: newest first, one per address and port, found by either key."""
        kind, upstreams = self._types["targets"], self._types["upstreams"]

        def newest_first(row: Entity) -> list[Any]:
            return [-(row.get("created_at") or 0), row["id"]]

        def read_all(operations: Operations, asked: Question) -> Found:
            owner = required(operations, upstreams, asked.keys["parent"])
            rows = operations.children("targets", "upstream", owner["id"])
            query = parse_query(dict(asked.query))
            return Found(body=page(rows, query, asked.path, is_nested=True, key=newest_first))

        base, shown = "/upstreams/{parent}/targets", "/upstreams/{upstreams}/targets"
        yield Endpoint(base, shown, kind, read_all, "page", children_writes(kind, "upstream", upstreams))
        yield Endpoint(f"{base}/all", f"{shown}/all", kind, read_all, "page")
        child = _child(kind, "upstream", upstreams)
        writes = child_writes(kind, "upstream", upstreams)
        yield Endpoint(f"{base}/{{key}}", f"{shown}/{{targets}}", kind, child, "entity", writes)


def _single(kind: EntityType) -> Read:
    return lambda operations, asked: Found(required(operations, kind, asked.keys["key"]))


def _child(kind: EntityType, name: str, parent: EntityType) -> Read:
    def read(operations: Operations, asked: Question) -> Found:
        owner = required(operations, parent, asked.keys["parent"])
        found = find_child(operations, kind, name, owner["id"], asked.keys["key"])
        if found is None:
            raise not_found()
        return Found(found)

    return read


def _parent(kind: EntityType, name: str, parent: EntityType) -> Read:
    def read(operations: Operations, asked: Question) -> Found:
        owner_id = reference_id(required(operations, kind, asked.keys["key"]), name)
        owner = None if owner_id is None else operations.select(parent.name, owner_id)
        if owner is None:
            raise not_found()
        return Found(owner)

    return read


def collection_path(kind: EntityType) -> str | None:
    """Return the path of a type's collection; None for types without endpoints."""
    return "/" + kind.admin_path.strip("/") if kind.admin_path else None
