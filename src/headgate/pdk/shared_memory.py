"""The LMDB environment under `kong.shared_dict`: one per node on tmpfs, one open handle per process.

Owns opening, the write transaction with its recovery from a full map, the index by expiry and the one by age, and
eviction. `shared_dict` owns keys, values and what plugins see.

The rule that must not be broken: a request never fails and never waits because the memory is full. Every write
transaction is short (the lock is shared by the whole node), and a process killed inside one loses that write only:
LMDB's robust mutex passes on to the next writer and the half-done pages are not reachable from the committed root.
"""

import logging
import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, TypeVar, TypeVarTuple, Unpack

import lmdb

Transaction: TypeAlias = "lmdb.Transaction[bytes]"

DEFAULT_MAP_SIZE_BYTES = 16 * 1024 * 1024
MINIMUM_MAP_SIZE_BYTES = 1024 * 1024

# What precedes every stored value: expiry (seconds since the epoch), sequence (place in the index by age), type tag.
HEADER = struct.Struct("<dQc")
NEVER = 0.0

# Share of the map that entries may use: LMDB copies pages on write, and even a deletion needs free pages.
_USABLE_SHARE = 0.6
_ENTRY_OVERHEAD_BYTES = 120
_ROOM_CHECK_EVERY_BYTES = 16 * 1024
_EXPIRED_DROPPED_PER_NEW_ENTRY = 4
_LAST_RESORT_EVICTIONS = 256

_INDEX_KEY = struct.Struct(">QQ")

_log = logging.getLogger("headgate.shared_dict")
_inherited: list[lmdb.Environment] = []
_Arguments = TypeVarTuple("_Arguments")
_Result = TypeVar("_Result")


class SharedDictError(RuntimeError):
    """The shared memory cannot be used: not configured in this process, or its files are damaged."""


