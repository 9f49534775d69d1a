"""Counters of the redis policy against a real redis-server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis as redis_client

from headgate.plugins.rate_limiting.config import Redis
from headgate.plugins.rate_limiting.redis_counters import Counter, RedisCounters, SyncedCounters
from tests.plugins.redis_server import needs_redis_server, running_redis_server

pytestmark = needs_redis_server

MINUTE = Counter("ratelimit:r:s:ada:0:minute", 60)
HOUR = Counter("ratelimit:r:s:ada:0:hour", 3600)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with running_redis_server(tmp_path_factory.mktemp("redis")) as port:
        yield port


@pytest.fixture
def server(port: int) -> Iterator["redis_client.Redis"]:
    client = redis_client.Redis(port=port, decode_responses=True)
    client.flushall()
    yield client
    client.close()


@asynccontextmanager
async def connected(port: int, database: int = 0) -> AsyncIterator[RedisCounters]:
    counters = RedisCounters(Redis(host="127.0.0.1", port=port, database=database))
    try:
        yield counters
    finally:
        await counters.close()


def run(port: int, test: Callable[[RedisCounters], Awaitable[None]], database: int = 0) -> None:
    async def body() -> None:
        async with connected(port, database) as counters:
            await test(counters)

    asyncio.run(body())


def test_counting_gives_the_usage_before_the_request(port: int, server: "redis_client.Redis") -> None:
    async def body(counters: RedisCounters) -> None:
        assert await counters.count([MINUTE, HOUR]) == [0, 0]
        assert await counters.count([MINUTE]) == [1]
        assert await counters.count([MINUTE, HOUR]) == [2, 1]

    run(port, body)
    assert server.get(MINUTE.key) == "3"
    assert 0 < server.ttl(MINUTE.key) <= 60
    assert 60 < server.ttl(HOUR.key) <= 3600


def test_counting_does_not_prolong_a_counter(port: int, server: "redis_client.Redis") -> None:
    server.set(MINUTE.key, 5, ex=7)

    async def body(counters: RedisCounters) -> None:
        assert await counters.count([MINUTE]) == [5]

    run(port, body)
    assert server.ttl(MINUTE.key) <= 7


def test_another_database_has_its_own_counters(port: int, server: "redis_client.Redis") -> None:
    server.set(MINUTE.key, 5)

    async def body(counters: RedisCounters) -> None:
        assert await counters.count([MINUTE]) == [0]

    run(port, body, database=3)


def test_synchronised_counters_count_locally_and_write_later(port: int, server: "redis_client.Redis") -> None:
    server.set(MINUTE.key, 4, ex=60)

    async def body(counters: RedisCounters) -> None:
        synced = SyncedCounters(counters, 60)
        assert synced.usage_if_known([MINUTE]) is None
        assert await synced.read_usage([MINUTE, HOUR]) == [4, 0]
        synced.count([MINUTE, HOUR])
        synced.count([MINUTE])
        assert synced.usage_if_known([MINUTE, HOUR]) == [6, 1]
        assert server.get(MINUTE.key) == "4"
        assert server.get(HOUR.key) is None
        await synced.synchronize()
        assert server.get(MINUTE.key) == "6"
        assert server.get(HOUR.key) == "1"
        assert 0 < server.ttl(HOUR.key) <= 3600
        server.incrby(MINUTE.key, 10)
        assert synced.usage_if_known([MINUTE]) is None
        assert await synced.read_usage([MINUTE]) == [16]

    run(port, body)


def test_synchronisation_runs_by_itself(port: int, server: "redis_client.Redis") -> None:
    async def body(counters: RedisCounters) -> None:
        synced = SyncedCounters(counters, 0.03)
        synced.start()
        synced.start()
        await synced.read_usage([MINUTE])
        synced.count([MINUTE])
        deadline = asyncio.get_running_loop().time() + 5
        while server.get(MINUTE.key) != "1":
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.01)
        synced.count([MINUTE])
        await synced.stop()
        assert server.get(MINUTE.key) == "2"

    run(port, body)


def test_increments_survive_a_time_without_redis(port: int, server: "redis_client.Redis") -> None:
    async def body(counters: RedisCounters) -> None:
        synced = SyncedCounters(counters, 60)
        await synced.read_usage([MINUTE])
        synced.count([MINUTE])
        available = synced._redis
        synced._redis = RedisCounters(Redis(host="127.0.0.1", port=1, timeout=200))
        with pytest.raises((redis_client.RedisError, OSError)):
            await synced.synchronize()
        synced._redis = available
        assert await synced.read_usage([MINUTE]) == [1]
        synced.count([MINUTE])
        await synced.synchronize()
        assert server.get(MINUTE.key) == "2"

    run(port, body)


def test_a_password_is_sent(tmp_path: Path) -> None:
    async def body(port: int, password: str) -> list[float]:
        counters = RedisCounters(Redis(host="127.0.0.1", port=port, password=password))
        try:
            return await counters.count([MINUTE])
        finally:
            await counters.close()

    with running_redis_server(tmp_path, password="secret") as port:
        assert asyncio.run(body(port, "secret")) == [0]
        with pytest.raises(redis_client.AuthenticationError):
            asyncio.run(body(port, "wrong"))
