"""Waiting for PostgreSQL to say that something was written, by whichever node.

Owns the one connection that listens; it is none of the pool's. Whoever waits also looks, twice a second: a pooler
between node and database may swallow notifications, and a broken connection may look alive.
"""

import logging
import threading
import time
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import exc

from headgate.store.sql.changes import CHANNEL

_log = logging.getLogger("headgate.control")
_RETRY_S: Final = 5.0


class Notifications:
    """Listens on a connection of its own, made at the first use and again after it was lost."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._connection: Any = None
        self._tried_at_s = float("-inf")
        self._is_closed = False
        self._alone = threading.Lock()
        # A connection is not closed while somebody waits on it.
        self._waiting = threading.Lock()

    def listen(self) -> bool:
        """Tell whether notifications of writes from now on will be heard."""
        with self._alone:
            if self._connection is not None:
                return True
            if self._is_closed or time.monotonic() - self._tried_at_s < _RETRY_S:
                return False
            self._tried_at_s = time.monotonic()
            try:
                pooled = self._engine.raw_connection()
                pooled.detach()
                connection: Any = pooled.dbapi_connection
                connection.rollback()
                connection.autocommit = True
                connection.execute(f"LISTEN {CHANNEL}")
            except (exc.SQLAlchemyError, self._errors) as error:
                _log.info("the database is polled, as notifications cannot be had: %s", " ".join(str(error).split()))
                return False
            self._connection = connection
            return True

    def wait(self, timeout_s: float) -> bool:
        """Return True once something was written, False after the timeout or when that cannot be known any more."""
        with self._waiting:
            connection = self._connection
            if connection is None:
                return False
            try:
                return any(True for _ in connection.notifies(timeout=timeout_s, stop_after=1))
            except self._errors:
                self._drop()
                return False

    def close(self) -> None:
        """Listen no more; returns when nobody waits any more."""
        self._is_closed = True
        with self._waiting:
            self._drop()

    @property
    def _errors(self) -> type[Exception]:
        error: type[Exception] = self._engine.dialect.dbapi.Error  # type: ignore[union-attr]
        return error

    def _drop(self) -> None:
        with self._alone:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
