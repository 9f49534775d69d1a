"""`headgate plugin order`: the order in which plugins run, of all loaded ones and on each route."""

from collections.abc import Iterable, Iterator
from typing import Any

import click

from headgate.cli.documents import plugin_catalog
from headgate.cli.loaded import compiled, loaded_snapshot
from headgate.cli.options import (
    conf_option,
    declarative_option,
    json_option,
    overrides,
    plugin_path_option,
    settings_or_fail,
    verbosity_options,
)
from headgate.cli.output import fault_error, print_json
from headgate.cli.table import print_table
from headgate.errors import PluginLoadError
from headgate.phases import Phase
from headgate.policy.chain import LATER_PHASES, WEBSOCKET_PHASES, Chain, LateSlot, PluginInstance
from headgate.policy.compile import CompiledPlan
from headgate.policy.streams import StreamChain


@click.command("order")
@declarative_option
@conf_option
@plugin_path_option
@json_option
@verbosity_options
def command(declarative: str | None, conf: str | None, plugin_path: tuple[str, ...], is_json: bool) -> None:
    """Show the order in which the loaded plugins run, by priority; with a declarative file, that on each route.

    On a route the rules of `ordering` count, for requests of an unknown client; headgate explain shows one consumer's.
    Routes of WebSocket services and of streams have phases of their own.

    \b
    Examples:
      headgate plugin order
      headgate plugin order -d kong.yml
    """
    from headgate.cli.plugin.described import phases_in_order

    settings = settings_or_fail(conf, overrides(None, plugin_path))
    try:
        catalog = plugin_catalog(settings)
    except PluginLoadError as error:
        raise fault_error("in the plugins", error.faults) from error
    if declarative is not None:
        _show_routes(compiled(settings, loaded_snapshot(settings, catalog, declarative), catalog), is_json)
        return
    plugins = list(catalog.values())
    if is_json:
        shown = [{"name": one.name, "priority": one.priority, "phases": phases_in_order(one)} for one in plugins]
        print_json({"plugins": shown})
        return
    rows = [
        (str(place), plugin.name, str(plugin.priority), ", ".join(phases_in_order(plugin)))
        for place, plugin in enumerate(plugins, 1)
    ]
    print_table(("place", "name", "priority", "phases"), rows)


def _show_routes(plan: CompiledPlan, is_json: bool) -> None:
    routes = list(_routes(plan))
    if is_json:
        print_json({"routes": routes})
        return
    for place, route in enumerate(routes):
        click.echo(("\n" if place else "") + f"route {route['name'] or route['id']}")
        rows = [(phase, ", ".join(names)) for phase, names in route["order"].items()]
        print_table(("phase", "plugins"), rows or [("", "no plugin runs")], has_header=False)
        if route["by_client"]:
            click.echo(f"By the client: {', '.join(route['by_client'])}")


def _routes(plan: CompiledPlan) -> Iterator[dict[str, Any]]:
    chains: list[tuple[dict[str, list[str]], tuple[PluginInstance | LateSlot, ...]]] = [
        (_orders(chain), chain.slots) for chain in plan.chains
    ]
    # A stream knows no client, and its routes follow the others.
    chains += [(_stream_orders(chain), ()) for chain in plan.stream_chains]
    for position, (orders, slots) in enumerate(chains):
        route = plan.route(position)
        yield {
            "id": route["id"],
            "name": route.get("name"),
            "protocols": route["protocols"],
            "order": {phase: names for phase, names in orders.items() if names},
            "by_client": [slot.name for slot in slots if isinstance(slot, LateSlot)],
        }


def _orders(chain: Chain) -> dict[str, list[str]]:
    first, later = (Phase.WS_HANDSHAKE, WEBSOCKET_PHASES) if chain.is_websocket else (Phase.ACCESS, LATER_PHASES)
    static = chain.static_order()
    return {
        first.label: _names(first, chain.access_order()),
        **{phase.label: _names(phase, static) for phase in later},
    }


def _stream_orders(chain: StreamChain) -> dict[str, list[str]]:
    return {phase.label: _names(phase, chain.instances) for phase in (Phase.PREREAD, Phase.LOG)}


def _names(phase: Phase, instances: Iterable[PluginInstance]) -> list[str]:
    return [one.name for one in instances if getattr(one, phase.label) is not None]
