"""The control process: holds the configuration of the node, publishes it to the workers, serves Admin and Status API.

Owns loading at start (declarative file, text, the configuration kept from before, or the database), replacement of the
whole configuration, and its keeping on disk. The data path never waits for it. Started by the supervisor as
`python -m headgate.control`.
"""

import asyncio
import contextlib
import gc
import importlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import setproctitle
import uvloop

from headgate.admin.node import Node
from headgate.cluster.follower import Follower
from headgate.cluster.frames import ClusterEvent
from headgate.cluster.log_level import LOG_LEVEL_CHANNEL
from headgate.cluster.relay import Relay
from headgate.config.general import General
from headgate.config.load import Settings
from headgate.engine import core_entity_types
from headgate.errors import ControlError, DeclarativeError, EntityError, GatewayError, PluginLoadError
from headgate.health.keeper import HealthKeeper
from headgate.health.monitor import HEALTH_CHANNEL
from headgate.node import logs
from headgate.node.bootstrap import Bootstrap, ParentChannel, StartError, channel_from_arguments, die_with_parent
from headgate.node.kept import DatabaseKeeper, is_posted_since, keep, kept, kept_of_database
from headgate.node.scheduling import stand_back
from headgate.policy.catalog import Catalog, load_catalog
from headgate.policy.configuration import load_configuration, log_ordering
from headgate.store.base import Store
from headgate.store.known import KnownEntities
from headgate.store.snapshot import EMPTY, Snapshot

_log = logging.getLogger("headgate.control")


def initial_snapshot(bootstrap: Bootstrap, catalog: Catalog, known: KnownEntities | None = None) -> Snapshot:
    """Return the configuration to start with. `known` takes the entities of a document.

    Raises: StartError with a text for a person.
    """
    settings = bootstrap.settings
    datastore = settings.datastore
    snapshot: Snapshot | None = None
    if bootstrap.is_replacement:
        snapshot = kept(settings.prefix)
    if snapshot is None and datastore.declarative_config is not None:
        path = Path(datastore.declarative_config).expanduser()
        snapshot = parse_declarative(path, catalog, settings.general, known)
    elif snapshot is None and datastore.declarative_config_string is not None:
        try:
            snapshot = _load(datastore.declarative_config_string, catalog, settings.general, known=known)
        except DeclarativeError as error:
            raise StartError([f"error parsing declarative config:\n{error.report()}"]) from error
    elif snapshot is None:
        snapshot = kept(settings.prefix) or EMPTY
    return with_starting_revision(snapshot)


def is_kept_used(bootstrap: Bootstrap) -> bool:
    """Say whether the start uses the configuration that was kept, rather than a document of the settings."""
    datastore = bootstrap.settings.datastore
    has_document = datastore.declarative_config is not None or datastore.declarative_config_string is not None
    return bootstrap.is_replacement or not has_document


def with_starting_revision(snapshot: Snapshot) -> Snapshot:
    """Return a snapshot under the time as its revision, so that revisions grow over restarts of this process."""
    return snapshot.with_revision(int(time.time() * 1000))


def database_store(settings: Settings, catalog: Catalog) -> Store:
    """Return the store in the database that the settings name.

    Raises: StartError with a text for a person.
    """
    # Imported where it is needed: a node without a database stays without its libraries.
    from headgate.node.database import open_store

    try:
        return open_store(settings, catalog)
    except PluginLoadError as error:
        raise StartError(error.faults) from error
    except GatewayError as error:
        raise _start_error(str(error), error) from error


class UnreachableError(StartError):
    """The database cannot be reached; it may come back by itself."""


def _start_error(text: str, error: GatewayError) -> StartError:
    return (UnreachableError if getattr(error, "is_unreachable", False) else StartError)([text])


def stored_snapshot(store: Store) -> Snapshot:
    """Return what a store holds. Raises: StartError."""
    try:
        return store.snapshot()
    except EntityError as error:
        raise _start_error(f"cannot read the database: {error}", error) from error


