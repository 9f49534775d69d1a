"""`kong.shared_dict`: state shared by the worker processes of one node: counters, flags, small cached values.

Owns keys, value types and the operations, each atomic on the node; `shared_memory` owns the LMDB environment below.
The process that starts (worker, control) calls `configure(path, map_size_bytes)` once. It is a cache, not a store:
nothing in it survives a reboot, and when it is full, expired entries make room first, then the oldest ones.

Measured (py-lmdb 3.0, tmpfs, 2-core virtual machine, one process, 190-byte keys): `get` 0.9 µs, `incr` of an existing
key 2.8 µs, of a new one 7.3 µs (two index entries), `get_many` of 3 keys 2.5 µs, `incr_many` of 3 existing keys 5.5 µs,
`incr_below` of one key 3.4 µs (refused 1.9 µs), of three 6.5 µs; with the memory full and every key new 9 µs on average
and 1.3 ms at worst.
"""

import os
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import blake2b
from operator import ge
from pathlib import Path
from typing import TypeAlias

from headgate.pdk.shared_memory import (
    DEFAULT_MAP_SIZE_BYTES,
    HEADER,
    MINIMUM_MAP_SIZE_BYTES,
    NEVER,
    SharedDictError,
    SharedMemory,
    Transaction,
)

__all__ = [
    "MINIMUM_MAP_SIZE_BYTES",
    "Increment",
    "Number",
    "SharedDict",
    "SharedDictError",
    "Value",
    "close",
    "configure",
    "is_configured",
    "remove",
]

Value: TypeAlias = str | bytes | int | float | bool
Number: TypeAlias = int | float
Increment: TypeAlias = tuple[str, Number, float]

# LMDB's compiled-in limit for keys is 511 bytes; longer ones are stored under a digest.
_LONGEST_KEY_BYTES = 440

# A write transaction holds up the whole node.
_CLEARED_AT_ONCE = 500

_INTEGER_PAYLOAD = struct.Struct("<q")
# A whole entry that holds an integer, to read and write counters in one step.
_INTEGER_ENTRY = struct.Struct(HEADER.format + "q")
_INTEGER_TAG = ord("i")
_FLOAT_PAYLOAD = struct.Struct("<d")


