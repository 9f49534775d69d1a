"""`kong.db`: the gateway's entities, those of plugins too.

PDK reference 20.2. Reading is local and never waits: it sees the snapshot in force for the request (else the running
one). Entities are plain dicts as the Admin API shows them, shared by all requests: do not change them. Writing is
awaited: the control process stores the entity, and the workers run a snapshot with it a moment later, so a request
that has written does not read its own write.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeAlias

from headgate.errors import INVALID_OPTIONS, EntityError, GatewayError, unsupported_write
from headgate.pdk._call import current_call
from headgate.pdk._check import is_number
from headgate.pdk._node import SnapshotView, node, own_store
from headgate.pdk._phase import any_phase
from headgate.pdk._span import CLIENT
from headgate.pdk.tracing import is_instrumented, tracing

Entity: TypeAlias = dict[str, Any]

DEFAULT_PAGE_SIZE = 1000
LARGEST_PAGE_SIZE = 50_000

MOST_TAGS = 5
SEVERAL_TAGS = re.compile(r"[^,/]+(?:,[^,/]+)*|[^,/]+(?:/[^,/]+)*")

_KEY_PARTS = 5
_INDEX = "@cache_key"


class PageError(GatewayError):
    """`page` was asked for an impossible page."""


class EntityTable:
    """One type of entity: `kong.db.consumers`.

    `select_by_<unique field>(value)` returns an entity or None; `each_for_<foreign key>(id)` yields those that refer
    to it, `page_for_<foreign key>(id, size, offset)` returns them in pages. `update_by_<unique field>`,
    `upsert_by_<unique field>` and `delete_by_<unique field>` take a value of that field in place of the id. All that
    write raise EntityError: of code 12 where no database holds the entities (`database = off`), of code 8 when the
    store does not answer.
    """

    def __init__(self, type_: str) -> None:
        self._type = type_

    @any_phase
    def select(self, primary_key: str | Mapping[str, Any], options: Mapping[str, Any] | None = None) -> Entity | None:
        """Return an entity by id (or `{"id": …}`); None when there is none.

        Args: options, `workspace`: there is only `default`.
        Raises: TypeError `primary_key must be a table`; EntityError of code 11 for options.
        """
        _check_reading(options, ())
        if not isinstance(primary_key, (str, Mapping)):
            raise TypeError("primary_key must be a table")
        return shown(self._type, _snapshot().get(self._type, _id(primary_key)))

    @any_phase
    def select_by_cache_key(self, key: str) -> Entity | None:
        """Return the entity whose `cache_key` this is; None when there is none.

        Raises: TypeError `cache_key must be a string`.
        """
        _text(key, "cache_key")
        type_ = self._type
        found = _snapshot().indexed(type_, _INDEX, lambda entity: cache_keys_of(type_, entity)[0], key)
        return shown(type_, found)

    @any_phase
    def each(self, size: int = DEFAULT_PAGE_SIZE, options: Mapping[str, Any] | None = None) -> Iterator[Entity]:
        """Yield all entities, or those with some tags; nothing is fetched, so that `size` is only checked.

        Args: options, as those of `page`.
        Raises: as `page`.
        """
        _check_reading(options, _PAGE_OPTIONS)
        _page_size(size, options)
        return _all_shown(self._type, filter(_tag_filter(options), _snapshot().all(self._type)))

    @any_phase
    def page(
        self,
        size: int = DEFAULT_PAGE_SIZE,
        offset: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> tuple[list[Entity], str | None]:
        """Return (entities, offset of the next page or None).

        Args: options, `tags`: a list, or text as `a,b` (all of them) or `a/b` (any), at most 5; `tags_cond`: `and` or
            `or`, for a list; `pagination`: `page_size` and `max_page_size` in place of 1000 and 50000.
        Raises: TypeError `size must be a number`, `offset must be a string`; PageError for a size outside of 1 to
            50000, or an offset that `page` did not return; EntityError of code 11 for options.
        """
        return _page(self._type, _snapshot().all(self._type), size, offset, options)

    @any_phase
    async def insert(self, entity: Mapping[str, Any], options: Mapping[str, Any] | None = None) -> Entity:
        """Store a new entity; returns it complete, with its id.

        Args: options, `ttl`: seconds until it disappears, for types that have it (0: never).
        Raises: EntityError.
        """
        return _written(self._type, await _write("insert", self._type, "", "id", _table(entity, "entity"), options))

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
        return _written(
            self._type, await _write("update", self._type, _id(primary_key), "id", _table(entity, "entity"), options)
        )

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
        return _written(
            self._type, await _write("upsert", self._type, _id(primary_key), "id", _table(entity, "entity"), options)
        )

    @any_phase
    async def delete(self, primary_key: str | Mapping[str, Any], options: Mapping[str, Any] | None = None) -> bool:
        """Remove an entity and what goes with it; True, also when it was not there.

        Raises: EntityError, of code 4 while something refers to it that does not go with it.
        """
        await _write("delete", self._type, _id(primary_key), "id", {}, options)
        return True

    @any_phase
    async def truncate(self) -> bool:
        """Remove all entities of the type and what goes with them.

        Raises: EntityError, of code 4 while something refers to one of them that does not go with it.
        """
        await _write("truncate", self._type, "", "id", {}, None)
        return True

    @any_phase
    def cache_key(self, *keys: Any) -> str:
        """Return `<type>:<k1>:…:<k5>:<workspace>`; absent parts are empty, mappings stand for their id.

        Args: an entity, whose `cache_key` fields are taken (its id when the type has none or all are empty); or the
        values of these fields in their order.
        """
        if len(keys) == 1 and isinstance(keys[0], Mapping):
            return cache_keys_of(self._type, keys[0])[0]
        return _key(self._type, keys)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        # Kept, so that the next access is a plain attribute read.
        method = self.__dict__[name] = self._method(name)
        return method

    def _method(self, name: str) -> Callable[..., Any]:
        """Make one of the methods that are named after a field."""
        kind, type_ = name, self._type
        if kind.startswith("select_by_"):
            unique_field = kind.removeprefix("select_by_")

            def select_by(value: str, options: Mapping[str, Any] | None = None) -> Entity | None:
                _check_reading(options, ())
                _text(value, unique_field)
                return shown(type_, _snapshot().by(type_, unique_field, value))

            return select_by
        if kind.startswith("each_for_"):
            foreign_field = kind.removeprefix("each_for_")

            def each_for(
                foreign_key: str | Mapping[str, Any],
                size: int = DEFAULT_PAGE_SIZE,
                options: Mapping[str, Any] | None = None,
            ) -> Iterator[Entity]:
                _check_reading(options, _PAGE_OPTIONS)
                _page_size(size, options)
                children = _snapshot().children(type_, foreign_field, _id(foreign_key))
                return _all_shown(type_, filter(_tag_filter(options), children))

            return each_for
        if kind.startswith("page_for_"):
            foreign_field = kind.removeprefix("page_for_")

            def page_for(
                foreign_key: str | Mapping[str, Any],
                size: int = DEFAULT_PAGE_SIZE,
                offset: str | None = None,
                options: Mapping[str, Any] | None = None,
            ) -> tuple[list[Entity], str | None]:
                children = _snapshot().children(type_, foreign_field, _id(foreign_key))
                return _page(type_, children, size, offset, options)

            return page_for
        operation, separator, unique_field = name.partition("_by_")
        if separator and unique_field and operation in ("update", "upsert"):

            async def write_by(
                value: str, entity: Mapping[str, Any], options: Mapping[str, Any] | None = None
            ) -> Entity:
                _text(value, unique_field)
                written = await _write(operation, type_, value, unique_field, _table(entity, "entity"), options)
                return _written(type_, written)

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
        table = self.__dict__[name] = EntityTable(name)
        return table


def cache_keys_of(type_: str, entity: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys under which an entity may be cached: that of its declaration first, that of its id."""
    by_id = _key(type_, (entity,))
    declared = tuple(entity.get(name) for name in node.cache_keys.get(type_, ()))
    return (by_id,) if all(value is None for value in declared) else (_key(type_, declared), by_id)


