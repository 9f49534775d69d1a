"""What the PDK knows of the node it runs on: settings, limits, identity, trusted networks, the running snapshot.

One object per process, `node`; the worker fills it once with `configure_node`, the runtime hands over each new
snapshot. Code that runs without a worker (tests, tools) gets the defaults of Kong's settings.
"""

import asyncio
import ipaddress
import socket
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, Protocol, TypeAlias

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

DEFAULT_LIMIT = 100
DEFAULT_SAMPLING_RATE = 0.01
DEFAULT_MAX_TIMERS = 16384


class SnapshotView(Protocol):
    """The part of a snapshot that `kong.db` reads."""

    def all(self, entity_type: str, /) -> Iterable[dict[str, Any]]: ...
    def get(self, entity_type: str, entity_id: str, /) -> dict[str, Any] | None: ...
    def by(self, entity_type: str, unique_field: str, value: str, /) -> dict[str, Any] | None: ...
    def children(self, entity_type: str, foreign_field: str, parent_id: str, /) -> Sequence[dict[str, Any]]: ...
    def indexed(
        self, entity_type: str, index_name: str, key: Callable[[dict[str, Any]], str], value: str, /
    ) -> dict[str, Any] | None: ...


class Broadcast(Protocol):
    """The way to all nodes of the cluster; callable on any thread. `is_for_others`: not to this node."""

    def __call__(self, channel: str, data: Any, delay_s: float, is_for_others: bool, /) -> object: ...


class NameResolver(Protocol):
    """The engine's resolver; None while the engine does not run. Raises: NameResolutionError.

    A record is its address, and (port or None, weight, target) where it comes from an SRV record.
    """

    async def resolve(
        self, name: str, kind: str | None = None, /
    ) -> list[tuple[str, tuple[int | None, int, str] | None]] | None: ...

    async def resolve_next(self, name: str, /) -> list[tuple[str, tuple[int | None, int, str] | None]] | None: ...


class EntityWriter(Protocol):
    """The way to the store for `kong.db`; operation is `insert`, `update`, `upsert` or `delete`."""

    async def __call__(
        self, operation: Any, entity_name: str, key: str, by: str, values: Mapping[str, Any], ttl: int | None, /
    ) -> dict[str, Any] | None: ...


class OwnStore(Protocol):
    """Entities that only the present task reads and writes through `kong.db`: a function of the Admin API."""

    @property
    def snapshot(self) -> SnapshotView: ...

    @property
    def write_entity(self) -> EntityWriter: ...


class KeyForms(Protocol):
    """Primary keys other than `id`, whose entities have a derived id that nobody sees."""

    def __contains__(self, name: str, /) -> bool: ...
    def is_shown_otherwise(self, name: str, /) -> bool: ...
    def reference(self, name: str, field: str, /) -> str | None: ...
    def values(self, name: str, primary_key: Any, /) -> dict[str, Any]: ...
    def id_of(self, name: str, primary_key: Any, /) -> str: ...
    def shown(
        self,
        name: str,
        entity: Mapping[str, Any],
        find: Callable[[str, str], Mapping[str, Any] | None],
        /,
    ) -> dict[str, Any]: ...


own_store: ContextVar[OwnStore | None] = ContextVar("own_store", default=None)


