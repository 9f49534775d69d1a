"""Stores to test: declarative memory, an SQLite file, and PostgreSQL in a temporary cluster."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from headgate.entities.entity_type import EntityType
from headgate.entities.registry import ENTITY_TYPES, Registry
from headgate.plugins import key_auth, request_termination
from headgate.store.migration import Migration
from headgate.store.sql.connect import postgres_engine, sqlite_engine, writing
from headgate.store.sql.migrate import Migrator
from headgate.store.sql.store import SqlStore
from headgate.store.sql.tables import Tables
from tests.support import postgres

DATABASES = ("sqlite", "postgres")


class KeyAuth:
    name = "key-auth"
    config_model = key_auth.Config


class RequestTermination:
    name = "request-termination"
    config_model = request_termination.Config


PLUGINS: dict[str, Any] = {"key-auth": KeyAuth, "request-termination": RequestTermination}


class Clock:
    """Unix time that tests move."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    with postgres.running() as server:
        yield server


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=DATABASES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    if request.param == "sqlite":
        made = sqlite_engine(tmp_path / "headgate.db")
    else:
        server = request.getfixturevalue("postgres_server")
        made = postgres_engine(server.host, server.port, server.user, None, server.new_database())
    yield made
    made.dispose()


def migrator(
    engine: sa.Engine,
    registry: Registry = ENTITY_TYPES,
    plugins: dict[str, tuple[Migration, ...] | None] | None = None,
    entities: dict[str, tuple[EntityType, ...]] | None = None,
    **options: Any,
) -> Migrator:
    return Migrator(engine, registry, plugins or {}, entities or {}, **options)


@pytest.fixture
def make_store(engine: sa.Engine, clock: Clock) -> Iterator[Callable[..., SqlStore]]:
    stores: list[SqlStore] = []

    def make(registry: Registry = ENTITY_TYPES) -> SqlStore:
        plugins = {"example": tuple(registry[name] for name in registry if name not in ENTITY_TYPES)}
        migrator(engine, registry, {"example": None} if plugins["example"] else {}, plugins).bootstrap()
        stores.append(SqlStore(engine, registry, PLUGINS, clock))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


@pytest.fixture(scope="session", params=DATABASES)
def common_engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[sa.Engine]:
    """A bootstrapped database that tests share: making one takes longer than most of them."""
    if request.param == "sqlite":
        made = sqlite_engine(tmp_path_factory.mktemp("store") / "headgate.db")
    else:
        server = request.getfixturevalue("postgres_server")
        made = postgres_engine(server.host, server.port, server.user, None, server.new_database())
    migrator(made).bootstrap()
    yield made
    made.dispose()


@pytest.fixture
def store(common_engine: sa.Engine, clock: Clock) -> Iterator[SqlStore]:
    """An empty store."""
    made = SqlStore(common_engine, ENTITY_TYPES, PLUGINS, clock)
    yield made
    made.close()
    with writing(common_engine) as connection:
        for table in reversed(Tables(ENTITY_TYPES).metadata.sorted_tables):
            if table.name in ENTITY_TYPES:
                connection.execute(sa.delete(table))