def _key(type_: str, values: tuple[Any, ...]) -> str:
    parts = ["" if value is None else _id(value) if isinstance(value, Mapping) else str(value) for value in values]
    parts = (parts + [""] * _KEY_PARTS)[:_KEY_PARTS]
    return ":".join((type_, *parts, str(node.configuration.get("default_workspace") or "")))


_PAGE_OPTIONS = ("tags", "tags_cond", "pagination")


def _check_reading(options: Any, known: tuple[str, ...]) -> None:
    """Check the options of a function that reads."""
    if options is None:
        return
    if not isinstance(options, Mapping):
        raise TypeError("options must be a table when specified")
    for name in options:
        if name == "workspace":
            if options[name] not in (None, "default", node.configuration.get("default_workspace")):
                raise _bad_option(name, "invalid workspace")
        elif name not in known:
            raise _bad_option(str(name), "unknown option")


def _bad_option(name: str, text: str) -> EntityError:
    return EntityError(INVALID_OPTIONS, message=f"invalid option ({name}: {text})", fields={name: text})


def _tag_filter(options: Mapping[str, Any] | None) -> Callable[[Entity], bool]:
    """Return whether an entity has the wanted tags, as a function."""
    given = (options or {}).get("tags")
    condition = (options or {}).get("tags_cond")
    if given is None:
        return lambda entity: True
    if isinstance(given, str):
        if SEVERAL_TAGS.fullmatch(given) is None:
            raise _bad_option("tags", "invalid filter syntax")
        condition = "or" if "/" in given else "and"
        given = re.split("[,/]", given)
    if not isinstance(given, (list, tuple)) or not all(isinstance(tag, str) for tag in given):
        raise _bad_option("tags", "must be a table of strings")
    if len(given) > MOST_TAGS:
        raise _bad_option("tags", f"cannot query more than {MOST_TAGS} tags")
    if len(given) > 1 and condition not in ("and", "or"):
        raise _bad_option("tags_cond", "must be a either 'and' or 'or' when more than one tag is specified")
    wanted = frozenset(given)
    if condition == "or":
        return lambda entity: not wanted.isdisjoint(entity.get("tags") or ())
    return lambda entity: wanted.issubset(entity.get("tags") or ())