class SharedDict:
    """A named dictionary in the node's shared memory; names keep plugins' keys apart.

    Keys are text of any length; values `str`, `bytes`, `int` (64 bits, beyond that `float`), `float` and `bool`.
    Every call is its own transaction. Times to live are seconds, 0 = no expiry.
    """

    __slots__ = ("_prefix",)

    def __init__(self, name: str) -> None:
        if not name:
            raise ValueError("name of a shared dict cannot be empty")
        self._prefix = name.encode()[:64] + b"\0"

    def get(self, key: str) -> Value | None:
        """Return the value of `key`; None when absent or expired.

        Phases: any. Cost: one read transaction (0.9 µs).
        """
        memory = _memory()
        environment = memory.environment()
        with environment.begin() as transaction:
            raw = transaction.get(self._key(key), db=memory.entries)
        return None if raw is None else _live_value(raw, memory.clock())

    def get_many(self, keys: Sequence[str]) -> list[Value | None]:
        """Return the values of `keys` in their order, from one consistent read transaction; None where absent.

        Phases: any.
        """
        memory = _memory()
        environment = memory.environment()
        entries = memory.entries
        prefixed = [self._key(key) for key in keys]
        with environment.begin(entries) as transaction:
            stored = [transaction.get(key) for key in prefixed]
        now = memory.clock()
        return [None if raw is None else _live_value(raw, now) for raw in stored]

    def set(self, key: str, value: Value, ttl_s: float = 0) -> None:
        """Store `value`, replacing value and time to live of an earlier entry.

        Raises: TypeError for a value of another type; ValueError for one that can never fit (a quarter of the memory).
        Phases: any.
        """
        memory = _memory()
        tag, payload = _encode(value)
        _check_size(memory, payload)
        memory.write(self._set, memory, self._key(key), tag, payload, _expiry(memory, ttl_s), False)

    def add(self, key: str, value: Value, ttl_s: float = 0) -> bool:
        """Store `value` only when `key` is absent or expired; atomic on the node, so it can serve as a lock.

        Returns: whether it was stored.
        Phases: any.
        """
        memory = _memory()
        tag, payload = _encode(value)
        return bool(memory.write(self._set, memory, self._key(key), tag, payload, _expiry(memory, ttl_s), True))

    def set_while(self, key: str, value: Value, ttl_s: float, guard: str, expected: Value) -> bool:
        """Store `value` only while the entry `guard` still holds `expected`; one step on the node.

        Returns: whether it was stored; also False when no room could be made.
        Raises: TypeError for a value of another type; ValueError for one that can never fit.
        Phases: any.
        """
        memory = _memory()
        tag, payload = _encode(value)
        _check_size(memory, payload)
        return bool(
            memory.write(
                self._set_while,
                memory,
                (self._key(guard), expected),
                (self._key(key), tag, payload, _expiry(memory, ttl_s)),
            )
        )

    def incr(self, key: str, amount: Number, init: Number = 0, init_ttl_s: float = 0) -> Number:
        """Add `amount` to a number, atomically on the node, and return the new value.

        An absent or expired entry starts from `init` and lives `init_ttl_s` seconds; an existing one keeps its expiry.

        Raises: TypeError when the stored value is not a number.
        Phases: any. Cost: one write transaction (2.9 µs; 7.3 µs for a new key).
        """
        memory = _memory()
        result = memory.write(self._incr_all, memory, ((key, amount, init_ttl_s),), init)
        return init + amount if result is None else result[0]

    def incr_many(self, increments: Sequence[Increment]) -> list[Number]:
        """Apply `(key, amount, init_ttl_s)` increments in one write transaction: all of them or none.

        Absent entries start from 0.

        Returns: the new values, in order.
        Raises: TypeError when a stored value is not a number.
        Phases: any.
        """
        memory = _memory()
        result = memory.write(self._incr_all, memory, increments, 0)
        return [amount for _, amount, _ in increments] if result is None else result

    def incr_below(self, increments: Sequence[Increment], limits: Sequence[Number]) -> list[Number]:
        """Apply `(key, amount, init_ttl_s)` increments when every counter is below its limit, else none of them.

        Check and increment are one step on the node: no worker counts in between, so a limit is never overshot.

        Returns: the values before, in order (0 for an absent one); they were incremented when all are below the limits.
        Raises: TypeError when a stored value is not a number.
        Phases: any. Cost: one write transaction (3.4 µs for one existing key; refused: 1.9 µs).
        """
        memory = _memory()
        result = memory.write(self._incr_below, memory, increments, limits)
        return [0] * len(increments) if result is None else result

    def update(
        self, key: str, change: Callable[[Value | None], Value | None], ttl_s: float | None = None
    ) -> Value | None:
        """Replace a value by what `change` makes of it, in one step on the node; None removes it.

        Args: `change` gets the value, None for an absent or expired one. It holds up all writers of the node, so it
            does not wait; it may be asked again. `ttl_s` is the new one's; without it an earlier expiry is kept.
        Returns: the new value; None also when no room could be made.
        Raises: what `change` raises; TypeError and ValueError as `set`. Nothing is changed then.
        Phases: any.
        """
        memory = _memory()
        return memory.write(self._update, memory, self._key(key), change, ttl_s)

    def keys(self, limit: int = 1024) -> list[str]:
        """Return the keys of this dictionary that are not expired, at most `limit`, in no order that means anything.

        Keys of more than about 370 bytes are not listed: only a digest of them is kept.

        Phases: any. Cost: in proportion to the entries; writers are not held up.
        """
        memory, found = _memory(), list[str]()
        length = len(self._prefix)
        with memory.environment().begin() as transaction, transaction.cursor(db=memory.entries) as cursor:
            is_at_entry = cursor.set_range(self._prefix)
            while is_at_entry and len(found) < limit and cursor.key().startswith(self._prefix):
                key = cursor.key()[length:]
                if key[:1] != b"\0" and _live_value(cursor.value(), memory.clock()) is not None:
                    found.append(key.decode("utf-8", "surrogateescape"))
                is_at_entry = cursor.next()
        return found

    def delete(self, key: str) -> None:
        """Remove `key`; an absent one is fine.

        Phases: any.
        """
        memory = _memory()
        memory.write(self._delete, memory, self._key(key))

    def clear(self) -> None:
        """Remove all keys of this dictionary, a bounded number in each transaction.

        Phases: any.
        """
        memory = _memory()
        while memory.write(self._clear_some, memory):
            pass

    def ttl_s(self, key: str) -> float | None:
        """Return the seconds left to live, 0 for an entry without expiry, None when absent or expired.

        Phases: any.
        """
        memory = _memory()
        environment = memory.environment()
        with environment.begin() as transaction:
            raw = transaction.get(self._key(key), db=memory.entries)
        if raw is None:
            return None
        expiry_s: float = HEADER.unpack_from(raw)[0]
        if expiry_s == NEVER:
            return 0
        left_s = expiry_s - memory.clock()
        return left_s if left_s > 0 else None

    def _key(self, key: str) -> bytes:
        encoded = self._prefix + key.encode("utf-8", "surrogateescape")
        if len(encoded) > _LONGEST_KEY_BYTES:
            return self._prefix + b"\0" + blake2b(encoded, digest_size=32).digest()
        return encoded

    @staticmethod
    def _set(
        transaction: Transaction,
        memory: SharedMemory,
        key: bytes,
        tag: bytes,
        payload: bytes,
        expiry_s: float,
        only_if_absent: bool,
    ) -> bool:
        raw = transaction.get(key, db=memory.entries)
        if raw is not None:
            if only_if_absent and _live_value(raw, memory.clock()) is not None:
                return False
            memory.remove(transaction, key, raw)
        memory.put(transaction, key, tag, payload, expiry_s, 0)
        return True

    @classmethod
    def _set_while(
        cls,
        transaction: Transaction,
        memory: SharedMemory,
        guard: tuple[bytes, Value],
        entry: tuple[bytes, bytes, bytes, float],
    ) -> bool:
        raw = transaction.get(guard[0], db=memory.entries)
        if raw is None or _live_value(raw, memory.clock()) != guard[1]:
            return False
        return cls._set(transaction, memory, *entry, False)

    @staticmethod
    def _update(
        transaction: Transaction,
        memory: SharedMemory,
        key: bytes,
        change: Callable[[Value | None], Value | None],
        ttl_s: float | None,
    ) -> Value | None:
        raw = transaction.get(key, db=memory.entries)
        earlier = None if raw is None else _live_value(raw, memory.clock())
        value = change(earlier)
        expiry_s = NEVER if ttl_s is None else _expiry(memory, ttl_s)
        if raw is not None:
            if ttl_s is None and earlier is not None:
                expiry_s = HEADER.unpack_from(raw)[0]
            memory.remove(transaction, key, raw)
        if value is not None:
            tag, payload = _encode(value)
            _check_size(memory, payload)
            memory.put(transaction, key, tag, payload, expiry_s, 0)
        return value

    def _incr_all(
        self, transaction: Transaction, memory: SharedMemory, increments: Sequence[Increment], init: Number
    ) -> list[Number]:
        now = memory.clock()
        results: list[Number] = []
        for position, (name, amount, init_ttl_s) in enumerate(increments):
            key = self._key(name)
            raw = transaction.get(key, db=memory.entries)
            value = None if raw is None else _live_number(raw, now, name)
            total = (init if value is None else value) + amount
            expiry_s = now + init_ttl_s if init_ttl_s > 0 else NEVER
            _store(transaction, memory, key, raw, value is not None, total, expiry_s, position)
            results.append(total)
        return results

    def _incr_below(
        self, transaction: Transaction, memory: SharedMemory, increments: Sequence[Increment], limits: Sequence[Number]
    ) -> list[Number]:
        now = memory.clock()
        entries = memory.entries
        found: list[tuple[bytes, bytes | None, Number | None]] = []
        for name, _, _ in increments:
            key = self._key(name)
            raw = transaction.get(key, db=entries)
            found.append((key, raw, None if raw is None else _live_number(raw, now, name)))
        values = [value or 0 for _, _, value in found]
        if any(map(ge, values, limits)):
            return values
        for position, ((key, raw, value), (_, amount, init_ttl_s)) in enumerate(zip(found, increments, strict=True)):
            expiry_s = now + init_ttl_s if init_ttl_s > 0 else NEVER
            _store(transaction, memory, key, raw, value is not None, (value or 0) + amount, expiry_s, position)
        return values

    def _clear_some(self, transaction: Transaction, memory: SharedMemory) -> int:
        found: list[tuple[bytes, bytes]] = []
        with transaction.cursor(db=memory.entries) as cursor:
            is_at_entry = cursor.set_range(self._prefix)
            while is_at_entry and len(found) < _CLEARED_AT_ONCE and cursor.key().startswith(self._prefix):
                found.append((cursor.key(), cursor.value()))
                is_at_entry = cursor.next()
        for key, raw in found:
            memory.remove(transaction, key, raw)
        return len(found)

    @staticmethod
    def _delete(transaction: Transaction, memory: SharedMemory, key: bytes) -> None:
        raw = transaction.get(key, db=memory.entries)
        if raw is not None:
            memory.remove(transaction, key, raw)


