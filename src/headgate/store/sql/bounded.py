"""A connection to PostgreSQL that is given up when the server says nothing for too long.

Owns the one failure that neither the server's own timeouts nor those of TCP end: a server that is frozen, or a proxy
before it that has lost it, keeps its connections open and never answers. Whoever waits gets an error that counts as no
connection; what was sent last may be stored or not, but never by half.
"""

import time
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus

Result = TypeVar("Result")
_INTERVAL_S = 0.1


class BoundedConnection(psycopg.Connection[Any]):
    """A connection whose waits end after `bound_s` seconds, and the connection with them; None: they do not end."""

    bound_s: float | None = None

    def wait(self, gen: PQGen[Result], interval: float = _INTERVAL_S, timeout: float | None = None) -> Result:
        """Run what waits for the server. Raises: psycopg.OperationalError after the bound."""
        bound_s = self.bound_s
        if timeout is not None or bound_s is None:
            return super().wait(gen, interval, timeout)
        started_s = time.monotonic()
        try:
            return super().wait(gen, interval, bound_s)
        except psycopg.OperationalError as error:
            is_waiting = self.pgconn.transaction_status == TransactionStatus.ACTIVE
            if not is_waiting or time.monotonic() - started_s < bound_s:
                raise
            self.close()
            raise psycopg.OperationalError(f"the server has not answered for {bound_s:g} s") from error
