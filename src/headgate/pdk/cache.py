"""`kong.cache` and `kong.core_cache`: values that are costly to get, kept in worker memory and in node memory.

Owns the three levels (this worker's memory, the node's shared memory, the callback), times to live, misses kept as
such, stale values after a failed callback, the lock that lets one callback per key run on the node, and invalidation.

The rule that must not be broken: nobody gets a value that was loaded before an invalidation that has returned. Keys
fall into 256 stripes, each with a generation in shared memory; an invalidation raises it. A value in worker memory
carries the generation it was read under and is used only while that is the current one (one read of shared memory per
hit, 0.9 µs); node memory takes a value only while the generation is that of before its callback.
"""

import asyncio
import inspect
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, overload
from zlib import crc32

import msgspec

from headgate.errors import GatewayError
from headgate.pdk._cache_options import CacheOptions, options_of
from headgate.pdk._call import current_call
from headgate.pdk._check import need_string
from headgate.pdk._node import node
from headgate.pdk._phase import any_phase
from headgate.pdk.shared_dict import SharedDict

WORKER, NODE, CALLBACK, STALE = 1, 2, 3, 4
"""Hit levels: where a value came from."""

MOST_WORKER_ENTRIES = 10_000
"""Entries that one worker keeps; the least recently used goes first (own choice)."""
LOCK_EXPIRY_S = 30
"""A lock of a worker that died is free after this long (Kong's value)."""
LOCK_TIMEOUT_S = 5.0
"""How long an asynchronous caller waits for another one's callback (Kong's value)."""
SYNC_LOCK_TIMEOUT_S = 0.25
"""The same for a synchronous caller, which holds up the engine thread meanwhile (own choice)."""
STALE_KEPT_S = 3600
"""How long an expired value stays within reach of `resurrect_ttl` (own choice; Kong keeps it until room is needed)."""

_STRIPES = 256
_STRIPE_NAMES = tuple(f"g{number}" for number in range(_STRIPES))
_FIRST_PAUSE_S = 0.0005
_LONGEST_PAUSE_S = 0.02

_log = logging.getLogger("headgate.plugin")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class CacheError(GatewayError):
    """A value could not be had: the callback failed, its lock was not free in time, or the value cannot be kept."""


class Hit(NamedTuple):
    """A value and where it came from: 1 worker memory, 2 node memory, 3 callback, 4 stale after a failed callback."""

    value: Any
    level: int


class Probe(NamedTuple):
    """A cached value and the seconds it has left (0: it does not expire); `value` None is a cached miss."""

    ttl_s: float
    value: Any


@dataclass(frozen=True, slots=True)
class WithTtl:
    """What a callback may return to set the time to live of its value: seconds, 0 for ever, -1 not to be cached."""

    value: Any
    ttl_s: float


class _Entry(NamedTuple):
    value: Any
    generation: int
    expires_at_s: float


class _Stored(NamedTuple):
    """The form in node memory: it outlives `expires_at_s` when stale values are wanted."""

    value: Any
    expires_at_s: float


