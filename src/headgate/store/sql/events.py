"""Messages between the nodes of one database: each is a row, which every other node reads once.

Owns their order: a row gets its number while the store's own row is locked, so numbers become visible in their order
and a reader that has seen one has seen all below. Rows live for an hour; the last one stays, as the numbers count on
from it.
"""

from collections.abc import Sequence
from typing import Any, Final

import orjson
import sqlalchemy as sa

from headgate.store.base import Message
from headgate.store.sql.connect import reading, writing
from headgate.store.sql.tables import STATE_TABLE, events_table

LIFE_S: Final = 3600.0
_AT_ONCE: Final = 1000


class EventLog:
    """The messages in a database."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._table = events_table(sa.MetaData())
        self._state = sa.table(STATE_TABLE, sa.column("revision"))

    def last(self) -> int:
        """Return the number of the newest message, 0 before the first."""
        with reading(self._engine) as connection:
            return self._last(connection)

    def put(self, node_id: str, messages: Sequence[Message], now_s: float) -> None:
        """Store messages of a node, in one transaction."""
        with writing(self._engine) as connection:
            # The lock between writers: it changes nothing.
            connection.execute(sa.update(self._state).values(revision=self._state.c.revision))
            first = self._last(connection) + 1
            rows: list[dict[str, Any]] = [
                {
                    "serial": first + position,
                    "node_id": node_id,
                    "nbf": now_s + message.delay_s,
                    "expire_at": now_s + message.delay_s + LIFE_S,
                    "channel": message.channel,
                    "data": orjson.dumps(message.data).decode(),
                }
                for position, message in enumerate(messages)
            ]
            connection.execute(sa.insert(self._table), rows)

    def after(self, serial: int, node_id: str, now_s: float) -> tuple[int, list[Message]]:
        """Return the next messages of other nodes after a number, and the number to go on from.

        At most 1000 are returned at a time; `delay_s` is what is left of theirs.
        """
        table = self._table
        wanted = sa.select(table).where(table.c.serial > serial).order_by(table.c.serial).limit(_AT_ONCE)
        with reading(self._engine) as connection:
            rows = connection.execute(wanted).mappings().all()
        messages = [
            Message(row["channel"], orjson.loads(row["data"]), max(0.0, row["nbf"] - now_s))
            for row in rows
            if row["node_id"] != node_id and row["expire_at"] > now_s
        ]
        return (rows[-1]["serial"] if rows else serial), messages

    def purge(self, now_s: float) -> None:
        """Forget messages that every node has read long ago."""
        table = self._table
        with writing(self._engine) as connection:
            gone = sa.delete(table).where(table.c.expire_at <= now_s, table.c.serial < self._last(connection))
            connection.execute(gone)

    def _last(self, connection: sa.Connection) -> int:
        found: int | None = connection.execute(sa.select(sa.func.max(self._table.c.serial))).scalar_one()
        return found or 0
