"""The table of what changed at which revision."""

from headgate.store.sql.operations import MigrationOperations
from headgate.store.sql.tables import CHANGES_TABLE, changes_columns, index_name


def up(op: MigrationOperations) -> None:
    """Create it. Its triggers are made at the end of every run, as tables of entities come and go."""
    if not op.has_table(CHANGES_TABLE):
        op.create_table(CHANGES_TABLE, *changes_columns())
        op.create_index(index_name(CHANGES_TABLE, "revision"), CHANGES_TABLE, ["revision"])
