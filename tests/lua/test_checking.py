"""`headgate plugin check` on Lua plugins: what they call that is not there, with the line."""

from pathlib import Path

import pytest

from headgate.lua.checking import unsupported_calls
from headgate.pdk import configure_node
from tests.support.gateway import ROOT

PLUGINS = sorted((ROOT / "tests" / "lua" / "data" / "kong" / "plugins").iterdir())


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda path: path.name)
def test_a_plugin_that_runs_has_no_unsupported_calls(plugin: Path) -> None:
    configure_node({"lua_package_path": f"{plugin.parents[2]}/?.lua"})
    try:
        assert unsupported_calls(plugin) == []
    finally:
        configure_node({})


def test_calls_that_are_not_there_are_told_with_their_lines(tmp_path: Path) -> None:
    (tmp_path / "handler.lua").write_text(
        """local mysql = require "resty.mysql"
-- ngx.location.capture in a comment
--[[ kong.nothing ]]
kong.log("ngx.nothing in a text")
ngx.location.capture("/x")
kong.nothing.at_all()
local a, b = ngx.var.no_such_variable, ngx.var.http_anything
kong.cache:get("x") kong.db.consumers:select(1) kong.ctx.shared.x = ngx.shared.y
"""
    )
    found = [fault.removeprefix(f"{tmp_path}/handler.lua:") for fault in unsupported_calls(tmp_path)]
    assert found == [
        "1: require 'resty.mysql': there is no such module; put the work behind a service, or write it in Python",
        "5: ngx.location.capture is not supported",
        "6: kong.nothing is not there",
        "7: ngx.var.no_such_variable is always nil",
    ]


def faults_of(directory: Path, source: str) -> list[str]:
    (directory / "handler.lua").write_text(source)
    return [fault.removeprefix(f"{directory}/handler.lua:") for fault in unsupported_calls(directory)]


def test_locals_of_the_same_name_are_nobodys_business(tmp_path: Path) -> None:
    source = """
local function of(kong, ngx) return kong.anything(), ngx.whatever:called() end
local t = { kong = { nothing = 1 }, ngx = {} }
print(t.kong.nothing, t.ngx.x)
do
  local ngx = {}
  ngx.mine()
end
for kong in pairs(t) do kong.each() end
local s = "http://x--y" .. [[ kong.nothing ]] .. [==[ ]] ngx.nothing ]==] -- ngx.nothing
while true do local kong = t.kong break end
if t then local ngx = t ngx.x() elseif t then else end
repeat local kong = t until kong.done
kong.mine = { get = print }
kong.mine.get()
function kong.own() end
"""
    assert faults_of(tmp_path, source) == []


def test_a_local_that_stands_for_a_part_is_followed(tmp_path: Path) -> None:
    source = """local kong, ngx = kong, ngx
local request, res = kong.request, kong.response
local get = request.get_header
request.get_nothing()
res.exit(200)
local http = require "resty.http"
local redis = require("resty.redis")
http.new():anything()
http.nothing()
redis:nothing()
require('no.such.module')
local json = pcall(require, "no.such.optional")
local jwt = require [[resty.jwt]]
_G.kong.nowhere()
ngx.re.nothing("a")
do local ngx = nil end
ngx.location.capture("/")
"""
    assert faults_of(tmp_path, source) == [
        "4: kong.request.get_nothing is not there",
        "9: resty.http.nothing is not there",
        "10: resty.redis.nothing is not there",
        "11: require 'no.such.module': there is no such module",
        "14: kong.nowhere is not there",
        "15: ngx.re.nothing is not there",
        "17: ngx.location.capture is not supported",
    ]


def test_a_source_that_is_no_lua_is_read_to_its_end(tmp_path: Path) -> None:
    for source in (
        "local",
        "local x =",
        "function",
        "kong.",
        "require(",
        "require [[",
        "end end end",
        "for",
        '"',
        "--[[",
    ):
        faults_of(tmp_path, source)
