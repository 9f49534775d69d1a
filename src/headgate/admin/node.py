"""The node as Admin and Status API see it, and the replacement of its whole configuration.

Owns the rule that one configuration is loaded at a time. Publishing is `cluster.publisher`, parsing is `store`.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic

from headgate.cluster.follower import Follower
from headgate.cluster.frames import Event
from headgate.cluster.log_level import LogLevel
from headgate.cluster.publisher import Publisher
from headgate.engine import client_pair
from headgate.entities.entity_type import Entity, EntityType
from headgate.entities.plugins import read_plugin
from headgate.errors import ControlError, EntityError
from headgate.health.monitor import HealthMonitor
from headgate.node.bootstrap import Bootstrap
from headgate.node.kept import keep
from headgate.pdk.worker_events import EVENT_KIND as WORKER_EVENT
from headgate.policy.catalog import Catalog
from headgate.policy.configuration import broken_plugins, load_configuration
from headgate.policy.ordering_check import check_ordering
from headgate.schema import with_deprecated_fields
from headgate.schema.stored import has_read_form, read
from headgate.store.base import Operations, Result, Store
from headgate.store.encoded import EncodedEntities
from headgate.store.known import KnownEntities
from headgate.store.memory import MemoryStore
from headgate.store.snapshot import Snapshot, encode_entity

_PUBLISH_TIMEOUT_S = 30.0
_WHOLE_SHARE = 4
"""When more than this part of a configuration differs, it travels whole. Own choice: that costs about the same then."""
IN_FORCE_TIMEOUT_S = 10.0
"""How long the answer to a write waits until the workers run it. Own choice: the patience of clients."""


class BusyError(ControlError):
    """Another configuration is being loaded."""


class ExitingError(ControlError):
    """The node is stopping and takes no new configuration."""


@dataclass(frozen=True)
class Written(Generic[Result]):
    """What a write returned, which revision the workers run, and why that is not the written one (None: it is)."""

    result: Result
    revision: int
    not_in_force: str | None


class Node:
    """The node as Admin and Status API see it: settings, plugins, the configuration in force, the workers."""

    def __init__(
        self,
        bootstrap: Bootstrap,
        catalog: Catalog,
        initial: Snapshot,
        store: Store | None = None,
        known: KnownEntities | None = None,
    ) -> None:
        self.bootstrap = bootstrap
        self.settings = bootstrap.settings
        self.catalog = catalog
        self.entity_types = catalog.entity_types
        self.publisher = Publisher(bootstrap.link_path, initial)
        memory = MemoryStore(initial, catalog.entity_types)
        self._memory = memory if store is None else None
        self.store: Store = memory if store is None else store
        self.follower: Follower | None = None
        self.store.plugin_faults = self._ordering_faults
        self.plugin_paths = catalog.admin_paths().paths
        tls = self.settings.tls
        self.health = HealthMonitor(
            lambda: self.publisher.current,
            self.publisher.broadcast,
            self._tell_workers,
            trusted_pem=tls.trusted_pem(),
            client_pair=client_pair(self.settings),
        )
        self.log_level = LogLevel(self.settings.general.log_level, self.publisher.broadcast)
        self.is_exiting = False
        self._is_loading = False
        self._known = KnownEntities() if known is None else known
        self._kept = EncodedEntities(encode_entity)
        self._read: tuple[Snapshot, MemoryStore] | None = None
        self._catching_up: set[asyncio.Task[str | None]] = set()
        self._broken: tuple[int, list[dict[str, str]]] | None = None

    async def _tell_workers(self, source: str, event: str, data: dict[str, Any]) -> None:
        message = {"source": source, "event": event, "data": data, "pid": os.getpid()}
        await self.publisher.broadcast(Event(WORKER_EVENT, message))

    @property
    def has_database(self) -> bool:
        """Whether entities are in a database rather than in one declarative document."""
        return self._memory is None

    @property
    def is_database_reachable(self) -> bool:
        """Whether the database answered when it was last asked; without one there is nothing to reach."""
        return self.follower is None or self.follower.is_reachable

    @property
    def snapshot(self) -> Snapshot:
        """The configuration in force."""
        return self.publisher.current

    @property
    def reading(self) -> MemoryStore:
        """The entities as the node last read them: the configuration in force, or a newer one that workers refused."""
        follower = self.follower
        snapshot = follower.stored if self.has_database and follower is not None else self.snapshot
        if self._read is None or self._read[0] is not snapshot:
            self._read = (snapshot, MemoryStore(snapshot, self.entity_types))
        return self._read[1]

    def show(self, kind: EntityType, entity: Entity) -> Entity:
        """Return an entity as the Admin API shows it: without an id that is made of another primary key.

        A certificate has the names of its SNIs, a plugin instance its configuration under older names too.
        """
        if kind.name == "certificates" and entity.get("snis") is None:
            snis = self.reading.children("snis", "certificate", entity["id"])
            return {**entity, "snis": sorted(sni["name"] for sni in snis)}
        if kind.name == "plugins" and entity["config"] is not None and (plugin := self.catalog.get(entity["name"])):
            shown = read_plugin(entity, plugin.config_model)
            return {**shown, "config": with_deprecated_fields(plugin.config_model, shown["config"])}
        shown_entity = read(kind.model, entity) if has_read_form(kind.model) else entity
        forms = self.entity_types.key_forms
        if forms is None or not forms.is_shown_otherwise(kind.name):
            return shown_entity
        return forms.shown(kind.name, shown_entity, self.reading.select)

    async def write(self, work: Callable[[Operations], Result], *, is_waiting: bool = True) -> Written[Result]:
        """Do operations as one transaction of the store; returns when the workers run the outcome, within a bound.

        Args: is_waiting, False to return as soon as it is stored.
        Raises: whatever the work raises; EntityError of code 8, nothing is written.
        """
        if self.follower is not None:
            self.follower.require_reachable()
        result = await asyncio.to_thread(self.store.write, work)
        if not is_waiting:
            return Written(result, self.snapshot.revision, "the client did not want to wait")
        return await self.settled(result)

    async def settled(self, result: Result) -> Written[Result]:
        """Wait until the workers run what this process has written, within a bound; returns that with a result."""
        late = None
        if self.follower is not None:
            late = await self._in_force(self.follower.catch_up(self.store.written_revision))
        return Written(result, self.snapshot.revision, late)

    async def _in_force(self, catching_up: Coroutine[Any, Any, str | None]) -> str | None:
        # A task of its own: a client that leaves, or the bound, ends the waiting and not the publication.
        task = asyncio.ensure_future(catching_up)
        self._catching_up.add(task)
        task.add_done_callback(self._catching_up.discard)
        done, _ = await asyncio.wait((task,), timeout=IN_FORCE_TIMEOUT_S)
        if not done:
            return "Timed out while loading configuration"
        try:
            return task.result()
        except EntityError:
            return "the database was lost after the write"

    def _ordering_faults(self, snapshot: Snapshot) -> dict[str, dict[str, str]]:
        report = check_ordering(snapshot, self.catalog, self.settings.general.plugin_ordering_algorithm)
        return {instance: {"ordering": text} for instance, text in report.faults.items()}

    @property
    def broken_plugins(self) -> list[dict[str, str]]:
        """The plugin instances in force that cannot be configured: `id`, `name` and `fault` of each.

        Without an `id`: a plugin whose paths in the Admin API are missing.
        """
        if not self.settings.general.allow_broken_plugins:
            return []
        snapshot = self.snapshot
        if self._broken is None or self._broken[0] != snapshot.revision:
            paths = self.catalog.admin_paths().faults.items()
            without_paths = [{"name": name, "fault": "; ".join(faults)} for name, faults in paths]
            self._broken = (snapshot.revision, [*broken_plugins(snapshot, self.catalog), *without_paths])
        return self._broken[1]

    async def replace(self, snapshot: Snapshot) -> Snapshot:
        """Put a whole configuration into force on all workers; returns it with its revision.

        Where it is much like the one before, only what differs travels.
        Raises: the errors of `Publisher.publish`.
        """
        current = self.snapshot
        delta = await asyncio.to_thread(current.delta_to, snapshot, len(current) // _WHOLE_SHARE)
        change = None if delta is None else (current, delta)
        published = await self.publisher.publish(snapshot, _PUBLISH_TIMEOUT_S, change)
        if self._memory is not None:
            self._memory.replace(published)
        return published

    async def load(self, text: str | bytes, parsed: dict[str, Any] | None = None) -> Snapshot:
        """Replace the whole configuration by a declarative document, on all workers, and keep it for the next start.

        Args: parsed, what `store.document.parse_json` has made of the text.
        Raises: DeclarativeError; BusyError; ExitingError; the errors of `Publisher.publish`.
        """
        if self.is_exiting:
            raise ExitingError("Headgate currently exiting")
        if self._is_loading:
            raise BusyError("Currently loading previous configuration")
        self._is_loading = True
        try:
            general = self.settings.general
            snapshot = await asyncio.to_thread(
                load_configuration,
                text,
                self.catalog,
                ordering_algorithm=general.plugin_ordering_algorithm,
                is_broken_allowed=general.allow_broken_plugins,
                known=self._known,
                parsed=parsed,
            )
            published = await self.replace(snapshot)
            await asyncio.to_thread(keep, self.settings.prefix, published, is_posted=True, known=self._kept)
            return published
        finally:
            self._is_loading = False