def parse_declarative(path: Path, catalog: Catalog, settings: General, known: KnownEntities | None = None) -> Snapshot:
    """Parse a declarative file.

    Raises: StartError with the report of every fault.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise StartError([f"cannot read declarative config file {path}: {error.strerror}"]) from error
    try:
        return _load(text, catalog, settings, path.name, known)
    except DeclarativeError as error:
        raise StartError([f"error parsing declarative config file {path}:\n{error.report()}"]) from error


def _load(
    text: str | bytes,
    catalog: Catalog,
    settings: General,
    filename: str | None = None,
    known: KnownEntities | None = None,
) -> Snapshot:
    return load_configuration(
        text,
        catalog,
        filename=filename,
        ordering_algorithm=settings.plugin_ordering_algorithm,
        is_broken_allowed=settings.allow_broken_plugins,
        known=known,
    )


class Control:
    """The process: loads, publishes, serves, stops."""

    def __init__(self, bootstrap: Bootstrap, channel: ParentChannel) -> None:
        self._bootstrap = bootstrap
        self._channel = channel
        self._stopping = asyncio.Event()
        self._seen_revision = 0
        self._stored: Snapshot | None = None
        self._prepare_store: Callable[[], None] | None = None
        self._keeper: DatabaseKeeper | None = None
        # What is posted from here on is newer than the document that this process reads.
        self._began_at_ms = bootstrap.began_at_ms
        self._catalog: Catalog | None = None
        self._ordering_texts: frozenset[str] = frozenset()

    async def run(self) -> int:
        """Serve until told to stop; returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        loop.add_signal_handler(signal.SIGTERM, self._stopping.set)
        loop.add_signal_handler(signal.SIGQUIT, self._stopping.set)
        loop.add_signal_handler(signal.SIGUSR1, logs.reopen)
        try:
            node = self._node()
        except StartError as error:
            self._channel.report("fault", faults=error.faults)
            return 1
        relay = Relay(
            node.publisher,
            getattr(node.store, "events", None),
            self._bootstrap.node_id,
            node.settings.datastore.db_update_propagation_ms / 1000,
        )
        follower = Follower(
            node.store,
            node.publisher,
            self._seen_revision,
            self._stored,
            relay=relay,
            prepare=self._prepare_store,
            on_change=None if self._keeper is None else self._keeper.take,
            look_over=self._look_over,
        )
        node.publisher.take_cluster_event = relay.take
        node.publisher.answer_store_request = follower.answer
        health_keeper = self._watch_health(node, relay)
        if node.has_database:
            node.log_level.tell_nodes = relay.take
            relay.handlers[LOG_LEVEL_CHANNEL] = node.log_level.take
        node.follower = follower
        # A database that is gone by now: the follower says so, and tries again.
        with contextlib.suppress(EntityError):
            await relay.start()
        await node.publisher.open()
        self._channel.report("checked")
        # The web framework is slow to load: beside the loop, on which workers get their snapshot meanwhile.
        await asyncio.to_thread(importlib.import_module, "headgate.admin.server")
        from headgate.admin.server import AdminServers

        servers = AdminServers(node, self._bootstrap.listeners)
        parent = asyncio.ensure_future(self._channel.wait_for_end())
        stopping = asyncio.ensure_future(self._stopping.wait())
        self._channel.report("ready")
        taking_over = asyncio.ensure_future(self._channel.taking_over.wait())
        await asyncio.wait((parent, stopping, taking_over), return_when=asyncio.FIRST_COMPLETED)
        if taking_over.done():
            await self._take_newer_document(node)
            await servers.start()
        # What was loaded so far lives long: the collector need not walk it again at each change.
        gc.collect()
        gc.freeze()
        # Not before: a start waits for this process.
        stand_back()
        taking_over.cancel()
        is_following = node.settings.datastore.database != "off"
        following = asyncio.ensure_future(follower.run()) if is_following else None
        probing = asyncio.ensure_future(node.health.run())
        keeping = asyncio.ensure_future(self._keep_when_accepted(node))
        keeping_health = asyncio.ensure_future(health_keeper.run())
        await asyncio.wait((parent, stopping), return_when=asyncio.FIRST_COMPLETED)
        node.is_exiting = True
        for task in (following, probing, keeping, keeping_health, parent, stopping):
            if task is not None:
                task.cancel()
        await servers.stop()
        await node.publisher.close()
        health_keeper.remove()
        await asyncio.to_thread(node.store.close)
        if self._keeper is not None:
            await asyncio.to_thread(self._keeper.write)
        return 0

    async def _take_newer_document(self, node: Node) -> None:
        """Publish what the control process before has taken over its Admin API while this one was loading."""
        if node.has_database or not is_posted_since(node.settings.prefix, self._began_at_ms):
            return
        try:
            newer = await asyncio.to_thread(kept, node.settings.prefix)
            if newer is not None:
                await node.replace(newer)
                _log.info("the configuration that was posted during the reload is in force")
        except (StartError, ControlError) as error:
            _log.error("the configuration that was posted during the reload is not in force: %s", error)

    def _look_over(self, snapshot: Snapshot) -> None:
        """Log what is wrong about the order of plugins: a document is looked over as it is read, others are not."""
        if self._catalog is not None:
            algorithm = self._bootstrap.settings.general.plugin_ordering_algorithm
            self._ordering_texts = log_ordering(snapshot, self._catalog, algorithm, self._ordering_texts)

    def _watch_health(self, node: Node, relay: Relay) -> HealthKeeper:
        """Give the monitor of health what workers report and what was known before, and what is set by hand its way."""
        bootstrap = self._bootstrap
        keeper = HealthKeeper(bootstrap.link_path.parent, bootstrap.generation, node.health.states)
        node.health.remember(keeper.load(is_replacement=bootstrap.is_replacement))
        node.health.on_change = keeper.changed
        node.publisher.take_health_reports = node.health.take_reports
        node.publisher.forget_worker = node.health.forget_worker
        node.publisher.current_health = node.health.states
        node.health.on_manual = lambda message: relay.take(ClusterEvent(HEALTH_CHANNEL, message, is_for_others=True))
        relay.handlers[HEALTH_CHANNEL] = node.health.take_manual
        return keeper

    async def _keep_when_accepted(self, node: Node) -> None:
        """Keep the configuration of the start only after a worker runs it: a refused one must not survive a restart."""
        await node.publisher.first_acknowledgement.wait()
        if self._keeper is not None:
            self._keeper.take(node.snapshot)
            await self._keeper.run()
        elif node.settings.datastore.database == "off":
            await asyncio.to_thread(keep, node.settings.prefix, node.snapshot)

    def _node(self) -> Node:
        from headgate.pdk import configure_node

        settings = self._bootstrap.settings
        configure_node(settings.node_configuration(), self._bootstrap.node_id)
        try:
            catalog = load_catalog(
                settings.general.plugins,
                settings.general.plugin_directories,
                is_broken_allowed=settings.general.allow_broken_plugins,
                core_types=core_entity_types(settings.datastore.router_flavor),
            )
        except PluginLoadError as error:
            raise StartError(error.faults) from error
        # What api.lua reads through kong.db has the form that plugins see.
        catalog.describe_entities()
        self._check_admin_paths(catalog)
        self._catalog = catalog
        if settings.datastore.database == "off":
            known = KnownEntities()
            initial = initial_snapshot(self._bootstrap, catalog, known)
            if is_kept_used(self._bootstrap):
                self._look_over(initial)
            return Node(self._bootstrap, catalog, initial, known=known)
        if settings.datastore.database == "postgres":
            self._keeper = DatabaseKeeper(settings.prefix, settings.datastore)
        try:
            store = database_store(settings, catalog)
            stored = self._stored = stored_snapshot(store)
        except UnreachableError as error:
            return self._node_without_database(catalog, error)
        self._seen_revision = stored.revision
        self._look_over(stored)
        return Node(self._bootstrap, catalog, with_starting_revision(stored), store)

    def _check_admin_paths(self, catalog: Catalog) -> None:
        """Refuse a start with paths of plugins that cannot be had, or log them where the settings allow broken plugins.

        Their requests are served all the same: the paths are the Admin API's alone. Raises: StartError.
        """
        faults = [text for texts in catalog.admin_paths().faults.values() for text in texts]
        if faults and not self._bootstrap.settings.general.allow_broken_plugins:
            raise StartError(faults)
        for text in faults:
            _log.error("%s", text)

    def _node_without_database(self, catalog: Catalog, error: "UnreachableError") -> Node:
        """Return a node that serves what was in force when its database was last there.

        Raises: StartError, when nothing was kept.
        """
        from headgate.node.database import unchecked_store

        settings = self._bootstrap.settings
        try:
            known = kept_of_database(settings.prefix, settings.datastore) if self._keeper is not None else None
        except StartError as unreadable:
            raise StartError([*error.faults, *unreadable.faults]) from unreadable
        if known is None:
            raise error
        _log.error("%s; the node starts with what was in force when it last was there", "; ".join(error.faults))
        store, self._prepare_store = unchecked_store(settings, catalog)
        self._seen_revision = -1
        return Node(self._bootstrap, catalog, with_starting_revision(known), store)


def main() -> int:
    """Run the control process on the channel named by the arguments."""
    return run(channel_from_arguments(sys.argv[1:]))


def run(channel: ParentChannel) -> int:
    """Run the control process of the bootstrap document that the channel brings; returns the exit code."""
    parent_pid = os.getppid()
    bootstrap = channel.read_bootstrap()
    die_with_parent(parent_pid)
    setproctitle.setproctitle("headgate: control")
    logs.configure_logging(bootstrap.settings.general.log_level, bootstrap.log_path, "control")
    logging.captureWarnings(True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Control(bootstrap, channel).run())


if __name__ == "__main__":
    sys.exit(main())
