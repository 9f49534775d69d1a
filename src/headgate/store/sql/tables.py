"""Tables of a registry's entity types.

Owns the layout: a row has the id, the whole entity as JSON in `body`, and a column for whatever the database itself
must know: references, unique values, the end of the time to live. So a new optional field needs no migration, and the
database still enforces what must hold between rows.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from headgate.entities.entity_type import EntityType
from headgate.entities.registry import Registry

ID: Final = sa.Uuid(as_uuid=False)
STATE_TABLE: Final = "headgate_state"
MIGRATIONS_TABLE: Final = "headgate_migrations"
EVENTS_TABLE: Final = "headgate_cluster_events"
CHANGES_TABLE: Final = "headgate_changes"
_LONGEST_NAME: Final = 63
_ON_DELETE: Final = {"cascade": "CASCADE", "null": "SET NULL", "restrict": "RESTRICT"}


class Tables:
    """The tables of a registry, by entity name, with the store's own."""

    def __init__(self, entity_types: Registry) -> None:
        self.metadata = sa.MetaData()
        self.state = sa.Table(STATE_TABLE, self.metadata, *state_columns())
        self.migrations = sa.Table(MIGRATIONS_TABLE, self.metadata, *migrations_columns())
        self.events = events_table(self.metadata)
        self.changes = changes_table(self.metadata)
        self._of: dict[str, sa.Table] = {}
        for entity_type in entity_types.values():
            columns, indexes = entity_table_parts(entity_type.name, **table_arguments(entity_type))
            self._of[entity_type.name] = sa.Table(entity_type.name, self.metadata, *columns, *indexes)

    def __getitem__(self, name: str) -> sa.Table:
        return self._of[name]


def state_columns() -> list[sa.Column[Any]]:
    """Return the columns of the table with the one row that counts revisions."""
    return [
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    ]


def migrations_columns() -> list[sa.Column[Any]]:
    """Return the columns of the table of migrations that ran; `state` is `executed` or `pending`."""
    return [
        sa.Column("subsystem", sa.String(255), primary_key=True),
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
    ]


def events_columns() -> list[sa.Column[Any]]:
    """Return the columns of the table of messages between nodes; times are Unix time in seconds."""
    return [
        sa.Column("serial", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("node_id", sa.String(36), nullable=False),
        sa.Column("nbf", sa.Float(53), nullable=False),
        sa.Column("expire_at", sa.Float(53), nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
    ]


def events_table(metadata: sa.MetaData) -> sa.Table:
    """Return the table of messages between nodes."""
    index = sa.Index(index_name(EVENTS_TABLE, "expire_at"), "expire_at")
    return sa.Table(EVENTS_TABLE, metadata, *events_columns(), index)


def changes_columns() -> list[sa.Column[Any]]:
    """Return the columns of the table that says at which revision an entity was last written or removed."""
    return [
        sa.Column("entity", sa.String(255), primary_key=True),
        sa.Column("id", ID, primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
    ]


def changes_table(metadata: sa.MetaData) -> sa.Table:
    """Return the table that says at which revision an entity was last written or removed."""
    index = sa.Index(index_name(CHANGES_TABLE, "revision"), "revision")
    return sa.Table(CHANGES_TABLE, metadata, *changes_columns(), index)


def table_arguments(entity_type: EntityType) -> dict[str, Any]:
    """Return what an entity type needs of its table, as `entity_table_parts` takes it."""
    return {
        "references": {name: (key.reference, key.on_delete) for name, key in entity_type.foreign.items()},
        "unique": entity_type.unique,
        "lookups": tuple(name for name in entity_type.lookup_fields if name not in entity_type.unique),
        "unique_together": entity_type.composite_unique,
        "has_ttl": entity_type.has_ttl,
    }


def entity_table_parts(
    name: str,
    *,
    references: Mapping[str, tuple[str, str]] | None = None,
    unique: Sequence[str] = (),
    lookups: Sequence[str] = (),
    unique_together: Sequence[Sequence[str]] = (),
    has_ttl: bool = False,
) -> tuple[list[sa.Column[Any]], list[sa.Index]]:
    """Return columns and indexes of an entity's table.

    Args: references, field -> (type, on_delete: `cascade`, `null` or `restrict`); unique, lookups: fields with a column
    to find by, unique or not; unique_together, sets of fields.
    """
    columns: list[sa.Column[Any]] = [
        sa.Column("id", ID, primary_key=True),
        sa.Column("body", sa.Text, nullable=False),
    ]
    indexes: list[sa.Index] = []
    for field, (reference, on_delete) in (references or {}).items():
        columns.append(reference_column(field, reference, on_delete))
        indexes.append(sa.Index(index_name(name, reference_name(field)), reference_name(field)))
    for fields, is_unique in (
        *(((field,), True) for field in unique),
        *(((field,), False) for field in lookups),
        *((tuple(fields), True) for fields in unique_together),
    ):
        column = key_name(fields)
        columns.append(sa.Column(column, sa.Text))
        indexes.append(sa.Index(index_name(name, column), column, unique=is_unique))
    if has_ttl:
        columns.append(sa.Column("expires_at", sa.Float))
        indexes.append(sa.Index(index_name(name, "expires_at"), "expires_at"))
    return columns, indexes


def reference_column(field: str, reference: str, on_delete: str) -> sa.Column[Any]:
    """Return the column of a foreign key."""
    target = sa.ForeignKey(f"{reference}.id", ondelete=_ON_DELETE[on_delete])
    return sa.Column(reference_name(field), ID, target)


def reference_name(field: str) -> str:
    """Return the name of the column that holds the id of a referred entity."""
    return f"ref_{field}"


def key_name(fields: Sequence[str]) -> str:
    """Return the name of the column that holds the unique text of some fields."""
    return _bounded("key_" + "_".join(fields))


def index_name(table: str, column: str) -> str:
    """Return the name of the index on a column."""
    return _bounded(f"ix_{table}_{column}")


def _bounded(name: str) -> str:
    """Return a name that databases take: PostgreSQL cuts names at 63 bytes, so long ones end in a hash."""
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME - 9]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
