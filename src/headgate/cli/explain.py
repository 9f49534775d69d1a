"""`headgate explain`: what the gateway would do with a request, and why."""

import dataclasses
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import click

from headgate.cli.documents import plugin_catalog
from headgate.cli.loaded import compiled, loaded_snapshot
from headgate.cli.options import (
    conf_option,
    declarative_option,
    json_option,
    overrides,
    plugin_path_option,
    prefix_option,
    settings_or_fail,
    verbosity_options,
)
from headgate.cli.output import CommandError, fault_error, print_json
from headgate.cli.table import print_table
from headgate.errors import PluginLoadError
from headgate.policy.description import SCHEMES, DescriptionError, described
from headgate.policy.explain import Explanation, explain, find_consumer

_IP = "IP[:PORT]"


@click.command("explain")
@click.option("--method", metavar="NAME", help="Method of the request.  [default: GET]")
@click.option("--path", metavar="PATH", help="Path, with query if any.  [default: /]")
@click.option("--host", metavar="NAME", help="Host header, with port if any.  [default: localhost]")
@click.option("--scheme", type=click.Choice(SCHEMES), default="http", show_default=True)
@click.option("--header", multiple=True, metavar="NAME:VALUE", help="A header; may be given several times.")
@click.option("--sni", metavar="NAME", help="TLS server name; with https and wss the host when it is not given.")
@click.option("--source", metavar=_IP, help="The client.  [default: unknown, which no route with sources takes]")
@click.option("--destination", metavar=_IP, help="What it has connected to.  [default: unknown]")
@click.option("--port", metavar="NUMBER", help="Port of the listener.  [default: that of the scheme; streams need it]")
@click.option("--consumer", metavar="NAME", help="Username, custom id or id of an authenticated consumer.")
@declarative_option
@conf_option
@prefix_option
@plugin_path_option
@json_option
@verbosity_options
def command(
    declarative: str | None,
    conf: str | None,
    prefix: str | None,
    plugin_path: tuple[str, ...],
    is_json: bool,
    consumer: str | None,
    **given: Any,
) -> None:
    """Show the route a request takes, which instance of each plugin runs and why, and the order in every phase.

    With the scheme tcp, tls or udp it is a stream. The configuration is the file given with --declarative, else the one
    the settings name, else the one that the node in the prefix runs. Nothing is sent anywhere and no plugin's handler
    is called.

    \b
    Examples:
      headgate explain --path /orders --host shop.test
      headgate explain --path /orders --consumer anna --declarative kong.yml --json
      headgate explain --scheme tls --port 9443 --sni db.test --source 10.1.2.3
    """
    from headgate.engine import find_route

    try:
        description = described({**given, "consumer": consumer})
    except DescriptionError as error:
        lines = [f"--{name}: {text}" for name, text in error.faults.items()]
        raise CommandError("\n".join(lines), hint=_target_hint(given["path"] or "")) from error
    settings = settings_or_fail(conf, overrides(prefix, plugin_path))
    try:
        catalog = plugin_catalog(settings)
    except PluginLoadError as error:
        raise fault_error("in the plugins", error.faults) from error
    snapshot = loaded_snapshot(settings, catalog, declarative)
    plan = compiled(settings, snapshot, catalog)
    known = None
    if consumer is not None:
        known = find_consumer(snapshot, consumer)
        if known is None:
            raise CommandError(f"no consumer has the username, custom id or id '{consumer}'")
    match = find_route(plan.engine_plan(), description)
    result = explain(snapshot, plan, match, consumer=known, is_tls=description.is_tls, is_stream=description.is_stream)
    if is_json:
        print_json(dataclasses.asdict(result))
        return
    _print(result)


def _target_hint(target: str) -> str | None:
    parts = urlsplit(target)
    if parts.scheme and parts.netloc:
        return f"For a URL: --scheme {parts.scheme} --host {parts.netloc} --path {parts.path or '/'}"
    return None


def _print(result: Explanation) -> None:
    print_table(("fact", "value"), list(_facts(result)), has_header=False)
    for plugin in result.plugins:
        click.echo(f"\nplugin {plugin.name}" + ("" if plugin.winner else ": does not run"))
        rows = [
            ("*" if one.is_winner else "-", one.scope_text, one.instance_name or one.id, one.reason)
            for one in plugin.candidates
        ]
        print_table(("", "scope", "instance", "reason"), rows, has_header=False)
    if result.order:
        click.echo("\norder")
        rows_of_phases = [(phase, ", ".join(turn.plugin for turn in turns)) for phase, turns in result.order.items()]
        print_table(("phase", "plugins"), rows_of_phases, has_header=False)
    for note in result.notes:
        click.echo(f"\nNote: {note}")


def _facts(result: Explanation) -> Iterator[tuple[str, str]]:
    match = result.match
    yield "route", str(result.route) if result.route is not None else "none matches"
    if result.route is None:
        return
    yield "service", str(result.service) if result.service is not None else "none"
    if match.normalized_path:
        yield "path", match.normalized_path
    if match.matched_prefix is not None:
        yield "matched by", match.matched_prefix
    if match.named_captures or match.unnamed_captures:
        named = [f"{name}={value}" for name, value in (match.named_captures or {}).items()]
        yield "captures", ", ".join([*match.unnamed_captures, *named])
    if match.upstream_path is not None:
        yield "sent upstream", match.upstream_path
    if result.consumer is not None:
        yield "consumer", str(result.consumer)
        yield "consumer groups", ", ".join(map(str, result.consumer_groups)) or "none"
