"""The rule between the protocols of a plugin instance and those of the routes it is on."""

from collections.abc import Collection, Iterable
from typing import Any, Final

_ROUTE_PROTOCOLS: Final = "must match the associated route's protocols"
_SERVICE_PROTOCOLS: Final = "must match the protocols of at least one route pointing to this Plugin's service"
_PLUGIN_PROTOCOLS_OF: Final = {"ws": "http", "wss": "https"}


def plugin_protocols_fault(
    plugin: dict[str, Any], of_route: Iterable[str] | None, of_service: Collection[str] | None
) -> str | None:
    """Return the text when no protocol is shared.

    Args: of_route, protocols of the route the instance is on; of_service, those of all routes of the service it is on.
    None where there is no such route, which is no fault.
    """
    if plugin["route"] is not None:
        return None if of_route is None or _share_one(plugin["protocols"], of_route) else _ROUTE_PROTOCOLS
    if plugin["service"] is not None and of_service and not _share_one(plugin["protocols"], of_service):
        return _SERVICE_PROTOCOLS
    return None


def _share_one(of_plugin: list[str], of_routes: Iterable[str]) -> bool:
    return any(name in of_plugin or _PLUGIN_PROTOCOLS_OF.get(name) in of_plugin for name in of_routes)
