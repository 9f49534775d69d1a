"""What a migration may do: the operations of Alembic, and those for tables of entities.

Owns the entity-table operations. They are given names, not declarations: a migration does the same for ever, whatever
becomes of the declaration. All run inside the one transaction of the migration run.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

from headgate.store.cipher import is_sealed
from headgate.store.sql.encryption import cipher_of, opened
from headgate.store.sql.rows import key_text
from headgate.store.sql.tables import ID, entity_table_parts, index_name, key_name, reference_column, reference_name

_ROWS_AT_ONCE: Final = 500


class MigrationOperations(Operations):
    """`op` of `up(op)` and `teardown(op)`."""

    def __init__(self, connection: sa.Connection) -> None:
        super().__init__(MigrationContext.configure(connection))
        self._connection = connection
        self._cipher = cipher_of(connection)

    def create_entity_table(
        self,
        name: str,
        *,
        references: Mapping[str, tuple[str, str]] | None = None,
        unique: Sequence[str] = (),
        lookups: Sequence[str] = (),
        unique_together: Sequence[Sequence[str]] = (),
        has_ttl: bool = False,
    ) -> None:
        """Create the table of an entity type; one that is there already stays as it is.

        Args: references, foreign field -> (type, on_delete: `cascade`, `null` or `restrict`); unique, fields that are
        unique on their own; lookups, an endpoint key that is not; unique_together, sets of fields.
        """
        columns, indexes = entity_table_parts(
            name,
            references=references,
            unique=unique,
            lookups=lookups,
            unique_together=unique_together,
            has_ttl=has_ttl,
        )
        if self.has_table(name):
            return
        metadata = sa.MetaData()
        for column in columns:
            for key in column.foreign_keys:
                # Tables of other migrations: only their id matters here.
                target = key.target_fullname.partition(".")[0]
                if target not in (name, *metadata.tables):
                    sa.Table(target, metadata, sa.Column("id", columns[0].type, primary_key=True))
        table = sa.Table(name, metadata, *columns, *indexes)
        table.create(self._connection)

    def drop_entity_table(self, name: str) -> None:
        """Drop the table of an entity type; without it nothing happens."""
        if self.has_table(name):
            self.drop_table(name)

    def add_unique_field(self, name: str, field: str) -> None:
        """Make a field of existing entities unique on its own. Fails when two of them have the same value."""
        column = key_name((field,))
        self.add_column(name, sa.Column(column, sa.Text))
        table = sa.table(name, sa.column("id", ID), sa.column("body"), sa.column(column))
        for row in self._rows(name):
            text = key_text(self._cipher.open(orjson.loads(row["body"]), row["id"], (field,)).get(field))
            self._connection.execute(sa.update(table).where(table.c.id == row["id"]).values({column: text}))
        self.create_index(index_name(name, column), name, [column], unique=True)

    def add_reference(self, name: str, field: str, reference: str, on_delete: str = "restrict") -> None:
        """Give entities a foreign field, null at first."""
        # One statement for both databases: SQLite can add a constraint only together with its column.
        column = reference_column(field, reference, on_delete)
        dialect = self._connection.dialect
        quote = dialect.identifier_preparer.quote
        (key,) = column.foreign_keys
        self._connection.execute(
            sa.text(
                f"ALTER TABLE {quote(name)} ADD COLUMN {quote(column.name)} {column.type.compile(dialect)} "
                f"REFERENCES {quote(reference)} (id) ON DELETE {key.ondelete}"
            )
        )
        self.create_index(index_name(name, reference_name(field)), name, [reference_name(field)])

    def rewrite_entities(self, name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Replace the fields of every entity by what `change` makes of them; references and unique fields stay."""
        table = sa.table(name, sa.column("id", ID), sa.column("body"))
        for row in self._rows(name):
            before = orjson.loads(row["body"])
            sealed = [key for key, value in before.items() if is_sealed(value)]
            after = self._cipher.seal(change(opened(self._cipher, before, row["id"], sealed)), row["id"], sealed)
            body = orjson.dumps(after).decode()
            self._connection.execute(sa.update(table).where(table.c.id == row["id"]).values(body=body))

    def has_table(self, name: str) -> bool:
        """Tell whether a table is there."""
        return sa.inspect(self._connection).has_table(name)

    def _rows(self, name: str) -> Sequence[sa.RowMapping]:
        table = sa.table(name, sa.column("id", ID), sa.column("body"))
        return self._connection.execute(sa.select(table)).mappings().all()
