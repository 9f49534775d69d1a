"""A span of `kong.tracing`: one piece of a request's work, with times, attributes and events (PDK reference 19.2)."""

import logging
import os
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from headgate.pdk._check import is_number

UNSPECIFIED, INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = range(6)
"""Span kinds."""
STATUS_UNSET, STATUS_OK, STATUS_ERROR = range(3)

TRACE_ID_BYTES = 16
SPAN_ID_BYTES = 8

_log = logging.getLogger("headgate.plugin")


class Span:
    """One span; as a context manager it finishes at the end and records what is raised."""

    is_noop = False

    __slots__ = (
        "attributes",
        "end_time_ns",
        "events",
        "kind",
        "name",
        "parent",
        "parent_id",
        "should_sample",
        "span_id",
        "start_time_ns",
        "status",
        "trace_id",
    )

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        parent: Span | None = options.get("parent")
        self.name = name
        self.parent = parent
        self.trace_id: bytes = options.get("trace_id") or (parent.trace_id if parent else os.urandom(TRACE_ID_BYTES))
        self.span_id: bytes = os.urandom(SPAN_ID_BYTES)
        self.parent_id: bytes | None = options.get("parent_id") or (parent.span_id if parent else None)
        self.kind: int = options.get("span_kind", INTERNAL)
        sampled = options.get("should_sample")
        self.should_sample: bool = bool(parent.should_sample if sampled is None and parent else sampled)
        self.start_time_ns: int = int(options.get("start_time_ns") or time.time_ns())
        self.end_time_ns: int | None = None
        self.attributes: dict[str, Any] = dict(options.get("attributes") or {})
        self.events: list[dict[str, Any]] = []
        self.status = STATUS_UNSET

    def finish(self, end_time_ns: int | None = None) -> None:
        """End the span, now or at a Unix time in nanoseconds; only the first call counts.

        Raises: TypeError `invalid span end time`.
        """
        if self.end_time_ns is not None:
            return
        if end_time_ns is not None and not is_number(end_time_ns):
            raise TypeError("invalid span end time")
        ends = time.time_ns() if end_time_ns is None else int(end_time_ns)
        if ends < self.start_time_ns:
            _log.error("[kong] span '%s' cannot end before it starts", self.name)
            return
        self.end_time_ns = ends

    def set_attribute(self, key: str, value: Any) -> None:
        """Set an attribute: text, number, boolean, list or dict; None deletes.

        Raises: TypeError `invalid key`.
        """
        if not isinstance(key, str):
            raise TypeError("invalid key")
        if value is None:
            self.attributes.pop(key, None)
            return
        if not isinstance(value, str | int | float | bool | list | tuple | dict):
            _log.error("[kong] invalid span attribute value type: %s", type(value).__name__)
        self.attributes[key] = value

    def add_event(self, name: str, attributes: Mapping[str, Any] | None = None, time_ns: int | None = None) -> None:
        """Add an event, of now or of a Unix time in nanoseconds.

        Raises: TypeError `invalid name`, `invalid attribute`.
        """
        if not isinstance(name, str):
            raise TypeError("invalid name")
        if attributes is not None and not isinstance(attributes, Mapping):
            raise TypeError("invalid attribute")
        happened_ns = time.time_ns() if time_ns is None else int(time_ns)
        self.events.append({"name": name, "attributes": dict(attributes or {}), "time_ns": happened_ns})

    def record_error(self, error: object) -> None:
        """Add the event `exception` with the attribute `exception.message`."""
        self.add_event("exception", {"exception.message": str(error)})

    def set_status(self, status: int) -> None:
        """Set the status: 0 unset, 1 ok, 2 error.

        Raises: TypeError `invalid status`.
        """
        if not is_number(status):
            raise TypeError("invalid status")
        self.status = int(status)

    def __enter__(self) -> "Span":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # An answer by `kong.response.exit` is no error; it is no Exception either.
        if isinstance(error, Exception):
            self.record_error(error)
            self.set_status(STATUS_ERROR)
        self.finish()


class NoopSpan(Span):
    """What tracing that is off hands out: takes everything, keeps nothing."""

    is_noop = True

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("", {"trace_id": bytes(TRACE_ID_BYTES), "start_time_ns": 1})

    def finish(self, end_time_ns: int | None = None) -> None:
        """Do nothing."""

    def set_attribute(self, key: str, value: Any) -> None:
        """Do nothing."""

    def add_event(self, name: str, attributes: Mapping[str, Any] | None = None, time_ns: int | None = None) -> None:
        """Do nothing."""

    def set_status(self, status: int) -> None:
        """Do nothing."""


NOOP_SPAN = NoopSpan()
