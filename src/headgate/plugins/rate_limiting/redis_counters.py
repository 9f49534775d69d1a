"""Counters of the redis policy: one connection pool per worker and server, one round trip per request or none.

With `sync_rate` -1 every request counts in Redis at once. With a `sync_rate` a worker reads a counter once, counts by
itself, and adds what it counted every `sync_rate` seconds; then it forgets what it read, so that the next request sees
what the other nodes added. Nothing is lost while Redis is away: the increments stay until they are written or their
window is over.
"""

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis as RedisClient
from redis.asyncio.connection import ConnectionPool, SSLConnection

from headgate import kong
from headgate.plugins.rate_limiting.config import Redis

# Increments every key and gives it a time to live when it is new: one round trip for all periods of a request.
_COUNT = """
local values = {}
for i, key in ipairs(KEYS) do
  values[i] = redis.call('INCRBY', key, ARGV[2 * i - 1])
  if redis.call('TTL', key) < 0 then
    redis.call('EXPIRE', key, ARGV[2 * i])
  end
end
return values
"""


@dataclass(frozen=True, slots=True)
class Counter:
    """A counter's key and how long its window can still last."""

    key: str
    ttl_s: int


class _NamedSSLConnection(SSLConnection):
    """A TLS connection that asks for (and verifies) another name than the host it connects to."""

    def __init__(self, *, server_name: str, **options: Any) -> None:
        super().__init__(**options)
        self._server_name = server_name

    def _connection_arguments(self) -> dict[str, Any]:
        return {**super()._connection_arguments(), "server_hostname": self._server_name}


def connect(redis: Redis) -> RedisClient:
    """Return a client with its own pool; it connects when first used."""
    timeout_s = (redis.timeout or 2000) / 1000
    options: dict[str, Any] = {
        "host": redis.host,
        "port": redis.port,
        "db": redis.database or 0,
        "username": redis.username,
        "password": redis.password or None,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "decode_responses": True,
    }
    if redis.ssl:
        options["connection_class"] = SSLConnection
        options["ssl_cert_reqs"] = "required" if redis.ssl_verify else "none"
        options["ssl_check_hostname"] = bool(redis.ssl_verify)
        if redis.server_name:
            options["connection_class"] = _NamedSSLConnection
            options["server_name"] = redis.server_name
    return RedisClient.from_pool(ConnectionPool(**options))


class RedisCounters:
    """The counters of one Redis server as one worker uses them."""

    def __init__(self, redis: Redis) -> None:
        self._client = connect(redis)

    async def count(self, counters: Sequence[Counter]) -> list[float]:
        """Count one request in each counter at once.

        Returns: the usage before this request, in order.
        Raises: redis.RedisError, OSError.
        """
        values = await self._add([(counter, 1) for counter in counters])
        return [value - 1 for value in values]

    async def read(self, counters: Sequence[Counter]) -> list[float]:
        """Return the usage of each counter, 0 for one that does not exist."""
        values = await self._client.mget([counter.key for counter in counters])
        return [float(value or 0) for value in values]

    async def add(self, amounts: Sequence[tuple[Counter, int]]) -> None:
        """Add amounts to counters in one round trip."""
        await self._add(amounts)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _add(self, amounts: Sequence[tuple[Counter, int]]) -> list[float]:
        keys = [counter.key for counter, _ in amounts]
        arguments = [value for counter, amount in amounts for value in (amount, counter.ttl_s)]
        values: list[float] = await self._client.eval(_COUNT, len(keys), *keys, *arguments)
        return values


@dataclass(slots=True)
class _Local:
    usage: float
    ends_s: float
    added: int = 0


class SyncedCounters:
    """Counters kept in the worker between two synchronisations with Redis.

    Requests count on the engine's thread, synchronisation runs on the loop's: the lock keeps increments from getting
    lost between them.
    """

    def __init__(self, redis: RedisCounters, sync_rate_s: float) -> None:
        self._redis = redis
        self._sync_rate_s = sync_rate_s
        self._lock = threading.Lock()
        self._known: dict[str, _Local] = {}
        self._unwritten: dict[str, _Local] = {}
        self._synchronizer: asyncio.Task[None] | None = None

    def usage_if_known(self, counters: Sequence[Counter]) -> list[float] | None:
        """Return the usage of each counter, or None when one has to be read from Redis first."""
        known = self._known
        try:
            return [known[counter.key].usage for counter in counters]
        except KeyError:
            return None

    async def read_usage(self, counters: Sequence[Counter]) -> list[float]:
        """Return the usage of each counter, reading those not known from Redis.

        Raises: redis.RedisError, OSError.
        """
        unknown = [counter for counter in counters if counter.key not in self._known]
        values = await self._redis.read(unknown) if unknown else []
        with self._lock:
            for counter, value in zip(unknown, values, strict=True):
                unwritten = self._unwritten.get(counter.key)
                # Another request may have read it meanwhile: what was counted since must stay.
                self._known.setdefault(
                    counter.key,
                    _Local(value + (unwritten.added if unwritten else 0), time.time() + counter.ttl_s),
                )
            return [local.usage if (local := self._known.get(counter.key)) else 0 for counter in counters]

    def count(self, counters: Sequence[Counter]) -> None:
        """Count one request in each counter."""
        with self._lock:
            for counter in counters:
                local = self._known.get(counter.key)
                if local is None:
                    local = self._known[counter.key] = _Local(0, time.time() + counter.ttl_s)
                local.usage += 1
                local.added += 1

    def start(self) -> None:
        """Begin synchronising on the running loop; once is enough."""
        if self._synchronizer is None or self._synchronizer.done():
            self._synchronizer = asyncio.get_running_loop().create_task(self._synchronize_for_ever())

    async def stop(self) -> None:
        """Write what was counted, then end."""
        if self._synchronizer is not None:
            self._synchronizer.cancel()
        await self.synchronize()

    async def synchronize(self) -> None:
        """Add to Redis what was counted since the last time, and forget what was read."""
        now_s = time.time()
        with self._lock:
            known, self._known = self._known, {}
            for key, local in known.items():
                if local.added:
                    self._unwritten.setdefault(key, _Local(0, local.ends_s)).added += local.added
            for key in [key for key, local in self._unwritten.items() if local.ends_s <= now_s]:
                del self._unwritten[key]
            amounts = [
                (Counter(key, max(1, int(local.ends_s - now_s))), local.added) for key, local in self._unwritten.items()
            ]
        if amounts:
            await self._redis.add(amounts)
            with self._lock:
                self._unwritten.clear()

    async def _synchronize_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._sync_rate_s)
            try:
                await self.synchronize()
            except Exception as error:
                kong.log.err("failed to synchronise the counters with redis: ", error)
