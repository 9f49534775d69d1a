"""`kong.db`: the gateway's entities, those of plugins too.

PDK reference 20.2. Reading is local and never waits: it sees the snapshot in force for the request (else the running
one). Entities are plain dicts as the Admin API shows them, shared by all requests: do not change them. Writing is
awaited: the control process stores the entity, and the workers run a snapshot with it a moment later, so a request
that has written does not read its own write.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeAlias

from headgate.errors import GatewayError, unsupported_write
from headgate.pdk._call import current_call
from headgate.pdk._node import SnapshotView, node
from headgate.pdk._phase import any_phase

Entity: TypeAlias = dict[str, Any]

DEFAULT_PAGE_SIZE = 1000
LARGEST_PAGE_SIZE = 50_000

_KEY_PARTS = 5


class PageError(GatewayError):
    """`page` was asked for an impossible page."""


class EntityTable:
    """One type of entity: `kong.db.consumers`.

    `select_by_<unique field>(value)` returns an entity or None; `each_for_<foreign key>(id)` yields those that refer
    to it. `update_by_<unique field>`, `upsert_by_<unique field>` and `delete_by_<unique field>` take a value of that
    field in place of the id. All that write raise EntityError: of code 12 where no database holds the entities
    (`database = off`), of code 8 when the store does not answer.
    """

    __slots__ = ("_type",)

    def __init__(self, type_: str) -> None:
        self._type = type_

    @any_phase
    def select(self, primary_key: str | Mapping[str, Any], options: Any = None) -> Entity | None:
        """Return an entity by id (or `{"id": …}`); None when there is none."""
        return _snapshot().get(self._type, _id(primary_key))

    @any_phase
    def each(self, size: int = DEFAULT_PAGE_SIZE, options: Any = None) -> Iterator[Entity]:
        """Yield all entities; `size` has no effect, there are no pages to fetch."""
        return iter(_snapshot().all(self._type))

    @any_phase
    def page(
        self, size: int = DEFAULT_PAGE_SIZE, offset: str | None = None, options: Any = None
    ) -> tuple[list[Entity], str | None]:
        """Return (entities, offset of the next page or None).

        Raises: PageError for a size outside of 1 to 50000, or an offset that `page` did not return.
        """
        if not 1 <= size <= LARGEST_PAGE_SIZE:
            raise PageError(f"size must be an integer between 1 and {LARGEST_PAGE_SIZE}")
        if offset is not None and not offset.isdecimal():
            raise PageError(f"'{offset}' is not a valid offset: bad base64 encoding")
        start = int(offset or 0)
        found = list(islice(_snapshot().all(self._type), start, start + size + 1))
        return found[:size], str(start + size) if len(found) > size else None

    @any_phase
    async def insert(self, entity: Mapping[str, Any], options: Mapping[str, Any] | None = None) -> Entity:
        """Store a new entity; returns it complete, with its id.

        Args: options, `ttl`: seconds until it disappears, for types that have it (0: never).
        Raises: EntityError.
        """
        return _written(await _write("insert", self._type, "", "id", _table(entity, "entity"), options))

    @any_phase
    async def update(
        self,
        primary_key: str | Mapping[str, Any],
        entity: Mapping[str, Any],
        options: Mapping[str, Any] | None = None,
    ) -> Entity:
        """Change the given fields of an entity; returns it. Records merge deeply, lists and the rest are replaced.

        Raises: EntityError, of code 6 when there is none.
        """
        return _written(await _write("update", self._type, _id(primary_key), "id", _table(entity, "entity"), options))

    @any_phase
    async def upsert(
        self,
        primary_key: str | Mapping[str, Any],
        entity: Mapping[str, Any],
        options: Mapping[str, Any] | None = None,
    ) -> Entity:
        """Store an entity whole, new or in place of the one with that id; returns it.

        Raises: EntityError.
        """
        return _written(await _write("upsert", self._type, _id(primary_key), "id", _table(entity, "entity"), options))

    @any_phase
    async def delete(self, primary_key: str | Mapping[str, Any], options: Mapping[str, Any] | None = None) -> bool:
        """Remove an entity and what goes with it; True, also when it was not there.

        Raises: EntityError, of code 4 while something refers to it that does not go with it.
        """
        await _write("delete", self._type, _id(primary_key), "id", {}, options)
        return True

    @any_phase
    def cache_key(self, *keys: Any) -> str:
        """Return `<type>:<k1>:…:<k5>:<workspace>`; absent parts are empty, mappings stand for their id.

        Args: an entity, whose `cache_key` fields are taken (its id when the type has none or all are empty); or the
        values of these fields in their order.
        """
        if len(keys) == 1 and isinstance(keys[0], Mapping):
            entity = keys[0]
            keys = tuple(entity.get(name) for name in node.cache_keys.get(self._type, ()))
            if all(key is None for key in keys):
                keys = (entity,)
        parts = [
            ("" if key is None else _id(key) if isinstance(key, Mapping) else str(key)) for key in keys[:_KEY_PARTS]
        ]
        parts += [""] * (_KEY_PARTS - len(parts))
        return ":".join((self._type, *parts, str(node.configuration.get("default_workspace") or "")))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        kind, type_ = name, self._type
        if kind.startswith("select_by_"):
            unique_field = kind.removeprefix("select_by_")

            def select_by(value: str, options: Any = None) -> Entity | None:
                return _snapshot().by(type_, unique_field, value)

            return select_by
        if kind.startswith("each_for_"):
            foreign_field = kind.removeprefix("each_for_")

            def each_for(foreign_key: str | Mapping[str, Any], size: int = DEFAULT_PAGE_SIZE) -> Iterator[Entity]:
                return iter(_snapshot().children(type_, foreign_field, _id(foreign_key)))

            return each_for
        operation, separator, unique_field = name.partition("_by_")
        if separator and unique_field and operation in ("update", "upsert"):

            async def write_by(
                value: str, entity: Mapping[str, Any], options: Mapping[str, Any] | None = None
            ) -> Entity:
                _text(value, unique_field)
                return _written(await _write(operation, type_, value, unique_field, _table(entity, "entity"), options))

            return write_by
        if separator and unique_field and operation == "delete":

            async def delete_by(value: str, options: Mapping[str, Any] | None = None) -> bool:
                _text(value, unique_field)
                await _write("delete", type_, value, unique_field, {}, options)
                return True

            return delete_by
        raise AttributeError(f"kong.db.{type_} has no {name}")


class Database:
    """`kong.db`: one attribute per entity type, in plural as in `kong.db.keyauth_credentials`."""

    def __getattr__(self, name: str) -> EntityTable:
        if name.startswith("_"):
            raise AttributeError(name)
        table = EntityTable(name)
        # Kept, so that the next access is a plain attribute read.
        self.__dict__[name] = table
        return table


def _snapshot() -> SnapshotView:
    call = current_call.get()
    if call is not None and call.exchange is not None:
        snapshot: SnapshotView = call.exchange.plan.snapshot
        return snapshot
    if node.snapshot is None:
        raise LookupError("kong.db is not available before the configuration was loaded")
    return node.snapshot


async def _write(
    operation: str,
    type_: str,
    key: str,
    by: str,
    values: Mapping[str, Any],
    options: Mapping[str, Any] | None,
) -> Entity | None:
    unknown = set(options or ()) - {"ttl"}
    if unknown:
        raise ValueError(f"unknown option: {', '.join(sorted(unknown))}")
    if node.write_entity is None:
        raise unsupported_write(operation, type_, None if by == "id" else by)
    return await node.write_entity(operation, type_, key, by, values, (options or {}).get("ttl"))


def _written(entity: Entity | None) -> Entity:
    if entity is None:
        raise GatewayError("the store did not return the entity")
    return entity


def _table(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{what} must be a table")
    return value


def _text(value: Any, what: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a string")


def _id(primary_key: str | Mapping[str, Any]) -> str:
    return primary_key if isinstance(primary_key, str) else str(primary_key["id"])


db = Database()
