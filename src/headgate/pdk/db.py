"""`kong.db`: the gateway's entities, read-only, from the snapshot in force for the request (else the running one).

PDK reference 20.2, the reading part: nothing here waits for a database. Entities are plain dicts as the Admin API shows
them, shared by all requests: do not change them.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeAlias

from headgate.errors import GatewayError
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
    to it.
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
    def cache_key(self, *keys: Any) -> str:
        """Return `<type>:<k1>:…:<k5>:<workspace>`; absent parts are empty, mappings stand for their id."""
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
        raise AttributeError(f"kong.db.{type_} has no {name}: entities are read-only for plugins")


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


def _id(primary_key: str | Mapping[str, Any]) -> str:
    return primary_key if isinstance(primary_key, str) else str(primary_key["id"])


db = Database()
