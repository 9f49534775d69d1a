"""The store of a node without a database: reads over a declarative snapshot, writes are refused.

Owns the refusals and which snapshot is read; a new document replaces it whole.
"""

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from headgate.entities.entity_type import Entity
from headgate.entities.registry import ENTITY_TYPES, Registry
from headgate.errors import unsupported_write
from headgate.store.base import (
    DEFAULT_PAGE_SIZE,
    Operations,
    Page,
    Parent,
    Result,
    Store,
    decoded_offset,
    encoded_offset,
)
from headgate.store.snapshot import Snapshot


class MemoryStore(Store):
    """Entities of a snapshot."""

    def __init__(self, snapshot: Snapshot, entity_types: Registry = ENTITY_TYPES) -> None:
        super().__init__(entity_types)
        self._snapshot = snapshot
        self._changed = threading.Condition()

    def replace(self, snapshot: Snapshot) -> None:
        """Read from another snapshot from now on; its revision is a higher one."""
        with self._changed:
            self._snapshot = snapshot
            self._changed.notify_all()

    def select(self, entity_name: str, key: str, *, by: str = "id") -> Entity | None:
        if by == "id":
            return self._snapshot.get(entity_name, key.lower())
        return self._snapshot.by(entity_name, by, key)

    def all(self, entity_name: str) -> Iterable[Entity]:
        return self._snapshot.all(entity_name)

    def children(self, entity_name: str, foreign_field: str, parent_id: str) -> Sequence[Entity]:
        return self._snapshot.children(entity_name, foreign_field, parent_id)

    def page(
        self,
        entity_name: str,
        size: int = DEFAULT_PAGE_SIZE,
        offset: str | None = None,
        *,
        parent: Parent | None = None,
    ) -> Page:
        rows: Sequence[Entity] = (
            list(self._snapshot.all(entity_name))
            if parent is None
            else self._snapshot.children(entity_name, parent[0], parent[1])
        )
        start = 0 if offset is None else bisect_right(rows, decoded_offset(offset), key=lambda row: str(row["id"]))
        found = list(rows[start : start + size])
        return Page(found, encoded_offset(found[-1]["id"]) if start + size < len(rows) else None)

    def write(self, work: Callable[[Operations], Result]) -> Result:
        return work(self)

    def insert(self, entity_name: str, given: Mapping[str, Any], *, ttl: int | None = None) -> NoReturn:
        raise unsupported_write("insert", entity_name)

    def update(
        self, entity_name: str, key: str, changes: Mapping[str, Any], *, by: str = "id", ttl: int | None = None
    ) -> NoReturn:
        raise unsupported_write("update", entity_name, None if by == "id" else by)

    def upsert(
        self, entity_name: str, key: str, given: Mapping[str, Any], *, by: str = "id", ttl: int | None = None
    ) -> NoReturn:
        raise unsupported_write("upsert", entity_name, None if by == "id" else by)

    def delete(self, entity_name: str, key: str, *, by: str = "id") -> NoReturn:
        raise unsupported_write("delete", entity_name, None if by == "id" else by)

    def truncate(self, entity_name: str) -> NoReturn:
        raise unsupported_write("truncate", entity_name)

    def snapshot(self) -> Snapshot:
        return self._snapshot

    def revision(self) -> int:
        return self._snapshot.revision

    @property
    def written_revision(self) -> int:
        return 0

    def wait_for_change(self, revision: int, timeout_s: float) -> int:
        with self._changed:
            self._changed.wait_for(lambda: self._snapshot.revision != revision, timeout_s)
            return self._snapshot.revision

    def purge(self) -> int:
        return 0

    def close(self) -> None:
        """There is nothing to give back."""
