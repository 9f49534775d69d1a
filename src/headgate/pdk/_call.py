"""The current call: which request, phase and plugin instance the running code belongs to.

Owns the context variable and the slotted `Call` that the runner keeps in `exchange.state` for the life of a request.
The runner writes it, PDK functions read it; plugins see it only through the PDK. One `Call` per request: phases of a
request never overlap, so phase and instance are plain attributes that move along.
"""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol

from headgate.pdk._exchange import Exchange
from headgate.pdk._namespace import Namespace


class Instance(Protocol):
    """What the PDK needs to know of a plugin instance."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...


class Call:
    """State of one request (or handshake, or worker start) on the Python side.

    `exchange` is the engine's object while a phase runs; between phases, in `init_worker` and in `configure` there is
    none, and the guards of `phases` keep every function that needs one away. `phase` is the bit as a plain int (flag
    arithmetic on enums is slow), 0 between phases. `is_answered`: a plugin answered through `kong.response`.
    `suspend` reads the request body from within a synchronous handler: it takes the limit in bytes and returns when the
    engine has read; None where that is impossible. `suspended`: which instance waited there in which phase, and for
    how many nanoseconds. `times`: how long handlers took in nanoseconds, several entries for one that ran in pieces.
    `token`: the bearer token a plugin has stored. `trace`: the spans of `kong.tracing`. `lua`: the table of values that
    Lua plugins keep for this request. The other lists are created on
    first use.
    """

    __slots__ = (
        "body_chunks",
        "body_limit_bytes",
        "collected",
        "consumer",
        "consumer_groups",
        "credential",
        "exchange",
        "identity_realm",
        "instance",
        "is_answered",
        "is_body_replaced",
        "lua",
        "phase",
        "plugin_namespaces",
        "serialize_values",
        "shared",
        "suspend",
        "suspended",
        "times",
        "token",
        "trace",
    )

    exchange: Exchange
    phase: int
    instance: Instance | None
    consumer: dict[str, Any] | None
    credential: dict[str, Any] | None
    consumer_groups: list[dict[str, Any]] | None
    collected: Any
    plugin_namespaces: dict[str, Namespace] | None
    shared: Namespace | None
    serialize_values: list[tuple[str, Any, str]] | None
    body_chunks: list[bytes] | None
    body_limit_bytes: int
    is_body_replaced: bool
    is_answered: bool
    suspend: Callable[[int], object] | None
    suspended: tuple[Instance | None, int, int] | None
    times: list[tuple[Instance, int, int]]
    token: str | None
    identity_realm: Any
    trace: Any
    lua: Any

    def __init__(self, exchange: Exchange, phase: int) -> None:
        self.exchange = exchange
        self.phase = phase
        self.instance = None
        self.consumer = None
        self.credential = None
        self.consumer_groups = None
        self.collected = None
        self.plugin_namespaces = None
        self.shared = None
        self.serialize_values = None
        self.body_chunks = None
        self.body_limit_bytes = -1
        self.is_body_replaced = False
        self.is_answered = False
        self.suspend = None
        self.suspended = None
        self.times = []
        self.token = None
        self.identity_realm = None
        self.trace = None
        self.lua = None


current_call: ContextVar[Call | None] = ContextVar("headgate_call", default=None)
"""Set by the runner for the time a handler runs; None outside of requests."""
