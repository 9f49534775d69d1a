"""Secrets that change: asks vaults again in intervals and puts what they say now into plugins' configurations.

One task per worker. What holds copies of secrets beyond configurations (the engine its certificates) is told.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable

from headgate.pdk._bound import resolve_bound
from headgate.pdk._secrets import Secrets, secrets

DEFAULT_INTERVAL_S = 60.0
INTERVAL_VARIABLE = "KONG_VAULT_ROTATION_INTERVAL"
SHORTEST_INTERVAL_S = 1.0


async def rotate_secrets(on_change: Callable[[], Awaitable[None]], source: Secrets = secrets) -> None:
    """Rotate for ever: every 60 s (environment: `KONG_VAULT_ROTATION_INTERVAL`), or as soon as a shorter time to live
    is over.
    """
    rotated_at_s = time.monotonic()
    while True:
        # Not the whole interval at once: a secret that is asked for meanwhile may have a shorter time to live.
        await asyncio.sleep(SHORTEST_INTERVAL_S)
        if time.monotonic() - rotated_at_s >= interval_s(source):
            rotated_at_s = time.monotonic()
            await rotate_once(on_change, source)


async def rotate_once(on_change: Callable[[], Awaitable[None]], source: Secrets = secrets) -> None:
    """Ask for what has outlived its time to live; when anything changed, put it in place and call `on_change`."""
    if source.rotate():
        resolve_bound(source)
        await on_change()


def interval_s(source: Secrets = secrets) -> float:
    """Return how long to wait for the next rotation."""
    try:
        wanted = float(os.environ.get(INTERVAL_VARIABLE, ""))
    except ValueError:
        wanted = DEFAULT_INTERVAL_S
    return max(SHORTEST_INTERVAL_S, min(wanted, source.shortest_ttl_s()))