_current: SharedMemory | None = None


def configure(
    path: str | os.PathLike[str],
    map_size_bytes: int = DEFAULT_MAP_SIZE_BYTES,
    *,
    clock: Callable[[], float] = time.time,
) -> None:
    """Open the node's shared memory in this process.

    Every process of the node passes the same arguments; the first one creates the files. Calling it again with the same
    path does nothing, with another path changes over to that one.

    Args: `path`, a directory on tmpfs, created with mode 0700; `map_size_bytes`, memory taken at once (at least 1 MiB),
        of which 60 % holds entries; `clock`, seconds since the epoch.
    Raises: SharedDictError, the files cannot be made, or the tmpfs has less than `map_size_bytes` free.
    """
    global _current
    directory = Path(path).absolute()
    if _current is not None:
        if _current.path == directory:
            _current.clock = clock
            return
        close()
    memory = SharedMemory(directory, map_size_bytes, clock)
    memory.environment()
    _current = memory


def close() -> None:
    """Close the shared memory of this process; its content stays for the node's other processes."""
    global _current
    if _current is not None:
        _current.close()
        _current = None


def remove(path: str | os.PathLike[str]) -> None:
    """Delete the files of a node's shared memory, after the last process that used them has ended."""
    for name in ("data.mdb", "lock.mdb"):
        (Path(path) / name).unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        Path(path).rmdir()