class Cache:
    """`kong.cache`; values are plain data (None, text, bytes, numbers, booleans, lists, dicts) shared by all readers:
    do not change them.
    """

    __slots__ = ("_clock", "_entries", "_shared", "channel")

    def __init__(self, name: str, clock: Callable[[], float] = time.time, channel: str = "invalidations") -> None:
        self._shared = SharedDict(name)
        self.channel = channel
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    @overload
    def get(
        self, key: str, opts: Mapping[str, Any] | None, callback: Callable[..., Awaitable[Any]], *arguments: Any
    ) -> Awaitable[Any]: ...
    @overload
    def get(
        self, key: str, opts: Mapping[str, Any] | None = None, callback: Callable[..., Any] | None = None, *args: Any
    ) -> Any: ...
    @any_phase
    def get(
        self, key: str, opts: Mapping[str, Any] | None = None, callback: Callable[..., Any] | None = None, *args: Any
    ) -> Any:
        """Return the value of a key, from the callback when it is in neither memory.

        With an `async def` callback the result is to be awaited; with another one (or none) it is the value itself.
        The callback runs once at a time on the node for a key; None is kept as a miss.

        Args: `opts`: `ttl`, `neg_ttl` (of a miss), `resurrect_ttl` (how long a stale value is used after a failed
            callback), in seconds, 0 = for ever (resurrect_ttl: never); `l1_serializer`: function from the value to what
            this worker keeps; `shm_set_tries`. Defaults: settings `db_cache_ttl`, `db_cache_neg_ttl`,
            `db_resurrect_ttl`. `callback(*args)` returns the value, or `WithTtl(value, ttl_s)`.
        Raises: TypeError `key must be a string`; CacheError `failed to get from node cache: …`.
        """
        hit = self._get(key, opts, callback, args)
        if hit.__class__ is Hit:
            return _ready(hit.value) if callback is not None and _is_asynchronous(callback) else hit.value
        return _value_of(hit)

    @any_phase
    def get_with_level(
        self, key: str, opts: Mapping[str, Any] | None = None, callback: Callable[..., Any] | None = None, *args: Any
    ) -> Any:
        """Do as `get`; the result is a `Hit(value, level)`, of level 0 when nothing is kept and there is no callback.

        Raises: as `get`.
        """
        hit = self._get(key, opts, callback, args)
        if hit.__class__ is Hit:
            return _ready(hit) if callback is not None and _is_asynchronous(callback) else hit
        return hit

    @any_phase
    def probe(self, key: str) -> Probe | None:
        """Return what is kept for a key and for how long, without loading; None when nothing is.

        Raises: TypeError `key must be a string`.
        """
        need_string(key, "key")
        stored = self._stored(key)
        if stored is None or not self._is_live(stored.expires_at_s):
            return None
        left_s = stored.expires_at_s - self._clock() if stored.expires_at_s else 0
        return Probe(left_s, stored.value)

    @any_phase
    def renew(self, key: str, opts: Mapping[str, Any] | None, callback: Callable[..., Any], *args: Any) -> Any:
        """Run the callback whatever is kept, and keep its value; returns the value, to be awaited if the callback is.

        All workers of this node see the new value from then on.

        Raises: TypeError `key must be a string`, `callback must be a function`; CacheError
            `failed to renew in node cache: …`.
        """
        need_string(key, "key")
        if not callable(callback):
            raise TypeError("callback must be a function")
        options = options_of(opts)
        if _is_asynchronous(callback):
            return _value_of(self._load_later(key, options, callback, args, is_forced=True))
        return self._load(key, options, callback, args, is_forced=True).value

    @any_phase
    async def get_bulk(
        self, bulk: Sequence[Sequence[Any]], opts: Mapping[str, Any] | None = None
    ) -> list[Hit | CacheError]:
        """Get several keys at once: each element is (key, opts, callback, arguments…).

        Returns: for each element, in order, its hit or the error it met.
        Raises: TypeError `bulk must be a table`, `opts must be a table`.
        """
        if not isinstance(bulk, list | tuple):
            raise TypeError("bulk must be a table")
        if opts is not None and not isinstance(opts, Mapping):
            raise TypeError("opts must be a table")

        async def one(key: str, own: Mapping[str, Any] | None, callback: Any, *arguments: Any) -> Hit | CacheError:
            try:
                hit = self.get_with_level(key, {**(opts or {}), **(own or {})}, callback, *arguments)
                found: Hit = await hit if inspect.isawaitable(hit) else hit
            except CacheError as error:
                return error
            return found

        return await asyncio.gather(*(one(*element) for element in bulk))

    @any_phase
    def safe_set(self, key: str, value: Any) -> None:
        """Keep a value in node memory, in place of an earlier one; workers see it at once.

        Raises: TypeError `key must be a string`; CacheError for a value that cannot be kept.
        """
        need_string(key, "key")
        options = options_of(None)
        self._invalidate(key)
        stored = _Stored(value, self._expiry(options.ttl_of(value)))
        try:
            is_kept = self._keep_on_node(key, stored, options, self._generation(key))
        except TypeError as error:
            raise CacheError(f"could not encode value: {error}") from error
        if not is_kept:
            raise CacheError("could not write to the node cache: no memory")

    @any_phase
    def invalidate_local(self, key: str) -> None:
        """Forget a key in all workers of this node.

        Raises: TypeError `key must be a string`.
        """
        need_string(key, "key")
        self._invalidate(key)

    @any_phase
    def invalidate(self, key: str) -> None:
        """Forget a key in all workers of this node at once, and of the other nodes of the database within a second.

        Raises: TypeError `key must be a string`.
        """
        self.invalidate_local(key)
        if node.broadcast is not None:
            node.broadcast(self.channel, key, 0.0, True)

    @any_phase
    def purge(self) -> None:
        """Forget everything, in all workers of this node."""
        # The generations go with the values: those that follow start from the time, above all earlier ones.
        self._shared.clear()
        self._entries.clear()

    def _get(
        self, key: str, opts: Mapping[str, Any] | None, callback: Callable[..., Any] | None, arguments: tuple[Any, ...]
    ) -> Any:
        """Return a hit, or an awaitable of one where an asynchronous callback has to run."""
        need_string(key, "key")
        generation = self._generation(key)
        entry = self._entries.get(key)
        if entry is not None and entry.generation == generation and self._is_live(entry.expires_at_s):
            with suppress(KeyError):
                # Another thread of this worker may have evicted it.
                self._entries.move_to_end(key)
            return Hit(entry.value, WORKER)
        options = options_of(opts)
        found = self._from_node(key, options, generation)
        if found is not None:
            return found
        if callback is None:
            return Hit(None, 0)
        load = self._load_later if _is_asynchronous(callback) else self._load
        return load(key, options, callback, arguments)

    # -- levels -------------------------------------------------------------------------------------------------------

    def _generation(self, key: str) -> int:
        """Return the current generation of the key's stripe.

        One that was lost (memory was full) starts from the time, so that no earlier one comes back.
        """
        name = _stripe(key)
        generation = self._shared.get(name)
        if generation is None:
            self._shared.add(name, time.time_ns())
            generation = self._shared.get(name)
        return generation if isinstance(generation, int) else 0

    def _invalidate(self, key: str) -> None:
        # The second raise: a worker may have taken the value from node memory between the first and the delete.
        stripe = _stripe(key)
        self._shared.incr(stripe, 1, time.time_ns())
        self._shared.delete(f"v{key}")
        self._shared.incr(stripe, 1, time.time_ns())
        self._entries.pop(key, None)

    def _forget_many(self, keys: Sequence[str]) -> None:
        stripes = sorted({_stripe(key) for key in keys})
        for is_first in (True, False):
            for stripe in stripes:
                self._shared.incr(stripe, 1, time.time_ns())
            for key in keys if is_first else ():
                if self._shared.get(f"v{key}") is not None:
                    self._shared.delete(f"v{key}")
                self._entries.pop(key, None)

    def _is_live(self, expires_at_s: float) -> bool:
        return not expires_at_s or expires_at_s > self._clock()

    def _stored(self, key: str) -> _Stored | None:
        raw = self._shared.get(f"v{key}")
        return _Stored(*_decode(raw)) if isinstance(raw, bytes) else None

    def _from_node(self, key: str, options: CacheOptions, generation: int) -> Hit | None:
        stored = self._stored(key)
        if stored is None or not self._is_live(stored.expires_at_s):
            return None
        return Hit(self._keep_in_worker(key, stored, options, generation), NODE)

    def _keep_in_worker(self, key: str, stored: _Stored, options: CacheOptions, generation: int) -> Any:
        value = stored.value
        if value is not None and options.serializer is not None:
            value = options.serializer(value)
        self._entries[key] = _Entry(value, generation, stored.expires_at_s)
        if len(self._entries) > MOST_WORKER_ENTRIES:
            self._entries.popitem(last=False)
        return value

    def _keep_on_node(self, key: str, stored: _Stored, options: CacheOptions, generation: int) -> bool:
        """Put a value into node memory unless an invalidation came in between; say whether it is there."""
        raw = _encode(stored)
        left_s = 0.0
        if stored.expires_at_s:
            left_s = stored.expires_at_s - self._clock() + (STALE_KEPT_S if options.resurrect_ttl_s else 0)
        try:
            return any(
                self._shared.set_while(f"v{key}", raw, left_s, _stripe(key), generation) for _ in range(options.tries)
            )
        except ValueError as error:
            _log.warning("cache: value of '%s' stays in this worker: %s", key, error)
            return False

    def _expiry(self, ttl_s: float) -> float:
        return self._clock() + ttl_s if ttl_s > 0 else 0.0

    # -- callbacks ----------------------------------------------------------------------------------------------------

    def _load(
        self,
        key: str,
        options: CacheOptions,
        callback: Callable[..., Any],
        arguments: tuple[Any, ...],
        is_forced: bool = False,
    ) -> Hit:
        for pause_s in _pauses(SYNC_LOCK_TIMEOUT_S):
            if (token := self._lock(key)) is not None:
                break
            time.sleep(pause_s)
        else:
            raise CacheError(f"{_prefix(is_forced)}could not acquire callback lock: timeout")
        try:
            generation = self._generation(key)
            found = None if is_forced else self._from_node(key, options, generation)
            if found is not None:
                return found
            try:
                returned = callback(*arguments)
            except Exception as error:
                return self._after_fault(key, options, generation, error, is_forced)
            return self._keep(key, options, generation, returned, is_forced)
        finally:
            self._unlock(key, token)

    async def _load_later(
        self,
        key: str,
        options: CacheOptions,
        callback: Callable[..., Awaitable[Any]],
        arguments: tuple[Any, ...],
        is_forced: bool = False,
    ) -> Hit:
        for pause_s in _pauses(LOCK_TIMEOUT_S):
            if (token := self._lock(key)) is not None:
                break
            await asyncio.sleep(pause_s)
        else:
            raise CacheError(f"{_prefix(is_forced)}could not acquire callback lock: timeout")
        try:
            generation = self._generation(key)
            found = None if is_forced else self._from_node(key, options, generation)
            if found is not None:
                return found
            try:
                returned = await callback(*arguments)
            except Exception as error:
                return self._after_fault(key, options, generation, error, is_forced)
            return self._keep(key, options, generation, returned, is_forced)
        finally:
            self._unlock(key, token)

    def _lock(self, key: str) -> int | None:
        token = time.monotonic_ns() << 8 & 0x7FFFFFFFFFFFFFFF | id(object()) & 0xFF
        return token if self._shared.add(f"l{key}", token, LOCK_EXPIRY_S) else None

    def _unlock(self, key: str, token: int) -> None:
        # A callback that outlived its lock must not free another one's.
        if self._shared.get(f"l{key}") == token:
            self._shared.delete(f"l{key}")

    def _keep(self, key: str, options: CacheOptions, generation: int, returned: Any, is_forced: bool) -> Hit:
        value, ttl_s = (
            (returned.value, returned.ttl_s) if isinstance(returned, WithTtl) else (returned, options.ttl_of(returned))
        )
        if ttl_s < 0 or _is_outdated():
            return Hit(value, CALLBACK)
        try:
            # What other workers will read, so that all see the same types.
            value = _decode(_encode(value))
        except (TypeError, ValueError, OverflowError) as error:
            raise CacheError(f"{_prefix(is_forced)}could not encode callback result: {error}") from error
        stored = _Stored(value, self._expiry(ttl_s))
        is_on_node = self._keep_on_node(key, stored, options, generation)
        if is_forced:
            # Other workers have the value before. Where an invalidation comes in between, the counter is another one
            # than this, and what is kept here is not used either.
            generation += self._displace(key, is_on_node=is_on_node)
        return Hit(self._keep_in_worker(key, stored, options, generation), CALLBACK)

    def _displace(self, key: str, *, is_on_node: bool) -> int:
        """Have other workers forget what they keep of a key; returns by how much that raises its generation."""
        if is_on_node:
            self._shared.incr(_stripe(key), 1, time.time_ns())
            return 1
        # A new value that only this worker can keep: nobody may take the one before from the node.
        self._invalidate(key)
        return 2

    def _after_fault(self, key: str, options: CacheOptions, generation: int, error: Exception, is_forced: bool) -> Hit:
        stale = self._stored(key) if options.resurrect_ttl_s else None
        if stale is None:
            raise CacheError(f"{_prefix(is_forced)}callback threw an error: {error}") from error
        _log.warning(
            "cache: callback for '%s' failed (%s), the stale value is used for %g s",
            key,
            error,
            options.resurrect_ttl_s,
        )
        kept = _Stored(stale.value, self._expiry(options.resurrect_ttl_s))
        self._keep_on_node(key, kept, options, generation)
        return Hit(self._keep_in_worker(key, kept, options, generation), STALE)


