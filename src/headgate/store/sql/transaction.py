"""The operations on entities inside one transaction of a database.

Owns what entities have to say about one another: references, unique values, what a delete takes along. Constraints of
the database back all of it. Beginning and committing is `store`'s.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from headgate.entities.entity_type import Entity, EntityType
from headgate.entities.plugins import PluginType
from headgate.entities.primary_key import KeyForms
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
from headgate.store.base import Operations, checked_ttl, is_id
from headgate.store.cipher import MARK
from headgate.store.input import IMMUTABLE, add_incomplete, completed, given_together_fault, merged, violation
from headgate.store.plugin_protocols import plugin_protocols_fault
from headgate.store.snapshot import Snapshot
from headgate.store.sql.encryption import cipher_of
from headgate.store.sql.rows import entity_of, key_text, row_of, together_text, with_ttl
from headgate.store.sql.tables import Tables, key_name, reference_name

# Below the limits of both databases on the number of parameters in one statement.
_IDS_AT_ONCE: Final = 500


class SqlTransaction(Operations):
    """Operations over a connection whose transaction somebody else ends.

    Args: clock gives Unix time in seconds.
    """

    def __init__(
        self,
        connection: sa.Connection,
        tables: Tables,
        entity_types: Registry,
        plugin_types: Mapping[str, PluginType],
        clock: Callable[[], float],
    ) -> None:
        super().__init__(entity_types)
        self._connection = connection
        self._cipher = cipher_of(connection)
        self._tables = tables
        self._plugin_types = plugin_types
        self._clock = clock
        self.written: set[str] = set()
        """The types of which something was written."""

    # -- operations ----------------------------------------------------------------------------------------------------

    def select(self, entity_name: str, key: str, *, by: str = "id") -> Entity | None:
        entity_type = self.entity_types[entity_name]
        row = self._row(entity_type, key, by)
        return None if row is None else self.shown(entity_type, [row])[0]

    def all(self, entity_name: str) -> list[Entity]:
        entity_type = self.entity_types[entity_name]
        wanted = self.living(entity_type).order_by(self._tables[entity_name].c.id)
        return self.shown(entity_type, self._connection.execute(wanted).mappings().all())

    def children(self, entity_name: str, foreign_field: str, parent_id: str) -> list[Entity]:
        entity_type, table = self.entity_types[entity_name], self._tables[entity_name]
        wanted = self.living(entity_type).where(table.c[reference_name(foreign_field)] == parent_id)
        return self.shown(entity_type, self._connection.execute(wanted.order_by(table.c.id)).mappings().all())

    def insert(self, entity_name: str, given: Mapping[str, Any], *, ttl: int | None = None) -> Entity:
        entity_type = self.entity_types[entity_name]
        data, expires_at = self._with_expiry(entity_type, given, ttl, None)
        self._resolve(entity_type, data)
        return self._put(entity_type, data, data, expires_at, None)

    def update(
        self, entity_name: str, key: str, changes: Mapping[str, Any], *, by: str = "id", ttl: int | None = None
    ) -> Entity:
        entity_type = self.entity_types[entity_name]
        row = self._row(entity_type, key, by)
        if row is None:
            shown = lua_style({by: key})
            text = f"could not find the entity with {'primary key ' if by == 'id' else ''}'{shown}'"
            raise EntityError(NOT_FOUND, message=text, fields={by: key})
        given, expires_at = self._with_expiry(entity_type, changes, ttl, row)
        self._resolve(entity_type, given)
        stored = entity_of(entity_type, row, self._cipher)
        fault = given_together_fault(entity_type, stored, given)
        faults: dict[str, Any] = {} if fault is None else {"@entity": [fault]}
        add_incomplete(entity_type, given, self._plugin_types, faults, stored)
        if faults:
            raise violation(faults)
        data = merged(entity_type, stored, given, self._plugin_types)
        if entity_type.own_key is None:
            data["id"] = row["id"]
        return self._put(entity_type, data, given, expires_at, row["id"], is_update=True)

    def upsert(
        self, entity_name: str, key: str, given: Mapping[str, Any], *, by: str = "id", ttl: int | None = None
    ) -> Entity:
        entity_type = self.entity_types[entity_name]
        row = self._row(entity_type, key, by)
        data = dict(given)
        own_key = entity_type.own_key
        if by != "id":
            data.setdefault(by, key)
        if own_key is None:
            data.pop("id", None)
            if by == "id" or row is not None:
                data["id"] = key if row is None else row["id"]
        elif row is not None:
            data = own_key.values_of(entity_of(entity_type, row, self._cipher)) | data
        if row is None:
            return self.insert(entity_name, data, ttl=ttl)
        data, expires_at = self._with_expiry(entity_type, data, ttl, None)
        self._resolve(entity_type, data)
        return self._put(entity_type, data, data, expires_at, row["id"])

    def delete(self, entity_name: str, key: str, *, by: str = "id") -> bool:
        entity_type = self.entity_types[entity_name]
        row = self._row(entity_type, key, by)
        if row is None:
            return False
        self._check_deletable(entity_type, [row["id"]], set())
        table = self._tables[entity_name]
        self._connection.execute(sa.delete(table).where(table.c.id == row["id"]))
        self.written.add(entity_name)
        return True

    def truncate(self, entity_name: str) -> int:
        entity_type, table = self.entity_types[entity_name], self._tables[entity_name]
        ids = list(self._connection.execute(sa.select(table.c.id)).scalars())
        self._check_deletable(entity_type, ids, set(ids))
        self._connection.execute(sa.delete(table))
        self.written.add(entity_name)
        return len(ids)

    def load(self, snapshot: Snapshot) -> None:
        """Store all entities of a snapshot as they are, each new or in place of the one with its id.

        Raises: EntityError of code 5 for a unique value that another entity of the store has.
        """
        for name, entity_type in self.entity_types.items():
            entities = list(snapshot.entities.get(name, {}).values())
            for start in range(0, len(entities), _IDS_AT_ONCE):
                some = entities[start : start + _IDS_AT_ONCE]
                rows = [
                    row_of(entity_type, entity, snapshot.expires.get(entity["id"]), self._cipher) for entity in some
                ]
                if self._is_any_taken(entity_type, rows):
                    # One after the other: one of them may free what another one takes, else the fault is named.
                    for entity, row in zip(some, rows, strict=True):
                        self._check_unique(entity_type, entity, entity["id"])
                        self._put_rows(entity_type, [row])
                else:
                    self._put_rows(entity_type, rows)
            if entities:
                self.written.add(name)

    def _is_any_taken(self, entity_type: EntityType, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Tell whether any unique value of some rows belongs to another one of them, or to an entity of another id."""
        table = self._tables[entity_type.name]
        columns = [key_name((name,)) for name in entity_type.unique]
        columns += [key_name(names) for names in entity_type.composite_unique]
        for column in columns:
            with_value = [row for row in rows if row[column] is not None]
            wanted = {row[column]: row["id"] for row in with_value}
            if len(wanted) < len(with_value):
                return True
            found = sa.select(table.c.id, table.c[column]).where(table.c[column].in_(wanted))
            if wanted and any(wanted[text] != owner for owner, text in self._connection.execute(found)):
                return True
        return False

    def _put_rows(self, entity_type: EntityType, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write some rows, each new or in place of the one with its id."""
        table = self._tables[entity_type.name]
        found = sa.select(table.c.id).where(table.c.id.in_([row["id"] for row in rows]))
        known = set(self._connection.execute(found).scalars())
        if new := [row for row in rows if row["id"] not in known]:
            self._connection.execute(sa.insert(table), new)
        if old := [{**row, "own_id": row["id"]} for row in rows if row["id"] in known]:
            changes: dict[str, Any] = {column: sa.bindparam(column) for column in rows[0]}
            self._connection.execute(sa.update(table).where(table.c.id == sa.bindparam("own_id")).values(changes), old)

    def purge(self) -> int:
        """Remove what nobody sees any more; returns how many."""
        removed = 0
        for name, entity_type in self.entity_types.items():
            if entity_type.has_ttl:
                table = self._tables[name]
                gone = sa.delete(table).where(table.c.expires_at <= self._clock())
                removed += self._connection.execute(gone).rowcount
        return removed

    # -- rows ----------------------------------------------------------------------------------------------------------

    def living(self, entity_type: EntityType) -> sa.Select[Any]:
        table = self._tables[entity_type.name]
        wanted = sa.select(table)
        if entity_type.has_ttl:
            wanted = wanted.where(sa.or_(table.c.expires_at.is_(None), table.c.expires_at > self._clock()))
        return wanted

    def _row(self, entity_type: EntityType, key: str, by: str) -> sa.RowMapping | None:
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
        found = self._connection.execute(self.living(entity_type).where(column == value).order_by(table.c.id).limit(1))
        return found.mappings().first()

    def shown(self, entity_type: EntityType, rows: Sequence[sa.RowMapping]) -> list[Entity]:
        shown = [with_ttl(entity_type, entity_of(entity_type, row, self._cipher), row) for row in rows]
        if entity_type.name == "certificates" and shown:
            for entity in shown:
                entity["snis"] = sorted(self._server_names(entity["id"]))
        return shown

    def _server_names(self, certificate_id: str) -> dict[str, str]:
        """Return the names of a certificate's SNIs with their ids."""
        table = self._tables["snis"]
        rows = self._connection.execute(
            sa.select(table).where(table.c[reference_name("certificate")] == certificate_id)
        )
        found = (entity_of(self.entity_types["snis"], row, self._cipher) for row in rows.mappings())
        return {sni["name"]: sni["id"] for sni in found}

    def _put(
        self,
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
            self._connection.execute(sa.delete(table).where(table.c.expires_at <= now))
        if existing_id is None:
            known = self._connection.execute(sa.select(table.c.id).where(table.c.id == entity["id"])).first()
            if known is not None:
                key = self._shown_key(entity_type, entity)
                text = f"primary key violation on key '{lua_style(key)}'"
                raise EntityError(PRIMARY_KEY_VIOLATION, message=text, fields=key)
        elif existing_id != entity["id"]:
            raise self._changed_key(entity_type, entity, existing_id)
        self._check_references(entity_type, entity)
        self._check_unique(entity_type, entity, existing_id)
        if entity_type.name == "plugins":
            self._check_protocols(entity)
        row = row_of(entity_type, entity, expires_at, self._cipher)
        if existing_id is None:
            self._connection.execute(sa.insert(table).values(row))
        else:
            self._connection.execute(sa.update(table).where(table.c.id == existing_id).values(row))
        self.written.add(entity_type.name)
        if entity_type.name == "certificates":
            if not is_update or "snis" in given:
                self._put_server_names(entity["id"], entity["snis"] or ())
            entity["snis"] = sorted(self._server_names(entity["id"]))
        return with_ttl(entity_type, entity, row)

    def _shown_key(self, entity_type: EntityType, entity: Entity) -> Entity:
        """Return the primary key of an entity as texts have it."""
        forms, own_key = self.entity_types.key_forms, entity_type.own_key
        if forms is None or own_key is None:
            return {"id": entity["id"]}
        return forms.shown(entity_type.name, own_key.values_of(entity), self.select)

    def _changed_key(self, entity_type: EntityType, entity: Entity, existing_id: str) -> EntityError:
        """Return the error for a change of the key that an id is made of."""
        row = self._row(entity_type, existing_id, "id")
        stored = {} if row is None else entity_of(entity_type, row, self._cipher)
        return violation({name: IMMUTABLE for name in entity_type.primary_key if stored.get(name) != entity.get(name)})

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

    def _resolve(self, entity_type: EntityType, data: Entity) -> None:
        """Replace references by a unique field, as `{"name": …}`, by the id."""
        unresolved: dict[str, Any] = {}
        texts: list[str] = []
        for name, foreign in entity_type.foreign.items():
            value = data.get(name)
            if not isinstance(value, Mapping) or value.get("id") is not None:
                continue
            parent = self.entity_types[foreign.reference]
            forms = self.entity_types.key_forms
            if parent.own_key is not None and forms is not None and set(value) == set(parent.primary_key):
                data[name] = {"id": self._referred(forms, name, foreign.reference, value)}
                continue
            if len(value) != 1:
                continue
            ((field, wanted),) = value.items()
            if field not in parent.lookup_fields:
                continue
            row = self._row(parent, wanted, field)
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

    def _referred(self, forms: KeyForms, field: str, reference: str, key: Mapping[str, Any]) -> str:
        """Return the id of the entity that a foreign field names by its own key."""
        try:
            identifier = forms.id_of(reference, key)
        except EntityError as error:
            raise violation({field: error.fields}) from error
        if self._row(self.entity_types[reference], identifier, "id") is None:
            text = f"the foreign key '{lua_style(key)}' does not reference an existing '{reference}' entity."
            raise EntityError(FOREIGN_KEY_VIOLATION, message=text, fields={field: dict(key)})
        return identifier

    def _check_references(self, entity_type: EntityType, entity: Entity) -> None:
        for name, foreign in entity_type.foreign.items():
            reference = entity.get(name)
            if reference is None or (foreign.reference == entity_type.name and reference["id"] == entity["id"]):
                continue
            if self._row(self.entity_types[foreign.reference], reference["id"], "id") is None:
                text = (
                    f"the foreign key '{lua_style(reference)}' does not reference an existing "
                    f"'{foreign.reference}' entity."
                )
                raise EntityError(FOREIGN_KEY_VIOLATION, message=text, fields={name: reference})

    def _check_unique(self, entity_type: EntityType, entity: Mapping[str, Any], own_id: str | None) -> None:
        table = self._tables[entity_type.name]
        keys: list[tuple[tuple[str, ...], str | None]]
        keys = [((name,), key_text(entity.get(name))) for name in entity_type.unique]
        keys += [(tuple(names), together_text(entity_type, entity, names)) for names in entity_type.composite_unique]
        for names, text in keys:
            if text is None:
                continue
            taken = sa.select(table.c.id).where(table.c[key_name(names)] == text)
            if own_id is not None:
                taken = taken.where(table.c.id != own_id)
            if self._connection.execute(taken.limit(1)).first() is not None:
                values = {name: entity.get(name) for name in names}
                message = f"UNIQUE violation detected on '{lua_style(values)}'"
                raise EntityError(UNIQUE_VIOLATION, message=message, fields=values)

    def _check_protocols(self, plugin: Entity) -> None:
        """Refuse a plugin that shares no protocol with the route, or the routes of the service, that it is on."""
        table, routes = self._tables["routes"], self.entity_types["routes"]
        of_route = of_service = None
        if plugin["route"] is not None:
            row = self._row(routes, plugin["route"]["id"], "id")
            of_route = None if row is None else entity_of(routes, row, self._cipher)["protocols"]
        elif plugin["service"] is not None:
            on_service = sa.select(table).where(table.c[reference_name("service")] == plugin["service"]["id"])
            rows = self._connection.execute(on_service).mappings()
            of_service = {protocol for row in rows for protocol in entity_of(routes, row, self._cipher)["protocols"]}
        fault = plugin_protocols_fault(plugin, of_route, of_service)
        if fault is not None:
            raise violation({"protocols": fault})

    def has_ordering(self) -> bool:
        """Tell whether any plugin instance asks for an order of its own."""
        table = self._tables["plugins"]
        asking = sa.select(table.c.id).where(table.c.body.contains('"ordering":{'))
        return self._connection.execute(asking.limit(1)).first() is not None

    def _put_server_names(self, certificate_id: str, wanted: Sequence[str]) -> None:
        """Make these the names of a certificate: others of it go, new ones are made.

        Raises: EntityError of code 2 for a name of another certificate.
        """
        snis, table = self.entity_types["snis"], self._tables["snis"]
        own = self._server_names(certificate_id)
        for name in wanted:
            row = self._row(snis, name, "name")
            if row is not None and row[reference_name("certificate")] != certificate_id:
                other = row[reference_name("certificate")]
                raise violation({"snis": f"{name} already associated with existing certificate '{other}'"})
        gone = [identifier for name, identifier in own.items() if name not in wanted]
        for start in range(0, len(gone), _IDS_AT_ONCE):
            self._connection.execute(sa.delete(table).where(table.c.id.in_(gone[start : start + _IDS_AT_ONCE])))
        for name in wanted:
            if name not in own:
                self.insert("snis", {"name": name, "certificate": {"id": certificate_id}})

    def _check_deletable(self, entity_type: EntityType, ids: Sequence[str], seen: set[str]) -> None:
        """Refuse a delete while something that does not go along refers to what would go.

        Args: seen, ids that were looked at already: entities may refer to one another in a circle.
        """
        if entity_type.name == "ca_certificates":
            for identifier in ids:
                self._check_trusted(identifier)
        for child, field in self.entity_types.children_of(entity_type.name):
            on_delete = child.foreign[field].on_delete
            if on_delete == "null":
                continue
            table = self._tables[child.name]
            referring: list[str] = []
            for start in range(0, len(ids), _IDS_AT_ONCE):
                some = ids[start : start + _IDS_AT_ONCE]
                found = sa.select(table.c.id).where(table.c[reference_name(field)].in_(some))
                referring.extend(each for each in self._connection.execute(found).scalars() if each not in seen)
            if not referring:
                continue
            if on_delete == "restrict":
                text = f"an existing '{child.name}' entity references this '{entity_type.name}' entity"
                raise EntityError(FOREIGN_KEY_VIOLATION, message=text, fields={"@referenced_by": child.name})
            seen.update(referring)
            self._check_deletable(child, referring, seen)

    def _check_trusted(self, ca_certificate_id: str) -> None:
        """Refuse to delete a CA certificate that services or plugins name among those they trust."""
        for name in ("services", "plugins"):
            entity_type, table = self.entity_types[name], self._tables[name]
            body = table.c.body
            mentioning = sa.select(table).where(
                body.contains(ca_certificate_id, autoescape=True) | body.contains(MARK, autoescape=True)
            )
            for row in self._connection.execute(mentioning).mappings():
                entity = entity_of(entity_type, row, self._cipher)
                holder = entity if name == "services" else entity["config"] or {}
                if ca_certificate_id in (holder.get("ca_certificates") or ()):
                    text = f"ca certificate {ca_certificate_id} is still referenced by {name} (id = {entity['id']})"
                    raise EntityError(REFERENCED_BY_OTHERS, message=text)
