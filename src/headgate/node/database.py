"""The database of a node: its store and its migrations, as the settings and the loaded plugins ask for.

Owns the way from settings to an open store. Only control and the command line import it, never a worker.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from headgate.config.load import Settings
from headgate.store.cipher import cipher_of_node
from headgate.store.sql.connect import postgres_engine, sqlite_engine
from headgate.store.sql.encryption import use_cipher
from headgate.store.sql.migrate import LOCK_TIMEOUT_S, Migrator, require_current
from headgate.store.sql.store import SqlStore

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from headgate.policy.catalog import Catalog


_log = logging.getLogger("headgate.control")


def engine_of(settings: Settings) -> "Engine":
    """Return the engine for the database that the settings name. Raises: DatabaseError."""
    engine = _engine_of(settings)
    use_cipher(engine, cipher_of_node(settings.datastore))
    return engine


def _engine_of(settings: Settings) -> "Engine":
    given = settings.datastore
    if given.database == "sqlite":
        return sqlite_engine(settings.prefix / given.sqlite_path)
    return postgres_engine(
        given.pg_host,
        given.pg_port,
        given.pg_user,
        given.pg_password,
        given.pg_database,
        schema=given.pg_schema,
        timeout_ms=given.pg_timeout_ms,
        uses_tls=given.pg_ssl,
        verifies_tls=given.pg_ssl_verify,
        pool_size=given.pg_pool_size,
    )


def migrator_of(
    engine: "Engine",
    catalog: "Catalog",
    *,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
    report: Callable[[str], None] = lambda line: None,
) -> Migrator:
    """Return the migrations of the gateway and of the loaded plugins. Raises: PluginLoadError."""
    return Migrator(
        engine,
        catalog.entity_types,
        catalog.migrations(),
        {plugin.name: plugin.entities for plugin in catalog.values()},
        lock_timeout_s=lock_timeout_s,
        report=report,
    )


def unchecked_store(settings: Settings, catalog: "Catalog") -> tuple[SqlStore, Callable[[], None]]:
    """Return the store in a database that cannot be reached now, and what checks its schema once it can.

    The check raises NotMigratedError or DatabaseError.
    """
    engine = engine_of(settings)
    migrator = migrator_of(engine, catalog)
    return SqlStore(engine, catalog.entity_types, catalog), lambda: require_current(migrator.state())


def open_store(settings: Settings, catalog: "Catalog") -> SqlStore:
    """Return the store, with the schema of this release; an empty SQLite file gets it.

    Raises: DatabaseError; NotMigratedError; MigrationError; PluginLoadError.
    """
    engine = engine_of(settings)
    try:
        migrator = migrator_of(engine, catalog)
        state = migrator.state()
        if state.needs_bootstrap and settings.datastore.database == "sqlite":
            migrator.bootstrap()
            state = migrator.state()
        require_current(state)
    except BaseException:
        engine.dispose()
        raise
    if settings.datastore.encryption_keys:
        for kind in catalog.entity_types.values():
            for name in kind.readable_secrets:
                _log.warning(
                    "field '%s' of %s is not encrypted in the database: entities are found by it", name, kind.name
                )
    return SqlStore(engine, catalog.entity_types, catalog)
