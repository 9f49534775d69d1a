"""The secret of TLS session tickets that the workers of a node share.

Made by the supervisor, kept in memory only, and given to every child with its bootstrap. It moves on with time: each
period's secret is derived from the one before, which is then forgotten, in workers (`crates/engine/src/tls/sessions.rs`
derives the same way) as here. So a worker that is started later reads the tickets of its siblings, and a secret that
leaks opens no connection that is older than two periods.
"""

import hmac
import secrets
import time
from dataclasses import dataclass
from typing import Final

SECRET_BYTES: Final = 32


@dataclass(frozen=True)
class TicketState:
    """A secret as hex digits, and the period it belongs to (Unix time divided by the lifetime of sessions)."""

    secret: str
    period: int


class TicketSecret:
    """The secret of the current period. Args: `lifetime_s`: how long a session can be resumed, at least 1."""

    def __init__(self, lifetime_s: int, *, now: float | None = None) -> None:
        self.lifetime_s = lifetime_s
        self._secret = secrets.token_bytes(SECRET_BYTES)
        self._period = self._period_at(now)

    def state(self, *, now: float | None = None) -> TicketState:
        """Move on to the current period and return its secret."""
        period = self._period_at(now)
        while self._period < period:
            self._secret = derived(self._secret)
            self._period += 1
        return TicketState(self._secret.hex(), self._period)

    def _period_at(self, now: float | None) -> int:
        return int(time.time() if now is None else now) // self.lifetime_s


def derived(secret: bytes) -> bytes:
    """Return the secret of the next period."""
    return hmac.digest(secret, b"next", "sha256")
