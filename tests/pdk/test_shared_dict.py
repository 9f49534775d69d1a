"""The node's shared memory: values, times to live, bounded size, and several real processes on one environment."""

import multiprocessing
import multiprocessing.queues
import multiprocessing.synchronize
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest

from headgate.pdk import shared_dict
from headgate.pdk.shared_dict import SharedDict

SPAWN = multiprocessing.get_context("spawn")
FORK = multiprocessing.get_context("fork")


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory_path(tmp_path: Path, clock: Clock) -> Iterator[Path]:
    shared_dict.close()
    path = tmp_path / "shared"
    shared_dict.configure(path, 1024 * 1024, clock=clock)
    yield path
    shared_dict.close()


@pytest.fixture
def counters(memory_path: Path) -> SharedDict:
    return SharedDict("counters")


@pytest.mark.parametrize("value", ["text", "", "ü", b"\x00\xff", 0, -5, 2**62, 1.5, True, False])
def test_a_value_comes_back_with_its_type(counters: SharedDict, value: shared_dict.Value) -> None:
    counters.set("key", value)
    found = counters.get("key")
    assert found == value
    assert type(found) is type(value)


def test_an_integer_beyond_64_bits_becomes_a_float(counters: SharedDict) -> None:
    counters.set("key", 2**70)
    assert counters.get("key") == float(2**70)


def test_a_value_of_another_type_is_refused(counters: SharedDict) -> None:
    with pytest.raises(TypeError, match="a shared dict cannot hold a list"):
        counters.set("key", [1])  # type: ignore[arg-type]


def test_an_absent_key_reads_as_none(counters: SharedDict) -> None:
    assert counters.get("absent") is None
    assert counters.ttl_s("absent") is None


def test_names_keep_keys_apart(counters: SharedDict) -> None:
    counters.set("key", 1)
    assert SharedDict("other").get("key") is None


def test_keys_longer_than_lmdb_allows_stay_distinct(counters: SharedDict) -> None:
    counters.incr("k" * 5000 + "a", 1)
    counters.incr("k" * 5000 + "b", 2)
    assert counters.get_many(["k" * 5000 + "a", "k" * 5000 + "b"]) == [1, 2]


def test_an_entry_is_gone_when_its_time_to_live_is_over(counters: SharedDict, clock: Clock) -> None:
    counters.set("key", "v", 10)
    clock.now += 9.9
    assert counters.get("key") == "v"
    assert counters.ttl_s("key") == pytest.approx(0.1)
    clock.now += 0.2
    assert counters.get("key") is None


def test_an_increment_keeps_the_expiry_of_the_first_one(counters: SharedDict, clock: Clock) -> None:
    assert counters.incr("key", 1, 0, 10) == 1
    clock.now += 6
    assert counters.incr("key", 1, 0, 10) == 2
    clock.now += 5
    assert counters.incr("key", 1, 0, 10) == 1


def test_an_increment_starts_from_init(counters: SharedDict) -> None:
    assert counters.incr("key", 2, init=10) == 12
    assert counters.incr("key", -0.5, init=10) == 11.5


@pytest.mark.parametrize("value", ["text", True])
def test_what_is_not_a_number_cannot_be_incremented(counters: SharedDict, value: shared_dict.Value) -> None:
    counters.set("key", value)
    with pytest.raises(TypeError, match="the value of 'key' is not a number"):
        counters.incr("key", 1)


def test_a_failed_increment_among_many_changes_nothing(counters: SharedDict) -> None:
    counters.set("text", "x")
    with pytest.raises(TypeError):
        counters.incr_many([("number", 1, 0), ("text", 1, 0)])
    assert counters.get("number") is None


def test_many_are_read_and_incremented_in_order(counters: SharedDict) -> None:
    assert counters.incr_many([("a", 1, 5), ("b", 2, 5), ("a", 1, 5)]) == [1, 2, 2]
    assert counters.get_many(["b", "none", "a"]) == [2, None, 2]


def test_counters_below_their_limits_are_incremented_together(counters: SharedDict) -> None:
    increments = [("a", 1, 5), ("b", 2, 5)]
    assert counters.incr_below(increments, [2, 10]) == [0, 0]
    assert counters.incr_below(increments, [2, 10]) == [1, 2]
    assert counters.incr_below(increments, [2, 10]) == [2, 4]
    assert counters.get_many(["a", "b"]) == [2, 4]


def test_an_expired_counter_is_below_every_limit(counters: SharedDict, clock: Clock) -> None:
    counters.incr("a", 5, 0, 1)
    clock.now += 2
    assert counters.incr_below([("a", 1, 1)], [1]) == [0]
    assert counters.get("a") == 1


def test_add_stores_only_what_is_absent_or_expired(counters: SharedDict, clock: Clock) -> None:
    assert counters.add("lock", "one", 5)
    assert not counters.add("lock", "two", 5)
    clock.now += 6
    assert counters.add("lock", "two", 5)
    assert counters.get("lock") == "two"


