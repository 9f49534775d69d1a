"""`kong.worker_events`: messages to all workers of the node (PDK reference 20.3).

The poster's own worker gets a message at once, the others through the control process, in the order of posting.
Handlers run on each worker's loop, outside of any request. A message is lost for the other workers while the control
process is being replaced: use them to speed things up (drop a copy, wake a timer), and `kong.shared_dict` for what must
not be lost.
"""

import asyncio
import contextvars
import inspect
import logging
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from headgate.errors import GatewayError
from headgate.pdk._check import need_string
from headgate.pdk._node import node
from headgate.pdk._phase import any_phase

MOST_DATA_BYTES = 65_535
"""Largest data of a message (Kong's default for `worker_events_max_payload`)."""

EVENT_KIND = "worker_event"
"""Kind of these messages on the link to the control process."""

_log = logging.getLogger("headgate.plugin")


class WorkerEventError(GatewayError):
    """A message cannot be sent: too large, not plain data, or no loop to run handlers on."""


class _Handler(NamedTuple):
    function: Callable[..., Any]
    source: str
    event: str | None


class WorkerEvents:
    """`kong.worker_events`. Callable from every thread of the worker.

    Source `crud` tells of changed entities, in every worker, a moment after the change is in force, whoever made it:
    events `<entity>` and `<entity>:create`, `:update` or `:delete`, with a dict of `operation`, `entity` (of a delete:
    as it was), `old_entity` (of an update) and `schema` (`{"name": …}`).
    """

    __slots__ = ("_handlers",)

    def __init__(self) -> None:
        self._handlers: tuple[_Handler, ...] = ()

    @any_phase
    def register(self, callback: Callable[..., Any], source: str, event: str | None = None) -> None:
        """Call `callback(data, event, source, pid)` for each message of a source, or of one event of it.

        Args: `callback` may be `async def`; what it raises is logged. `pid` is the poster's. Register in `init_worker`.
            Source `crud`, with event `consumers` or `consumers:create`, tells of changed entities.
        Raises: TypeError `callback must be a function`, `source must be a string`, `event must be a string`.
        """
        if not callable(callback):
            raise TypeError("callback must be a function")
        need_string(source, "source")
        if event is not None:
            need_string(event, "event")
        self._handlers = (*self._handlers, _Handler(callback, source, event))

    @any_phase
    def unregister(self, callback: Callable[..., Any], source: str, event: str | None = None) -> None:
        """Undo `register` of the same arguments; an unknown one is fine."""
        gone = _Handler(callback, source, event)
        self._handlers = tuple(one for one in self._handlers if one != gone)

    @any_phase
    def post(self, source: str, event: str, data: Any = None) -> None:
        """Send a message to all workers of the node, this one included; returns at once.

        Args: `data`: None, text, numbers, booleans, lists, dicts; at most 65535 bytes.
        Raises: TypeError `source must be a string`, `event must be a string`; WorkerEventError.
        """
        message = _message(source, event, data)
        self._deliver_on_loop(message)
        if node.post_event is not None:
            node.post_event(EVENT_KIND, message)

    @any_phase
    def post_local(self, source: str, event: str, data: Any = None) -> None:
        """Send a message to this worker only.

        Raises: as `post`.
        """
        self._deliver_on_loop(_message(source, event, data))

    def _deliver_on_loop(self, message: dict[str, Any]) -> None:
        loop = node.loop
        if loop is None:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                raise WorkerEventError("worker events need the loop of a worker; there is none here") from None
        loop.call_soon_threadsafe(self._deliver, message, context=contextvars.Context())

    def _deliver(self, message: dict[str, Any]) -> None:
        """Start the handlers of a message; on the loop."""
        self._start(message["source"], message["event"], message["data"], message["pid"])

    def _start(self, source: str, event: str, data: Any, pid: int) -> list["asyncio.Future[None]"]:
        return [
            start_handler(handler.function, (data, event, source, pid), f"handler of worker event {source}/{event}")
            for handler in self._handlers
            if handler.source == source and handler.event in (None, event)
        ]


# The loop keeps only weak references to its tasks.
_running: set["asyncio.Future[None]"] = set()


def start_handler(function: Callable[..., Any], arguments: tuple[Any, ...], title: str) -> "asyncio.Future[None]":
    """Start a handler of events, synchronous or not; what it raises is logged under a title. On the loop."""
    task = asyncio.ensure_future(_handled(function, arguments, title))
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task


async def _handled(function: Callable[..., Any], arguments: tuple[Any, ...], title: str) -> None:
    try:
        returned = function(*arguments)
        if inspect.isawaitable(returned):
            await returned
    except Exception:
        _log.exception("[kong] %s failed", title)


def _message(source: str, event: str, data: Any) -> dict[str, Any]:
    need_string(source, "source")
    need_string(event, "event")
    try:
        size_bytes = len(msgspec.msgpack.encode(data))
    except (TypeError, ValueError, OverflowError) as error:
        raise WorkerEventError(f"failed to publish event: {error}") from error
    if size_bytes > MOST_DATA_BYTES:
        raise WorkerEventError(f"failed to publish event: payload exceeds the limitation ({MOST_DATA_BYTES})")
    return {"source": source, "event": event, "data": data, "pid": os.getpid()}


def receive(message: dict[str, Any]) -> None:
    """Take a message from the control process; the poster has had its own already. On the worker's loop."""
    if message["pid"] != os.getpid():
        contextvars.Context().run(worker_events._deliver, message)


worker_events = WorkerEvents()


def has_handlers(source: str) -> bool:
    """Say whether anybody has registered for a source."""
    return any(handler.source == source for handler in worker_events._handlers)


def start(source: str, event: str, data: Any) -> list["asyncio.Future[None]"]:
    """Start the handlers of a message of this worker's own and return them; on the loop."""
    return worker_events._start(source, event, data, os.getpid())