def memory_sizes() -> tuple[int, int]:
    """Return (capacity, used) of the node's shared memory in bytes; zeros when this process has none."""
    return (0, 0) if _current is None else _current.sizes()


def is_configured() -> bool:
    """Tell whether `configure` was called in this process."""
    return _current is not None


def _memory() -> SharedMemory:
    if _current is None:
        raise SharedDictError("shared memory is not configured in this process")
    return _current


def _after_fork_in_child() -> None:
    if _current is not None:
        _current.abandon()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _check_size(memory: SharedMemory, payload: bytes) -> None:
    """Raise ValueError for a value that can never fit."""
    if len(payload) > memory.largest_value_bytes:
        raise ValueError(f"value of {len(payload)} bytes is too large for the shared memory")


def _expiry(memory: SharedMemory, ttl_s: float) -> float:
    return memory.clock() + ttl_s if ttl_s > 0 else NEVER


def _live_number(raw: bytes, now: float, name: str) -> Number | None:
    if raw[HEADER.size - 1] == _INTEGER_TAG:
        expiry_s, _, _, value = _INTEGER_ENTRY.unpack(raw)
        return value if expiry_s == NEVER or expiry_s > now else None
    other = _live_value(raw, now)
    if other is None or isinstance(other, float):
        return other
    raise TypeError(f"the value of '{name}' is not a number")


def _store(
    transaction: Transaction,
    memory: SharedMemory,
    key: bytes,
    raw: bytes | None,
    is_live: bool,
    total: Number,
    new_expiry_s: float,
    position: int,
) -> None:
    if raw is not None and is_live:
        expiry_s, sequence, _ = HEADER.unpack_from(raw)
        if total.__class__ is int and -(2**63) <= total < 2**63:
            entry = _INTEGER_ENTRY.pack(expiry_s, sequence, b"i", total)
        else:
            tag, payload = _encode(total)
            entry = HEADER.pack(expiry_s, sequence, tag) + payload
        transaction.put(key, entry, db=memory.entries)
        return
    if raw is not None:
        memory.remove(transaction, key, raw)
    tag, payload = _encode(total)
    memory.put(transaction, key, tag, payload, new_expiry_s, position)


def _encode(value: Value) -> tuple[bytes, bytes]:
    if isinstance(value, bool):
        return b"b", b"\1" if value else b"\0"
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return b"i", _INTEGER_PAYLOAD.pack(value)
    if isinstance(value, (int, float)):
        return b"f", _FLOAT_PAYLOAD.pack(value)
    if isinstance(value, str):
        return b"s", value.encode("utf-8", "surrogateescape")
    if isinstance(value, bytes):
        return b"y", value
    raise TypeError(f"a shared dict cannot hold a {type(value).__name__}")


def _live_value(raw: bytes, now: float) -> Value | None:
    expiry_s, _, tag = HEADER.unpack_from(raw)
    if expiry_s and expiry_s <= now:
        return None
    if tag == b"i":
        integer: int = _INTEGER_PAYLOAD.unpack_from(raw, HEADER.size)[0]
        return integer
    if tag == b"f":
        number: float = _FLOAT_PAYLOAD.unpack_from(raw, HEADER.size)[0]
        return number
    payload = raw[HEADER.size :]
    if tag == b"s":
        return payload.decode("utf-8", "surrogateescape")
    if tag == b"b":
        return payload == b"\1"
    return payload
