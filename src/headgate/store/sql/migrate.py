"""Bringing a database to the schema of this release and of its plugins: bootstrap, up, finish, reset.

Owns the order (the gateway first, then plugins by name), what ran, and that one process at a time does it. A run is one
transaction: one that fails or is killed leaves nothing behind, and one that comes second finds it all done.
"""

import importlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import exc

from headgate.entities.entity_type import EntityType
from headgate.entities.registry import Registry
from headgate.errors import GatewayError
from headgate.store.migration import Migration, MigrationError, Step, migrations_of
from headgate.store.sql import core_migrations
from headgate.store.sql.changes import make_triggers
from headgate.store.sql.completion import complete_table, missing_columns
from headgate.store.sql.connect import WRITING, database_error, is_sqlite, unbounded
from headgate.store.sql.operations import MigrationOperations
from headgate.store.sql.tables import (
    MIGRATIONS_TABLE,
    STATE_TABLE,
    Tables,
    migrations_columns,
    state_columns,
    table_arguments,
)

CORE: Final = "core"
LOCK_TIMEOUT_S: Final = 60.0
_LOCKED: Final = "aborted: another node is performing database changes"
_PENDING: Final = "Database has pending migrations; run 'headgate migrations finish'"
# Any number that only this program uses, together with the schema's own.
_LOCK_KEY: Final = 0x4865616467
_LOCK_POLL_S: Final = 0.1


@dataclass(frozen=True)
class MigrationState:
    """What ran and what did not, by subsystem, in the order of running."""

    executed: dict[str, list[str]] = field(default_factory=dict)
    pending: dict[str, list[str]] = field(default_factory=dict)
    new: dict[str, list[str]] = field(default_factory=dict)
    needs_bootstrap: bool = False


