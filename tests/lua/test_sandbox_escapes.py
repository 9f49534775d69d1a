"""Generated programs that look for a way out of the sandbox, in each of its modes: none reaches what is outside, none
leaves anything behind.

Invariants: the function `canary`, a global of the machine, is never called by a program; a call returns or raises
LuaFaultError or Exit; after it an honest function works, and every table that functions share has the members it had.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headgate.lua import functions
from headgate.lua.errors import LuaFaultError
from headgate.lua.functions import FunctionSet
from headgate.lua.vm import vm
from headgate.pdk import configure_node
from headgate.pdk._exit import Exit

MODES = ("strict", "lax", "sandbox")
MODULES = [
    "cjson",
    "cjson.safe",
    "bit",
    "string.buffer",
    "table.clear",
    "kong.tools.utils",
    "kong.tools.table",
    "pl.tablex",
]
SETTINGS: dict[str, Any] = {
    "untrusted_lua_instructions": 50_000,
    "untrusted_lua_memory": 4 * 1024 * 1024,
    "untrusted_lua_sandbox_requires": MODULES,
}

# What gives out a value that may lead outside; nil, or an error, where it does not exist.
SOURCES = (
    *(
        "_G",
        "_G._G",
        "string",
        "table",
        "coroutine",
        "kong",
        "ngx",
        "kong.request",
        "kong.response",
        "ngx.re",
        "ngx.req",
    ),
    *(
        "ngx.shared",
        "ngx.shared.x",
        "kong.cache",
        "kong.log",
        "kong.log.inspect",
        "kong.ctx",
        "kong.ctx.shared",
        "kong.db",
    ),
    *(
        "kong.db.services",
        "kong.configuration",
        "kong.timer",
        "kong.vault",
        "kong.table",
        "kong.service.request",
        "ngx.var",
    ),
    *(
        "ngx.header",
        "ngx.ctx",
        "ngx.arg",
        "ngx.timer",
        "ngx.thread",
        "ngx.socket",
        "ngx.worker",
        "ngx.config",
        "bit",
        "jit",
    ),
    *("io", "os", "math", "debug", "package", "package.loaded", "ffi", "(''):rep(1)", "getfenv()", "getfenv(print)"),
    *("getfenv(0)", "getmetatable('')", "getmetatable('').__index", "getmetatable(kong)", "getmetatable(ngx.header)"),
    *(
        "debug.getregistry()",
        "package.loaded._G",
        "newproxy(true)",
        "getmetatable(newproxy(true))",
        "coroutine.running()",
    ),
    *("require('ffi')", "require('debug')", "require('_G')", "require('package')", "require('headgate.core')"),
    *("require('headgate.native')", "require('cjson')", "require('cjson').array_mt", "require('cjson').empty_array"),
    *("require('bit')", "require('string.buffer')", "require('string.buffer').new()", "require('table.clear')"),
    *("select(2, require('kong.tools.utils').load_module_if_exists('ffi'))", "require('kong.tools.utils')"),
    *("select(2, require('kong.tools.utils').load_module_if_exists('headgate.host'))", "require('pl.tablex')"),
    *(
        "select(2, pcall(error, ngx.header))",
        "select(2, pcall(error, setmetatable))",
        "select(2, pcall(kong.response.exit))",
    ),
    *("load('return _G', 'x', 't', _G)()", "loadstring('return getfenv()')()", "load(string.dump(function() end))"),
    *(
        "setfenv(function() return canary end, {})",
        "module('x')",
        "require",
        "print",
        "tostring",
        "kong.request.get_header",
    ),
    *("coroutine.wrap(function() return coroutine.running() end)()", "ngx.thread.spawn(function() end)", "ngx.null"),
    "kong.log.new('x')",
)
# What is done with a value `v`; each may raise.
DEEDS = (
    "v.canary()",
    "v._G.canary()",
    "v.os.execute('true') v.canary()",
    "v.loaded._G.canary()",
    "getfenv(v).canary()",
    "setfenv(v, {{}}) ",
    "v.x = 1",
    "v[1] = 1",
    "v.match = print v.rep = nil",
    "v.get = print",
    "v.__index = function() return 1 end",
    "v.__call = print v.__newindex = nil v.__metatable = nil v.__gc = print v.__tostring = print",
    "for name in pairs(v) do v[name] = nil end",
    "for name, one in pairs(v) do if type(one) == 'table' then one.poison = 1 end end",
    "rawset(v, 'x', 1)",
    "table.insert(v, 1)",
    "table.insert(v, 1, print)",
    "table.remove(v)",
    "table.clear(v)",
    "table.sort(v)",
    "table.move({{1, 2}}, 1, 2, 1, v)",
    "kong.table.clear(v)",
    "kong.table.merge(v, {{poison = 1}}).x = 1",
    "require('table.clear')(v)",
    "require('pl.tablex').update(v, {{poison = 1}})",
    "require('pl.tablex').clear(v)",
    "require('pl.tablex').insertvalues(v, {{1}})",
    "require('kong.tools.table').as_array(v)",
    "require('kong.tools.table').add_error(v, 'poison', 1)",
    "kong.vault.update(v)",
    "setmetatable(v, {{__index = function() return canary end}})",
    "debug.setmetatable(v, {{}})",
    "ngx.re.match('ab', '(a)(b)', nil, nil, v)",
    "ngx.re.match('ab', 'a', nil, v)",
    "kong.ctx.shared.poison = v kong.ctx.plugin.poison = v ngx.ctx.poison = v",
    "_G.poison = v poison = v kong.poison = v",
    "kong.log.set_format('poison') kong.log.inspect.off()",
    "coroutine.resume(v) coroutine.wrap(v)()",
    "coroutine.yield(v)",
    "ngx.timer.at(0, v)",
    "kong.timer:at(1e6, v)",
    "ngx.timer.at(0, function() canary() end)",
    "kong.cache:get('key', nil, function() canary() end)",
    "error(v)",
    "v()",
    "v.encode = print v.decode = nil",
    "v.band = print",
    "v:put('x') v:ref()[0] = 1",
    "v:reserve(1)[0] = 1",
    "tostring(v) v = v .. ''",
    "string.dump(v)",
    "load(string.dump(v))()",
    "ffi.cdef('int getpid();')",
    "v.cdef('int getpid();') canary()",
    "v.getenv('HOME') canary()",
    "v.exit()",
    "v.require('os')",
    "while true do pcall(v) end",
    "string.rep('x', 1e9)",
    "local s = 'x' while true do s = s .. s end",
    "while true do end",
    "kong.response.exit(200)",
    "require('cjson').encode(v) require('cjson').encode_max_depth(1) require('cjson').encode_number_precision(1)",
    "print(v) kong.log.inspect(v)",
)
WRAPPERS = (
    "{0} {1}",
    "pcall(function() {0} end) {1}",
    "xpcall(function() {0} end, function(e) {1} end)",
    "coroutine.wrap(function() {0} end)() {1}",
    "coroutine.resume(coroutine.create(function() {0} coroutine.yield(1) {1} end))",
    "local co = coroutine.wrap(function() pcall(coroutine.yield, 1) {0} end) co() co() {1}",
    "ngx.thread.spawn(function() {0} end) {1}",
    "table.sort({{3, 2, 1}}, function(a, b) {0} return a < b end) {1}",
    "(('aaa'):gsub('a', function() {0} end)) {1}",
    "ngx.re.gsub('aaa', 'a', function() {0} return 'b' end) {1}",
    "for _ in (function() {0} end) do {1} end",
    "local f = function() {0} end for i = 1, 3 do pcall(f) end {1}",
    "kong.cache:get('k', nil, function() {0} end) {1}",
    "ngx.timer.at(1e6, function() {0} end) {1}",
    "local string, table, kong = {{}}, {{}}, {{}} {0} {1}",
    "pcall = nil error = nil {0} {1}",
    "require('pl.tablex').map(function() {0} end, {{1}}) {1}",
)
HONEST = """
assert(('x'):rep(3) == 'xxx' and string.foo == nil and string[1] == nil and string.x == nil and table.x == nil)
assert(table.concat({1, 2}, ',') == '1,2' and ('key=1'):match('(%a+)=(%d+)') == 'key' and ('a'):upper() == 'A')
assert(poison == nil and kong.poison == nil and _G.poison == nil and x == nil and #string == 0 and ngx.poison == nil)
assert(ngx.md5('a') == '0cc175b9c0f1b6a831c399e269772661' and ngx.re.match('ab', '(a)b')[1] == 'a')
assert(ngx.encode_base64('a') == 'YQ==' and ngx.null ~= nil and type(kong.request.get_header) == 'function')
assert(bit.band(3, 5) == 1 and require('bit').band(3, 5) == 1 and type(ngx.var) == 'table' and type(ngx.req) == 'table')
local cjson = require('cjson')
assert(cjson.encode({1, {a = 'b'}}) == '[1,{"a":"b"}]' and #cjson.decode('[1,2]') == 2)
assert(cjson.encode(1 / 3):len() > 10 and next(cjson.array_mt) == nil)
local t = {3, 1, 2} table.sort(t) table.insert(t, 4) assert(t[1] == 1 and t[4] == 4 and table.remove(t) == 4)
local n = 0 for _ in pairs({a = 1, b = 2}) do n = n + 1 end assert(n == 2 and select('#', pcall(error)) == 2)
local co = coroutine.wrap(function(a) local b = coroutine.yield(a + 1) return b * 2 end)
assert(co(1) == 2 and co(4) == 8)
"""
# The members of every table that is reachable from the globals and from an environment. What is loaded, or made
# when it is asked for, may come; nothing else may come, go or change.
SNAPSHOT = """
local roots = ...
local seen, members = {}, {}
local growing = { [package.loaded] = true, [kong.db] = true, [ngx.shared] = true, [package.preload] = true }
local function walk(t, depth)
  if type(t) ~= "table" or seen[t] or depth > 12 then
    return
  end
  seen[t] = true
  local own = {}
  for key, value in next, t do
    own[key] = value
    walk(value, depth + 1)
  end
  local mt = debug.getmetatable(t)
  if not (mt and mt.__mode) and not growing[t] then
    members[t] = own
  end
  walk(mt, depth + 1)
end
walk(_G, 0)
walk(debug.getmetatable(""), 0)
for i = 1, #roots do walk(roots[i], 0) end
return function()
  for t, own in pairs(members) do
    for key, value in next, t do
      if own[key] ~= value then
        return "came or changed: " .. tostring(key) .. " = " .. tostring(value)
      end
    end
    for key in pairs(own) do
      if rawget(t, key) == nil then
        return "went: " .. tostring(key)
      end
    end
  end
end
"""

statements = st.builds(
    lambda source, deed: f"do local v = {source} {deed.format()} end", st.sampled_from(SOURCES), st.sampled_from(DEEDS)
)
programs = st.recursive(
    statements,
    lambda inner: st.builds(lambda shape, one, two: shape.format(one, two), st.sampled_from(WRAPPERS), inner, inner),
    max_leaves=5,
)


def call(source: str) -> None:
    returned = FunctionSet("pre-function", {"access": [source]}).run("access")
    if hasattr(returned, "close"):
        returned.close()


def roots(*values: Any) -> Any:
    table = vm().table()
    for position, value in enumerate(values, 1):
        table[position] = value
    return table


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Iterator[str]:
    configure_node({"untrusted_lua": request.param} | SETTINGS)
    functions._sandbox.cache_clear()
    functions._kept = functions._Kept()
    yield str(request.param)
    configure_node({})
    functions._sandbox.cache_clear()
    vm().globals["canary"] = None


# What was about to be waited for when the budget was over is dropped.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_program_gets_out_or_leaves_anything_behind(mode: str) -> None:
    machine = vm()
    called: list[str] = []
    # What the honest function loads is loaded before.
    call(HONEST)
    machine.globals["canary"] = lambda *_: called.append("called")
    _, _, environments, _ = functions._sandbox()
    changed = machine.compile(SNAPSHOT, "@snapshot")(roots(environments(), environments()))

    @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(programs)
    def check(source: str) -> None:
        try:
            call(source)
        except (LuaFaultError, Exit):
            pass
        assert called == []
        assert changed() is None, changed()
        call(HONEST)

    check()


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("source", SOURCES)
def test_every_deed_is_done_to_every_value(mode: str, source: str) -> None:
    machine = vm()
    called: list[str] = []
    call(HONEST)
    machine.globals["canary"] = lambda *_: called.append("called")
    _, _, environments, _ = functions._sandbox()
    changed = machine.compile(SNAPSHOT, "@snapshot")(roots(environments()))
    for deed in DEEDS:
        try:
            call(f"do local v = {source} {deed.format()} end")
        except (LuaFaultError, Exit):
            pass
        assert called == [], deed
        assert changed() is None, f"{deed}: {changed()}"
    call(HONEST)
