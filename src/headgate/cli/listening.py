"""The table of what listens where, printed at start: with colours on a terminal, plain lines in a pipe."""

import sys
from collections.abc import Sequence

import click

from headgate.cli.output import uses_colour
from headgate.config.load import Settings
from headgate.supervisor import ListenerStatus

_NAMES = {"proxy_listen": "proxy", "stream_listen": "stream", "admin_listen": "admin", "status_listen": "status"}


def rows(listeners: Sequence[ListenerStatus]) -> list[tuple[str, str, str]]:
    """Return (name, URL, protocols) of each listener."""
    found = []
    for entry in listeners:
        host = f"[{entry.address}]" if ":" in entry.address else entry.address
        scheme = "https" if entry.is_ssl else "http"
        protocols = "HTTP/1.1, HTTP/2" if entry.is_http2 else "HTTP/1.1"
        if entry.setting_name == "stream_listen":
            scheme = "udp" if entry.is_udp else "tls" if entry.is_ssl else "tcp"
            protocols = "UDP" if entry.is_udp else "TLS" if entry.is_ssl else "TCP"
        name = _NAMES.get(entry.setting_name, entry.setting_name)
        found.append((name, f"{scheme}://{host}:{entry.port}", protocols))
    return found


def print_listeners(settings: Settings, listeners: Sequence[ListenerStatus]) -> None:
    """Print where the node listens, where it works and with how many workers."""
    table = rows(listeners)
    if uses_colour(sys.stdout):
        _print_rich(table)
    else:
        widths = [max((len(row[column]) for row in table), default=0) for column in range(2)]
        for name, url, protocols in table:
            click.echo(f"{name:<{widths[0]}}  {url:<{widths[1]}}  {protocols}")
    click.echo(f"prefix {settings.prefix}, workers {settings.general.worker_count}")


def _print_rich(table: Sequence[tuple[str, str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, header_style="bold", pad_edge=False)
    for column, style in (("listener", "cyan"), ("address", "green"), ("protocols", "")):
        shown.add_column(column, style=style)
    for row in table:
        shown.add_row(*row)
    Console().print(shown)
