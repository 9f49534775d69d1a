"""The store in a database: every operation of `Store` as one transaction.

Owns reading, revisions, and what a transaction is; what is done in it is `transaction`'s. Each write raises the
revision in the same transaction, as its first statement: that row is the lock between writers, so what is checked
before a row is written still holds when it is.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

import sqlalchemy as sa

from headgate.entities.entity_type import Entity
from headgate.entities.plugins import PluginType
from headgate.entities.registry import Registry
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
from headgate.store.delta import Delta
from headgate.store.input import violation
from headgate.store.snapshot import Snapshot
from headgate.store.sql.changes import ChangeReader, configuration_hash, forget_old_notes
from headgate.store.sql.connect import is_sqlite, reading, writing
from headgate.store.sql.encryption import cipher_of
from headgate.store.sql.events import EventLog
from headgate.store.sql.notifications import Notifications
from headgate.store.sql.rows import entity_of
from headgate.store.sql.tables import Tables, reference_name
from headgate.store.sql.transaction import SqlTransaction

_STATE_ID: Final = 1
# Looked at so often in any case: notifications come at once, but a pooler may swallow them, and a connection that is
# listened on may only look alive. One small statement, where each node looks for messages as often anyway.
_POLL_S: Final = 0.5
# What decides which plugin instances meet on one request.
_PLACED: Final = frozenset(("plugins", "routes", "consumer_group_consumers"))


class SqlStore(Store):
    """A store over an engine; the tables are there already (`migrate`).

    Args: clock gives Unix time in seconds.
    """

    def __init__(
        self,
        engine: sa.Engine,
        entity_types: Registry,
        plugin_types: Mapping[str, PluginType],
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(entity_types)
        self._engine = engine
        self._plugin_types = plugin_types
        self._clock = clock
        self._tables = Tables(entity_types)
        self._written = threading.Condition()
        self._written_revision = 0
        self.events = EventLog(engine)
        self._notifications = None if is_sqlite(engine) else Notifications(engine)

    # -- reading -------------------------------------------------------------------------------------------------------

    def select(self, entity_name: str, key: str, *, by: str = "id") -> Entity | None:
        with reading(self._engine) as connection:
            return self._transaction(connection).select(entity_name, key, by=by)

    def all(self, entity_name: str) -> list[Entity]:
        with reading(self._engine) as connection:
            return self._transaction(connection).all(entity_name)

    def children(self, entity_name: str, foreign_field: str, parent_id: str) -> list[Entity]:
        with reading(self._engine) as connection:
            return self._transaction(connection).children(entity_name, foreign_field, parent_id)

    def page(
        self,
        entity_name: str,
        size: int = DEFAULT_PAGE_SIZE,
        offset: str | None = None,
        *,
        parent: Parent | None = None,
    ) -> Page:
        entity_type = self.entity_types[entity_name]
        table = self._tables[entity_name]
        with reading(self._engine) as connection:
            transaction = self._transaction(connection)
            wanted = transaction.living(entity_type).order_by(table.c.id).limit(size + 1)
            if offset is not None:
                wanted = wanted.where(table.c.id > decoded_offset(offset))
            if parent is not None:
                wanted = wanted.where(table.c[reference_name(parent[0])] == parent[1])
            rows = connection.execute(wanted).mappings().all()
            shown = transaction.shown(entity_type, rows[:size])
        return Page(shown, encoded_offset(shown[-1]["id"]) if len(rows) > size else None)

    def snapshot(self) -> Snapshot:
        with reading(self._engine) as connection:
            return self._snapshot(connection)

    def _snapshot(self, connection: sa.Connection) -> Snapshot:
        entities: dict[str, dict[str, Entity]] = {}
        expires: dict[str, float] = {}
        transaction = self._transaction(connection)
        cipher = cipher_of(connection)
        revision = self._revision(connection)
        for name, entity_type in self.entity_types.items():
            wanted = transaction.living(entity_type).order_by(self._tables[name].c.id)
            rows = connection.execute(wanted).mappings().all()
            entities[name] = {row["id"]: entity_of(entity_type, row, cipher) for row in rows}
            if entity_type.has_ttl:
                expires |= {row["id"]: row["expires_at"] for row in rows if row["expires_at"] is not None}
        names: dict[str, list[str]] = {}
        for sni in entities["snis"].values():
            names.setdefault(sni["certificate"]["id"], []).append(sni["name"])
        for certificate in entities["certificates"].values():
            certificate["snis"] = sorted(names.get(certificate["id"], ()))
        return Snapshot(entities, configuration_hash=configuration_hash(revision), revision=revision, expires=expires)

    def snapshot_after(self, known: Snapshot) -> tuple[Snapshot, Delta | None]:
        with reading(self._engine) as connection:
            revision = self._revision(connection)
            reader = ChangeReader(connection, self._tables, self.entity_types, known, self._clock())
            delta = reader.read(revision)
        return (self.snapshot(), None) if delta is None else (known.after(delta, revision), delta)

    def revision(self) -> int:
        with reading(self._engine) as connection:
            return self._revision(connection)

    def wait_for_change(self, revision: int, timeout_s: float) -> int:
        deadline_s = time.monotonic() + timeout_s
        while True:
            # Before the look, so that nothing is missed between it and the wait.
            is_listening = self._notifications is not None and self._notifications.listen()
            current = self.revision()
            left_s = min(_POLL_S, deadline_s - time.monotonic())
            if current != revision or left_s <= 0:
                return current
            if self._notifications is not None and is_listening:
                self._notifications.wait(left_s)
            else:
                with self._written:
                    # Other processes write too: nothing wakes this one for them.
                    self._written.wait(left_s)

    # -- writing -------------------------------------------------------------------------------------------------------

    def write(self, work: Callable[[Operations], Result]) -> Result:
        with writing(self._engine) as connection:
            state = self._tables.state
            raised = sa.update(state).values(revision=state.c.revision + 1).returning(state.c.revision)
            revision = connection.execute(raised).scalar_one()
            transaction = self._transaction(connection)
            result = work(transaction)
            self._check_together(connection, transaction)
        with self._written:
            self._written_revision = max(self._written_revision, revision)
            self._written.notify_all()
        return result

    @property
    def written_revision(self) -> int:
        with self._written:
            return self._written_revision

    def load(self, snapshot: Snapshot) -> None:
        """Store all entities of a snapshot in one transaction, each new or in place of the one with its id.

        They are taken as they are, checked and transformed by whoever made the snapshot. Nothing is removed.
        Raises: EntityError of code 5 for a unique value that another entity of the store has.
        """

        def put_all(operations: Operations) -> None:
            if isinstance(operations, SqlTransaction):
                operations.load(snapshot)

        self.write(put_all)

    def purge(self) -> int:
        with writing(self._engine) as connection:
            removed = self._transaction(connection).purge()
            forget_old_notes(connection, self._tables, self._revision(connection))
        return removed

    def close(self) -> None:
        if self._notifications is not None:
            self._notifications.close()
        self._engine.dispose()

    # -- inside a transaction ------------------------------------------------------------------------------------------

    def _transaction(self, connection: sa.Connection) -> SqlTransaction:
        return SqlTransaction(connection, self._tables, self.entity_types, self._plugin_types, self._clock)

    def _check_together(self, connection: sa.Connection, transaction: SqlTransaction) -> None:
        """Refuse what only all plugin instances together show; looked for only where it can be.

        Raises: EntityError of code 2.
        """
        if self.plugin_faults is None or transaction.written.isdisjoint(_PLACED) or not transaction.has_ordering():
            return
        faults = self.plugin_faults(self._snapshot(connection))
        for identifier in sorted(faults):
            raise violation(dict(faults[identifier]))

    def _revision(self, connection: sa.Connection) -> int:
        state = self._tables.state
        found: int = connection.execute(sa.select(state.c.revision).where(state.c.id == _STATE_ID)).scalar_one()
        return found
