"""Paths of a plugin in the Admin API: what its module `api` lists in `PATHS`.

Owns what a plugin writes and what its functions get. They run in the control process, not in a worker: there is no
request of a client, and `kong` has nothing there. The store is `request.db`.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias


class AdminStore(Protocol):
    """The entities of the node. Reading and writing block; each write is a transaction.

    `by` names the field that addresses an entity: `id`, a unique one, or the endpoint key. Writes raise
    `headgate.EntityError`, which is answered as the Admin API does when nobody catches it.
    """

    def select(self, entity_name: str, key: str, *, by: str = "id") -> dict[str, Any] | None:
        """Return an entity; None when there is none."""

    def all(self, entity_name: str) -> Iterable[dict[str, Any]]:
        """Return the entities of a type, in the order of their ids."""

    def children(self, entity_name: str, foreign_field: str, parent_id: str) -> Sequence[dict[str, Any]]:
        """Return the entities of a type that refer to a parent, in the order of their ids."""

    def insert(self, entity_name: str, given: Mapping[str, Any], *, ttl: int | None = None) -> dict[str, Any]:
        """Store a new entity and return it complete."""

    def update(
        self, entity_name: str, key: str, changes: Mapping[str, Any], *, by: str = "id", ttl: int | None = None
    ) -> dict[str, Any]:
        """Change an entity and return it."""

    def upsert(
        self, entity_name: str, key: str, given: Mapping[str, Any], *, by: str = "id", ttl: int | None = None
    ) -> dict[str, Any]:
        """Store an entity whole, new or in place of the one with that key, and return it."""

    def delete(self, entity_name: str, key: str, *, by: str = "id") -> bool:
        """Remove an entity; tell whether it was there."""


@dataclass(frozen=True, slots=True)
class AdminRequest:
    """A request to a path of a plugin.

    `params`: what stands for the names in the path, decoded; `query`: the last value of each argument; `body`: the
    values of a JSON object or form, converted by the schema of the path's `entity`; `headers`: names in lower case.
    """

    method: str
    path: str
    params: Mapping[str, str]
    query: Mapping[str, str]
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    db: AdminStore


@dataclass(frozen=True, slots=True)
class AdminAnswer:
    """An answer: `body` becomes JSON, bytes go as they are, None is no body."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


AdminFunction: TypeAlias = Callable[[AdminRequest], AdminAnswer | Awaitable[AdminAnswer]]
AdminCheck: TypeAlias = Callable[[AdminRequest], AdminAnswer | None]


@dataclass(frozen=True, kw_only=True)
class AdminPath:
    """One path with its methods.

    path: segments as they are, or `{name}` (also `:name`) for what stands in `params`.
    methods: method -> function; a `def` runs in a thread, an `async def` on control's loop and must not block.
    before: runs before every method, in a thread; an answer it returns is the answer.
    entity: type of entity by whose schema the texts of forms are converted.
    """

    path: str
    methods: Mapping[str, AdminFunction]
    before: AdminCheck | None = None
    entity: str | None = None
