"""`kong` for Lua: every function of the Python PDK, with Lua's conventions."""

import asyncio
import inspect
from typing import Any

import pytest

from headgate.lua import functions, pdk
from headgate.lua.errors import LuaFaultError
from headgate.lua.functions import FunctionSet
from headgate.lua.vm import vm
from headgate.pdk import Plugin, configure_node, kong
from headgate.pdk._node import node
from headgate.schema import PluginConfig
from headgate.testing import Request, Upstream, run_phase


@pytest.fixture(autouse=True)
def _mode() -> None:
    configure_node({"untrusted_lua": "on"})
    functions._sandbox.cache_clear()


class Runs(Plugin[PluginConfig]):
    """Runs Lua code in a phase."""

    VERSION = "1.0.0"
    PRIORITY = 1

    def __init__(self, source: str) -> None:
        self.functions = FunctionSet("lua-plugin", {phase: [source] for phase in PHASES})

    def rewrite(self, _: Any) -> Any:
        return self.functions.run("access")

    access = header_filter = body_filter = response = log = rewrite


PHASES = ("access",)


def run(source: str, phase: str = "access", **arguments: Any) -> Any:
    return run_phase(Runs(source), phase, name="lua-plugin", **arguments)


@pytest.mark.parametrize("path", [path for path, _ in pdk.functions()])
def test_every_function_of_the_pdk_is_there(path: str) -> None:
    found = vm().globals["kong"]
    for part in path.split("."):
        found = found[part]
    assert found is not None


def test_what_is_made_by_hand_is_there_too() -> None:
    run(
        """
        for _, path in ipairs { "cache.get", "core_cache.invalidate", "db.consumers.select", "db.routes.select_by_name",
          "dns.toip", "timer.at", "table.merge", "tracing.start_span", "worker_events.register", "log.new", "log.warn",
          "log.inspect", "log.deprecation", "log.serialize", "vault.try", "vault.update", "request.get_raw_body",
          "request.get_body", "service.set_target_retry_callback", "configuration.remove_sensitive" } do
          local found = kong
          for part in path:gmatch("[^.]+") do found = found[part] end
          assert(found, path)
        end"""
    )


def test_there_is_one_list_of_functions() -> None:
    names = {path for path, function in pdk.functions() if inspect.ismethod(function)}
    assert "request.get_header" in names
    assert "client.tls.request_client_certificate" in names
    assert not names & pdk.REPLACED


def test_wrong_arguments_raise_with_the_place_of_the_caller() -> None:
    with pytest.raises(LuaFaultError, match=r":1: header name must be a string"):
        run("kong.request.get_header(1)")


def test_a_wrong_phase_raises() -> None:
    with pytest.raises(LuaFaultError, match=r"function cannot be called in log phase"):
        run("kong.response.set_header('a', 'b')", "log")


def test_an_expected_fault_is_nil_and_a_text() -> None:
    run(
        """local ok, err = kong.service.set_upstream('nobody')
        assert(ok == nil and err == "could not find an Upstream named 'nobody'")"""
    )


def test_headers_are_found_in_any_spelling() -> None:
    run(
        """local headers = kong.request.get_headers()
        assert(headers.x_more == 'a' and headers['X-More'] == 'a' and headers['x-none'] == nil)""",
        request=Request(headers={"X-More": "a"}),
    )


def test_captures_of_a_path_are_tables() -> None:
    run("local found = kong.request.get_uri_captures() assert(found.unnamed[0] == nil and next(found.named) == nil)")


def test_contexts_are_tables_of_the_request() -> None:
    first = run("kong.ctx.plugin.a = { n = 1 } kong.ctx.shared.b = { n = 2 } ngx.ctx.c = 3")
    run(
        "assert(kong.ctx.plugin.a.n == 1 and kong.ctx.shared.b.n == 2 and ngx.ctx.c == 3)",
        "log",
        exchange=first.exchange,
    )
    run("assert(kong.ctx.plugin.a == nil and kong.ctx.shared.b == nil and ngx.ctx.c == nil)")


