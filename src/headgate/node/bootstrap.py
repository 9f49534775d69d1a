"""What a child process gets from the supervisor, and how it reports back.

Owns the bootstrap document and the channel: one socket pair per child. The supervisor writes one JSON line, the child
writes one JSON line per event; its end of file means that the supervisor is gone, and the child stops.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from headgate.config.load import Settings
from headgate.node.ticket_secret import TicketState

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class ChildListener:
    """A listening socket given to a child; `fd` is its number in that child."""

    setting_name: str
    fd: int
    address: str
    port: int
    is_ssl: bool
    is_http2: bool
    is_proxy_protocol: bool = False
    is_udp: bool = False


@dataclass(frozen=True)
class Bootstrap:
    """Everything a child needs to know at its start.

    `log_path` None is stderr; `is_replacement`: the child takes the place of one that died, so control goes on with the
    configuration that was in force instead of reading the declarative file again; `began_at_ms`: Unix time at which the
    start or the reload began that this child belongs to.
    """

    role: str
    index: int
    generation: int
    worker_count: int
    node_id: str
    settings: Settings
    listeners: tuple[ChildListener, ...]
    link_path: Path
    shared_memory_path: Path
    log_path: Path | None
    is_replacement: bool
    ticket_state: TicketState
    began_at_ms: int = 0

    def encode(self) -> bytes:
        """Return the one line that the supervisor writes; it holds secrets and never touches a disk."""
        document = {
            "role": self.role,
            "index": self.index,
            "generation": self.generation,
            "worker_count": self.worker_count,
            "node_id": self.node_id,
            "settings": self.settings.to_document(),
            "listeners": [asdict(listener) for listener in self.listeners],
            "link_path": str(self.link_path),
            "shared_memory_path": str(self.shared_memory_path),
            "log_path": None if self.log_path is None else str(self.log_path),
            "is_replacement": self.is_replacement,
            "ticket_state": asdict(self.ticket_state),
            "began_at_ms": self.began_at_ms,
        }
        return json.dumps(document).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> "Bootstrap":
        """Rebuild what `encode` wrote."""
        document: dict[str, Any] = json.loads(line)
        log_path = document["log_path"]
        return cls(
            **document
            | {
                "settings": Settings.from_document(document["settings"]),
                "listeners": tuple(ChildListener(**listener) for listener in document["listeners"]),
                "link_path": Path(document["link_path"]),
                "shared_memory_path": Path(document["shared_memory_path"]),
                "log_path": None if log_path is None else Path(log_path),
                "ticket_state": TicketState(**document["ticket_state"]),
            }
        )


class ParentChannel:
    """The child's end of the channel to the supervisor."""

    def __init__(self, fd: int, descriptors: Mapping[int, int] | None = None) -> None:
        """Args: descriptors, the numbers that the supervisor knows to those here, where they differ."""
        self._socket = socket.socket(fileno=fd)
        self._descriptors = descriptors or {}
        self.taking_over = asyncio.Event()
        """Set when the supervisor has ended what served before; noticed by `wait_for_end`."""

    def read_bootstrap(self) -> Bootstrap:
        """Wait for the bootstrap line."""
        with self._socket.makefile("rb", buffering=0) as stream:
            line = stream.readline()
        if not line:
            raise SystemExit("the supervisor is gone")
        bootstrap = Bootstrap.decode(line)
        here = self._descriptors
        listeners = tuple(replace(each, fd=here.get(each.fd, each.fd)) for each in bootstrap.listeners)
        return replace(bootstrap, listeners=listeners)

    def report(self, event: str, **data: object) -> None:
        """Send an event; a parent that is gone is noticed by `wait_for_end`, not here."""
        line = json.dumps({"event": event, **data}).encode() + b"\n"
        try:
            self._socket.setblocking(True)
            self._socket.sendall(line)
        except OSError:
            return
        finally:
            self._socket.setblocking(False)

    def close(self) -> None:
        """Close this end; the supervisor sees the end of file."""
        self._socket.close()

    async def wait_for_end(self) -> None:
        """Return when the supervisor is gone; anything it sends means that this process is to take over."""
        self._socket.setblocking(False)
        loop = asyncio.get_running_loop()
        while True:
            try:
                if not await loop.sock_recv(self._socket, 4096):
                    return
                self.taking_over.set()
            except OSError:
                return


def child_arguments(role: str, fd: int) -> list[str]:
    """Return the arguments after the interpreter that start a child of this role."""
    return ["-m", f"headgate.{role}", "--channel-fd", str(fd)]


def channel_from_arguments(arguments: list[str]) -> ParentChannel:
    """Return the channel named on a child's command line."""
    if len(arguments) != 2 or arguments[0] != "--channel-fd" or not arguments[1].isdigit():
        raise SystemExit("this is an internal process of headgate; use: headgate start")
    return ParentChannel(int(arguments[1]))


def child_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of children: that of the supervisor without what is meant for it alone."""
    return {name: value for name, value in environment.items() if name != "HEADGATE_READY_FD"}


class StartError(Exception):
    """A child cannot start; `faults` are for a person."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel end this process when its parent dies, in case the main thread is held up by a plugin then."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        raise SystemExit(1)
