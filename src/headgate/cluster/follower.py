"""Control's view of its store: answers the writes of workers, and publishes what changed after every change.

Owns that the node runs what the store holds: changes of this node and, on PostgreSQL, of all others are seen at once;
those of other processes on an SQLite file within half a second. A store that is gone is tried again; meanwhile the
node serves what it has.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from headgate.cluster.frames import StoreFault, StoreReply, StoreRequest
from headgate.cluster.publisher import PublicationRefusedError, PublicationTimeoutError, Publisher
from headgate.cluster.relay import Relay
from headgate.errors import DATABASE_ERROR, NOT_FOUND, EntityError, GatewayError
from headgate.store.base import Store
from headgate.store.snapshot import Snapshot

_log = logging.getLogger("headgate.control")
_WAIT_S = 0.5
_RETRY_S = 1.0
_PUBLISH_TIMEOUT_S = 30.0
PURGE_INTERVAL_S = 300.0


class Follower:
    """The link between a store and a publisher.

    Args: seen, the revision of the store that the publisher's snapshot was made of; read, that snapshot as the store
    gave it, None when the next change is to be read with everything else; prepare, called before the first reading
    when the store could not be reached yet, may raise a GatewayError; on_change, told of each snapshot in force;
    relay, messages between nodes, which are looked for as often as changes; look_over sees every snapshot before it is
    published, on another thread.
    """

    def __init__(
        self,
        store: Store,
        publisher: Publisher,
        seen: int,
        read: Snapshot | None = None,
        *,
        relay: Relay | None = None,
        prepare: Callable[[], None] | None = None,
        on_change: Callable[[Snapshot], None] | None = None,
        look_over: Callable[[Snapshot], None] = lambda snapshot: None,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._seen = seen
        self._read = read
        self._stored = publisher.current
        self._catching_up = asyncio.Lock()
        self._refusal: str | None = None
        self._relay = relay
        self._look_over = look_over
        self._prepare = prepare
        self._on_change = on_change or (lambda snapshot: None)
        self.is_reachable = prepare is None
        self.unreachable_since_s: float | None = None if prepare is None else time.time()
        """Unix time since which the store cannot be read."""
        self._told: str | None = None

    @property
    def stored(self) -> Snapshot:
        """What the store held when it was last read, in force or not."""
        return self._stored

    async def run(self) -> None:
        """Publish every change until cancelled; several changes at once make one snapshot."""
        purged_at_s = time.monotonic()
        while True:
            try:
                if self._prepare is not None:
                    await asyncio.to_thread(self._prepare)
                    self._prepare = None
                revision = await asyncio.to_thread(self._store.wait_for_change, self._seen, _WAIT_S)
                if not self.is_reachable:
                    self._take_return()
                if revision < self._seen and await asyncio.to_thread(self._store.revision) < self._seen:
                    # Another database under the same address: it counts anew.
                    self._read, self._seen = None, -1
                await self.catch_up(revision)
                if self._relay is not None:
                    await self._relay.poll()
                if time.monotonic() - purged_at_s > PURGE_INTERVAL_S:
                    purged_at_s = time.monotonic()
                    await asyncio.to_thread(self._store.purge)
                    if self._relay is not None:
                        await self._relay.purge()
            except GatewayError as error:
                self._take_loss(error)
                await asyncio.sleep(_RETRY_S)

    def _take_loss(self, error: GatewayError) -> None:
        if self.is_reachable:
            self.is_reachable = False
            self.unreachable_since_s = time.time()
        elif self._told is not None and isinstance(error, EntityError):
            # Once is enough; how it fails may change with every attempt.
            return
        # What is read next may be another database: one put back from a copy, for example.
        self._read = None
        if self._told != str(error):
            self._told = str(error)
            _log.error("the database cannot be read, the node serves what it has: %s", error)

    def _take_return(self) -> None:
        away_s = 0.0 if self.unreachable_since_s is None else time.time() - self.unreachable_since_s
        self.is_reachable = True
        self.unreachable_since_s = None
        self._told = None
        _log.warning("the database is there again, after %.0f s", away_s)

    async def catch_up(self, revision: int) -> str | None:
        """Publish what the store holds unless a revision at least as new was published already.

        Returns: why the store's content is not in force; None when it is. Raises: EntityError of code 8.
        """
        async with self._catching_up:
            if self._seen < revision:
                await self._publish_change()
            return self._refusal

    async def _publish_change(self) -> None:
        if self._read is None:
            snapshot, delta = await asyncio.to_thread(self._store.snapshot), None
        else:
            snapshot, delta = await asyncio.to_thread(self._store.snapshot_after, self._read)
        change = None if self._read is None or delta is None else (self._read, delta)
        self._seen = snapshot.revision
        self._read = self._stored = snapshot
        self._refusal = None
        await asyncio.to_thread(self._look_over, snapshot)
        try:
            self._stored = await self._publisher.publish(snapshot, _PUBLISH_TIMEOUT_S, change)
            self._on_change(self._stored)
        except PublicationRefusedError as error:
            self._refusal = str(error)
            _log.error("revision %d of the database is not in force: %s", snapshot.revision, error)
        except PublicationTimeoutError as error:
            self._refusal = str(error)
            _log.warning("revision %d of the database is not in force in all workers yet", snapshot.revision)

    def require_reachable(self) -> None:
        """Refuse at once what would wait for a store that is not there now.

        Raises: EntityError of code 8.
        """
        if not self.is_reachable:
            raise EntityError(DATABASE_ERROR, message=f"the database is away: {self._told}", status=503)

    async def answer(self, request: StoreRequest) -> StoreReply:
        """Execute the write of a worker."""
        try:
            self.require_reachable()
            return StoreReply(request.serial, await asyncio.to_thread(self._execute, request))
        except EntityError as error:
            if error.code == DATABASE_ERROR:
                _log.error("%s of '%s': %s", request.operation, request.entity, error)
            fault = StoreFault(error.code, error.name, error.message, error.fields, error.status)
        except Exception as error:
            # Whatever a plugin gave: its handler gets the answer, control goes on.
            _log.exception("%s of '%s' failed", request.operation, request.entity)
            fault = StoreFault(DATABASE_ERROR, "database error", str(error), None, 500)
        return StoreReply(request.serial, fault=fault)

    def _execute(self, request: StoreRequest) -> dict[str, object] | None:
        store, name = self._store, request.entity
        if name not in store.entity_types:
            raise EntityError(NOT_FOUND, message=f"there are no '{name}' entities")
        if request.by != "id" and request.by not in store.entity_types[name].lookup_fields:
            raise EntityError(NOT_FOUND, message=f"'{name}' entities have no unique field '{request.by}'")
        if request.operation == "insert":
            return store.insert(name, request.values, ttl=request.ttl)
        if request.operation == "update":
            return store.update(name, request.key, request.values, by=request.by, ttl=request.ttl)
        if request.operation == "upsert":
            return store.upsert(name, request.key, request.values, by=request.by, ttl=request.ttl)
        if request.operation == "truncate":
            store.truncate(name)
            return None
        store.delete(name, request.key, by=request.by)
        return None