def _page_size(size: Any, options: Mapping[str, Any] | None) -> int:
    """Return the size of a page, with the options' own default and limit."""
    pagination = (options or {}).get("pagination") or {}
    if not isinstance(pagination, Mapping):
        raise _bad_option("pagination", "must be a table")
    if size is None or (size == DEFAULT_PAGE_SIZE and "page_size" in pagination):
        size = pagination.get("page_size", DEFAULT_PAGE_SIZE)
    if not is_number(size):
        raise TypeError("size must be a number")
    largest = pagination.get("max_page_size", LARGEST_PAGE_SIZE)
    if size != int(size) or not 1 <= size <= largest:
        raise PageError(f"size must be an integer between 1 and {largest}")
    return int(size)


def _page(
    type_: str, rows: Iterable[Entity], size: Any, offset: Any, options: Mapping[str, Any] | None
) -> tuple[list[Entity], str | None]:
    _check_reading(options, _PAGE_OPTIONS)
    size = _page_size(size, options)
    if offset is not None:
        _text(offset, "offset")
    if offset is not None and not offset.isdecimal():
        raise PageError(f"'{offset}' is not a valid offset: bad base64 encoding")
    start = int(offset or 0)
    found = list(islice(filter(_tag_filter(options), rows), start, start + size + 1))
    return list(_all_shown(type_, iter(found[:size]))), str(start + size) if len(found) > size else None


def shown(type_: str, entity: Entity | None) -> Entity | None:
    """Return an entity in the form in which plugins read it; most types are stored in the same one."""
    read = node.read_forms.get(type_)
    return entity if read is None or entity is None else read(entity)


def _all_shown(type_: str, entities: Iterator[Entity]) -> Iterator[Entity]:
    read = node.read_forms.get(type_)
    return entities if read is None else map(read, entities)


def _snapshot() -> SnapshotView:
    call = current_call.get()
    if call is not None and call.exchange is not None:
        snapshot: SnapshotView = call.exchange.plan.snapshot
        return snapshot
    own = own_store.get()
    if own is not None:
        return own.snapshot
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
    _check_reading(options, ("ttl",))
    own = own_store.get()
    write_entity = node.write_entity if own is None else own.write_entity
    if write_entity is None:
        raise unsupported_write(operation, type_, None if by == "id" else by)
    ttl = (options or {}).get("ttl")
    if not is_instrumented("db_query"):
        return await write_entity(operation, type_, key, by, values, ttl)
    attributes = {"db.system": node.configuration.get("database"), "db.statement": f"{operation} {type_}"}
    with tracing.start_span("kong.database.query", {"span_kind": CLIENT, "attributes": attributes}):
        return await write_entity(operation, type_, key, by, values, ttl)


def _written(type_: str, entity: Entity | None) -> Entity:
    read = shown(type_, entity)
    if read is None:
        raise GatewayError("the store did not return the entity")
    return read


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
