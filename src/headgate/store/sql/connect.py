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
WRITING: Final = "headgate_writing"


class DatabaseError(EntityError):
    """The database cannot be reached or refused a statement; the text is for the log, not for clients."""

    def __init__(self, text: str) -> None:
        super().__init__(DATABASE_ERROR, message=text)


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
    """Return an engine for PostgreSQL; nothing is connected yet."""
    options = f"-c statement_timeout={timeout_ms}" + (f" -c search_path={schema}" if schema else "")
    arguments: dict[str, Any] = {
        "connect_timeout": max(1, timeout_ms // 1000),
        "options": options,
        "application_name": "headgate",
        "sslmode": ("verify-full" if verifies_tls else "require") if uses_tls else "disable",
    }
    if uses_tls and verifies_tls:
        arguments["sslrootcert"] = "system"
    url = sa.URL.create("postgresql+psycopg", user, password, host, port, database)
    return sa.create_engine(url, connect_args=arguments, pool_size=pool_size, max_overflow=0, pool_pre_ping=True)


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
        cause = getattr(error, "orig", None) or error
        raise DatabaseError(" ".join(str(cause).split())) from error
