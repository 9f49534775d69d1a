"""What changed since a revision: noted by triggers of the database, read in one step with the entities.

Owns the triggers and the reading. Triggers note every write, whatever statement or cascade did it, in its own
transaction, so nothing that stores entities has to think of it. On PostgreSQL a trigger also tells all listening
nodes; what it says is only "look". Notes are one row for each entity, and those of the last revisions are kept.
"""

import hashlib
from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa

from headgate.entities.entity_type import Entity
from headgate.entities.registry import Registry
from headgate.store.delta import Delta
from headgate.store.snapshot import Snapshot
from headgate.store.sql.connect import is_sqlite
from headgate.store.sql.encryption import cipher_of
from headgate.store.sql.rows import entity_of
from headgate.store.sql.tables import CHANGES_TABLE, STATE_TABLE, Tables, reference_name

CHANNEL: Final = "headgate_changes"
KEPT_REVISIONS: Final = 10_000
"""So many revisions back a change is found; a node that saw an older one reads everything."""
MOST_CHANGES: Final = 5_000
"""More than that are read faster with everything else."""

# Below the limits of both databases on the number of parameters in one statement.
_IDS_AT_ONCE: Final = 500
_NOTE: Final = "headgate_note_change"
_NOTIFY: Final = "headgate_notify"


def make_triggers(connection: sa.Connection, entity_names: Iterable[str]) -> None:
    """Have the database note every change of these tables from now on; what is there already is made anew."""
    quote = connection.dialect.identifier_preparer.quote
    if is_sqlite(connection.engine):
        for name in entity_names:
            for operation, row in (("insert", "NEW"), ("update", "NEW"), ("delete", "OLD")):
                trigger = quote(f"{_NOTE}_{name}_{operation}")
                _run(connection, f"DROP TRIGGER IF EXISTS {trigger}")
                _run(
                    connection,
                    f"CREATE TRIGGER {trigger} AFTER {operation.upper()} ON {quote(name)} BEGIN "
                    # Not OR REPLACE: the rule of the statement that fires the trigger would take its place.
                    f"DELETE FROM {CHANGES_TABLE} WHERE entity = '{name}' AND id = {row}.id; "
                    f"INSERT INTO {CHANGES_TABLE} (entity, id, revision) "
                    f"SELECT '{name}', {row}.id, revision FROM {STATE_TABLE} WHERE id = 1; END",
                )
        return
    # Both run with the search path of this run: whoever writes to the tables may have another one.
    _run(
        connection,
        f"CREATE OR REPLACE FUNCTION {_NOTE}() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$ "
        "DECLARE changed_id uuid; BEGIN "
        "IF TG_OP = 'DELETE' THEN changed_id := OLD.id; ELSE changed_id := NEW.id; END IF; "
        f"INSERT INTO {CHANGES_TABLE} (entity, id, revision) "
        f"SELECT TG_TABLE_NAME, changed_id, revision FROM {STATE_TABLE} WHERE id = 1 "
        "ON CONFLICT (entity, id) DO UPDATE SET revision = EXCLUDED.revision; RETURN NULL; END $$",
    )
    _run(
        connection,
        f"CREATE OR REPLACE FUNCTION {_NOTIFY}() RETURNS trigger LANGUAGE plpgsql AS $$ "
        f"BEGIN PERFORM pg_notify('{CHANNEL}', NEW.revision::text); RETURN NULL; END $$",
    )
    for name in entity_names:
        _run(connection, f"DROP TRIGGER IF EXISTS {_NOTE} ON {quote(name)}")
        _run(
            connection,
            f"CREATE TRIGGER {_NOTE} AFTER INSERT OR UPDATE OR DELETE ON {quote(name)} "
            f"FOR EACH ROW EXECUTE FUNCTION {_NOTE}()",
        )
    _run(connection, f"DROP TRIGGER IF EXISTS {_NOTIFY} ON {STATE_TABLE}")
    _run(
        connection,
        f"CREATE TRIGGER {_NOTIFY} AFTER UPDATE ON {STATE_TABLE} FOR EACH ROW EXECUTE FUNCTION {_NOTIFY}()",
    )


def _run(connection: sa.Connection, statement: str) -> None:
    connection.exec_driver_sql(statement)


def forget_old_notes(connection: sa.Connection, tables: Tables, revision: int) -> None:
    """Remove notes that no reader asks for any more."""
    connection.execute(sa.delete(tables.changes).where(tables.changes.c.revision <= revision - KEPT_REVISIONS))


