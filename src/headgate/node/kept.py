"""The configuration in force, kept on disk for the next start of the node (reference: declarative 5, cluster 5).

Owns its files in the prefix, which only the owner can read: one without a database, and one of a shared database, for a
start while that is away, which is encrypted when the secrets in that database are. A file written by another minor
version, or of another database, is not used.
"""

import asyncio
import hashlib
import logging
import os
import time
from pathlib import Path

from headgate.config.datastore import Datastore
from headgate.node.bootstrap import StartError
from headgate.store.cipher import WITHOUT_KEYS, Cipher, SealedError, cipher_of_node
from headgate.store.encoded import EncodedEntities
from headgate.store.snapshot import Snapshot
from headgate.version import VERSION

_log = logging.getLogger("headgate.control")
_LONGEST_HEAD_BYTES = 200
_KEPT_NAME = "dbless.snapshot"
_DATABASE_NAME = "database.snapshot"
_KEEP_INTERVAL_S = 5.0


def kept_path(prefix: Path) -> Path:
    """Return where the configuration in force is kept without a database."""
    return prefix / _KEPT_NAME


def keep(prefix: Path, snapshot: Snapshot, *, is_posted: bool = False, known: EncodedEntities | None = None) -> None:
    """Keep a configuration for the next start; it may hold secrets, so only the owner can read it.

    Args: is_posted, it came over the Admin API just now, rather than at the start; known, what was kept before.
    """
    posted_at = f" posted {int(time.time() * 1000)}" if is_posted else ""
    _write(kept_path(prefix), f"{VERSION}{posted_at}", snapshot.encode(known))


def is_posted_since(prefix: Path, moment_ms: int) -> bool:
    """Say whether the kept configuration came over the Admin API at or after a moment, Unix milliseconds."""
    try:
        with kept_path(prefix).open("rb") as file:
            _, _, posted_at_ms = file.readline(_LONGEST_HEAD_BYTES).partition(b" posted ")
    except FileNotFoundError:
        return False
    return posted_at_ms.strip().isdigit() and int(posted_at_ms) >= moment_ms


def kept(prefix: Path) -> Snapshot | None:
    """Return the kept configuration; None when there is none or another minor version wrote it."""
    return _read(kept_path(prefix), "")


def kept_of_database(prefix: Path, datastore: Datastore) -> Snapshot | None:
    """Return what was in force of a database; None when there is nothing, or of another database.

    Raises: StartError for a file that cannot be read, or that none of the keys opens.
    """
    return _read(prefix / _DATABASE_NAME, _identity(datastore), cipher_of_node(datastore))


class DatabaseKeeper:
    """Keeps what is in force of a database, at most every 5 s: large configurations may change often."""

    def __init__(self, prefix: Path, datastore: Datastore) -> None:
        self._path = prefix / _DATABASE_NAME
        self._head = f"{VERSION} {_identity(datastore)}"
        self._cipher = cipher_of_node(datastore)
        self._newest: Snapshot | None = None
        self._has_newest = asyncio.Event()

    def take(self, snapshot: Snapshot) -> None:
        """Have a snapshot kept soon."""
        self._newest = snapshot
        self._has_newest.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._has_newest.wait()
            self._has_newest.clear()
            try:
                await asyncio.to_thread(self.write)
            except OSError as error:
                _log.error("what is in force cannot be kept in %s: %s", self._path, error)
            await asyncio.sleep(_KEEP_INTERVAL_S)

    def write(self) -> None:
        """Write what was taken last, unless it is written."""
        snapshot, self._newest = self._newest, None
        if snapshot is not None:
            _write(self._path, self._head, snapshot.encode(), self._cipher)


def _identity(datastore: Datastore) -> str:
    """Return what tells one database from others, without saying what it is."""
    parts = (datastore.pg_host, datastore.pg_port, datastore.pg_database, datastore.pg_schema)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _write(path: Path, head: str, body: bytes, cipher: Cipher = WITHOUT_KEYS) -> None:
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        # One that was left behind may be readable by others.
        os.fchmod(descriptor, 0o600)
        file.write(head.encode() + b"\n" + cipher.seal_bytes(body, path.name.encode()))
    temporary.replace(path)


def _read(path: Path, identity: str, cipher: Cipher = WITHOUT_KEYS) -> Snapshot | None:
    try:
        head, _, body = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    written_by, _, written_of = head.decode(errors="replace").partition(" ")
    if written_by.split(".")[:2] != VERSION.split(".")[:2]:
        _log.warning("%s was written by version %s and is not used", path, written_by)
        return None
    if written_of.partition("posted ")[0] != identity:
        _log.warning("%s is of another database and is not used", path)
        return None
    try:
        return Snapshot.decode(cipher.open_bytes(body, path.name.encode(), "the file"))
    except SealedError as error:
        raise StartError([f"cannot read the kept configuration {path}: {error}"]) from error
    except Exception as error:
        raise StartError([f"cannot read the kept configuration {path} ({error}); remove the file"]) from error
