"""`run_phase`: what a plugin author sees of it."""

import asyncio
import socket
import subprocess
import threading

import pytest

from headgate.errors import PhaseError, SchemaViolation
from headgate.pdk import Plugin, kong
from headgate.schema import PluginConfig
from headgate.testing import Request, Upstream, run_phase


class Config(PluginConfig):
    header: str = "X-Greeting"


class Greeting(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 10

    def access(self, conf: Config) -> None:
        kong.ctx.plugin.seen = kong.request.get_path()
        kong.log.warn("seen ", kong.ctx.plugin.seen)
        kong.service.request.set_header(conf.header, "hello")
        if kong.request.get_header("x-block"):
            kong.response.exit(403, {"message": "blocked"}, {"X-Why": "asked"})

    async def header_filter(self, conf: Config) -> None:
        await asyncio.sleep(0)
        kong.response.set_header("X-Seen", kong.ctx.plugin.seen or "nothing")

    def body_filter(self, conf: Config) -> None:
        body = kong.response.get_raw_body()
        if body is not None:
            kong.response.set_raw_body(body.upper())

    def log(self, conf: Config) -> None:
        kong.response.exit(200)


def test_the_result_shows_what_goes_upstream_and_what_was_logged() -> None:
    result = run_phase(Greeting, "access", config={"header": "X-Hi"}, request=Request(path="/a//b?x=1"))
    assert not result.is_exit
    assert result.upstream.headers["x-hi"] == "hello"
    assert result.ctx.seen == "/a/b"
    [line] = result.logs
    assert line.level == "warn"
    assert line.message.endswith("] seen /a/b")


def test_an_exit_is_the_response() -> None:
    result = run_phase(Greeting, "access", request=Request(headers={"X-Block": "1"}))
    assert (result.is_exit, result.status, result.body) == (True, 403, b'{"message":"blocked"}')
    assert result.headers["x-why"] == "asked"
    assert result.headers["content-type"] == "application/json; charset=utf-8"


def test_a_request_goes_on_in_the_next_phase() -> None:
    access = run_phase(Greeting, "access", request=Request(path="/here"))
    result = run_phase(Greeting, "header_filter", exchange=access.exchange, response=Upstream(204))
    assert (result.status, result.headers["x-seen"]) == (204, "/here")


def test_body_filter_runs_for_each_chunk() -> None:
    assert run_phase(Greeting, "body_filter", chunks=[b"ab", b"cd", b""]).body == b"ABCD"


def test_guards_are_the_real_ones() -> None:
    with pytest.raises(PhaseError, match="function cannot be called in log phase"):
        run_phase(Greeting, "log")


def test_the_configuration_is_checked_by_the_schema() -> None:
    with pytest.raises(SchemaViolation):
        run_phase(Greeting, "access", config={"header": 5})


async def _inside_a_loop() -> str:
    return str(run_phase(Greeting, "header_filter").headers["x-seen"])


def test_an_async_handler_runs_from_within_a_running_loop_too() -> None:
    assert asyncio.run(_inside_a_loop()) == "nothing"


def test_a_phase_runs_without_process_thread_or_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is why it takes a fifth of a millisecond."""
    for owner, name in ((subprocess, "Popen"), (socket, "socket"), (threading.Thread, "start")):
        monkeypatch.setattr(owner, name, lambda *_, **__: pytest.fail("nothing is to be started"))
    run_phase(Greeting, "access")
