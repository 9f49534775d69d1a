"""The store in a database: every operation of `Store` as one transaction.

Owns what entities have to say about one another: references, unique values, what a delete takes along. Each write
raises the revision in the same transaction, as its first statement: that row is the lock between writers, so what is
checked before a row is written still holds when it is. Constraints of the database back all of it.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from headgate.entities.entity_type import Entity, EntityType
from headgate.entities.plugins import PluginType
from headgate.entities.registry import Registry
from headgate.errors import (
    FOREIGN_KEY_VIOLATION,
    FOREIGN_KEYS_UNRESOLVED,
    INVALID_PRIMARY_KEY,
    NOT_FOUND,
    PRIMARY_KEY_VIOLATION,
    REFERENCED_BY_OTHERS,
    UNIQUE_VIOLATION,
    EntityError,
    lua_style,
)
from headgate.store.base import (
    DEFAULT_PAGE_SIZE,
    Page,
    Parent,
    Store,
    checked_ttl,
    decoded_offset,
    encoded_offset,
    is_id,
)
from headgate.store.delta import Delta
from headgate.store.input import completed, merged, violation
from headgate.store.plugin_protocols import plugin_protocols_fault
from headgate.store.snapshot import Snapshot
from headgate.store.sql.changes import ChangeReader, configuration_hash, forget_old_notes
from headgate.store.sql.connect import is_sqlite, reading, writing
from headgate.store.sql.events import EventLog
from headgate.store.sql.notifications import Notifications
from headgate.store.sql.rows import entity_of, key_text, row_of, together_text, with_ttl
from headgate.store.sql.tables import Tables, key_name, reference_name

Result = TypeVar("Result")

_STATE_ID: Final = 1
_POLL_S: Final = 0.5
# Notifications come at once; this finds a connection that only looks alive.
_LISTENING_POLL_S: Final = 5.0
# Below the limits of both databases on the number of parameters in one statement.
_IDS_AT_ONCE: Final = 500


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
        self.events = EventLog(engine)
        self._notifications = None if is_sqlite(engine) else Notifications(engine)
        self._looked_at_s = float("-inf")

    # -- reading -------------------------------------------------------------------------------------------------------

    def select(self, entity_name: str, key: str, *, by: str = "id") -> Entity | None:
        entity_type = self.entity_types[entity_name]
        with reading(self._engine) as connection:
            row = self._row(connection, entity_type, key, by)
            return None if row is None else self._shown(connection, entity_type, [row])[0]

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
        wanted = self._living(entity_type).order_by(table.c.id).limit(size + 1)
        if offset is not None:
            wanted = wanted.where(table.c.id > decoded_offset(offset))
        if parent is not None:
            wanted = wanted.where(table.c[reference_name(parent[0])] == parent[1])
        with reading(self._engine) as connection:
            rows = connection.execute(wanted).mappings().all()
            shown = self._shown(connection, entity_type, rows[:size])
        return Page(shown, encoded_offset(shown[-1]["id"]) if len(rows) > size else None)

    def snapshot(self) -> Snapshot:
        entities: dict[str, dict[str, Entity]] = {}
        expires: dict[str, float] = {}
        with reading(self._engine) as connection:
            revision = self._revision(connection)
            for name, entity_type in self.entity_types.items():
                wanted = self._living(entity_type).order_by(self._tables[name].c.id)
                rows = connection.execute(wanted).mappings().all()
                entities[name] = {row["id"]: entity_of(entity_type, row) for row in rows}
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
            is_looked_at = not is_listening or time.monotonic() - self._looked_at_s >= _LISTENING_POLL_S
            if is_looked_at:
                current = self.revision()
                self._looked_at_s = time.monotonic()
                if current != revision:
                    return current
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return revision
            if self._notifications is not None and is_listening:
                if self._notifications.wait(left_s) or not self._notifications.is_listening:
                    self._looked_at_s = float("-inf")
            else:
                with self._written:
                    # Other processes write too: nothing wakes this one for them.
                    self._written.wait(min(_POLL_S, left_s))

    # -- writing -------------------------------------------------------------------------------------------------------

    def insert(self, entity_name: str, given: Mapping[str, Any], *, ttl: int | None = None) -> Entity:
        entity_type = self.entity_types[entity_name]
        return self._write(lambda connection: self._insert(connection, entity_type, given, ttl))

    def update(
        self, entity_name: str, key: str, changes: Mapping[str, Any], *, by: str = "id", ttl: int | None = None
    ) -> Entity:
        entity_type = self.entity_types[entity_name]

        def change(connection: sa.Connection) -> Entity:
            row = self._row(connection, entity_type, key, by)
            if row is None:
                shown = lua_style({by: key})
                text = f"could not find the entity with {'primary key ' if by == 'id' else ''}'{shown}'"
                raise EntityError(NOT_FOUND, message=text, fields={by: key})
            given, expires_at = self._with_expiry(entity_type, changes, ttl, row)
            self._resolve(connection, entity_type, given)
            stored = entity_of(entity_type, row)
            data = merged(entity_type, stored, given, self._plugin_types)
            data["id"] = row["id"]
            return self._put(connection, entity_type, data, given, expires_at, row["id"], is_update=True)

        return self._write(change)

    def upsert(
        self, entity_name: str, key: str, given: Mapping[str, Any], *, by: str = "id", ttl: int | None = None
    ) -> Entity:
        entity_type = self.entity_types[entity_name]

        def put(connection: sa.Connection) -> Entity:
            row = self._row(connection, entity_type, key, by)
            data = dict(given)
            if by == "id":
                data["id"] = key
            else:
                data.setdefault(by, key)
                data.pop("id", None)
            if row is None:
                return self._insert(connection, entity_type, data, ttl)
            data["id"] = row["id"]
            data, expires_at = self._with_expiry(entity_type, data, ttl, None)
            self._resolve(connection, entity_type, data)
            return self._put(connection, entity_type, data, data, expires_at, row["id"])

        return self._write(put)

    def delete(self, entity_name: str, key: str, *, by: str = "id") -> bool:
        entity_type = self.entity_types[entity_name]

        def remove(connection: sa.Connection) -> bool:
            row = self._row(connection, entity_type, key, by)
            if row is None:
                return False
            self._check_deletable(connection, entity_type, [row["id"]], set())
            table = self._tables[entity_name]
            connection.execute(sa.delete(table).where(table.c.id == row["id"]))
            return True

        return self._write(remove)

    def truncate(self, entity_name: str) -> int:
        entity_type = self.entity_types[entity_name]
        table = self._tables[entity_name]

        def remove(connection: sa.Connection) -> int:
            ids = list(connection.execute(sa.select(table.c.id)).scalars())
            self._check_deletable(connection, entity_type, ids, set(ids))
            connection.execute(sa.delete(table))
            return len(ids)

        return self._write(remove)

    def load(self, snapshot: Snapshot) -> None:
        """Store all entities of a snapshot in one transaction, each new or in place of the one with its id.

        They are taken as they are, checked and transformed by whoever made the snapshot. Nothing is removed.
        Raises: EntityError of code 5 for a unique value that another entity of the store has.
        """

        def put_all(connection: sa.Connection) -> None:
            for name, entity_type in self.entity_types.items():
                table = self._tables[name]
                for entity in snapshot.entities.get(name, {}).values():
                    self._check_unique(connection, entity_type, entity, entity["id"])
                    row = row_of(entity_type, entity, snapshot.expires.get(entity["id"]))
                    changed = connection.execute(sa.update(table).where(table.c.id == entity["id"]).values(row))
                    if changed.rowcount == 0:
                        connection.execute(sa.insert(table).values(row))

        self._write(put_all)

    def purge(self) -> int:
        removed = 0
        with writing(self._engine) as connection:
            for name, entity_type in self.entity_types.items():
                if entity_type.has_ttl:
                    table = self._tables[name]
                    gone = sa.delete(table).where(table.c.expires_at <= self._clock())
                    removed += connection.execute(gone).rowcount
            forget_old_notes(connection, self._tables, self._revision(connection))
        return removed

    def close(self) -> None:
        if self._notifications is not None:
            self._notifications.close()
        self._engine.dispose()

    # -- inside a transaction ------------------------------------------------------------------------------------------

    def _write(self, work: Callable[[sa.Connection], Result]) -> Result:
        with writing(self._engine) as connection:
            state = self._tables.state
            connection.execute(sa.update(state).values(revision=state.c.revision + 1))
            result = work(connection)
        with self._written:
            self._written.notify_all()
        return result

    def _revision(self, connection: sa.Connection) -> int:
        state = self._tables.state
        found: int = connection.execute(sa.select(state.c.revision).where(state.c.id == _STATE_ID)).scalar_one()
        return found

    def _living(self, entity_type: EntityType) -> sa.Select[Any]:
        table = self._tables[entity_type.name]
        wanted = sa.select(table)
        if entity_type.has_ttl:
            wanted = wanted.where(sa.or_(table.c.expires_at.is_(None), table.c.expires_at > self._clock()))
        return wanted

    def _row(self, connection: sa.Connection, entity_type: EntityType, key: str, by: str) -> sa.RowMapping | None:
        table = self._tables[entity_type.name]
        if by == "id":
            if not is_id(key):
                shown = lua_style({"id": key})
                text = "expected a valid UUID"
                raise EntityError(INVALID_PRIMARY_KEY, message=f"invalid primary key: '{shown}'", fields={"id": text})
            column, value = table.c.id, key.lower()
        elif by in entity_type.lookup_fields:
            column, value = table.c[key_name((by,))], key_text(key) or ""
        else:
            raise ValueError(f"'{entity_type.name}' entities are not found by '{by}'")
        found = connection.execute(self._living(entity_type).where(column == value).order_by(table.c.id).limit(1))
        return found.mappings().first()

    def _shown(self, connection: sa.Connection, entity_type: EntityType, rows: Sequence[sa.RowMapping]) -> list[Entity]:
        shown = [with_ttl(entity_type, entity_of(entity_type, row), row) for row in rows]
        if entity_type.name == "certificates" and shown:
            for entity in shown:
                entity["snis"] = sorted(self._server_names(connection, entity["id"]))
        return shown

    def _server_names(self, connection: sa.Connection, certificate_id: str) -> dict[str, str]:
        """Return the names of a certificate's SNIs with their ids."""
        table = self._tables["snis"]
        rows = connection.execute(sa.select(table).where(table.c[reference_name("certificate")] == certificate_id))
        found = (entity_of(self.entity_types["snis"], row) for row in rows.mappings())
        return {sni["name"]: sni["id"] for sni in found}

    def _insert(
        self, connection: sa.Connection, entity_type: EntityType, given: Mapping[str, Any], ttl: int | None
    ) -> Entity:
        data, expires_at = self._with_expiry(entity_type, given, ttl, None)
        self._resolve(connection, entity_type, data)
        return self._put(connection, entity_type, data, data, expires_at, None)

    def _put(
        self,
        connection: sa.Connection,
        entity_type: EntityType,
        data: Entity,
        given: Mapping[str, Any],
        expires_at: float | None,
        existing_id: str | None,
        *,
        is_update: bool = False,
    ) -> Entity:
        """Check an entity and write its row, new or in place of an existing one."""
        now = self._clock()
        entity = completed(entity_type, data, given, self._plugin_types, now, is_update=is_update)
        table = self._tables[entity_type.name]
        if entity_type.has_ttl:
            # A value of an entity that nobody sees any more is free.
            connection.execute(sa.delete(table).where(table.c.expires_at <= now))
        if existing_id is None:
            known = connection.execute(sa.select(table.c.id).where(table.c.id == entity["id"])).first()
            if known is not None:
                key = {"id": entity["id"]}
                text = f"primary key violation on key '{lua_style(key)}'"
                raise EntityError(PRIMARY_KEY_VIOLATION, message=text, fields=key)
        self._check_references(connection, entity_type, entity)
        self._check_unique(connection, entity_type, entity, existing_id)
        if entity_type.name == "plugins":
            self._check_protocols(connection, entity)
        row = row_of(entity_type, entity, expires_at)
        if existing_id is None:
            connection.execute(sa.insert(table).values(row))
        else:
            connection.execute(sa.update(table).where(table.c.id == existing_id).values(row))
        if entity_type.name == "certificates":
            if given.get("snis") is not None:
                self._put_server_names(connection, entity["id"], entity["snis"])
            entity["snis"] = sorted(self._server_names(connection, entity["id"]))
        return with_ttl(entity_type, entity, row)

    def _with_expiry(
        self, entity_type: EntityType, given: Mapping[str, Any], ttl: int | None, row: sa.RowMapping | None
    ) -> tuple[Entity, float | None]:
        """Return the input without `ttl`, and when the entity ends: as given, else as stored."""
        data = dict(given)
        if ttl is None and entity_type.has_ttl:
            ttl = data.get("ttl")
        ttl = checked_ttl(entity_type.name, entity_type.has_ttl, ttl)
        if entity_type.has_ttl:
            data.pop("ttl", None)
        if ttl is not None:
            return data, self._clock() + ttl if ttl > 0 else None
        return data, row["expires_at"] if row is not None and entity_type.has_ttl else None

    def _resolve(self, connection: sa.Connection, entity_type: EntityType, data: Entity) -> None:
        """Replace references by a unique field, as `{"name": …}`, by the id."""
        unresolved: dict[str, Any] = {}
        texts: list[str] = []
        for name, foreign in entity_type.foreign.items():
            value = data.get(name)
            if not isinstance(value, Mapping) or value.get("id") is not None or len(value) != 1:
                continue
            ((field, wanted),) = value.items()
            parent = self.entity_types[foreign.reference]
            if field not in parent.lookup_fields:
                continue
            row = self._row(connection, parent, wanted, field)
            if row is not None:
                data[name] = {"id": row["id"]}
                continue
            text = (
                f"the foreign key cannot be resolved with '{lua_style(value)}' for an existing "
                f"'{foreign.reference}' entity"
            )
            unresolved[name] = {field: text}
            texts.append(f"{name}.{field}: {text}")
        if texts:
            subject = "foreign key" if len(texts) == 1 else f"{len(texts)} foreign keys"
            message = f"{subject} unresolved ({'; '.join(texts)})"
            raise EntityError(FOREIGN_KEYS_UNRESOLVED, message=message, fields=unresolved)

    def _check_references(self, connection: sa.Connection, entity_type: EntityType, entity: Entity) -> None:
        for name, foreign in entity_type.foreign.items():
            reference = entity.get(name)
            if reference is None or (foreign.reference == entity_type.name and reference["id"] == entity["id"]):
                continue
            if self._row(connection, self.entity_types[foreign.reference], reference["id"], "id") is None:
                text = (
                    f"the foreign key '{lua_style(reference)}' does not reference an existing "
                    f"'{foreign.reference}' entity."
                )
                raise EntityError(FOREIGN_KEY_VIOLATION, message=text, fields={name: reference})

    def _check_unique(
        self, connection: sa.Connection, entity_type: EntityType, entity: Mapping[str, Any], own_id: str | None
    ) -> None:
        table = self._tables[entity_type.name]
        keys: list[tuple[tuple[str, ...], str | None]]
        keys = [((name,), key_text(entity.get(name))) for name in entity_type.unique]
        keys += [(tuple(names), together_text(entity, names)) for names in entity_type.composite_unique]
        for names, text in keys:
            if text is None:
                continue
            taken = sa.select(table.c.id).where(table.c[key_name(names)] == text)
            if own_id is not None:
                taken = taken.where(table.c.id != own_id)
            if connection.execute(taken.limit(1)).first() is not None:
                values = {name: entity.get(name) for name in names}
                message = f"UNIQUE violation detected on '{lua_style(values)}'"
                raise EntityError(UNIQUE_VIOLATION, message=message, fields=values)

    def _check_protocols(self, connection: sa.Connection, plugin: Entity) -> None:
        """Refuse a plugin that shares no protocol with the route, or the routes of the service, that it is on."""
        table, routes = self._tables["routes"], self.entity_types["routes"]
        of_route = of_service = None
        if plugin["route"] is not None:
            row = self._row(connection, routes, plugin["route"]["id"], "id")
            of_route = None if row is None else entity_of(routes, row)["protocols"]
        elif plugin["service"] is not None:
            on_service = sa.select(table).where(table.c[reference_name("service")] == plugin["service"]["id"])
            rows = connection.execute(on_service).mappings()
            of_service = {protocol for row in rows for protocol in entity_of(routes, row)["protocols"]}
        fault = plugin_protocols_fault(plugin, of_route, of_service)
        if fault is not None:
            raise violation({"protocols": fault})

    def _put_server_names(self, connection: sa.Connection, certificate_id: str, wanted: Sequence[str]) -> None:
        """Make these the names of a certificate: others of it go, new ones are made.

        Raises: EntityError of code 2 for a name of another certificate.
        """
        snis, table = self.entity_types["snis"], self._tables["snis"]
        own = self._server_names(connection, certificate_id)
        for name in wanted:
            row = self._row(connection, snis, name, "name")
            if row is not None and row[reference_name("certificate")] != certificate_id:
                other = row[reference_name("certificate")]
                raise violation({"snis": f"{name} already associated with existing certificate '{other}'"})
        gone = [identifier for name, identifier in own.items() if name not in wanted]
        for start in range(0, len(gone), _IDS_AT_ONCE):
            connection.execute(sa.delete(table).where(table.c.id.in_(gone[start : start + _IDS_AT_ONCE])))
        for name in wanted:
            if name not in own:
                self._insert(connection, snis, {"name": name, "certificate": {"id": certificate_id}}, None)

    def _check_deletable(
        self, connection: sa.Connection, entity_type: EntityType, ids: Sequence[str], seen: set[str]
    ) -> None:
        """Refuse a delete while something that does not go along refers to what would go.

        Args: seen, ids that were looked at already: entities may refer to one another in a circle.
        """
        if entity_type.name == "ca_certificates":
            for identifier in ids:
                self._check_trusted(connection, identifier)
        for child, field in self.entity_types.children_of(entity_type.name):
            on_delete = child.foreign[field].on_delete
            if on_delete == "null":
                continue
            table = self._tables[child.name]
            referring: list[str] = []
            for start in range(0, len(ids), _IDS_AT_ONCE):
                some = ids[start : start + _IDS_AT_ONCE]
                found = sa.select(table.c.id).where(table.c[reference_name(field)].in_(some))
                referring.extend(each for each in connection.execute(found).scalars() if each not in seen)
            if not referring:
                continue
            if on_delete == "restrict":
                text = f"an existing '{child.name}' entity references this '{entity_type.name}' entity"
                raise EntityError(FOREIGN_KEY_VIOLATION, message=text, fields={"@referenced_by": child.name})
            seen.update(referring)
            self._check_deletable(connection, child, referring, seen)

    def _check_trusted(self, connection: sa.Connection, ca_certificate_id: str) -> None:
        """Refuse to delete a CA certificate that services or plugins name among those they trust."""
        for name in ("services", "plugins"):
            entity_type, table = self.entity_types[name], self._tables[name]
            mentioning = sa.select(table).where(table.c.body.contains(ca_certificate_id, autoescape=True))
            for row in connection.execute(mentioning).mappings():
                entity = entity_of(entity_type, row)
                holder = entity if name == "services" else entity["config"] or {}
                if ca_certificate_id in (holder.get("ca_certificates") or ()):
                    text = f"ca certificate {ca_certificate_id} is still referenced by {name} (id = {entity['id']})"
                    raise EntityError(REFERENCED_BY_OTHERS, message=text)
