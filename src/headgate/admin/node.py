"""The node as Admin and Status API see it, and the replacement of its whole configuration.

Owns the rule that one configuration is loaded at a time. Publishing is `cluster.publisher`, parsing is `store`.
"""

import asyncio

from headgate.cluster.follower import Follower
from headgate.cluster.publisher import Publisher
from headgate.errors import ControlError
from headgate.node.bootstrap import Bootstrap
from headgate.node.kept import keep
from headgate.policy.catalog import Catalog
from headgate.policy.configuration import broken_plugins, load_configuration
from headgate.store.base import Store
from headgate.store.memory import MemoryStore
from headgate.store.snapshot import Snapshot

_PUBLISH_TIMEOUT_S = 30.0


class BusyError(ControlError):
    """Another configuration is being loaded."""


class ExitingError(ControlError):
    """The node is stopping and takes no new configuration."""


class Node:
    """The node as Admin and Status API see it: settings, plugins, the configuration in force, the workers."""

    def __init__(self, bootstrap: Bootstrap, catalog: Catalog, initial: Snapshot, store: Store | None = None) -> None:
        self.bootstrap = bootstrap
        self.settings = bootstrap.settings
        self.catalog = catalog
        self.entity_types = catalog.entity_types
        self.publisher = Publisher(bootstrap.link_path, initial)
        memory = MemoryStore(initial, catalog.entity_types)
        self._memory = memory if store is None else None
        self.store: Store = memory if store is None else store
        self.follower: Follower | None = None
        self.is_exiting = False
        self._is_loading = False
        self._broken: tuple[int, list[dict[str, str]]] | None = None

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
    def broken_plugins(self) -> list[dict[str, str]]:
        """The plugin instances in force that cannot be configured: `id`, `name` and `fault` of each."""
        if not self.settings.general.allow_broken_plugins:
            return []
        snapshot = self.snapshot
        if self._broken is None or self._broken[0] != snapshot.revision:
            self._broken = (snapshot.revision, broken_plugins(snapshot, self.catalog))
        return self._broken[1]

    async def load(self, text: str | bytes) -> Snapshot:
        """Replace the whole configuration by a declarative document, on all workers, and keep it for the next start.

        Raises: DeclarativeError; BusyError; ExitingError; the errors of `Publisher.publish`.
        """
        if self.is_exiting:
            raise ExitingError("Headgate currently exiting")
        if self._is_loading:
            raise BusyError("Currently loading previous configuration")
        self._is_loading = True
        try:
            general = self.settings.general
            parsed = await asyncio.to_thread(
                load_configuration,
                text,
                self.catalog,
                ordering_algorithm=general.plugin_ordering_algorithm,
                is_broken_allowed=general.allow_broken_plugins,
            )
            published = await self.publisher.publish(parsed, _PUBLISH_TIMEOUT_S)
            if self._memory is not None:
                self._memory.replace(published)
            await asyncio.to_thread(keep, self.settings.prefix, published)
            return published
        finally:
            self._is_loading = False
