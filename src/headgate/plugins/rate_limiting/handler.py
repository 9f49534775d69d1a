"""rate-limiting: refuse requests beyond a number per second, minute, hour, day, month or year.

Owns who is counted, the decision, and the headers that tell the client. Where the counters live is the policy's matter:
`local` in the node's shared memory (check and count are one transaction), `redis` on a server.
"""

import asyncio
import time
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any

from headgate import Plugin, kong
from headgate.pdk.shared_dict import SharedDict
from headgate.plugins.rate_limiting.config import Config, Limit, number_text
from headgate.plugins.rate_limiting.periods import CurrentWindows, Window
from headgate.plugins.rate_limiting.redis_counters import Counter, RedisCounters, SyncedCounters

COUNTERS = "kong_rate_limiting_counters"
_closing: set[asyncio.Task[None]] = set()


class Handler(Plugin[Config]):
    VERSION = "3.9.1"
    PRIORITY = 910

    def __init__(self) -> None:
        self._windows = CurrentWindows()
        self._counters: SharedDict | None = None
        self._redis: dict[tuple[Any, ...], RedisCounters] = {}
        self._synced: dict[tuple[Any, ...], SyncedCounters] = {}

    def configure(self, configs: Sequence[Config] | None) -> None:
        """Close the connections to Redis servers that no instance uses any more."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            # Connections can only be closed on their loop: left to the next reconfiguration that runs there.
            return
        redis_configs = [conf for conf in configs or () if conf.policy == "redis"]
        servers = {_redis_key(conf) for conf in redis_configs}
        synced = {_redis_key(conf, conf.sync_rate) for conf in redis_configs}
        unused = [
            *(self._synced.pop(key).stop() for key in set(self._synced) - synced),
            *(self._redis.pop(key).close() for key in set(self._redis) - servers),
        ]
        if unused:
            _closing.add(task := loop.create_task(_run_in_order(unused)))
            task.add_done_callback(_closing.discard)

    def access(self, conf: Config) -> Awaitable[None] | None:
        """Count the request and let it pass, or answer `error_code`; with the redis policy an awaitable of that."""
        now_s = time.time()
        windows = self._windows.at(int(now_s))
        prefix = f"{conf.scope_prefix}{_identifier(conf)}:"
        if conf.policy == "redis":
            counters = [
                Counter(prefix + window.key_suffix, window.ends_s - int(now_s))
                for window in map(windows.__getitem__, conf.period_names)
            ]
            return self._access_redis(conf, counters, now_s, windows)
        if self._counters is None:
            self._counters = kong.shared_dict(COUNTERS)
        _access_local(self._counters, conf, prefix, now_s, windows)
        return None

    ws_handshake = access

    def _access_redis(
        self, conf: Config, counters: Sequence[Counter], now_s: float, windows: dict[str, Window]
    ) -> Awaitable[None] | None:
        if conf.sync_rate == -1:
            return self._access_redis_at_once(conf, counters, now_s, windows)
        synced = self._synced.get(_redis_key(conf, conf.sync_rate))
        usage = synced.usage_if_known(counters) if synced is not None else None
        if synced is None or usage is None:
            return self._access_redis_synced(conf, counters, now_s, windows)
        _decide(conf, usage, now_s, windows)
        synced.count(counters)
        return None

    async def _access_redis_at_once(
        self, conf: Config, counters: Sequence[Counter], now_s: float, windows: dict[str, Window]
    ) -> None:
        try:
            usage = await self._redis_counters(conf).count(counters)
        except Exception as error:
            _store_failed(conf, error)
            return
        _decide(conf, usage, now_s, windows)

    async def _access_redis_synced(
        self, conf: Config, counters: Sequence[Counter], now_s: float, windows: dict[str, Window]
    ) -> None:
        key = _redis_key(conf, conf.sync_rate)
        synced = self._synced.get(key)
        if synced is None:
            synced = self._synced[key] = SyncedCounters(self._redis_counters(conf), conf.sync_rate)
        synced.start()
        try:
            usage = await synced.read_usage(counters)
        except Exception as error:
            _store_failed(conf, error)
            return
        _decide(conf, usage, now_s, windows)
        synced.count(counters)

    def _redis_counters(self, conf: Config) -> RedisCounters:
        key = _redis_key(conf)
        counters = self._redis.get(key)
        if counters is None:
            counters = self._redis[key] = RedisCounters(conf.redis)
        return counters


def _redis_key(conf: Config, sync_rate_s: float | None = None) -> tuple[Any, ...]:
    redis = conf.redis
    return (
        redis.host,
        redis.port,
        redis.database,
        redis.username,
        redis.password,
        redis.ssl,
        redis.ssl_verify,
        redis.server_name,
        redis.timeout,
        sync_rate_s,
    )


def _access_local(counters: SharedDict, conf: Config, prefix: str, now_s: float, windows: dict[str, Window]) -> None:
    increments = [
        (prefix + window.key_suffix, 1, window.ends_s - now_s) for window in map(windows.__getitem__, conf.period_names)
    ]
    try:
        usage = counters.incr_below(increments, conf.amounts)
    except Exception as error:
        _store_failed(conf, error)
        return
    _decide(conf, usage, now_s, windows)


def _identifier(conf: Config) -> str:
    identifier: str | None = None
    if conf.limit_by == "consumer":
        identity = kong.client.get_consumer() or kong.client.get_credential()
        identifier = identity["id"] if identity else None
    elif conf.limit_by == "credential":
        credential = kong.client.get_credential()
        identifier = credential["id"] if credential else None
    elif conf.limit_by == "service":
        service = kong.router.get_service()
        identifier = service["id"] if service else None
    elif conf.limit_by == "header" and conf.header_name:
        identifier = kong.request.get_header(conf.header_name)
    elif conf.limit_by == "path" and kong.request.get_path() == conf.path:
        identifier = conf.path
    return identifier or kong.client.get_forwarded_ip()


async def _run_in_order(steps: Sequence[Coroutine[Any, Any, None]]) -> None:
    for step in steps:
        try:
            await step
        except Exception as error:
            kong.log.warn("failed to close a connection to redis: ", error)


def _store_failed(conf: Config, error: Exception) -> None:
    if not conf.fault_tolerant:
        raise error
    kong.log.err("failed to get usage: ", error)


def _decide(conf: Config, usage: Sequence[float], now_s: float, windows: dict[str, Window]) -> None:
    """Tell the client what remains; answer when a limit is reached (what follows then does not run)."""
    headers: dict[str, str] = {}
    least: float | None = None
    chosen: Limit | None = None
    left = [limit.amount - used for limit, used in zip(conf.limits, usage, strict=True)]
    is_blocked = min(left) <= 0
    for limit, remaining in zip(conf.limits, left, strict=True):
        # This request uses one up, unless another period refuses it.
        remaining = max(0, remaining if is_blocked else remaining - 1)
        # Limits are ordered by window, so that on a tie the longer one is chosen.
        if least is None or remaining <= least:
            least, chosen = remaining, limit
        headers[limit.limit_header] = limit.amount_text
        headers[limit.remaining_header] = number_text(remaining)
    if chosen is None or least is None:
        return
    elapsed_s = int(now_s) - windows[chosen.period.name].start_s
    reset = str(max(1, chosen.period.window_s - elapsed_s))
    if conf.hide_client_headers:
        headers = {}
    else:
        headers["RateLimit-Limit"] = chosen.amount_text
        headers["RateLimit-Remaining"] = number_text(least)
        headers["RateLimit-Reset"] = reset
    if is_blocked:
        if not conf.hide_client_headers:
            headers["Retry-After"] = reset
        kong.response.error(int(conf.error_code or 429), conf.error_message, headers)
    if headers:
        kong.response.set_headers(headers)
