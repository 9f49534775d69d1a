"""Tells a test, over a datagram socket, which phase ran with what in view; raises or answers where it is told to."""

import json
import os
import socket
from typing import Any

from headgate import Plugin, PluginConfig, kong


class Config(PluginConfig):
    """Where to report, and what to do in which phase."""

    report_to: str | None = None
    label: str = "probe"
    raise_in: str | None = None
    exit_in: str | None = None


def act(conf: Any, phase: str, **facts: Any) -> None:
    """Report the phase, then raise or answer if it is this one's turn."""
    if conf.report_to:
        report = {"label": conf.label, "phase": phase, "worker": os.getpid(), **facts}
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(json.dumps(report).encode(), conf.report_to)
    if conf.raise_in == phase:
        raise ValueError(f"told to raise in {phase}")
    if conf.exit_in == phase:
        kong.response.exit(299, {"answered_in": phase}, {"X-Answered-In": phase})


class Handler(Plugin[Config]):
    """Every phase of a request, in plain functions."""

    VERSION = "1.0.0"
    PRIORITY = 500

    def certificate(self, conf: Config) -> None:
        act(conf, "certificate")

    def rewrite(self, conf: Config) -> None:
        kong.ctx.plugin.seen = ["rewrite"]
        act(conf, "rewrite", path=kong.request.get_path())

    def access(self, conf: Config) -> None:
        seen = kong.ctx.plugin.seen or []
        kong.ctx.plugin.seen = [*seen, "access"]
        kong.service.request.set_header("X-Probe", conf.label)
        route = kong.router.get_route()
        act(conf, "access", route=route["name"] if route else None)

    def header_filter(self, conf: Config) -> None:
        kong.ctx.plugin.seen = [*(kong.ctx.plugin.seen or []), "header_filter"]
        kong.response.set_header("X-Probe", conf.label)
        act(conf, "header_filter", status=kong.response.get_status(), source=kong.response.get_source())

    def body_filter(self, conf: Config) -> None:
        kong.ctx.plugin.seen = [*(kong.ctx.plugin.seen or []), "body_filter"]
        act(conf, "body_filter")

    def log(self, conf: Config) -> None:
        act(
            conf,
            "log",
            seen=kong.ctx.plugin.seen,
            status=kong.response.get_status(),
            source=kong.response.get_source(),
        )