class Node:
    """Process-wide state behind `kong.node`, `kong.configuration`, `kong.ip` and the getters' limits."""

    __slots__ = (
        "broadcast",
        "cache_keys",
        "configuration",
        "entity_types",
        "hostname",
        "id",
        "instrumentations",
        "is_exiting",
        "key_forms",
        "loop",
        "max_post_args",
        "max_request_headers",
        "max_response_headers",
        "max_timers",
        "max_uri_args",
        "post_event",
        "primary_keys",
        "read_forms",
        "resolver",
        "sampling_rate",
        "snapshot",
        "statistics",
        "trusted_networks",
        "trusts_everyone",
        "unique_kinds",
        "worker_index",
        "write_entity",
    )

    def __init__(self) -> None:
        self.snapshot: SnapshotView | None = None
        self.write_entity: EntityWriter | None = None
        self.broadcast: Broadcast | None = None
        self.cache_keys: Mapping[str, tuple[str, ...]] = {}
        # What the gateway knows of each type; this package passes it on and does not look into it.
        self.entity_types: Mapping[str, Any] = {}
        # Of types whose primary key is not `id`.
        self.primary_keys: Mapping[str, tuple[str, ...]] = {}
        # (type, unique field) -> type of the field, where that is no text.
        self.unique_kinds: Mapping[tuple[str, str], str] = {}
        # How the entities are addressed of which some have another primary key than `id`; None: there are none.
        self.key_forms: KeyForms | None = None
        # Of types whose entities are stored in another form than plugins see: what makes the one of the other.
        self.read_forms: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {}
        self.loop: asyncio.AbstractEventLoop | None = None
        self.statistics: Callable[[], Mapping[str, int]] | None = None
        self.post_event: Callable[[str, dict[str, Any]], object] | None = None
        self.resolver: NameResolver | None = None
        self.worker_index = 0
        self.is_exiting = False
        self.configure({}, None)

    def configure(self, configuration: Mapping[str, Any], node_id: str | None) -> None:
        """Take over the node's settings (names as in the settings file) and its id."""
        self.configuration = dict(configuration)
        self.id = node_id or self.configuration.get("node_id") or str(uuid.uuid4())
        self.hostname = _hostname()
        self.max_request_headers = self._limit("lua_max_req_headers")
        self.max_response_headers = self._limit("lua_max_resp_headers")
        self.max_uri_args = self._limit("lua_max_uri_args")
        self.max_post_args = self._limit("lua_max_post_args")
        most = self.configuration.get("max_timers")
        self.max_timers = DEFAULT_MAX_TIMERS if most is None else int(most)
        texts = [text for text in self.configuration.get("trusted_ips") or () if not text.startswith("unix:")]
        self.trusted_networks = tuple(ipaddress.ip_network(text, strict=False) for text in texts)
        named = self.configuration.get("tracing_instrumentations") or ()
        self.instrumentations = frozenset((named,) if isinstance(named, str) else named) - {"off"}
        rate = self.configuration.get("tracing_sampling_rate")
        self.sampling_rate = DEFAULT_SAMPLING_RATE if rate is None else float(rate)
        self.trusts_everyone = {"0.0.0.0/0", "::/0"} <= set(texts)
        _is_in_networks.cache_clear()

    def is_trusted(self, address: str) -> bool:
        """Say whether `address` is in `trusted_ips`."""
        if self.trusts_everyone:
            return True
        return bool(self.trusted_networks) and _is_in_networks(self.trusted_networks, address)

    def _limit(self, name: str) -> int:
        value = self.configuration.get(name)
        return DEFAULT_LIMIT if value is None else int(value)


@lru_cache(maxsize=4096)
def _is_in_networks(networks: tuple[Network, ...], address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)


def _hostname() -> str:
    try:
        return socket.gethostname()
    except OSError:
        return ""


node = Node()


def attach_worker(
    loop: asyncio.AbstractEventLoop,
    statistics: Callable[[], Mapping[str, int]],
    post_event: Callable[[str, dict[str, Any]], object],
    broadcast: Broadcast | None = None,
) -> None:
    """Tell the PDK the worker's loop, for timers, where its counters come from, for `kong.nginx`, how an event
    (kind, data) gets to the node's other workers, and a message to the cluster; both may be called on any thread.
    """
    node.broadcast = broadcast
    node.loop = loop
    node.statistics = statistics
    node.post_event = post_event


def configure_node(configuration: Mapping[str, Any], node_id: str | None = None) -> None:
    """Tell the PDK the node's settings and id; the worker calls it before it loads plugins."""
    node.configure(configuration, node_id)