class Migrator:
    """The migrations of one database.

    Args: plugin_migrations, plugin -> its migrations, None for those that leave their tables to the declarations;
    plugin_entities, plugin -> its entity types; report takes one line of progress at a time.
    """

    def __init__(
        self,
        engine: sa.Engine,
        entity_types: Registry,
        plugin_migrations: Mapping[str, tuple[Migration, ...] | None],
        plugin_entities: Mapping[str, Sequence[EntityType]],
        *,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._engine = engine
        self._entity_types = entity_types
        self._lock_timeout_s = lock_timeout_s
        self._report = report
        self._chains = {CORE: migrations_of(core_migrations, CORE, importlib.import_module)}
        for name in sorted(plugin_migrations):
            own, entities = plugin_migrations[name], plugin_entities.get(name, ())
            self._chains[name] = (
                (_declared(name, entities),)
                if own is None
                else tuple(_with_table(one, entities, entity_types) for one in own)
            )
        self._table = sa.Table(MIGRATIONS_TABLE, sa.MetaData(), *migrations_columns())

    def state(self) -> MigrationState:
        """Return what ran. Raises: DatabaseError."""
        try:
            with self._engine.connect() as connection:
                return self._state(connection)
        except exc.SQLAlchemyError as error:
            raise database_error(error) from error

    def bootstrap(self) -> bool:
        """Make all tables of an empty database; False when it was done before. Raises: MigrationError."""
        with self._alone() as connection:
            if not self._state(connection).needs_bootstrap:
                return False
            self._report("Bootstrapping database...")
            state = sa.Table(STATE_TABLE, sa.MetaData(), *state_columns())
            state.create(connection, checkfirst=True)
            self._table.create(connection, checkfirst=True)
            # By the clock: revisions of a database made anew are higher than those that nodes saw of the one before.
            connection.execute(sa.insert(state).values(id=1, revision=int(time.time() * 1000)))
            self._run(connection, self._state(connection).new, is_tearing_down=True)
            self._complete_tables(connection)
        self._report("Database is up-to-date")
        return True

    def up(self) -> bool:
        """Run what is new; teardowns wait for `finish`. False when there was nothing. Raises: MigrationError."""
        with self._alone() as connection:
            state = self._state(connection)
            if state.needs_bootstrap:
                raise MigrationError("Database needs bootstrapping; run 'headgate migrations bootstrap'")
            if not state.new:
                return False
            if state.pending:
                raise MigrationError(_PENDING)
            self._run(connection, state.new, is_tearing_down=False)
            self._complete_tables(connection)
            return True

    def finish(self) -> bool:
        """Run the teardowns that wait. False when there was none. Raises: MigrationError."""
        with self._alone() as connection:
            state = self._state(connection)
            if state.needs_bootstrap:
                raise MigrationError("Database needs bootstrapping; run 'headgate migrations bootstrap'")
            for subsystem, names in state.pending.items():
                self._report(f"migrating {subsystem} on database '{self._database}'...")
                for name in names:
                    migration = self._migration(subsystem, name)
                    if migration.teardown is not None:
                        self._step(connection, subsystem, name, "teardown", migration.teardown)
                    self._record(connection, subsystem, name, "executed")
                    self._report(f"{subsystem} migrated up to: {name} (executed)")
            if state.pending:
                self._count(sum(map(len, state.pending.values())), 0)
            return bool(state.pending)

    def reset(self) -> bool:
        """Drop every table of the database. False when there was nothing. Raises: MigrationError."""
        with self._alone() as connection:
            if self._state(connection).needs_bootstrap:
                return False
            everything = sa.MetaData()
            everything.reflect(connection)
            everything.drop_all(connection)
            return True

    # -- one run -------------------------------------------------------------------------------------------------------

    @property
    def _database(self) -> str:
        return str(self._engine.url.database)

    def _state(self, connection: sa.Connection) -> MigrationState:
        ran: dict[tuple[str, str], str] = {}
        needs_bootstrap = not sa.inspect(connection).has_table(MIGRATIONS_TABLE)
        if not needs_bootstrap:
            for row in connection.execute(sa.select(self._table)):
                ran[row.subsystem, row.name] = row.state
        found = MigrationState(needs_bootstrap=needs_bootstrap)
        for subsystem, migrations in self._chains.items():
            for migration in migrations:
                state = ran.get((subsystem, migration.name))
                if state == "executed" and self._is_incomplete(connection, migration):
                    state = None
                of_state = found.new if state is None else found.pending if state == "pending" else found.executed
                of_state.setdefault(subsystem, []).append(migration.name)
        return found

    def _is_incomplete(self, connection: sa.Connection, migration: Migration) -> bool:
        """Tell whether the table that a migration stands for lacks what the entity's declaration needs by now."""
        name = migration.entity
        if name is None or name not in self._entity_types:
            return False
        return bool(missing_columns(connection, Tables(self._entity_types)[name]))

    @contextmanager
    def _alone(self) -> Iterator[sa.Connection]:
        """Give a connection in a transaction that no other run has at the same time."""
        try:
            with self._engine.connect() as connection:
                connection = connection.execution_options(**{WRITING: True})
                with self._locked(connection):
                    yield connection
        except exc.SQLAlchemyError as error:
            raise MigrationError(f"[{self._engine.dialect.name} error] {_cause(error)}") from error

    @contextmanager
    def _locked(self, connection: sa.Connection) -> Iterator[None]:
        deadline_s = time.monotonic() + self._lock_timeout_s
        if is_sqlite(self._engine):
            # Beginning a writing transaction is the lock; the driver waits for it only so long.
            while True:
                try:
                    transaction = connection.begin()
                    break
                except exc.OperationalError as error:
                    connection.rollback()
                    if "locked" not in str(error.orig):
                        raise
                    if time.monotonic() > deadline_s:
                        raise MigrationError(_LOCKED) from error
            with transaction:
                yield
            return
        with connection.begin():
            key = sa.func.pg_try_advisory_xact_lock(_LOCK_KEY)
            while not connection.execute(sa.select(key)).scalar_one():
                if time.monotonic() > deadline_s:
                    raise MigrationError(_LOCKED)
                time.sleep(_LOCK_POLL_S)
            # Making an index takes as long as it takes.
            unbounded(connection)
            schema = connection.execute(sa.text("SHOW search_path")).scalar_one()
            if connection.execute(sa.text("SELECT current_schema()")).scalar_one() is None:
                connection.execute(sa.schema.CreateSchema(schema))
            yield

    def _run(self, connection: sa.Connection, new: Mapping[str, Sequence[str]], *, is_tearing_down: bool) -> None:
        pending = 0
        for subsystem, names in new.items():
            self._report(f"migrating {subsystem} on database '{self._database}'...")
            for name in names:
                migration = self._migration(subsystem, name)
                if migration.note is not None:
                    self._report(f"{subsystem} {name}: {migration.note}")
                if migration.up is not None:
                    self._step(connection, subsystem, name, "up", migration.up)
                state = "executed"
                if migration.teardown is not None:
                    if is_tearing_down:
                        self._step(connection, subsystem, name, "teardown", migration.teardown)
                    else:
                        state = "pending"
                        pending += 1
                self._record(connection, subsystem, name, state)
                self._report(f"{subsystem} migrated up to: {name} ({state})")
        self._count(sum(map(len, new.values())), pending)

    def _count(self, total: int, pending: int) -> None:
        self._report(f"{total} migration{'' if total == 1 else 's'} processed")
        if total - pending:
            self._report(f"{total - pending} executed")
        if pending:
            self._report(f"{pending} pending")

    def _migration(self, subsystem: str, name: str) -> Migration:
        return next(migration for migration in self._chains[subsystem] if migration.name == name)

    def _step(self, connection: sa.Connection, subsystem: str, name: str, kind: str, step: Step) -> None:
        try:
            step(MigrationOperations(connection))
        # A plugin's code may raise anything: the run ends with its text, and nothing of it stays.
        except Exception as error:
            cause = _cause(error) if isinstance(error, exc.SQLAlchemyError) else str(error)
            dialect = self._engine.dialect.name
            raise MigrationError(
                f"[{dialect} error] failed to run migration '{name}' of '{subsystem}' {kind}: {cause}"
            ) from error

    def _record(self, connection: sa.Connection, subsystem: str, name: str, state: str) -> None:
        table = self._table
        connection.execute(sa.delete(table).where(table.c.subsystem == subsystem, table.c.name == name))
        connection.execute(sa.insert(table).values(subsystem=subsystem, name=name, state=state))

    def _complete_tables(self, connection: sa.Connection) -> None:
        """Refuse migrations that leave an entity without what its declaration needs, and note changes of all."""
        inspector = sa.inspect(connection)
        tables = Tables(self._entity_types)
        faults = []
        for name in self._entity_types:
            if not inspector.has_table(name):
                faults.append(f"no migration creates the table of entity '{name}'")
            elif missing := missing_columns(connection, tables[name]):
                faults.append(f"the table of entity '{name}' lacks {', '.join(missing)}")
        if faults:
            raise MigrationError("; ".join(faults))
        make_triggers(connection, self._entity_types)


def _declared(plugin_name: str, entity_types: Sequence[EntityType]) -> Migration:
    """Return the migration of a plugin that has none of its own: the tables of its declarations."""

    def up(op: Any) -> None:
        for entity_type in entity_types:
            op.create_entity_table(entity_type.name, **table_arguments(entity_type))

    return Migration(f"000_base_{plugin_name.replace('-', '_')}", up)


def _with_table(migration: Migration, own_types: Sequence[EntityType], entity_types: Registry) -> Migration:
    """Return a migration that first makes or completes the table it stands for, if any."""
    found = [entity_type for entity_type in own_types if entity_type.name == migration.entity]
    if not found:
        return migration

    def up(op: Any) -> None:
        op.create_entity_table(found[0].name, **table_arguments(found[0]))
        complete_table(op, op.get_bind(), found[0], entity_types)
        if migration.up is not None:
            migration.up(op)

    return replace(migration, up=up)


def _cause(error: Exception) -> str:
    return " ".join(str(getattr(error, "orig", None) or error).split())


class NotMigratedError(GatewayError):
    """The database is not at the schema that this node needs; the text says what to run."""


def require_current(state: MigrationState) -> None:
    """Refuse a database without the tables of this release. Pending teardowns are no obstacle.

    Raises: NotMigratedError.
    """
    if state.needs_bootstrap:
        raise NotMigratedError("Database needs bootstrapping; run 'headgate migrations bootstrap'")
    if state.new:
        raise NotMigratedError("New migrations available; run 'headgate migrations up' to proceed")
