"""Plugin instances that cannot be configured: their requests are refused, everybody else's are served.

A plugin that cannot be imported and a stored configuration that its plugin no longer accepts end here, when the setting
`allow_broken_plugins` is on; otherwise they keep a node from starting and a configuration from being taken. Such an
instance takes part in precedence like any other, so it is never skipped in favour of a less specific one.
"""

from collections.abc import Mapping
from typing import Any, cast

from headgate.errors import GatewayError
from headgate.pdk.plugin import InstanceInfo, Plugin
from headgate.phases import Phase
from headgate.policy.chain import HANDLED_PHASES, PluginInstance
from headgate.policy.precedence import Scope

_EARLY_PHASES = frozenset((Phase.CERTIFICATE.label, Phase.REWRITE.label))


class BrokenPluginError(GatewayError):
    """A request that a broken instance applies to."""


class BrokenInstance(PluginInstance):
    """An instance without a configuration: `access`, `ws_handshake` and `preread` fail, and `rewrite` when its plugin
    may take part so early.

    A handshake is let through, since only a request can be answered.
    """

    __slots__ = ("fault", "is_plugin_broken")

    def __init__(
        self,
        info: InstanceInfo,
        scope: Scope,
        entity: Mapping[str, Any],
        fault: str,
        *,
        plugin_phases: frozenset[str] = frozenset(),
        is_plugin_broken: bool = False,
    ) -> None:
        super().__init__(info, scope, None, cast(Plugin[Any], _Refusing(fault)), entity)
        self.fault = fault
        self.is_plugin_broken = is_plugin_broken
        if not is_plugin_broken and _EARLY_PHASES.isdisjoint(plugin_phases):
            self.rewrite = None
        self.phases = sum(phase.value for phase in HANDLED_PHASES if getattr(self, phase.label) is not None)


class _Refusing:
    """Stands for the handler of a broken instance."""

    def __init__(self, fault: str) -> None:
        self._fault = fault

    def _refuse(self, config: Any) -> None:
        raise BrokenPluginError(f"the plugin instance is broken: {self._fault}")

    rewrite = access = preread = ws_handshake = _refuse
