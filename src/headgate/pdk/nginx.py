"""`kong.nginx`: the subsystem and the connections of this worker, under Kong's names (PDK reference 14)."""

from headgate.pdk._call import current_call
from headgate.pdk._node import node
from headgate.pdk._phase import any_phase
from headgate.phases import STREAM_PHASES, Phase

COUNTERS = (
    "connections_active",
    "connections_reading",
    "connections_writing",
    "connections_waiting",
    "connections_accepted",
    "connections_handled",
    "total_requests",
)


class Nginx:
    """`kong.nginx`."""

    __slots__ = ()

    @any_phase
    def get_subsystem(self) -> str:
        """Return `http`, or `stream` for a connection without HTTP."""
        call = current_call.get()
        if call is None:
            return "http"
        if call.phase == Phase.CERTIFICATE.value:
            return "stream" if getattr(call.exchange, "is_stream", False) else "http"
        return "stream" if call.phase & STREAM_PHASES else "http"

    @any_phase
    def get_statistics(self) -> dict[str, int]:
        """Return the counters of this worker: `connections_active`, `_reading`, `_writing`, `_waiting`, `_accepted`,
        `_handled` and `total_requests`. All 0 where no engine runs.
        """
        counters = {} if node.statistics is None else node.statistics()
        return {name: counters.get(name, 0) for name in COUNTERS}


nginx = Nginx()
