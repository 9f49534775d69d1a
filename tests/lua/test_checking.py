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
