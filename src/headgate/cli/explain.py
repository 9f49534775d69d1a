"""`headgate explain`: what the gateway would do with a request, and why."""

import dataclasses
from collections.abc import Iterator
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
from headgate.policy.explain import Explanation, explain, find_consumer

_PORTS = {"http": 80, "https": 443}


@click.command("explain")
@click.option("--method", default="GET", show_default=True, metavar="NAME", help="Method of the request.")
@click.option("--path", "target", default="/", show_default=True, metavar="PATH", help="Path, with query if any.")
@click.option("--host", default="localhost", show_default=True, metavar="NAME", help="Host header, with port if any.")
@click.option("--scheme", type=click.Choice(("http", "https")), default="http", show_default=True)
@click.option("--header", "headers", multiple=True, metavar="NAME:VALUE", help="A header; may be given several times.")
@click.option("--sni", metavar="NAME", help="TLS server name; with https the host is taken when it is not given.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the listener (default: that of the scheme).")
@click.option("--consumer", metavar="NAME", help="Username, custom id or id of an authenticated consumer.")
@declarative_option
@conf_option
@prefix_option
@plugin_path_option
@json_option
@verbosity_options
def command(
    method: str,
    target: str,
    host: str,
    scheme: str,
    headers: tuple[str, ...],
    sni: str | None,
    port: int | None,
    consumer: str | None,
    declarative: str | None,
    conf: str | None,
    prefix: str | None,
    plugin_path: tuple[str, ...],
    is_json: bool,
) -> None:
    """Show the route a request takes, which instance of each plugin runs and why, and the order in every phase.

    The configuration is the file given with --declarative, else the one the settings name, else the one that the
    node in the prefix runs. Nothing is sent anywhere and no plugin's handler is called.

    \b
    Examples:
      headgate explain --path /orders --host shop.test
      headgate explain --path /orders --consumer anna --declarative kong.yml --json
    """
    from headgate.engine import explain_route

    if not target.startswith("/"):
        raise CommandError(f"the path must start with /: {target}", hint=_target_hint(target))
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
    is_tls = scheme == "https"
    match = explain_route(
        plan.engine_plan(),
        method=method.upper(),
        host=host,
        target=target,
        headers=[("Host", host), *map(_header, headers)],
        sni=sni if sni is not None or not is_tls else host.partition(":")[0],
        is_tls=is_tls,
        port=port or _PORTS[scheme],
    )
    result = explain(snapshot, plan, match, consumer=known, is_tls=is_tls)
    if is_json:
        print_json(dataclasses.asdict(result))
        return
    _print(result)


def _target_hint(target: str) -> str | None:
    parts = urlsplit(target)
    if parts.scheme and parts.netloc:
        return f"For a URL: --scheme {parts.scheme} --host {parts.netloc} --path {parts.path or '/'}"
    return None


def _header(text: str) -> tuple[str, str]:
    name, separator, value = text.partition(":")
    if not separator or not name.strip():
        raise CommandError(f"a header is NAME:VALUE, got: {text}")
    return name.strip(), value.strip()


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
