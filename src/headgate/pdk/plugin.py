"""`Plugin`, the base class of handlers, and `kong.plugin`.

A plugin is a class with `VERSION`, `PRIORITY` and any of the phase methods, each `def` or `async def`:
`init_worker(self)`, `configure(self, configs)`, and with the configuration as argument `certificate`, `rewrite`,
`access`, `response`, `header_filter`, `body_filter`, `log`; for WebSocket services `ws_handshake`, `ws_client_frame`,
`ws_upstream_frame`, `ws_close`. One object per worker serves all requests: keep what
belongs to a
request in `kong.ctx.plugin`. Finding and checking classes is `policy.catalog`'s.
"""

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from headgate.pdk._call import current_call
from headgate.pdk._phase import any_phase

Config = TypeVar("Config")


class Plugin(Generic[Config]):
    """Base of every handler; `Config` is the plugin's `PluginConfig` class."""

    VERSION: ClassVar[str]
    """`x.y.z`."""
    PRIORITY: ClassVar[int]
    """Higher runs earlier, in every phase; equal ones by name, descending."""
    IDENTIFIES_CONSUMER: ClassVar[bool] = False
    """Says that `access` calls `kong.client.authenticate`: consumer-scoped instances apply only behind it, and whoever
    orders one before it is warned."""


def config_model_of(handler: type[Any]) -> type[Any] | None:
    """Return the configuration class named in `Plugin[...]`, None without one."""
    for base in handler.__mro__:
        for generic in getattr(base, "__orig_bases__", ()):
            if getattr(generic, "__origin__", None) is Plugin and isinstance(generic.__args__[0], type):
                model: type[Any] = generic.__args__[0]
                return model
    return None


@dataclass(frozen=True, slots=True, weakref_slot=True)
class InstanceInfo:
    """What a plugin may ask about one of its configurations, beside the schema's fields (PDK reference 15)."""

    id: str
    name: str
    instance_name: str | None
    route_id: str | None
    service_id: str | None
    consumer_id: str | None
    consumer_group_id: str | None
    sequence: int
    """Node-wide increasing number, new whenever the configuration is built anew."""
    refs: Mapping[str, str] = field(default_factory=dict)
    """Vault references in the configuration by dotted path; the fields themselves hold the secrets."""


_infos: dict[int, tuple[weakref.ref[Any], InstanceInfo]] = {}


def remember_instance(config: Any, info: InstanceInfo) -> None:
    """Connect a configuration object with its instance for `instance_of`, as long as the object lives."""
    key = id(config)
    _infos[key] = (weakref.ref(config, lambda _: _infos.pop(key, None)), info)


def instance_of(config: Any) -> InstanceInfo:
    """Return the plugin instance that a configuration handed to a handler belongs to.

    Raises: LookupError for any other object.
    """
    entry = _infos.get(id(config))
    if entry is None or entry[0]() is not config:
        raise LookupError("not the configuration of a plugin instance")
    return entry[1]


class PluginModule:
    """`kong.plugin`."""

    __slots__ = ()

    @any_phase
    def get_id(self) -> str | None:
        """Return the id of the plugin instance that is running; None outside of a handler with a configuration."""
        call = current_call.get()
        return (call.instance.id or None) if call is not None and call.instance is not None else None


plugin = PluginModule()
