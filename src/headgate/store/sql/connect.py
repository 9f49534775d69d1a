"""Connections: an SQLAlchemy engine for SQLite or PostgreSQL, and transactions that do what they say.

Owns everything that differs between the two databases but the migration lock. A writing transaction takes its lock at
once (SQLite: BEGIN IMMEDIATE; PostgreSQL: the store's own row), so two writers wait for one another instead of failing.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import exc

from headgate.errors import DATABASE_ERROR, EntityError

# The standard durations of busy databases: nothing that is configured takes longer.
_SQLITE_WAIT_S: Final = 5.0
# What may pass by itself, of https://sqlite.org/rescode.html.
_SQLITE_PASSING: Final = frozenset(
    (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN)
)
WRITING: Final = "headgate_writing"


class DatabaseError(EntityError):
    """The database cannot be reached or refused a statement; the text is for the log, not for clients.

    `is_unreachable`: it may work again by itself; a client may try again then (503).
    """

    def __init__(self, text: str, *, is_unreachable: bool = False) -> None:
        super().__init__(DATABASE_ERROR, message=text, status=503 if is_unreachable else None)
        self.is_unreachable = is_unreachable


def sqlite_engine(path: Path, wait_s: float = _SQLITE_WAIT_S) -> sa.Engine:
    """Return an engine for a file, which need not exist; it is readable by its owner only, as it holds secrets.

    Raises: DatabaseError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise DatabaseError(f"cannot open the database file {path}: {error.strerror}") from error
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)), connect_args={"timeout": wait_s})

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        # Transactions are begun below: the driver's own rule leaves schema changes outside of them.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode = WAL")
        # Configuration is written rarely and must survive a power failure.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        is_writing = connection.get_execution_options().get(WRITING, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writing else "BEGIN")

    return engine


def postgres_engine(
    host: str,
    port: int,
    user: str,
    password: str | None,
    database: str,
    *,
    schema: str | None = None,
    timeout_ms: int = 5000,
    uses_tls: bool = False,
    verifies_tls: bool = False,
    pool_size: int = 5,
) -> sa.Engine:
    """Return an engine for PostgreSQL; nothing is connected yet.

    Args: timeout_ms, after which the server ends a statement, connecting is given up, and sent data must have arrived;
        a server that says nothing at all for twice as long is as good as gone.
    """
    options = f"-c statement_timeout={timeout_ms}" + (f" -c search_path={schema}" if schema else "")
    arguments: dict[str, Any] = {
        "connect_timeout": max(1, timeout_ms // 1000),
        "options": options,
        "application_name": "headgate",
        # A server that silently went away is noticed as soon as one that is slow.
        "tcp_user_timeout": timeout_ms,
        "keepalives_idle": max(1, timeout_ms // 1000),
        "keepalives_interval": 1,
        "keepalives_count": 5,
        "sslmode": ("verify-full" if verifies_tls else "require") if uses_tls else "disable",
    }
    if uses_tls and verifies_tls:
        arguments["sslrootcert"] = "system"
    url = sa.URL.create("postgresql+psycopg", user, password, host, port, database)
    engine = sa.create_engine(url, connect_args=arguments, pool_size=pool_size, max_overflow=0, pool_pre_ping=True)

    @sa.event.listens_for(engine, "do_connect")
    def connect(_dialect: object, _record: object, _positional: object, given: dict[str, Any]) -> Any:
        # Imported on use: a node on SQLite needs no driver of PostgreSQL.
        from headgate.store.sql.bounded import BoundedConnection

        connection = BoundedConnection.connect(**given)
        connection.bound_s = 2 * timeout_ms / 1000
        return connection

    return engine


def unbounded(connection: sa.Connection) -> None:
    """Let the statements of a transaction on PostgreSQL, and its server, take as long as they take.

    The connection is not one to go back to the pool of a node.
    """
    driver_connection: Any = connection.connection.dbapi_connection
    driver_connection.bound_s = None
    connection.execute(sa.text("SET LOCAL statement_timeout = 0"))


def is_sqlite(engine: sa.Engine) -> bool:
    """Tell which of the two databases it is."""
    return engine.dialect.name == "sqlite"


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Give a connection whose statements all see the database as of one moment. Raises: DatabaseError."""
    with _translated(), engine.connect() as connection:
        if not is_sqlite(engine):
            connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with connection.begin():
            yield connection


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Give a connection in a transaction that is committed at the end. Raises: DatabaseError."""
    with _translated(), engine.connect() as connection:
        connection = connection.execution_options(**{WRITING: True})
        with connection.begin():
            yield connection


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except exc.SQLAlchemyError as error:
        raise database_error(error) from error


def database_error(error: exc.SQLAlchemyError) -> DatabaseError:
    """Return the error of a store for one of the library."""
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, sqlite3.Error):
        is_unreachable = getattr(cause, "sqlite_errorcode", 0) & 0xFF in _SQLITE_PASSING
    else:
        # OperationalError: no connection, one that broke, a statement that took too long; TimeoutError: the pool.
        is_unreachable = isinstance(error, exc.OperationalError | exc.TimeoutError) or (
            isinstance(error, exc.DBAPIError) and error.connection_invalidated
        )
    return DatabaseError(" ".join(str(cause).split()), is_unreachable=is_unreachable)
