"""The configuration in force, kept on disk for the next start of the node (reference: declarative 5).

Owns its file in the prefix. A file written by another minor version is not used.
"""

import logging
import os
from pathlib import Path

from headgate.node.bootstrap import StartError
from headgate.store.snapshot import Snapshot
from headgate.version import VERSION

_log = logging.getLogger("headgate.control")
_KEPT_NAME = "dbless.snapshot"


def kept_path(prefix: Path) -> Path:
    """Return where the configuration in force is kept."""
    return prefix / _KEPT_NAME


def keep(prefix: Path, snapshot: Snapshot) -> None:
    """Keep a configuration for the next start; it may hold secrets, so only the owner can read it."""
    path = kept_path(prefix)
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(VERSION.encode() + b"\n" + snapshot.encode())
    temporary.replace(path)


def kept(prefix: Path) -> Snapshot | None:
    """Return the kept configuration; None when there is none or another minor version wrote it."""
    try:
        written_by, _, body = kept_path(prefix).read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    if written_by.split(b".")[:2] != VERSION.encode().split(b".")[:2]:
        _log.warning(
            "%s was written by version %s and is not used", kept_path(prefix), written_by.decode(errors="replace")
        )
        return None
    try:
        return Snapshot.decode(body)
    except Exception as error:
        raise StartError(
            [f"cannot read the kept configuration {kept_path(prefix)} ({error}); remove the file"]
        ) from error