def test_an_update_gets_the_value_and_keeps_its_expiry(counters: SharedDict, clock: Clock) -> None:
    counters.set("a", b"x", 10)
    assert counters.update("a", lambda earlier: b"<" + earlier + b">" if isinstance(earlier, bytes) else None) == b"<x>"
    assert (counters.get("a"), counters.ttl_s("a")) == (b"<x>", 10)
    assert counters.update("a", lambda _: "later", 60) == "later"
    assert counters.ttl_s("a") == 60
    clock.now += 61
    assert counters.update("a", lambda earlier: earlier is None) is True
    assert counters.ttl_s("a") == 0


def test_an_update_to_none_removes_and_one_that_raises_changes_nothing(counters: SharedDict) -> None:
    counters.set("a", 1)
    with pytest.raises(ZeroDivisionError):
        counters.update("a", lambda _: 1 // 0)
    with pytest.raises(ValueError, match="too large"):
        counters.update("a", lambda _: "v" * 2_000_000)
    assert counters.get("a") == 1
    assert counters.update("a", lambda _: None) is None
    assert counters.get("a") is None
    assert counters.update("a", lambda _: None) is None


def test_keys_are_listed_up_to_a_limit(counters: SharedDict, clock: Clock) -> None:
    assert counters.keys() == []
    counters.set("gone", 1, 5)
    clock.now += 6
    for key in ("a", "ü", "c"):
        counters.set(key, 1)
    counters.set("k" * 600, 1)
    SharedDict("counters2").set("other", 1)
    assert sorted(counters.keys()) == ["a", "c", "ü"]
    assert len(counters.keys(2)) == 2


def test_a_deleted_key_is_absent(counters: SharedDict) -> None:
    counters.set("key", 1, 10)
    counters.delete("key")
    counters.delete("key")
    assert counters.get("key") is None


def _entry_counts(path: Path) -> tuple[int, int, int]:
    memory = shared_dict._memory()
    with memory.environment().begin() as transaction:
        return (
            transaction.stat(memory.entries)["entries"],
            transaction.stat(memory.by_expiry)["entries"],
            transaction.stat(memory.by_age)["entries"],
        )


def test_expired_entries_are_cleaned_up_by_new_ones(counters: SharedDict, clock: Clock, memory_path: Path) -> None:
    for number in range(100):
        counters.incr(f"old{number}", 1, 0, 1)
    clock.now += 2
    for number in range(25):
        counters.incr(f"new{number}", 1, 0, 1)
    assert _entry_counts(memory_path) == (25, 25, 25)


def test_index_entries_go_with_their_entry(counters: SharedDict, clock: Clock, memory_path: Path) -> None:
    counters.set("key", 1, 5)
    counters.set("key", 2, 500)
    counters.set("key", 3)
    assert _entry_counts(memory_path) == (1, 0, 1)
    counters.delete("key")
    assert _entry_counts(memory_path) == (0, 0, 0)


def test_a_full_memory_drops_the_oldest_and_takes_every_write(counters: SharedDict, memory_path: Path) -> None:
    for number in range(20_000):
        assert counters.incr(f"key{number}", 1) == 1
    assert counters.get("key19999") == 1
    assert counters.get("key0") is None
    memory = shared_dict._memory()
    with memory.environment().begin() as transaction:
        assert memory.used_bytes(transaction) < 0.65 * 1024 * 1024


def test_a_full_memory_drops_expired_entries_before_old_ones(counters: SharedDict, clock: Clock) -> None:
    counters.set("oldest", "stays")
    for number in range(1500):
        counters.set(f"short{number}", "x" * 100, 1)
    clock.now += 2
    for number in range(500):
        counters.set(f"new{number}", "x" * 300)
    assert counters.get("oldest") == "stays"
    assert counters.get("new0") is not None


def test_large_values_make_room_for_each_other(counters: SharedDict) -> None:
    for number in range(200):
        counters.set(f"key{number}", bytes(100_000))
    assert counters.get("key199") == bytes(100_000)


def test_a_value_that_can_never_fit_is_refused(counters: SharedDict) -> None:
    with pytest.raises(ValueError, match="too large"):
        counters.set("key", bytes(400_000))


def test_a_map_filled_by_a_foreign_hand_is_recovered(counters: SharedDict) -> None:
    memory = shared_dict._memory()
    position = 0
    try:
        while True:
            with memory.environment().begin(write=True) as transaction:
                memory.put(transaction, b"raw%d" % position, b"y", bytes(3000), 0.0, 0)
                memory._unaccounted_bytes = 0
            position += 1
    except lmdb.MapFullError:
        pass
    assert counters.incr("key", 1) == 1
    assert counters.get("key") == 1


def test_without_configuration_the_error_says_so() -> None:
    shared_dict.close()
    assert not shared_dict.is_configured()
    with pytest.raises(shared_dict.SharedDictError, match="not configured"):
        SharedDict("x").get("key")


def test_a_path_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    shared_dict.close()
    (tmp_path / "file").write_text("")
    with pytest.raises(shared_dict.SharedDictError, match="file/shared"):
        shared_dict.configure(tmp_path / "file" / "shared")


def test_an_existing_memory_keeps_its_size(memory_path: Path, counters: SharedDict, clock: Clock) -> None:
    counters.set("key", 1)
    shared_dict.close()
    shared_dict.configure(memory_path, 8 * 1024 * 1024, clock=clock)
    assert counters.get("key") == 1
    assert (memory_path / "data.mdb").stat().st_size == 1024 * 1024


def test_removed_files_are_gone(memory_path: Path) -> None:
    shared_dict.close()
    shared_dict.remove(memory_path)
    assert not memory_path.exists()
    shared_dict.remove(memory_path)


def _increment(path: str, times: int) -> None:
    shared_dict.configure(path, 1024 * 1024)
    counters = SharedDict("counters")
    for _ in range(times):
        counters.incr_many([("one", 1, 0), ("two", 2, 0)])


def _increment_for_ever(path: str) -> None:
    shared_dict.configure(path, 1024 * 1024)
    counters = SharedDict("counters")
    while True:
        counters.incr_many([("one", 1, 0), ("two", 2, 0)])


def test_processes_lose_no_increment(memory_path: Path, counters: SharedDict) -> None:
    processes = [SPAWN.Process(target=_increment, args=(str(memory_path), 2000)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(25)
        assert process.exitcode == 0
    assert counters.get_many(["one", "two"]) == [6000, 12000]


def test_a_killed_writer_leaves_a_consistent_memory_to_the_others(memory_path: Path, counters: SharedDict) -> None:
    for _ in range(3):
        process = SPAWN.Process(target=_increment_for_ever, args=(str(memory_path),))
        before = counters.incr("one", 0)
        process.start()
        deadline = time.monotonic() + 20
        while counters.incr("one", 0) < before + 500:
            assert time.monotonic() < deadline
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(5)
        one, two = counters.get_many(["one", "two"])
        assert isinstance(one, int)
        assert two == 2 * one
        assert counters.incr_many([("one", 1, 0), ("two", 2, 0)]) == [one + 1, 2 * one + 2]


def _write_and_hang(path: str, started: "multiprocessing.synchronize.Event") -> None:
    shared_dict.configure(path, 1024 * 1024)
    memory = shared_dict._memory()
    transaction = memory.environment().begin(write=True)
    transaction.put(b"counters\0half", b"done", db=memory.entries)
    started.set()
    time.sleep(60)


def test_a_process_killed_inside_a_transaction_gives_its_lock_back(memory_path: Path, counters: SharedDict) -> None:
    started = SPAWN.Event()
    process = SPAWN.Process(target=_write_and_hang, args=(str(memory_path), started))
    process.start()
    assert started.wait(20)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(5)
    assert counters.incr("key", 1) == 1
    assert counters.get("half") is None


def _use_inherited(errors: "multiprocessing.queues.SimpleQueue[str]") -> None:
    try:
        SharedDict("counters").incr("one", 1)
    except shared_dict.SharedDictError as error:
        errors.put(str(error))


@pytest.mark.filterwarnings("ignore:This process")
def test_a_forked_child_is_told_to_open_its_own_and_leaves_the_parent_intact(
    memory_path: Path, counters: SharedDict
) -> None:
    counters.incr("one", 1)
    assert counters.get("one") == 1
    errors = FORK.SimpleQueue()
    child = FORK.Process(target=_use_inherited, args=(errors,))
    child.start()
    child.join(20)
    assert child.exitcode == 0
    assert "was opened before this process was forked" in errors.get()
    assert counters.get("one") == 1
    assert counters.incr("one", 1) == 2


@pytest.mark.filterwarnings("ignore:This process")
def test_children_forked_before_it_is_opened_share_it_with_the_parent(tmp_path: Path) -> None:
    shared_dict.close()
    path = tmp_path / "later"
    children = [FORK.Process(target=_increment, args=(str(path), 500)) for _ in range(2)]
    for child in children:
        child.start()
    _increment(str(path), 500)
    for child in children:
        child.join(20)
        assert child.exitcode == 0
    assert SharedDict("counters").get("one") == 1500
    shared_dict.close()


def _take_below(path: str, times: int, limit: int, taken: "multiprocessing.queues.SimpleQueue[int]") -> None:
    shared_dict.configure(path, 1024 * 1024)
    counters = SharedDict("counters")
    taken.put(sum(counters.incr_below([("limited", 1, 0)], [limit])[0] < limit for _ in range(times)))


def test_processes_never_overshoot_a_limit_together(memory_path: Path, counters: SharedDict) -> None:
    taken = SPAWN.SimpleQueue()
    processes = [SPAWN.Process(target=_take_below, args=(str(memory_path), 2000, 1500, taken)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(25)
        assert process.exitcode == 0
    assert taken.get() + taken.get() == 1500
    assert counters.get("limited") == 1500
