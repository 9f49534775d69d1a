"""The levels of `kong.cache`, over two caches on one node memory that stand for two workers."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.pdk import shared_dict
from headgate.pdk.cache import CALLBACK, NODE, STALE, WORKER, Cache, CacheError, Hit, WithTtl


class Clock:
    """Seconds that only tests move."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(tmp_path: Path) -> Iterator[Clock]:
    """Node memory of this test with a clock of its own."""
    made = Clock()
    shared_dict.close()
    shared_dict.configure(tmp_path / "shared", 1024 * 1024, clock=made)
    yield made
    shared_dict.close()
    shared_dict.remove(tmp_path / "shared")


@pytest.fixture
def workers(clock: Clock) -> tuple[Cache, Cache]:
    return Cache("test", clock), Cache("test", clock)


class Source:
    """A callback that counts its calls."""

    def __init__(self, value: Any = "value") -> None:
        self.value = value
        self.calls = 0

    def __call__(self, *arguments: Any) -> Any:
        self.calls += 1
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


def test_a_value_comes_from_callback_then_worker_then_in_the_other_worker_from_node(
    workers: tuple[Cache, Cache],
) -> None:
    first, second = workers
    source = Source({"id": [1, 2.5, None, True, b"\0"]})
    assert first.get_with_level("key", None, source) == Hit(source.value, CALLBACK)
    assert first.get_with_level("key", None, source).level == WORKER
    assert second.get_with_level("key", None, source) == Hit(source.value, NODE)
    assert second.get("key") == source.value
    assert source.calls == 1


def test_arguments_reach_the_callback_and_none_is_kept_as_a_miss(workers: tuple[Cache, Cache], clock: Clock) -> None:
    calls: list[tuple[Any, ...]] = []

    def callback(*arguments: Any) -> None:
        calls.append(arguments)

    for _ in range(2):
        assert workers[0].get("key", {"neg_ttl": 5}, callback, 1, "two") is None
    assert calls == [(1, "two")]
    clock.now_s += 6
    workers[0].get("key", {"neg_ttl": 5}, callback)
    assert len(calls) == 2


def test_an_invalidation_reaches_the_other_worker_at_once(workers: tuple[Cache, Cache]) -> None:
    first, second = workers
    source = Source("old")
    assert first.get("key", None, source) == second.get("key", None, source) == "old"
    source.value = "new"
    first.invalidate("key")
    assert second.get_with_level("key", None, source) == Hit("new", CALLBACK)
    assert first.get_with_level("key", None, source) == Hit("new", NODE)


def test_a_value_loaded_before_an_invalidation_is_not_kept(workers: tuple[Cache, Cache]) -> None:
    first, second = workers

    def slow() -> str:
        second.invalidate("key")
        return "outdated"

    assert first.get("key", None, slow) == "outdated"
    assert first.probe("key") is None
    assert first.get("key", None, Source("fresh")) == "fresh"


def test_safe_set_replaces_what_workers_hold_and_purge_forgets_all(workers: tuple[Cache, Cache]) -> None:
    first, second = workers
    first.get("key", None, Source("old"))
    second.safe_set("key", "new")
    assert first.get("key") == "new"
    second.purge()
    assert first.get_with_level("key") == Hit(None, 0)
    assert first.probe("key") is None


def test_times_to_live_end_and_a_callback_can_set_its_own(workers: tuple[Cache, Cache], clock: Clock) -> None:
    cache = workers[0]
    source = Source()
    cache.get("short", {"ttl": 10}, source)
    assert cache.probe("short") == (10, "value")
    clock.now_s += 11
    assert cache.probe("short") is None
    cache.get("short", {"ttl": 10, "resurrect_ttl": 0}, source)
    assert source.calls == 2
    cache.get("own", {"ttl": 10}, lambda: WithTtl("value", 100))
    probe = cache.probe("own")
    assert probe is not None
    assert probe.ttl_s == 100
    assert cache.get("never", None, lambda: WithTtl("value", -1)) == "value"
    assert cache.probe("never") is None


def test_a_stale_value_serves_after_a_failed_callback(workers: tuple[Cache, Cache], clock: Clock) -> None:
    cache = workers[0]
    options = {"ttl": 10, "resurrect_ttl": 5}
    cache.get("key", options, Source("stale"))
    clock.now_s += 11
    failing = Source(RuntimeError("down"))
    assert cache.get_with_level("key", options, failing) == Hit("stale", STALE)
    assert cache.get_with_level("key", options, failing).level == WORKER
    clock.now_s += 6
    cache.get("key", options, failing)
    assert failing.calls == 2
    with pytest.raises(CacheError, match=r"^failed to get from node cache: callback threw an error: down$"):
        cache.get("other", options, failing)