def _is_outdated() -> bool:
    """Say whether the code that loads reads entities of a snapshot that is not in force any more.

    Its request began before; what it has seen of `kong.db` was forgotten with the change and must not come back.
    """
    call = current_call.get()
    if call is None or call.exchange is None:
        return False
    return node.snapshot is not None and call.exchange.plan.snapshot is not node.snapshot


def _stripe(key: str) -> str:
    return _STRIPE_NAMES[crc32(key.encode("utf-8", "surrogateescape")) % _STRIPES]


def _is_asynchronous(callback: Callable[..., Any]) -> bool:
    code = getattr(callback, "__code__", None)
    if code is not None and not hasattr(callback, "__wrapped__"):
        return bool(code.co_flags & inspect.CO_COROUTINE)
    return inspect.iscoroutinefunction(inspect.unwrap(callback)) or inspect.iscoroutinefunction(type(callback).__call__)


def _prefix(is_forced: bool) -> str:
    return "failed to renew in node cache: " if is_forced else "failed to get from node cache: "


def _pauses(timeout_s: float) -> Iterator[float]:
    """Yield growing pauses until the time is up."""
    ends_at_s = time.monotonic() + timeout_s
    pause_s = _FIRST_PAUSE_S
    while time.monotonic() < ends_at_s:
        yield pause_s
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


