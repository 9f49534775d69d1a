"""The one interface of a store of entities, whatever holds them.

Owns the operations, their options and what pages are. Errors of an operation are `EntityError`, with the codes and
texts that the Admin API answers. All methods block; the control process calls them in threads.
"""

import base64
import binascii
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

import orjson

from headgate.entities.entity_type import Entity
from headgate.entities.registry import Registry
from headgate.errors import INVALID_OFFSET, INVALID_OPTIONS, EntityError
from headgate.store.delta import Delta
from headgate.store.snapshot import Snapshot

DEFAULT_PAGE_SIZE: Final = 100
LONGEST_TTL_S: Final = 100_000_000
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")

Result = TypeVar("Result")
Parent: TypeAlias = tuple[str, str]
"""A foreign field and the id it has."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some entities of a type in the order of their ids; `offset` continues after them, None: there are no more."""

    entities: list[Entity]
    offset: str | None


@dataclass(frozen=True, slots=True)
class Message:
    """A message to all nodes; nobody gets it before `delay_s` seconds are over."""

    channel: str
    data: Any
    delay_s: float = 0.0


class Operations(ABC):
    """What can be done with the entities of a registry: by a store, each on its own, or inside one transaction.

    `by` names the field that addresses an entity: the id, a unique field, or the endpoint key. `ttl` is in seconds: 0
    is for ever, None leaves the choice to the entity's own `ttl`, then to what is stored.
    """

    def __init__(self, entity_types: Registry) -> None:
        self.entity_types = entity_types

    @abstractmethod
    def select(self, entity_name: str, key: str, *, by: str = "id") -> Entity | None:
        """Return an entity; None when there is none."""

    def select_by(self, entity_name: str, field: str, value: str) -> Entity | None:
        """Return the entity with a value of a unique field; None when there is none."""
        return self.select(entity_name, value, by=field)

    @abstractmethod
    def all(self, entity_name: str) -> Iterable[Entity]:
        """Return the entities of a type, in the order of their ids."""

    @abstractmethod
    def children(self, entity_name: str, foreign_field: str, parent_id: str) -> Sequence[Entity]:
        """Return the entities of a type that refer to a parent, in the order of their ids."""

    @abstractmethod
    def insert(self, entity_name: str, given: Mapping[str, Any], *, ttl: int | None = None) -> Entity:
        """Store a new entity and return it complete."""

    @abstractmethod
    def update(
        self, entity_name: str, key: str, changes: Mapping[str, Any], *, by: str = "id", ttl: int | None = None
    ) -> Entity:
        """Change an entity and return it: records merge deeply, everything else is replaced.

        Raises: EntityError of code 6 when there is none, and those of `insert`.
        """

    @abstractmethod
    def upsert(
        self, entity_name: str, key: str, given: Mapping[str, Any], *, by: str = "id", ttl: int | None = None
    ) -> Entity:
        """Store an entity whole, new or in place of the one with that key, and return it."""

    @abstractmethod
    def delete(self, entity_name: str, key: str, *, by: str = "id") -> bool:
        """Remove an entity with all that goes with it; tell whether it was there."""

    @abstractmethod
    def truncate(self, entity_name: str) -> int:
        """Remove all entities of a type with all that goes with them; returns how many of the type.

        Raises: EntityError of code 4, nothing is removed then.
        """


class Store(Operations):
    """A store of the entities of a registry.

    plugin_faults: finds what only all plugin instances together show, by instance id and field; None checks nothing.
    """

    plugin_faults: Callable[[Snapshot], Mapping[str, Mapping[str, Any]]] | None = None

    @abstractmethod
    def page(
        self,
        entity_name: str,
        size: int = DEFAULT_PAGE_SIZE,
        offset: str | None = None,
        *,
        parent: Parent | None = None,
    ) -> Page:
        """Return the next entities of a type, or those that refer to a parent.

        Raises: EntityError of code 7 for an offset that `page` did not return.
        """

    @abstractmethod
    def write(self, work: Callable[[Operations], Result]) -> Result:
        """Do several operations as one: all of them are stored, or, when one raises, none.

        What they read is not changed by others until they end.
        """

    def insert(self, entity_name: str, given: Mapping[str, Any], *, ttl: int | None = None) -> Entity:
        return self.write(lambda operations: operations.insert(entity_name, given, ttl=ttl))

    def update(
        self, entity_name: str, key: str, changes: Mapping[str, Any], *, by: str = "id", ttl: int | None = None
    ) -> Entity:
        return self.write(lambda operations: operations.update(entity_name, key, changes, by=by, ttl=ttl))

    def upsert(
        self, entity_name: str, key: str, given: Mapping[str, Any], *, by: str = "id", ttl: int | None = None
    ) -> Entity:
        return self.write(lambda operations: operations.upsert(entity_name, key, given, by=by, ttl=ttl))

    def delete(self, entity_name: str, key: str, *, by: str = "id") -> bool:
        return self.write(lambda operations: operations.delete(entity_name, key, by=by))

    def truncate(self, entity_name: str) -> int:
        return self.write(lambda operations: operations.truncate(entity_name))

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """Return all entities as of one moment."""

    def snapshot_after(self, known: Snapshot) -> tuple[Snapshot, Delta | None]:
        """Return all entities as of one moment, and what changed since a snapshot of this store; None: not known."""
        return self.snapshot(), None

    @abstractmethod
    def revision(self) -> int:
        """Return a number that grows with every write."""

    @property
    @abstractmethod
    def written_revision(self) -> int:
        """The newest revision that this process wrote; 0 when it wrote nothing."""

    @abstractmethod
    def wait_for_change(self, revision: int, timeout_s: float) -> int:
        """Return the revision once it differs from a known one, at the latest after the timeout."""

    @abstractmethod
    def purge(self) -> int:
        """Forget entities whose time to live is over; returns how many. What is seen does not change."""

    @abstractmethod
    def close(self) -> None:
        """Give back connections; the store is not used afterwards."""


def is_id(key: str) -> bool:
    """Tell whether a text is a UUID in the form that ids have."""
    return _UUID.fullmatch(key) is not None


def encoded_offset(last_id: str) -> str:
    """Return the offset that continues after an id."""
    return base64.urlsafe_b64encode(orjson.dumps([last_id])).decode()


def decoded_offset(offset: str) -> str:
    """Return the id after which a page starts. Raises: EntityError of code 7."""
    reason = "bad base64 encoding"
    try:
        data = base64.b64decode(offset, altchars=b"-_", validate=True)
        reason = "bad offset"
        items = orjson.loads(data)
        if isinstance(items, list) and len(items) == 1 and isinstance(items[0], str) and is_id(items[0]):
            return items[0]
    except (ValueError, binascii.Error):
        pass
    raise EntityError(INVALID_OFFSET, message=f"'{offset}' is not a valid offset: {reason}")


def checked_ttl(entity_name: str, has_ttl: bool, ttl: Any) -> int | None:
    """Return a given `ttl`, None when there is none. Raises: EntityError of code 11."""
    if ttl is None:
        return None
    text = None
    if not has_ttl:
        text = f"cannot be used with '{entity_name}'"
    elif isinstance(ttl, bool) or not isinstance(ttl, int) or not 0 <= ttl <= LONGEST_TTL_S:
        text = f"must be an integer between 0 and {LONGEST_TTL_S}"
    if text is None:
        return int(ttl)
    raise EntityError(INVALID_OPTIONS, message=f"invalid option (ttl: {text})", fields={"ttl": text})
