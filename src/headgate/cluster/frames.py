"""Messages between control and workers of one node, and their framing on the wire.

Owns the message types and the bound on their size: 4 bytes big-endian length, then MessagePack with a type tag. Both
ends are the same release of this program, so there is no version negotiation.
"""

import asyncio
from typing import Any, Literal, TypeAlias

import msgspec

from headgate.errors import ControlError

LENGTH_BYTES = 4
MAX_DOWN_BYTES = 512 * 1024 * 1024
"""Largest frame a worker accepts: a snapshot of hundreds of thousands of entities fits, a broken length does not."""
MAX_UP_BYTES = 4 * 1024 * 1024
"""Largest frame control accepts: a worker sends faults, counters and single entities, nothing larger."""

MOST_TIMERS_SHOWN = 1000
"""Timers of a worker that are shown one by one; each may be one of thousands that a plugin starts for requests."""

LOG_LEVEL_EVENT = "log_level"
"""Kind of the event that has workers log from another level on: `{"level": name}`."""

MAX_STORE_REQUESTS = 256
"""Most writes of one worker on their way at the same time; more are refused, so that nothing piles up."""


class Hello(msgspec.Struct, tag="hello"):
    """First frame of a worker."""

    index: int
    pid: int
    generation: int


class SnapshotFrame(msgspec.Struct, tag="snapshot"):
    """Down: a snapshot as `Snapshot.encode` made it; `revision` is its revision."""

    revision: int
    body: bytes


class DeltaFrame(msgspec.Struct, tag="delta"):
    """Down: what makes the snapshot `revision` of the one at `base`, as `Delta.encode` made it."""

    base: int
    revision: int
    body: bytes


class WholeRequest(msgspec.Struct, tag="whole?"):
    """Up: a delta does not fit what this worker has; it needs the whole snapshot."""

    revision: int


class Ack(msgspec.Struct, tag="ack"):
    """Up: this revision is in force for new requests."""

    revision: int


class Nack(msgspec.Struct, tag="nack"):
    """Up: this revision was refused and the one before is still in force."""

    revision: int
    faults: list[str]


class StatsRequest(msgspec.Struct, tag="stats?"):
    """Down: ask for counters, and for the use of up to `most_names` names."""

    serial: int
    most_names: int = 0


class TimerStats(msgspec.Struct, frozen=True):
    """A timer of plugins in one worker, as `kong.timer.stats` has it."""

    runs: int
    faults: int
    longest_s: float
    total_s: float
    is_running: bool


class StatsReply(msgspec.Struct, tag="stats"):
    """Up: counters of the engine and of timers, with the worker's memory.

    `names` as `Engine.name_usage` gives them; `timers` are some of those there are.
    """

    serial: int
    counters: dict[str, int]
    resident_bytes: int
    python_objects: int
    names: dict[str, tuple[int, int, int, int, int]] = {}
    timers: dict[str, TimerStats] = {}


class StoreRequest(msgspec.Struct, tag="store?"):
    """Up: write an entity; `key` and `by` name it, `values` are given by a plugin. Answered by one `StoreReply`."""

    serial: int
    operation: Literal["insert", "update", "upsert", "delete", "truncate"]
    entity: str
    key: str = ""
    by: str = "id"
    values: dict[str, Any] = {}
    ttl: int | None = None


class StoreFault(msgspec.Struct):
    """An `EntityError` on the wire."""

    code: int
    name: str
    message: str
    fields: dict[str, Any] | None
    status: int


class StoreReply(msgspec.Struct, tag="store"):
    """Down: the write is in the database, or was refused. `entity` is None after a delete."""

    serial: int
    entity: dict[str, Any] | None = None
    fault: StoreFault | None = None


class Event(msgspec.Struct, tag="event"):
    """Both ways: something every worker or control should know; `data` is JSON-like."""

    kind: str
    data: dict[str, object]


class ClusterEvent(msgspec.Struct, tag="cluster"):
    """Up: a plugin's message to all nodes; down: one of this node or another. `is_for_others`: not to this node."""

    channel: str
    data: Any
    delay_s: float = 0.0
    is_for_others: bool = False


class HealthReports(msgspec.Struct, tag="health"):
    """Up: what a worker sees of upstreams; `body` is JSON as the engine writes it."""

    body: bytes


class AddressHealth(msgspec.Struct, frozen=True):
    """The state of one address of an upstream; `is_reset`: its counters start from zero."""

    upstream: str
    host: str
    ip: str
    port: int
    health: str
    is_reset: bool = False


class HealthStates(msgspec.Struct, tag="health_states"):
    """Down: states of addresses, in force at once."""

    states: list[AddressHealth]


Down: TypeAlias = SnapshotFrame | DeltaFrame | StatsRequest | StoreReply | Event | ClusterEvent | HealthStates
Up: TypeAlias = Hello | WholeRequest | Ack | Nack | StatsReply | StoreRequest | Event | ClusterEvent | HealthReports

_encoder = msgspec.msgpack.Encoder()
down_decoder = msgspec.msgpack.Decoder(Down)
up_decoder = msgspec.msgpack.Decoder(Up)


def encode(message: Down | Up) -> bytes:
    """Return the frame of a message."""
    body = _encoder.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


async def read_body(reader: asyncio.StreamReader, limit_bytes: int) -> bytes | None:
    """Return the body of the next frame; None when the peer has closed between two frames.

    Raises: ControlError when the frame is larger than the limit or cut off.
    """
    try:
        head = await reader.readexactly(LENGTH_BYTES)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise ControlError("the link closed inside a frame") from None
        return None
    length = int.from_bytes(head, "big")
    if length > limit_bytes:
        raise ControlError(f"a frame of {length} bytes is larger than the limit of {limit_bytes}")
    try:
        return await reader.readexactly(length)
    except asyncio.IncompleteReadError:
        raise ControlError("the link closed inside a frame") from None