async def _ready(hit: Any) -> Any:
    return hit


async def _value_of(hit: Awaitable[Hit]) -> Any:
    return (await hit).value


def caches_of(generation: int) -> tuple[Cache, Cache]:
    """Return `kong.cache` and `kong.core_cache` of a generation of the node's processes.

    What another generation has kept may be of another configuration, or of code with other forms.
    """
    core = Cache(f"kong_core_db_cache.{generation}", channel="invalidations_kong_core_db_cache")
    return Cache(f"kong_db_cache.{generation}"), core


cache, core_cache = caches_of(0)


def use_generation(generation: int) -> None:
    """Have `cache` and `core_cache` of this process be those of a generation; called before plugins load.

    Not when this module is imported: workers may be made of a process that has imported it already.
    """
    for own, wanted in zip((cache, core_cache), caches_of(generation), strict=True):
        own._shared = wanted._shared


def forget_many(keys: Sequence[str]) -> None:
    """Forget keys in both caches of this node; one that is not kept costs a read."""
    cache._forget_many(keys)
    core_cache._forget_many(keys)


def receive(channel: str, key: str) -> bool:
    """Take an invalidation of another node; say whether it was one."""
    for each in (cache, core_cache):
        if each.channel == channel:
            each._invalidate(key)
            return True
    return False