def test_the_shared_context_is_one_with_that_of_python_plugins() -> None:
    result = run("assert(kong.ctx.shared.given == 'p') kong.ctx.shared.taken = 'l'", shared={"given": "p"})
    assert result.shared.taken == "l"


def test_an_answer_in_header_filter_lets_the_handler_go_on() -> None:
    result = run(
        "kong.response.exit(403, 'no') kong.ctx.shared.went_on = true", "header_filter", response=Upstream(body=b"x")
    )
    assert (result.status, result.shared.went_on) == (403, True)


def test_a_table_is_answered_as_json_with_its_marks() -> None:
    result = run("kong.response.exit(200, { a = setmetatable({}, require('cjson').array_mt), b = ngx.null, c = {1} })")
    assert result.body in (b'{"a":[],"b":null,"c":[1]}', b'{"b":null,"a":[],"c":[1]}') or b'"a":[]' in result.body


def test_chunks_of_the_body_are_arguments() -> None:
    result = run(
        """ngx.arg[1] = (ngx.arg[1] or ''):upper()""", "body_filter", response=Upstream(body=b"ab"), chunks=[b"a", b"b"]
    )
    assert result.body == b"AB"


def test_the_cache_runs_its_callback_once() -> None:
    run(
        """
        local runs = 0
        local function load(n) runs = runs + 1 return { n = n } end
        local value, err, level = kong.cache:get('lua:key', nil, load, 7)
        assert(value.n == 7 and err == nil and level == 3, err)
        value, err, level = kong.cache:get('lua:key', nil, load, 8)
        assert(value.n == 7 and level == 1 and runs == 1)
        kong.cache:invalidate('lua:key')
        local nothing, fault = kong.cache:get('lua:other', nil, function() return nil, 'is down' end)
        assert(nothing == nil and fault == 'failed to get from node cache: is down', fault)"""
    )


def test_entities_are_read_by_id_and_unique_field() -> None:
    consumer = {"id": "8a7a9a3e-0000-4000-8000-000000000001", "username": "ann", "custom_id": None}
    run(
        """
        local one = kong.db.consumers:select({ id = '8a7a9a3e-0000-4000-8000-000000000001' })
        assert(one.username == 'ann' and one.custom_id == nil)
        local count = 0
        for row, err in kong.db.consumers:each() do count = count + 1 end
        assert(count == 1 and kong.db.consumers:cache_key('x'):find('^consumers:x'))""",
        entities={"consumers": [consumer]},
    )


def test_threads_run_side_by_side() -> None:
    run(
        """
        ngx.sleep(0) -- from here on, on a loop
        local a = ngx.thread.spawn(function() ngx.sleep(0.05) return 'a' end)
        local b = ngx.thread.spawn(function() ngx.sleep(0.05) return 'b' end)
        local ok, first = ngx.thread.wait(a) assert(ok and first == 'a')
        local fine, second = ngx.thread.wait(b) assert(fine and second == 'b')
        local c = ngx.thread.spawn(function() error('broken') end)
        local bad, err = ngx.thread.wait(c) assert(bad == false and err:find('broken'))"""
    )


def test_waiting_inside_of_a_plugins_own_coroutine_and_pcall_works() -> None:
    run(
        """
        local step = coroutine.wrap(function() ngx.sleep(0.001) coroutine.yield(1) ngx.sleep(0.001) return 2 end)
        assert(step() == 1 and step() == 2)
        local ok, err = pcall(function() ngx.sleep(0.001) error('after') end)
        assert(not ok and err:find('after'))"""
    )
    assert kong.version


def test_one_timer_too_many_is_nil_and_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "max_timers", 0)

    async def start() -> Any:
        return vm().compile("return ngx.timer.at(60, function() end)", "=test")()

    assert asyncio.run(start()) == (None, "too many pending timers")


def test_the_host_may_load_modules_within_a_handler() -> None:
    machine = vm()
    load = machine.bridge.raw(lambda: machine.require("kong.constants"))
    assert machine.call("p", machine.compile("local load = ... return function() return load() end", "=test")(load))
