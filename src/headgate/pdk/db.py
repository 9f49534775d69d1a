"""`kong.db`: the gateway's entities, those of plugins too.

PDK reference 20.2. Reading is local and never waits: it sees the snapshot in force for the request (else the running
one). Entities are plain dicts as the Admin API shows them, shared by all requests: do not change them. Writing is
awaited: the control process stores the entity, and the workers run a snapshot with it a moment later, so a request
that has written does not read its own write.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from headgate.errors import INVALID_OPTIONS, EntityError, GatewayError, unsupported_write
from headgate.pdk._check import is_number
from headgate.pdk._entities import (
    Entity,
    all_shown,
    cache_key_of,
    cache_keys_of,
    current_snapshot,
    foreign_id,
    id_of,
    of_own_key,
    shown,
    unique_text,
)
from headgate.pdk._node import node, own_store
from headgate.pdk._phase import any_phase
from headgate.pdk._span import CLIENT
from headgate.pdk.tracing import is_instrumented, tracing

DEFAULT_PAGE_SIZE = 1000
LARGEST_PAGE_SIZE = 50_000

MOST_TAGS = 5
SEVERAL_TAGS = re.compile(r"[^,/]+(?:,[^,/]+)*|[^,/]+(?:/[^,/]+)*")

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

        Of a type with another primary key: a mapping with all fields of it, or the value of the only one.

        Args: options, `workspace`: there is only `default`; `transform`: False for the form that is stored;
            `show_ws_id`: True to have the workspace in it.
        Raises: TypeError `primary_key must be a table`; EntityError of code 1 for what is no key, 11 for options.
        """
        _check_reading(options, ())
        return shown(self._type, current_snapshot().get(self._type, id_of(self._type, primary_key)), options)

    @any_phase
    def select_by_cache_key(self, key: str) -> Entity | None:
        """Return the entity whose `cache_key` this is; None when there is none.

        Raises: TypeError `cache_key must be a string`.
        """
        _text(key, "cache_key")
        type_ = self._type
        found = current_snapshot().indexed(type_, _INDEX, lambda entity: cache_keys_of(type_, entity)[0], key)
        return shown(type_, found)

    @any_phase
    def each(self, size: int = DEFAULT_PAGE_SIZE, options: Mapping[str, Any] | None = None) -> Iterator[Entity]:
        """Yield all entities, or those with some tags; nothing is fetched, so that `size` is only checked.

        Args: options, as those of `page`.
        Raises: as `page`.
        """
        _check_reading(options, _PAGE_OPTIONS)
        _page_size(size, options)
        return all_shown(self._type, filter(_tag_filter(options), current_snapshot().all(self._type)), options)

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
        return _page(self._type, current_snapshot().all(self._type), size, offset, options)

    @any_phase
    async def insert(self, entity: Mapping[str, Any], options: Mapping[str, Any] | None = None) -> Entity:
        """Store a new entity; returns it complete, with its id.

        Args: options, `ttl`: seconds until it disappears, for types that have it (0: never).
        Raises: EntityError.
        """
        written = await _write("insert", self._type, "", "id", _table(entity, "entity"), options)
        return _written(self._type, written, options)

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
        key = id_of(self._type, primary_key)
        try:
            written = await _write("update", self._type, key, "id", _table(entity, "entity"), options)
        except EntityError as error:
            raise of_own_key(self._type, primary_key, error) from error
        return _written(self._type, written, options)

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
        key, values = id_of(self._type, primary_key), _table(entity, "entity")
        if node.key_forms is not None and self._type in node.key_forms:
            values = {**values, **node.key_forms.values(self._type, primary_key)}
        return _written(self._type, await _write("upsert", self._type, key, "id", values, options), options)

    @any_phase
    async def delete(self, primary_key: str | Mapping[str, Any], options: Mapping[str, Any] | None = None) -> bool:
        """Remove an entity and what goes with it; True, also when it was not there.

        Raises: EntityError, of code 4 while something refers to it that does not go with it.
        """
        await _write("delete", self._type, id_of(self._type, primary_key), "id", {}, options)
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
        return cache_key_of(self._type, keys, node.cache_keys.get(self._type) or node.primary_keys.get(self._type, ()))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        # Kept, so that the next access is a plain attribute read.
        method = self.__dict__[name] = self._method(name)
        return method

    def _method(self, name: str) -> Callable[..., Any]:
        """Make one of the methods that are named after a field."""
        kind, type_ = name, self._type
        if kind.startswith("select_by_"):
            unique_field = kind.removeprefix("select_by_")

            def select_by(value: Any, options: Mapping[str, Any] | None = None) -> Entity | None:
                _check_reading(options, ())
                text = unique_text(type_, unique_field, value)
                if isinstance(value, Mapping):
                    children = current_snapshot().children(type_, unique_field, text)
                    return shown(type_, next(iter(children), None), options)
                return shown(type_, current_snapshot().by(type_, unique_field, value), options)

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
                children = current_snapshot().children(
                    type_, foreign_field, foreign_id(type_, foreign_field, foreign_key)
                )
                return all_shown(type_, filter(_tag_filter(options), children), options)

            return each_for
        if kind.startswith("page_for_"):
            foreign_field = kind.removeprefix("page_for_")

            def page_for(
                foreign_key: str | Mapping[str, Any],
                size: int = DEFAULT_PAGE_SIZE,
                offset: str | None = None,
                options: Mapping[str, Any] | None = None,
            ) -> tuple[list[Entity], str | None]:
                children = current_snapshot().children(
                    type_, foreign_field, foreign_id(type_, foreign_field, foreign_key)
                )
                return _page(type_, children, size, offset, options)

            return page_for
        operation, separator, unique_field = name.partition("_by_")
        if separator and unique_field and operation in ("update", "upsert"):

            async def write_by(
                value: Any, entity: Mapping[str, Any], options: Mapping[str, Any] | None = None
            ) -> Entity:
                key, values = unique_text(type_, unique_field, value), _table(entity, "entity")
                if operation == "upsert" and not isinstance(value, str):
                    values = {unique_field: value, **values}
                return _written(type_, await _write(operation, type_, key, unique_field, values, options), options)

            return write_by
        if separator and unique_field and operation == "delete":

            async def delete_by(value: Any, options: Mapping[str, Any] | None = None) -> bool:
                await _write("delete", type_, unique_text(type_, unique_field, value), unique_field, {}, options)
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


_PAGE_OPTIONS = ("tags", "tags_cond", "pagination")
_FORM_OPTIONS = ("nulls", "show_ws_id", "transform")
"""What entities look like. `nulls` has no effect: they are always there, and Lua leaves them out itself."""


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
        elif name not in known and name not in _FORM_OPTIONS:
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
    rows_shown = list(all_shown(type_, iter(found[:size]), options))
    return rows_shown, str(start + size) if len(found) > size else None


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


def _written(type_: str, entity: Entity | None, options: Mapping[str, Any] | None) -> Entity:
    read = shown(type_, entity, options)
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


db = Database()
