"""The working directory of a node: layout, the lock that says "running", and the files that commands exchange with it.

Owns every path below the prefix and who may read it. A node is running exactly when its pid file is locked, so a file
left behind by a crash misleads nobody.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from headgate.config.load import Settings
from headgate.errors import GatewayError
from headgate.node.memory_directory import MemoryDirectory

_SUBDIRECTORIES = ("logs", "pids", "sockets", "ssl")
# A unix socket's path has at most 107 bytes; the name in `sockets/` takes up to 24.
_LONGEST_SOCKET_DIRECTORY_BYTES = 80


class PrefixError(GatewayError):
    """The prefix cannot be used; the text is for a person."""


@dataclass
class Prefix:
    """Paths below one prefix."""

    path: Path
    _lock_fd: int | None = field(default=None, repr=False)

    @property
    def pid_path(self) -> Path:
        """The pid file, locked while the node runs."""
        return self.path / "pids" / "headgate.pid"

    @property
    def environment_path(self) -> Path:
        """The runtime copy of the settings, read by commands instead of the environment."""
        return self.path / ".headgate_env"

    @property
    def reload_request_path(self) -> Path:
        """What `headgate reload` asks of the running node."""
        return self.path / "pids" / "reload.request"

    @property
    def reload_result_path(self) -> Path:
        """What became of the last reload."""
        return self.path / "pids" / "reload.result"

    @cached_property
    def memory(self) -> MemoryDirectory:
        """Directory of the memory shared by this node's workers: on tmpfs where there is one."""
        base = Path("/dev/shm")
        if not os.access(base, os.W_OK):
            base = Path(tempfile.gettempdir())
        return MemoryDirectory(base, hashlib.sha256(str(self.path).encode()).hexdigest()[:16])

    def link_path(self, generation: int) -> Path:
        """Return the unix socket between control and workers; beside the shared memory when the prefix is too long."""
        directory = self.path / "sockets"
        if len(os.fsencode(directory)) > _LONGEST_SOCKET_DIRECTORY_BYTES:
            directory = self.memory.path
        return directory / f"control-{generation}.sock"

    def prepare(self) -> None:
        """Make the directories.

        Raises: PrefixError when that is not possible.
        """
        try:
            self.path.mkdir(mode=0o755, parents=True, exist_ok=True)
            for name in _SUBDIRECTORIES:
                mode = 0o755 if name in ("logs", "pids") else 0o700
                (self.path / name).mkdir(mode=mode, exist_ok=True)
        except OSError as error:
            raise PrefixError(
                f"cannot use the prefix {self.path}: {error.strerror}; choose another one with -p"
            ) from None
        # Sockets of generations that died without cleaning up.
        for left_over in (self.path / "sockets").glob("control-*.sock"):
            left_over.unlink(missing_ok=True)

    def take(self) -> None:
        """Lock the prefix for this process and write the pid file.

        Raises: PrefixError when a node already runs in it.
        """
        descriptor = os.open(self.pid_path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise PrefixError(f"Headgate is already running in {self.path}") from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._lock_fd = descriptor

    def release(self) -> None:
        """Remove the pid file and the lock."""
        if self._lock_fd is not None:
            self.pid_path.unlink(missing_ok=True)
            os.close(self._lock_fd)
            self._lock_fd = None

    def running_pid(self) -> int | None:
        """Return the process id of the running supervisor; None when no node runs in this prefix."""
        try:
            with open(self.pid_path, "r+", encoding="ascii") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except OSError:
                    text = file.read().strip()
                    return int(text) if text.isdigit() else None
        except OSError:
            return None
        return None

    def node_id(self, settings: Settings) -> str:
        """Return the id of this node: the setting's, else the kept one, else a new one that is kept."""
        if settings.general.node_id is not None:
            return settings.general.node_id
        path = self.path / "headgate.id"
        with contextlib.suppress(OSError, ValueError):
            return str(uuid.UUID(path.read_text(encoding="ascii").strip()))
        made = str(uuid.uuid4())
        path.write_text(made + "\n", encoding="ascii")
        return made

    def write_environment(self, settings: Settings) -> None:
        """Write the runtime copy: every setting that was given, references unresolved."""
        lines = ["# Settings of the running node; written at start and reload.\n"]
        for name in sorted(settings.given | {"prefix"}):
            text = settings.references.get(name, settings.texts.get(name))
            if text is not None and "\n" not in text:
                lines.append(f"{name} = {text.replace('#', chr(92) + '#')}\n")
        descriptor = os.open(self.environment_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.writelines(lines)

    def write_json(self, path: Path, document: Mapping[str, Any]) -> None:
        """Write a small document so that a reader never sees half of it."""
        temporary = path.with_suffix(path.suffix + ".new")
        temporary.write_text(json.dumps(document), encoding="utf-8")
        temporary.replace(path)

    def read_json(self, path: Path) -> dict[str, Any] | None:
        """Return such a document; None when there is none."""
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return document if isinstance(document, dict) else None