class ChangeReader:
    """Reads the changes since a snapshot. `connection` sees the database as of one moment."""

    def __init__(
        self, connection: sa.Connection, tables: Tables, entity_types: Registry, known: Snapshot, now_s: float
    ) -> None:
        self._connection = connection
        self._cipher = cipher_of(connection)
        self._tables = tables
        self._entity_types = entity_types
        self._known = known
        self._now_s = now_s

    def read(self, revision: int) -> Delta | None:
        """Return what changed up to a revision; None when it is not known, or too much."""
        if not 0 <= revision - self._known.revision < KEPT_REVISIONS:
            return None
        noted = self._tables.changes
        wanted = sa.select(noted.c.entity, noted.c.id).where(noted.c.revision > self._known.revision)
        rows = self._connection.execute(wanted.limit(MOST_CHANGES + 1)).all()
        if len(rows) > MOST_CHANGES:
            return None
        by_type: dict[str, set[str]] = {}
        for entity_name, identifier in rows:
            if entity_name in self._entity_types:
                by_type.setdefault(entity_name, set()).add(identifier)
        delta = Delta(configuration_hash(revision))
        for name in self._entity_types:
            if name in by_type:
                self._read_type(name, by_type[name], delta)
        self._refresh_certificates(by_type.get("snis", set()), delta)
        self._drop_expired(delta)
        return delta

    def _read_type(self, name: str, identifiers: set[str], delta: Delta) -> None:
        entity_type, table = self._entity_types[name], self._tables[name]
        ids = sorted(identifiers)
        found: dict[str, Entity] = {}
        for start in range(0, len(ids), _IDS_AT_ONCE):
            wanted = sa.select(table).where(table.c.id.in_(ids[start : start + _IDS_AT_ONCE]))
            for row in self._connection.execute(wanted).mappings():
                expires_at = row["expires_at"] if entity_type.has_ttl else None
                if expires_at is not None:
                    if expires_at <= self._now_s:
                        continue
                    delta.expires[row["id"]] = expires_at
                found[row["id"]] = entity_of(entity_type, row, self._cipher)
        if name == "certificates":
            for identifier, certificate in found.items():
                certificate["snis"] = self._server_names(identifier)
        before = self._known.entities.get(name, {})
        if found:
            delta.changed[name] = [found[identifier] for identifier in sorted(found)]
        if removed := [identifier for identifier in ids if identifier not in found and identifier in before]:
            delta.removed[name] = removed

    def _refresh_certificates(self, sni_ids: set[str], delta: Delta) -> None:
        """Certificates show the names that refer to them, so a changed name changes them."""
        snis = self._known.entities.get("snis", {})
        touched = {snis[identifier]["certificate"]["id"] for identifier in sni_ids if identifier in snis}
        touched |= {sni["certificate"]["id"] for sni in delta.changed.get("snis", ())}
        changed, removed = delta.of_type("certificates")
        before = self._known.entities.get("certificates", {})
        renamed: list[dict[str, Any]] = [
            {**before[identifier], "snis": self._server_names(identifier)}
            for identifier in sorted(touched)
            if identifier in before and identifier not in changed and identifier not in removed
        ]
        if renamed:
            delta.changed["certificates"] = [*delta.changed.get("certificates", ()), *renamed]

    def _server_names(self, certificate_id: str) -> list[str]:
        table = self._tables["snis"]
        rows = self._connection.execute(
            sa.select(table).where(table.c[reference_name("certificate")] == certificate_id)
        )
        return sorted(entity_of(self._entity_types["snis"], row, self._cipher)["name"] for row in rows.mappings())

    def _drop_expired(self, delta: Delta) -> None:
        """Entities whose time is over are forgotten without a revision; the next one takes them along."""
        over = {identifier for identifier, at in self._known.expires.items() if at <= self._now_s}
        for name, entity_type in self._entity_types.items() if over else ():
            if not entity_type.has_ttl:
                continue
            changed, removed = delta.of_type(name)
            before = self._known.entities.get(name, {})
            gone = [one for one in sorted(over) if one in before and one not in changed and one not in removed]
            if gone:
                delta.removed[name] = [*delta.removed.get(name, ()), *gone]


def configuration_hash(revision: int) -> str:
    """Return the hash that nodes show for a revision of a database."""
    return hashlib.md5(str(revision).encode(), usedforsecurity=False).hexdigest()
