"""The plugins of stream routes: which instance of each runs in preread and log.

The rules of precedence are those of HTTP (`precedence`), without consumers, whom a stream does not know: a chain never
depends on the client, and instances that are scoped to one take no part.
"""

from collections.abc import Iterable, Mapping

from headgate.phases import Phase
from headgate.policy.chain import PluginInstance, mask_of, steps_of
from headgate.policy.precedence import Scope, choose


class StreamGlobals:
    """Global instances: `certificate`, and `log` of streams that no route took."""

    __slots__ = ("certificate", "log", "mask")

    def __init__(self, instances: Iterable[PluginInstance]) -> None:
        chosen = tuple(instances)
        self.certificate = steps_of(chosen, Phase.CERTIFICATE)
        self.log = steps_of(chosen, Phase.LOG)
        self.mask = mask_of(chosen, (Phase.CERTIFICATE, Phase.LOG))


class StreamChain:
    """The plugins of one stream route, in the order of running; `phases` are the bits that the engine calls."""

    __slots__ = ("instances", "log", "phases", "preread")

    def __init__(self, instances: Iterable[PluginInstance]) -> None:
        self.instances = tuple(instances)
        self.preread = steps_of(self.instances, Phase.PREREAD)
        self.log = steps_of(self.instances, Phase.LOG)
        self.phases = mask_of(self.instances, (Phase.PREREAD, Phase.LOG))


class StreamChainBuilder:
    """Makes the chains of one plan."""

    def __init__(self, instances: Mapping[str, Mapping[Scope, PluginInstance]]) -> None:
        """Args: instances by plugin name, in the order of running, then by scope."""
        self._instances = instances

    def chain(self, route: str, service: str | None) -> StreamChain:
        """Return the chain of a route and its service."""
        picked = (choose(by_scope, route, service) for by_scope in self._instances.values())
        return StreamChain(one for one in picked if one is not None)
