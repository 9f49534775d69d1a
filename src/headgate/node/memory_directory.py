"""The directory of the memory that the processes of a node share: made, locked, given back, and swept after others.

A node holds a lock on its directory for as long as it lives, however it ends, so that any later node can tell what
nobody uses any more: one killed with SIGKILL leaves its memory behind, and may never be started again. What is in the
directory is `pdk.shared_memory`'s.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from headgate.errors import GatewayError

_NAME = "headgate-"


class MemoryDirectoryError(GatewayError):
    """The directory cannot be had; the text is for a person."""


class MemoryDirectory:
    """One node's directory below a base such as /dev/shm; `identity` tells it from those of this user's other nodes."""

    def __init__(self, base: Path, identity: str) -> None:
        self.path = base / f"{_NAME}{os.geteuid()}-{identity}"
        self._lock_fd: int | None = None

    def make(self) -> Path:
        """Make it anew, and hold it: counters start from zero with each start of the node.

        Raises: MemoryDirectoryError when the name is taken by somebody else's directory.
        """
        with contextlib.suppress(FileNotFoundError):
            if self.path.lstat().st_uid != os.geteuid() or self.path.is_symlink():
                raise MemoryDirectoryError(f"{self.path} belongs to another user; remove it")
            shutil.rmtree(self.path)
        while self._lock_fd is None:
            # A node that sweeps may come between the two: then it is made again.
            with contextlib.suppress(FileNotFoundError):
                self.path.mkdir(mode=0o700, exist_ok=True)
                self._lock_fd = _locked(self.path, fcntl.LOCK_EX)
        return self.path

    def remove(self) -> None:
        """Give it back."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def sweep(self) -> list[Path]:
        """Remove the directories of this user's nodes that have died; returns them."""
        swept = []
        for path in sorted(self.path.parent.glob(f"{_NAME}{os.geteuid()}-*")):
            with contextlib.suppress(OSError), _held(path) as is_abandoned:
                if is_abandoned:
                    shutil.rmtree(path)
                    swept.append(path)
        return swept


@contextlib.contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Say whether a directory is ours and without an owner; nobody becomes its owner meanwhile."""
    descriptor = None
    if path.lstat().st_uid == os.geteuid() and not path.is_symlink():
        descriptor = _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield descriptor is not None and not _is_open(path)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _locked(path: Path, operation: int) -> int | None:
    """Return a descriptor that locks the directory; None when it is another's, or no longer at its path.

    Raises: FileNotFoundError, it is gone.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, operation)
        if os.path.samestat(os.fstat(descriptor), path.lstat()):
            return descriptor
    except BlockingIOError:
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _is_open(path: Path) -> bool:
    """Say whether a process has memory below a directory open: one whose node has just died, or an older release."""
    for lock in path.glob("*/lock.mdb"):
        with lock.open("r+b") as file:
            try:
                # LMDB holds a shared lock on the first byte for as long as a process has the memory open.
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
            except OSError:
                return True
    return False
