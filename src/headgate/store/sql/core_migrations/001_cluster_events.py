"""The table of messages between nodes."""

from headgate.store.sql.operations import MigrationOperations
from headgate.store.sql.tables import EVENTS_TABLE, events_columns, index_name


def up(op: MigrationOperations) -> None:
    """Create it."""
    if not op.has_table(EVENTS_TABLE):
        op.create_table(EVENTS_TABLE, *events_columns())
        op.create_index(index_name(EVENTS_TABLE, "expire_at"), EVENTS_TABLE, ["expire_at"])
