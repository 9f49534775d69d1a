"""Consumer groups and their members, in the shapes of their own that the reference gives (admin-api 9)."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from headgate.admin.answers import not_found
from headgate.admin.entities import Endpoint, Found, Question
from headgate.admin.lookup import required
from headgate.admin.pages import page, parse_query
from headgate.admin.writes import GONE, Given, Method, Outcome, Write, entity_writes
from headgate.entities.entity_type import Entity, EntityType
from headgate.entities.registry import Registry
from headgate.errors import SCHEMA_VIOLATION, EntityError, violation_message
from headgate.schema.validators import REQUIRED
from headgate.store.base import Operations, is_id

_MEMBERSHIPS = "consumer_group_consumers"
_OTHER_SCOPES = ("route", "service", "consumer")


class ConsumerGroupEndpoints:
    """Groups, members of a group, groups of a consumer."""

    def __init__(self, entity_types: Registry) -> None:
        self._groups = entity_types["consumer_groups"]
        self._consumers = entity_types["consumers"]
        self._memberships = entity_types[_MEMBERSHIPS]
        self._plugins = entity_types["plugins"]

    def all(self) -> Iterator[Endpoint]:
        """Yield the endpoints; they come before the derived ones of the same path."""
        group, shown = "/consumer_groups/{key}", "/consumer_groups/{consumer_groups}"
        yield Endpoint(group, shown, self._groups, self._group, "own", entity_writes(self._groups))
        yield from self._both(group, shown, self._groups, self._consumers, "consumers", "consumer")
        yield self._override(group, shown)
        consumer, shown = "/consumers/{key}", "/consumers/{consumers}"
        yield from self._both(consumer, shown, self._consumers, self._groups, "consumer_groups", "group")

    def _override(self, group: str, shown: str) -> Endpoint:
        """Return the older path to the configuration of a plugin for a group: the group's own instance of it."""

        def found(operations: Operations, keys: Mapping[str, str]) -> tuple[Entity, Entity | None]:
            owner = required(operations, self._groups, keys["key"])
            for instance in operations.children("plugins", "consumer_group", owner["id"]):
                if instance["name"] == keys["plugin"] and not any(instance.get(scope) for scope in _OTHER_SCOPES):
                    return owner, instance
            return owner, None

        def body(owner: Entity, instance: Entity) -> dict[str, Any]:
            return {"consumer_group": owner["name"], "plugin": instance["name"], "config": instance["config"]}

        def read(operations: Operations, asked: Question) -> Found:
            owner, instance = found(operations, asked.keys)
            if instance is None:
                raise not_found()
            return Found(body=body(owner, instance))

        def put(operations: Operations, keys: Mapping[str, str], given: Given) -> Outcome:
            owner, instance = found(operations, keys)
            named = replace(given, values={**given.values, "name": keys["plugin"]})
            values = named.entity(self._plugins) | {"consumer_group": {"id": owner["id"]}}
            if instance is None:
                stored = operations.insert("plugins", values)
            else:
                stored = operations.upsert("plugins", instance["id"], values)
            return Outcome(201, body=body(owner, stored))

        def delete(operations: Operations, keys: Mapping[str, str], given: Given) -> Outcome:
            _, instance = found(operations, keys)
            if instance is None:
                raise not_found()
            operations.delete("plugins", instance["id"])
            return GONE

        path = "overrides/plugins/{plugin}"
        writes = {"PUT": Write(self._plugins, put, status=201), "DELETE": Write(self._plugins, delete)}
        return Endpoint(f"{group}/{path}", f"{shown}/{path}", self._plugins, read, "own", writes)

    def _both(
        self, path: str, shown: str, owner: EntityType, other: EntityType, name: str, argument: str
    ) -> Iterator[Endpoint]:
        """Yield the paths of the memberships of one side: all, and one."""
        kind = self._memberships
        own, others = _field(owner), _field(other)

        def members(operations: Operations, holder: Entity) -> list[Entity]:
            rows = operations.children(_MEMBERSHIPS, own, holder["id"])
            found = (operations.select(other.name, row[others]["id"]) for row in rows)
            return [member for member in found if member is not None]

        def together(holder: Entity, shown_members: list[Entity]) -> dict[str, Any]:
            return {own: holder, name: shown_members}

        def read_all(operations: Operations, asked: Question) -> Found:
            holder = required(operations, owner, asked.keys["key"])
            rows = members(operations, holder)
            return Found(body=page(rows, parse_query(dict(asked.query)), asked.path, is_nested=True))

        def membership(operations: Operations, keys: Mapping[str, str]) -> tuple[Entity, Entity, Entity]:
            holder = required(operations, owner, keys["key"])
            member = required(operations, other, keys["member"])
            for row in operations.children(_MEMBERSHIPS, own, holder["id"]):
                if row[others]["id"] == member["id"]:
                    return holder, member, row
            raise not_found()

        def read_one(operations: Operations, asked: Question) -> Found:
            holder, member, _ = membership(operations, asked.keys)
            return Found(body=together(holder, [member]))

        def add(operations: Operations, keys: Mapping[str, str], given: Given) -> Outcome:
            holder = required(operations, owner, keys["key"])
            member = _named(operations, other, argument, given.values.get(argument))
            operations.insert(_MEMBERSHIPS, {own: {"id": holder["id"]}, others: {"id": member["id"]}})
            return Outcome(201, body=together(holder, members(operations, holder)))

        def remove_all(operations: Operations, keys: Mapping[str, str], given: Given) -> Outcome:
            holder = required(operations, owner, keys["key"])
            for row in operations.children(_MEMBERSHIPS, own, holder["id"]):
                operations.delete(_MEMBERSHIPS, row["id"])
            return GONE

        def remove_one(operations: Operations, keys: Mapping[str, str], given: Given) -> Outcome:
            _, _, row = membership(operations, keys)
            operations.delete(_MEMBERSHIPS, row["id"])
            return GONE

        def writes(**methods: Method) -> dict[str, Write]:
            return {method: Write(kind, run) for method, run in methods.items()}

        yield Endpoint(
            f"{path}/{name}", f"{shown}/{name}", other, read_all, "page", writes(POST=add, DELETE=remove_all)
        )
        one = f"{path}/{name}/{{member}}"
        yield Endpoint(one, f"{shown}/{name}/{{{other.name}}}", kind, read_one, "own", writes(DELETE=remove_one))

    def _group(self, operations: Operations, asked: Question) -> Found:
        group = required(operations, self._groups, asked.keys["key"])
        answer: dict[str, Any] = {"consumer_group": group}
        if asked.query.get("list_consumers") != "false":
            rows = operations.children(_MEMBERSHIPS, "consumer_group", group["id"])
            found = (operations.select("consumers", row["consumer"]["id"]) for row in rows)
            answer["consumers"] = [consumer for consumer in found if consumer is not None]
        return Found(group, answer)


def _field(kind: EntityType) -> str:
    """Return the foreign field of a membership that refers to a type."""
    return "consumer" if kind.name == "consumers" else "consumer_group"


def _named(operations: Operations, kind: EntityType, argument: str, value: Any) -> Entity:
    """Return the entity that a body names by id or endpoint key, as a text or `{"id": …}`.

    Raises: EntityError of code 2.
    """
    text = value.get("id") if isinstance(value, Mapping) else value
    fault = None
    found: Entity | None = None
    if text is None or text == "":
        fault = REQUIRED
    elif not isinstance(text, str):
        fault = "expected a string"
    elif kind.endpoint_key is not None:
        found = operations.select(kind.name, text, by="id" if is_id(text) else kind.endpoint_key)
        fault = None if found is not None else f"no '{kind.name}' entity has this id or name"
    if fault is not None or found is None:
        fields = {argument: fault}
        raise EntityError(SCHEMA_VIOLATION, message=violation_message(fields), fields=fields)
    return found
