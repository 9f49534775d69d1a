"""`kong.cluster_events`: messages to all nodes that share a database (PDK reference 20.3).

Each worker of each node gets a message once, the sender's own node included; without a database the cluster is this
node. (Kong calls a subscriber in one worker of the other nodes and leaves the rest to `kong.worker_events`; here there
is nothing left to do.) Messages travel through the control process: those sent while it is being replaced are held
back, at most 1000, until it is there again.
"""

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

import msgspec

from headgate.errors import GatewayError
from headgate.pdk._check import is_number, need_string
from headgate.pdk._node import node
from headgate.pdk._phase import any_phase
from headgate.pdk.worker_events import MOST_DATA_BYTES, start_handler

LONGEST_DELAY_S = 3600
"""Messages live for an hour in the database (Kong's value)."""


class ClusterEventError(GatewayError):
    """A message cannot be sent: too large, not plain data, or no loop to run handlers on."""


class ClusterEvents:
    """`kong.cluster_events`. Callable from every thread of the worker."""

    __slots__ = ("_subscribers",)

    def __init__(self) -> None:
        self._subscribers: dict[str, tuple[Callable[..., Any], ...]] = {}

    @any_phase
    def subscribe(self, channel: str, callback: Callable[..., Any]) -> None:
        """Call `callback(data)` for each message of a channel; subscribe in `init_worker`.

        Args: `callback` may be `async def`; what it raises is logged.
        Raises: TypeError `channel must be a string`, `callback must be a function`.
        """
        need_string(channel, "channel")
        if not callable(callback):
            raise TypeError("callback must be a function")
        self._subscribers[channel] = (*self._subscribers.get(channel, ()), callback)

    @any_phase
    def broadcast(self, channel: str, data: Any, delay: float = 0) -> None:
        """Send a message to all workers of all nodes, this one included; returns at once.

        Other nodes get it within half a second, and what the setting `db_update_propagation` adds to that.

        Args: `data`: None, text, numbers, booleans, lists, dicts; at most 65535 bytes. `delay`: seconds before which no
            subscriber gets it, 0 to 3600.
        Raises: TypeError `channel must be a string`, `delay must be a number`; ValueError for another delay;
            ClusterEventError.
        """
        need_string(channel, "channel")
        if not is_number(delay):
            raise TypeError("delay must be a number")
        if not 0 <= delay <= LONGEST_DELAY_S:
            raise ValueError(f"delay must be a number between 0 and {LONGEST_DELAY_S}")
        try:
            size_bytes = len(msgspec.msgpack.encode(data))
        except (TypeError, ValueError, OverflowError) as error:
            raise ClusterEventError(f"failed to broadcast event: {error}") from error
        if size_bytes > MOST_DATA_BYTES:
            raise ClusterEventError(f"failed to broadcast event: payload exceeds the limitation ({MOST_DATA_BYTES})")
        if node.broadcast is not None:
            node.broadcast(channel, data, float(delay), False)
            return
        # No control process, as in a test of a plugin: this process is the cluster.
        try:
            loop = node.loop or asyncio.get_running_loop()
        except RuntimeError:
            raise ClusterEventError("cluster events need the loop of a worker; there is none here") from None
        loop.call_soon_threadsafe(loop.call_later, delay, receive, channel, data, context=contextvars.Context())


cluster_events = ClusterEvents()


def receive(channel: str, data: Any) -> None:
    """Start the subscribers of a message; on the loop."""
    for callback in cluster_events._subscribers.get(channel, ()):
        start_handler(callback, (data,), f"subscriber of cluster event {channel}")