def test_one_callback_runs_for_many_waiters(workers: tuple[Cache, Cache]) -> None:
    first, second = workers
    calls = 0

    async def callback() -> str:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        return "value"

    async def main() -> None:
        values = await asyncio.gather(*(cache.get("key", None, callback) for cache in (first, second) * 5))
        assert values == ["value"] * 10
        assert (await first.get_with_level("key", None, callback)).level == WORKER

    asyncio.run(main())
    assert calls == 1


def test_a_synchronous_caller_gives_up_when_the_lock_stays_taken(workers: tuple[Cache, Cache]) -> None:
    first, second = workers

    def nested() -> Any:
        return second.get("key", None, Source())

    with pytest.raises(CacheError, match="could not acquire callback lock: timeout"):
        first.get("key", None, nested)
    assert first.get("key", None, Source("after")) == "after"


def test_renew_runs_the_callback_whatever_is_kept(workers: tuple[Cache, Cache]) -> None:
    cache = workers[0]
    cache.get("key", None, Source("old"))
    assert cache.renew("key", None, Source("new")) == "new"
    assert cache.get("key") == "new"


def test_what_was_renewed_is_what_every_worker_sees(workers: tuple[Cache, Cache]) -> None:
    first, second = workers
    first.get("key", None, Source("old"))
    assert second.get_with_level("key") == Hit("old", NODE)
    assert first.renew("key", None, Source("new")) == "new"
    assert first.get_with_level("key") == Hit("new", WORKER)
    assert second.get_with_level("key") == Hit("new", NODE)
    # One that the node cannot keep stays in its worker, and the one before is nowhere.
    large = "x" * 1024 * 1024
    assert first.renew("key", None, Source(large)) == large
    assert first.get_with_level("key") == Hit(large, WORKER)
    assert second.get_with_level("key") == Hit(None, 0)


def test_an_invalidation_while_a_value_is_renewed_wins(workers: tuple[Cache, Cache]) -> None:
    first, second = workers

    def load() -> str:
        second.invalidate_local("key")
        return "loaded before"

    first.get("key", None, Source("old"))
    assert first.renew("key", None, load) == "loaded before"
    for cache in workers:
        assert cache.get("key", None, Source("after")) == "after"


def test_a_bulk_gives_hits_and_errors_in_order(workers: tuple[Cache, Cache]) -> None:
    async def later(value: str) -> str:
        return value

    got = asyncio.run(
        workers[0].get_bulk(
            [
                ("a", None, later, "A"),
                ("b", {"ttl": 1}, Source("B")),
                ("c", None, Source(ValueError("no"))),
            ],
            {"resurrect_ttl": 0},
        )
    )
    assert got[:2] == [Hit("A", CALLBACK), Hit("B", CALLBACK)]
    assert str(got[2]) == "failed to get from node cache: callback threw an error: no"


def test_a_serializer_makes_what_the_worker_keeps(workers: tuple[Cache, Cache]) -> None:
    options = {"l1_serializer": lambda value: frozenset(value)}
    assert workers[0].get("key", options, Source(["a", "b"])) == {"a", "b"}
    assert workers[1].get("key", options, Source()) == {"a", "b"}
    assert workers[1].probe("key") == (0, ["a", "b"])


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda cache: cache.get(1), "key must be a string"),
        (lambda cache: cache.get("k", 1), "opts must be a table"),
        (lambda cache: cache.get("k", {"ttl": "1"}), "opts.ttl must be a number"),
        (lambda cache: cache.get("k", {"neg_ttl": -1}), "opts.neg_ttl must be >= 0"),
        (lambda cache: cache.get("k", {"shm_set_tries": 0}), "opts.shm_set_tries must be >= 1"),
        (lambda cache: cache.get("k", {"l1_serializer": 1}), "opts.l1_serializer must be a function"),
        (lambda cache: cache.renew("k", None, None), "callback must be a function"),
        (lambda cache: asyncio.run(cache.get_bulk(None)), "bulk must be a table"),
        (lambda cache: cache.safe_set("k", object()), "could not encode value"),
    ],
)
def test_wrong_arguments_are_refused(workers: tuple[Cache, Cache], call: Any, text: str) -> None:
    with pytest.raises((TypeError, ValueError, CacheError), match=text):
        call(workers[0])


def test_a_value_that_cannot_be_kept_is_told(workers: tuple[Cache, Cache]) -> None:
    with pytest.raises(CacheError, match="could not encode callback result"):
        workers[0].get("key", None, Source(object()))


def test_a_value_too_large_for_the_node_stays_in_the_worker(workers: tuple[Cache, Cache]) -> None:
    source = Source("x" * 400_000)
    workers[0].get("key", None, source)
    assert workers[0].get_with_level("key", None, source).level == WORKER