class SharedMemory:
    """One process's view of the node's environment; made by `configure`, used through `SharedDict`."""

    def __init__(self, path: Path, map_size_bytes: int, clock: Callable[[], float]) -> None:
        self.path = path
        self.clock = clock
        self._map_size_bytes = max(map_size_bytes, MINIMUM_MAP_SIZE_BYTES)
        self._usable_bytes = int(self._map_size_bytes * _USABLE_SHARE)
        self._unaccounted_bytes = 0
        self._opening = threading.Lock()
        self._is_abandoned = False
        self._environment: lmdb.Environment | None = None

    def environment(self) -> lmdb.Environment:
        """Return this process's open environment, opening it on first use."""
        environment = self._environment
        return environment if environment is not None else self._open()

    def _open(self) -> lmdb.Environment:
        with self._opening:
            if self._environment is not None:
                return self._environment
            if self._is_abandoned:
                raise SharedDictError(
                    f"shared memory at {self.path} was opened before this process was forked: start the process with "
                    "'spawn', or fork before shared_dict.configure()"
                )
            try:
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._adopt_existing_size()
                environment = lmdb.open(
                    str(self.path),
                    map_size=self._map_size_bytes,
                    mode=0o600,
                    max_dbs=3,
                    max_readers=512,
                    max_spare_txns=4,
                    sync=False,
                    metasync=False,
                    writemap=True,
                )
                # A sparse file on a full tmpfs would end a worker with SIGBUS at a random write: take the pages now.
                descriptor = os.open(self.path / "data.mdb", os.O_RDWR)
                try:
                    os.posix_fallocate(descriptor, 0, self._map_size_bytes)
                finally:
                    os.close(descriptor)
                environment.reader_check()
                self.entries = environment.open_db(b"entries")
                self.by_expiry = environment.open_db(b"by_expiry")
                self.by_age = environment.open_db(b"by_age")
            except (lmdb.Error, OSError) as error:
                raise SharedDictError(
                    f"shared memory at {self.path} ({self._map_size_bytes} bytes) cannot be opened: {error}"
                ) from error
            self._environment = environment
            return environment

    def _adopt_existing_size(self) -> None:
        # Processes with maps of two sizes would fail on each other's pages, e.g. after a reload with another setting.
        try:
            existing_bytes = (self.path / "data.mdb").stat().st_size
        except FileNotFoundError:
            return
        if existing_bytes >= MINIMUM_MAP_SIZE_BYTES and existing_bytes != self._map_size_bytes:
            _log.warning("shared memory at %s keeps its size of %d bytes until a restart", self.path, existing_bytes)
            self._map_size_bytes = existing_bytes
            self._usable_bytes = int(existing_bytes * _USABLE_SHARE)

    @property
    def largest_value_bytes(self) -> int:
        """The size up to which a single value is accepted."""
        return self._usable_bytes // 4

    def sizes(self) -> tuple[int, int]:
        """Return (capacity, used) in bytes."""
        with self.environment().begin() as transaction:
            return self._map_size_bytes, self.used_bytes(transaction)

    def close(self) -> None:
        """Close the environment of this process; other processes keep theirs."""
        if self._environment is not None:
            self._environment.close()
            self._environment = None

    def abandon(self) -> None:
        """Stop using an environment inherited over a fork, without closing it.

        Closing it here would clear the parent's slots in the reader table, and LMDB allows no second handle.
        """
        if self._environment is not None:
            _inherited.append(self._environment)
            self._environment = None
            self._is_abandoned = True
        self._opening = threading.Lock()

    def write(
        self,
        operation: Callable[[Transaction, Unpack[_Arguments]], _Result],
        *arguments: *_Arguments,
    ) -> _Result | None:
        """Run `operation` in a write transaction, making room when the map is full.

        Returns: what `operation` returned, or None when no room could be made and nothing was written.
        """
        environment = self.environment()
        for make_room in (self._evict_some, self._evict_everything, None):
            try:
                # Not a `with` block: positional arguments and an explicit commit take half a microsecond less.
                transaction = environment.begin(None, None, True)
                try:
                    result = operation(transaction, *arguments)
                except BaseException:
                    transaction.abort()
                    raise
                transaction.commit()
                return result
            except lmdb.MapFullError:
                _log.warning("shared memory at %s is full, dropping entries", self.path)
                if make_room is not None:
                    make_room()
            except lmdb.Error as error:
                raise SharedDictError(f"shared memory at {self.path}: {error}") from error
        return None

    def put(
        self, transaction: Transaction, key: bytes, tag: bytes, payload: bytes, expiry_s: float, position: int
    ) -> None:
        """Store a new entry with its index entries; the caller has removed an older one of the same key.

        Args: `position` tells entries apart that are created in one transaction.
        """
        sequence = transaction.id() << 16 | position
        transaction.put(key, HEADER.pack(expiry_s, sequence, tag) + payload, db=self.entries)
        transaction.put(_INDEX_KEY.pack(sequence, 0), key, db=self.by_age)
        if expiry_s:
            transaction.put(_INDEX_KEY.pack(int(expiry_s * 1000), sequence), key, db=self.by_expiry)
            self._drop_expired(transaction, _EXPIRED_DROPPED_PER_NEW_ENTRY)
        self._unaccounted_bytes += len(key) * 3 + len(payload) + _ENTRY_OVERHEAD_BYTES
        if self._unaccounted_bytes > _ROOM_CHECK_EVERY_BYTES:
            self._keep_within_limit(transaction)

    def remove(self, transaction: Transaction, key: bytes, raw: bytes) -> None:
        """Remove an entry and its index entries, `raw` being its stored form."""
        expiry_s, sequence, _ = HEADER.unpack_from(raw)
        transaction.delete(key, db=self.entries)
        transaction.delete(_INDEX_KEY.pack(sequence, 0), db=self.by_age)
        if expiry_s:
            transaction.delete(_INDEX_KEY.pack(int(expiry_s * 1000), sequence), db=self.by_expiry)

    def used_bytes(self, transaction: Transaction) -> int:
        """Return the bytes of all pages that hold entries or index entries."""
        pages = 0
        page_size_bytes = 4096
        for database in (self.entries, self.by_expiry, self.by_age):
            stat = transaction.stat(database)
            page_size_bytes = stat["psize"]
            pages += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return pages * page_size_bytes

    def _keep_within_limit(self, transaction: Transaction) -> None:
        # Twice what was added since the last look, so that room grows back faster than all writers together use it.
        to_free_bytes = 2 * self._unaccounted_bytes
        self._unaccounted_bytes = 0
        while to_free_bytes > 0 and self.used_bytes(transaction) > self._usable_bytes:
            freed_bytes = self._drop_expired(transaction, 32) or self._drop_oldest(transaction, 32)
            if freed_bytes == 0:
                return
            to_free_bytes -= freed_bytes

    def _drop_expired(self, transaction: Transaction, at_most: int) -> int:
        now_ms = int(self.clock() * 1000)
        freed_bytes = 0
        with transaction.cursor(db=self.by_expiry) as cursor:
            for _ in range(at_most):
                if not cursor.first() or _INDEX_KEY.unpack(cursor.key())[0] > now_ms:
                    break
                freed_bytes += self._drop(transaction, cursor.value())
        return freed_bytes

    def _drop_oldest(self, transaction: Transaction, at_most: int) -> int:
        freed_bytes = 0
        with transaction.cursor(db=self.by_age) as cursor:
            for _ in range(at_most):
                if not cursor.first():
                    break
                freed_bytes += self._drop(transaction, cursor.value())
        return freed_bytes

    def _drop(self, transaction: Transaction, key: bytes) -> int:
        raw = transaction.get(key, db=self.entries)
        if raw is None:
            raise lmdb.CorruptedError("index entry without an entry")
        self.remove(transaction, key, raw)
        return len(key) * 3 + len(raw) + _ENTRY_OVERHEAD_BYTES

    def _evict_some(self) -> None:
        environment = self.environment()
        # A process killed while reading keeps its old pages in use until its reader slot is cleared.
        environment.reader_check()
        try:
            with environment.begin(write=True) as transaction:
                if not self._drop_expired(transaction, _LAST_RESORT_EVICTIONS):
                    self._drop_oldest(transaction, _LAST_RESORT_EVICTIONS)
        except lmdb.MapFullError:
            self._evict_everything()

    def _evict_everything(self) -> None:
        try:
            with self.environment().begin(write=True) as transaction:
                for database in (self.by_expiry, self.by_age, self.entries):
                    transaction.drop(database, delete=False)
        except lmdb.MapFullError:
            _log.error("shared memory at %s is full and cannot be emptied", self.path)
