"""Random mixtures of what ends no call and what catches faults: every call ends, and the machine is as it was after it.

Invariant: a call of sandboxed code returns, or raises LuaFaultError (of which LuaBudgetError is one), and the next call
finds the libraries whole.
"""

import random
import time

import pytest

from headgate.lua import functions
from headgate.lua.errors import LuaFaultError
from headgate.lua.functions import FunctionSet
from headgate.pdk import configure_node

SECONDS = 8.0
SETTINGS = {
    "untrusted_lua_instructions": 20_000,
    "untrusted_lua_memory": 4 * 1024 * 1024,
    "untrusted_lua_sandbox_requires": ["cjson", "cjson.safe", "pl.tablex", "pl.stringx", "pl.utils", "string.buffer"],
}

CORES = (
    "while true do end",
    "for i = 1, 1e15 do n = i end",
    "local function f() return f() end f()",
    "local function f() return 1 + f() end f()",
    "local s = 'x' while true do s = s .. s end",
    "local t = {} while true do t[#t + 1] = {} end",
    "string.rep('x', 1e9)",
    "(('a'):rep(2000)):match('a*a*a*a*b')",
    "(('a'):rep(30)):find(('a?'):rep(30) .. ('a'):rep(30))",
    "(('('):rep(1e5)):gsub('%b()', '')",
    "table.move({}, 1, 1e15, 2)",
    "require('pl.tablex').range(1, 1e13)",
    "require('cjson.safe').encode(setmetatable and {} or (function() local t = {} t[1] = t return t end)())",
    "local t = {} for _ = 1, 80 do t = {t, t} end require('cjson').encode(t)",
    "local t = {} for _ = 1, 80 do t = {t, t} end ngx.encode_args({a = t}) kong.cache:safe_set('k', t)",
    "ngx.re.match(('a'):rep(40), '(a*)*b')",
    "coroutine.yield('never')",
    "error({})",
    "error()",
    "kong.response.exit(200)",
    "local b = require('string.buffer').new() while true do b:put(('x'):rep(1000)) end",
    "table.sort({5, 4, 3, 2, 1}, function() return true end)",
    "table.concat({}, 'x', 1, 1e9)",
    "unpack({}, 1, 1e8)",
    "string.format(('%s'):rep(200), unpack({}, 1, 200))",
    "string.foo = 1",
    "_G.string = nil string = nil",
    "local x <const> = 1",
)
WRAPPERS = (
    "pcall(function() {0} end)",
    "xpcall(function() {0} end, function() {1} end)",
    "while true do pcall(function() {0} end) end",
    "coroutine.wrap(function() {0} end)()",
    "coroutine.resume(coroutine.create(function() {0} end))",
    "while true do coroutine.resume(coroutine.create(function() {0} end)) end",
    "ngx.thread.spawn(function() {0} end)",
    "table.sort({{3, 2, 1}}, function(a, b) {0} return a < b end)",
    "(('aaa'):gsub('a', function() {0} end))",
    "for _ in (function() {0} end) do {1} end",
    "require('pl.tablex').map(function() {0} end, {{1, 2}})",
    "ngx.re.gsub('aaa', 'a', function() {0} return 'b' end)",
    "local ok, err = pcall(error, {{}}) {0} {1}",
    "do {0} end {1}",
    "if ok then {0} else {1} end",
    "local f = function() {0} end for i = 1, 3 do pcall(f) end {1}",
    "kong.timer:at(1e6, function() {0} end) {1}",
    "kong.cache:get('k', nil, function() {0} end)",
)
WHOLE = (
    "assert(('x'):rep(3) == 'xxx' and string.foo == nil and table.concat({1, 2}, ',') == '1,2') "
    "assert(('key=1'):match('(%a+)=(%d+)') == 'key' and require('cjson').encode({1}) == '[1]')"
)


def program(chance: random.Random, depth: int) -> str:
    if depth == 0 or chance.random() < 0.2:
        return chance.choice(CORES)
    shape = chance.choice(WRAPPERS)
    return shape.format(program(chance, depth - 1), program(chance, depth - 1))


def call(source: str) -> None:
    returned = FunctionSet("pre-function", {"access": [source]}).run("access")
    if hasattr(returned, "close"):
        returned.close()


# What was about to be waited for when the budget was over is dropped.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_random_mixtures_end_and_leave_the_machine_whole() -> None:
    from headgate.pdk._exit import Exit

    seed = random.randrange(2**32)
    chance = random.Random(seed)
    configure_node({"untrusted_lua": "sandbox"} | SETTINGS)
    functions._sandbox.cache_clear()
    try:
        deadline = time.monotonic() + SECONDS
        count = 0
        while time.monotonic() < deadline:
            source = program(chance, chance.randrange(1, 5))
            count += 1
            try:
                call(source)
            except (LuaFaultError, Exit):
                pass
            except BaseException as error:
                raise AssertionError(f"seed {seed}, program {count}: {source}") from error
            try:
                call(WHOLE)
            except LuaFaultError as error:
                raise AssertionError(f"seed {seed}, after program {count}: {source}") from error
        assert count > 0
    finally:
        configure_node({})
        functions._sandbox.cache_clear()
