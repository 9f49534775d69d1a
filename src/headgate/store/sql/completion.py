"""Tables that lack what a later declaration of their entity needs: found, and completed from the rows that are there.

Only for plugins whose tables follow their declarations. The others list migrations that do it.
"""

import sqlalchemy as sa

from headgate.entities.entity_type import EntityType
from headgate.entities.registry import Registry
from headgate.store.sql.encryption import cipher_of
from headgate.store.sql.operations import MigrationOperations
from headgate.store.sql.rows import entity_of, row_of
from headgate.store.sql.tables import Tables, reference_name


def missing_columns(connection: sa.Connection, table: sa.Table) -> list[str]:
    """Return the columns that a table of the database lacks; none when the table itself is not there."""
    inspector = sa.inspect(connection)
    if not inspector.has_table(table.name):
        return []
    there = {column["name"] for column in inspector.get_columns(table.name)}
    return sorted(column.name for column in table.columns if column.name not in there)


def complete_table(
    operations: MigrationOperations, connection: sa.Connection, entity_type: EntityType, entity_types: Registry
) -> None:
    """Add the columns and indexes that a table lacks, with what they hold for its rows.

    References are null at first. It fails when two rows have the same value where it must be unique now.
    """
    table = Tables(entity_types)[entity_type.name]
    missing = missing_columns(connection, table)
    for field, key in entity_type.foreign.items():
        if reference_name(field) in missing:
            operations.add_reference(entity_type.name, field, key.reference, key.on_delete)
    references = {reference_name(field) for field in entity_type.foreign}
    added = [name for name in missing if name not in references]
    for name in added:
        operations.add_column(entity_type.name, sa.Column(name, table.c[name].type))
    if not added:
        return
    cipher = cipher_of(connection)
    for row in connection.execute(sa.select(table)).mappings().all():
        expires_at = row["expires_at"] if entity_type.has_ttl else None
        values = row_of(entity_type, entity_of(entity_type, row, cipher), expires_at, cipher)
        changed = {name: values[name] for name in added}
        connection.execute(sa.update(table).where(table.c.id == row["id"]).values(changed))
    for index in table.indexes:
        names = [column.name for column in index.columns]
        if any(name in added for name in names):
            operations.create_index(str(index.name), entity_type.name, names, unique=bool(index.unique))
