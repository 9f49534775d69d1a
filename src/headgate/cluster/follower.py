"""Control's view of its store: answers the writes of workers, and publishes a snapshot after every change.

Owns that the node runs what the store holds: changes of this node are seen at once, those of other processes within
half a second. A store that is gone is tried again; meanwhile the node serves what it has.
"""

import asyncio
import logging
import time

from headgate.cluster.frames import StoreFault, StoreReply, StoreRequest
from headgate.cluster.publisher import PublicationRefusedError, PublicationTimeoutError, Publisher
from headgate.cluster.relay import Relay
from headgate.errors import DATABASE_ERROR, NOT_FOUND, EntityError
from headgate.store.base import Store
from headgate.store.snapshot import Snapshot

_log = logging.getLogger("headgate.control")
_WAIT_S = 0.5
_RETRY_S = 1.0
_PUBLISH_TIMEOUT_S = 30.0
PURGE_INTERVAL_S = 300.0


class Follower:
    """The link between a store and a publisher.

    Args: seen, the revision of the store that the publisher's snapshot was made of; relay, messages between nodes,
    which are looked for as often as changes.
    """

    def __init__(self, store: Store, publisher: Publisher, seen: int, relay: Relay | None = None) -> None:
        self._store = store
        self._publisher = publisher
        self._seen = seen
        self._relay = relay
        self.is_reachable = True

    async def run(self) -> None:
        """Publish every change until cancelled; several changes at once make one snapshot."""
        purged_at_s = time.monotonic()
        while True:
            try:
                revision = await asyncio.to_thread(self._store.wait_for_change, self._seen, _WAIT_S)
                if not self.is_reachable:
                    self.is_reachable = True
                    _log.warning("the database is there again")
                if revision != self._seen:
                    await self._publish(await asyncio.to_thread(self._store.snapshot))
                if self._relay is not None:
                    await self._relay.poll()
                if time.monotonic() - purged_at_s > PURGE_INTERVAL_S:
                    purged_at_s = time.monotonic()
                    await asyncio.to_thread(self._store.purge)
                    if self._relay is not None:
                        await self._relay.purge()
            except EntityError as error:
                if self.is_reachable:
                    self.is_reachable = False
                    _log.error("the database cannot be read, the node serves what it has: %s", error)
                await asyncio.sleep(_RETRY_S)

    async def _publish(self, snapshot: Snapshot) -> None:
        self._seen = snapshot.revision
        try:
            await self._publisher.publish(snapshot, _PUBLISH_TIMEOUT_S)
        except PublicationRefusedError as error:
            _log.error("revision %d of the database is not in force: %s", snapshot.revision, error)
        except PublicationTimeoutError:
            _log.warning("revision %d of the database is not in force in all workers yet", snapshot.revision)

    async def answer(self, request: StoreRequest) -> StoreReply:
        """Execute the write of a worker."""
        try:
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
