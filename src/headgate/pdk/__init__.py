"""The plugin development kit: what plugins import, and nothing of the gateway's inside.

`kong` has Kong's modules and functions; `Plugin` is the base of handlers. A PDK function reads and writes the current
request through the protocol class `Exchange`; which request that is, a context variable says (`_call`). Phases of a
function are declared with `phases`, once. Nothing here imports the native module.
"""

from headgate.pdk._body import BodyError, RequestAbortedError
from headgate.pdk._exit import Exit
from headgate.pdk._kong import kong
from headgate.pdk._node import configure_node
from headgate.pdk._phase import phases
from headgate.pdk.blocking import blocking
from headgate.pdk.client import ProtocolError
from headgate.pdk.plugin import InstanceInfo, Plugin, instance_of
from headgate.pdk.service import UpstreamNotFoundError

__all__ = [
    "BodyError",
    "Exit",
    "InstanceInfo",
    "Plugin",
    "ProtocolError",
    "RequestAbortedError",
    "UpstreamNotFoundError",
    "blocking",
    "configure_node",
    "instance_of",
    "kong",
    "phases",
]
