"""The list of phases, once: names, bits and the order in which texts print them.

Lowest module of the package beside `errors`: everything that speaks of phases derives from `Phase`. The engine has its
own enum of the phases it runs (`crates/engine/src/phase.rs`); `tests/invariants` compares the two.
"""

from enum import IntFlag


class Phase(IntFlag):
    """One bit per phase; the order is that of the phase checker's texts (PDK reference 1.1)."""

    INIT_WORKER = 1 << 0
    CERTIFICATE = 1 << 1
    CLIENT_HELLO = 1 << 2
    REWRITE = 1 << 3
    ACCESS = 1 << 4
    BALANCER = 1 << 5
    RESPONSE = 1 << 6
    CLUSTER_LISTENER = 1 << 7
    HEADER_FILTER = 1 << 8
    BODY_FILTER = 1 << 9
    LOG = 1 << 10
    PREREAD = 1 << 11
    ERROR = 1 << 12
    ADMIN_API = 1 << 13
    CONFIGURE = 1 << 14
    WS_HANDSHAKE = 1 << 15
    WS_CLIENT_FRAME = 1 << 16
    WS_UPSTREAM_FRAME = 1 << 17
    WS_CLOSE = 1 << 18

    @property
    def label(self) -> str:
        """The name as plugins and texts spell it, e.g. `header_filter`."""
        return str(self.name).lower()


STREAM_LOG = 1 << 30
"""`log` of a stream: to plugins it is the phase `log`; as a bit of its own, guards refuse what is for HTTP only."""

STREAM_PHASES = Phase.PREREAD.value | STREAM_LOG
