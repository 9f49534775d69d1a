"""Functions of the configuration: what they see in each mode, that nothing gets out, and that every call ends."""

import asyncio
from collections.abc import Iterator

import pytest

from headgate.lua import functions
from headgate.lua.errors import LuaBudgetError, LuaFaultError
from headgate.lua.functions import FunctionSet, LuaValue, syntax_fault
from headgate.lua.vm import vm
from headgate.pdk import configure_node

SMALL = {"untrusted_lua_instructions": 200_000, "untrusted_lua_memory": 8 * 1024 * 1024}


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    set_mode("sandbox")
    yield
    set_mode("sandbox")


def set_mode(mode: str, **settings: object) -> None:
    configure_node({"untrusted_lua": mode} | SMALL | settings)
    functions._sandbox.cache_clear()
    functions._kept = functions._Kept()


def run(*sources: str) -> None:
    FunctionSet("pre-function", {"access": list(sources)}).run("access")


ESCAPES = {
    "the metatable of texts": "getmetatable('').__index.x = 1",
    "debug": "debug.getregistry()",
    "getfenv": "getfenv(1).x = 1",
    "setfenv": "setfenv(1, {})",
    "ffi": "require('ffi').C.exit(1)",
    "package.loaded": "package.loaded.string = nil",
    "the global table of a library function": "getfenv(print).os.execute('true')",
    "load": "load('return 1')()",
    "loadstring": "loadstring('return 1')()",
    "loadfile": "loadfile('/etc/passwd')",
    "dofile": "dofile('/etc/passwd')",
    "bytecode": "loadstring(string.dump(function() end))()",
    "string.dump": "string.dump(function() end)",
    "os.execute": "os.execute('true')",
    "os.exit": "os.exit(1)",
    "io.open": "io.open('/etc/passwd')",
    "newproxy": "newproxy(true)",
    "collectgarbage": "collectgarbage('stop')",
    "the metatable of a protected library": "local mt = getmetatable(string) mt.__index = nil",
    "rawset on a library": "rawset(string, 'len', 1)",
    "a new member of a library": "string.foo = 1",
    "a present member of a library": "table.insert = print",
    "jit.off": "jit.off()",
    "a Python object's attributes": "kong.request.get_header.__globals__.x = 1",
    "a module that was not allowed": "require 'cjson'",
    "a path as a module": "require '../../etc/passwd'",
    "setmetatable with a finalizer": "setmetatable({}, {__gc = print})",
    "the coroutine of a handler": "local own = coroutine.running() _G.kept = own assert(coroutine.resume(own))",
    "a value that is no function": "local f = 1 f()",
    "the memory of a buffer": "local b = require('string.buffer').new() local p = b:reserve(10) p[0] = 1",
    "the contents of a buffer": "local b = require('string.buffer').new():put('x') local p = b:ref() p[0] = 1",
    "the metatable of a buffer": "getmetatable(require('string.buffer').new()).__index = nil",
    "what the library runs on": "require('headgate.core').exit()",
    "the library's own require": "require('pl.utils').readfile('/etc/passwd')",
    "the functions of the PDK": "kong.request.get_header = print",
    "a function of ngx": "ngx.md5 = print",
    "a table of ngx, emptied": "table.clear(ngx.re)",
    "a library, added to": "table.insert(string, 1)",
    "a library, sorted": "table.sort(ngx.req)",
    "a table of the PDK, emptied": "kong.table.clear(kong.request)",
    "the mark of arrays": "require('cjson').array_mt.__index = print",
    "the mark of arrays, added to": "table.insert(require('cjson').array_mt, 1)",
    "a native module by way of the library": "require('kong.tools.utils').load_module_if_exists('ffi').cdef('')",
    "the library's internals by way of the library": (
        "local _, native = require('kong.tools.utils').load_module_if_exists('headgate.native') native.getenv('HOME')"
    ),
    "a built-in module of others": "require('bit').band = print",
    "the log of everybody": "kong.log.inspect.off()",
}


@pytest.mark.parametrize("source", ESCAPES.values(), ids=ESCAPES.keys())
def test_a_way_out_of_the_sandbox_is_closed(source: str) -> None:
    if any(part in source for part in ("buffer", "array_mt", "load_module", "'bit'")):
        set_mode("strict")
    with pytest.raises(LuaFaultError):
        run(source)
    run("assert(type(string.len) == 'function' and string.foo == nil and string[1] == nil and x == nil)")
    run("assert(type(ngx.md5('')) == 'string' and ngx.re.match('a', 'a')[0] == 'a' and ngx.req.get_headers)")
    run("assert(type(kong.request.get_header) == 'function')")


ENDLESS = {
    "a loop": "while true do end",
    "a loop that catches": "while true do pcall(function() while true do end end) end",
    "a handler of xpcall that loops": "xpcall(function() while true do end end, function() while true do end end)",
    "a loop in a coroutine": "coroutine.wrap(function() while true do end end)()",
    "coroutines without end": "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
    "a loop in a metamethod's place": "table.sort({3, 2, 1}, function(a, b) while true do end end)",
    "a loop in a replacement": "string.gsub('a', 'a', function() while true do end end)",
    "a loop in a thread": "ngx.thread.spawn(function() while true do end end)",
    "a huge text": "local s = string.rep('x', 1e9)",
    "a text that grows": "local s = 'xxxxxxxx' while true do s = s .. s end",
    "a table that grows": "local t = {} while true do t[#t + 1] = {} end",
    "a pattern that backtracks": "string.find(string.rep('a', 5000), '.-.-.-.-b')",
    "a pattern that backtracks, as a method": "(string.rep('a', 5000)):match('a*a*a*a*b')",
    "huge texts that are caught": "while true do pcall(string.rep, 'x', 1e9) end",
    "a pattern of choices": "(('a'):rep(40)):match(('a?'):rep(40) .. ('a'):rep(40))",
    "a pattern of brackets": "local s = ('('):rep(300000) s:find('%b()')",
    "a pattern with a back reference": "(('a'):rep(4000) .. 'c'):find('(.+)(.+)(.+)%1b')",
    "a pattern in gsub": "(('a'):rep(5000)):gsub('a-a-a-a-b', '')",
    "a pattern in gmatch": "for _ in (('a'):rep(5000)):gmatch('a-a-a-a-b') do end",
    "a range without members": "while true do table.move({}, 1, 1e15, 2) end",
    "a library that is asked for too much": "require('pl.tablex').range(1, 1e12)",
    "a library function in a loop": "local t = require('pl.tablex') while true do t.map(type, {1}) end",
    "texts that hold each other": "local t = {} for _ = 1, 100 do t = {t, t} end require('cjson').encode(t)",
    "coroutines in each other": "local function f() coroutine.resume(coroutine.create(f)) end while true do f() end",
    "wrapped coroutines within each other": ("local function f() pcall(coroutine.wrap(f)) end while true do f() end"),
    "threads within each other": "local function f() ngx.thread.spawn(f) end while true do f() end",
    "a long sort": "local t = {} for i = 1, 100001 do t[i] = -i end while true do table.sort(t) end",
    "matches within each other": "local function f() ngx.re.gsub('a', 'a', f) end while true do pcall(f) end",
    "a result that is larger than the memory": "local s = ('x'):rep(7e6) while true do s = ngx.encode_base64(s) end",
    "a text that is handed over where no memory is left": (
        "local t = {} while true do pcall(function() t[#t + 1] = ('x'):rep(1e5) .. #t ngx.encode_base64(t[#t]) end) end"
    ),
    "a table that is printed": "local t = {} for _ = 1, 80 do t = {t, t} end while true do pcall(ngx.say, t) end",
    "an inspected table": "local t = {} for _ = 1, 100 do t = {t, t} end kong.log.inspect(t) while true do end",
}


@pytest.mark.parametrize("source", ENDLESS.values(), ids=ENDLESS.keys())
def test_a_call_without_end_is_ended_and_the_next_one_runs(source: str) -> None:
    set_mode("sandbox", untrusted_lua_sandbox_requires=["pl.tablex", "cjson"])
    with pytest.raises(LuaBudgetError):
        run(source)
    run("assert(('x'):rep(3) == 'xxx')")


# What was about to be waited for when the budget was over is dropped.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "slice_", ["", "for i = 1, 3 do (('a'):rep(3000)):match('a*a*b') end", "pcall(function() ngx.sleep(0) end)"]
)
def test_a_loop_that_waits_is_ended_too(slice_: str) -> None:
    set_mode("sandbox", untrusted_lua_instructions=20_000)
    waiting = FunctionSet("pre-function", {"access": [f"while true do ngx.sleep(0) {slice_} end"]}).run("access")

    async def go_on() -> None:
        await waiting

    with pytest.raises(LuaBudgetError):
        asyncio.run(go_on())


def test_a_value_whose_code_waits_is_given_up_and_leaves_nothing_behind() -> None:
    waiting = vm().core["waiting_count"]
    before = waiting()
    with pytest.raises(LuaFaultError, match="cannot wait"):
        LuaValue("return ngx.sleep(1)").get()
    assert waiting() == before


def test_a_long_plain_search_is_done_by_another_way() -> None:
    set_mode("sandbox", untrusted_lua_memory=64 * 1024 * 1024)
    run("local s = ('a'):rep(3e6) assert(s:find(('a'):rep(1e6) .. 'b', 1, true) == nil)")
    run(
        "local s = ('a'):rep(2e6) .. 'b' local p = ('a'):rep(1e6) .. 'b' local first, last = s:find(p, 1, true) "
        "assert(first == 1e6 + 1 and last == 2e6 + 1) assert(s:find(p, 1e6 + 2, true) == nil)"
    )


@pytest.mark.parametrize("members", ["{t, t}", "{a = t, b = t, c = t}"])
def test_a_value_that_would_fill_the_memory_outside_of_the_machine_is_refused(members: str) -> None:
    with pytest.raises(LuaFaultError, match=r"a table is too large|processor time"):
        run(
            f"local t = {{}} for _ = 1, 90 do t = {members} end ngx.encode_args(t) kong.table.merge(t, t) "
            "kong.ctx.shared.x = t kong.cache:safe_set('key', t)"
        )


def test_a_result_outside_of_the_machine_is_bounded_and_so_is_its_time() -> None:
    run(
        "local made, _, err = ngx.re.gsub(('a'):rep(1e5), 'a', ('b'):rep(1e5)) "
        "assert(made == nil or err ~= nil or type(made) ~= 'string')"
    )
    with pytest.raises(LuaFaultError):
        run("assert(ngx.re.gsub(('a'):rep(30), '(a*)*b|a', 'x', 'jo') == 'never')")


def test_buffers_work_without_giving_their_memory_away() -> None:
    set_mode("strict")
    run(
        "local b = require('string.buffer').new(16) b:put('a', 1):putf('%02d', 3) assert(#b == 4) "
        "assert(tostring(b) == 'a103' and b:get(1) == 'a' and b:tostring() == '103' and b .. 'x' == '103x') "
        "b:reset():set('z') assert(b:get() == 'z')"
    )
    run("local m = require('string.buffer') assert(m.decode(m.encode({1, 'x'}))[2] == 'x')")


def test_a_module_of_the_library_is_a_copy_of_each_functions_own() -> None:
    set_mode("sandbox", untrusted_lua_sandbox_requires=["pl.stringx"])
    run(
        "require('pl.stringx').strip = function() return 'mine' end assert(require('pl.stringx').strip('x') == 'mine')",
        "assert(require('pl.stringx').strip(' x ') == 'x')",
    )
    assert vm().require("pl.stringx")["strip"](" x ") == "x"


def test_a_budget_is_not_carried_over_to_the_next_call() -> None:
    functions_of_plugin = FunctionSet("pre-function", {"access": ["for i = 1, 10000 do end"]})
    for _ in range(20):
        functions_of_plugin.run("access")


def test_what_functions_keep_between_calls_is_bounded() -> None:
    keeping = "local t = {} return function() t[#t + 1] = ('x'):rep(4e6) .. #t end"
    sets = [FunctionSet("pre-function", {"access": [one]}) for one in (keeping, "return function() end")]
    used = vm().memory.used
    before, dropped = used(), 0
    for _ in range(60):
        for one in sets:
            try:
                one.run("access")
            except LuaBudgetError as error:
                assert "between calls" in str(error)
                dropped += 1
    assert dropped > 0
    assert used() - before < 12 * 8 * 1024 * 1024


@pytest.mark.parametrize(
    "call",
    [
        "require('resty.openssl.kdf').derive({type = 'PBKDF2', outlen = 9, pass = 'p', pbkdf2_iter = 1e6})",
        "require('resty.openssl.pkey').new({type = 'RSA', bits = 4096})",
    ],
)
def test_what_would_take_longer_than_a_call_may_is_not_begun(call: str) -> None:
    set_mode("strict")
    # The second time the module is there already.
    for _ in range(2):
        with pytest.raises(LuaBudgetError, match="processor time"):
            run(call)


def test_a_key_of_many_blocks_is_refused() -> None:
    set_mode("strict")
    run(
        "local key, err = require('resty.openssl.kdf').derive({type = 'PBKDF2', md = 'sha512', outlen = 65000, "
        "pass = 'p', pbkdf2_iter = 1e6}) assert(key == nil and err:find('out of range'), err)"
    )


@pytest.mark.parametrize("pattern", ["((a{1000}){1000}){1000}", "(?:a{2,60000}b){2}", "[a]{70000}"])
def test_an_expression_that_would_be_huge_is_refused(pattern: str) -> None:
    run(f"local m, err = ngx.re.match('a', '{pattern}') assert(m == nil and err:find('too large'), err)")


def test_long_texts_are_escaped_in_pieces_that_fit_together() -> None:
    set_mode("sandbox", untrusted_lua_memory=64 * 1024 * 1024, untrusted_lua_instructions=0)
    run(
        "for shift = 0, 3 do local s = ('x'):rep(shift) .. ('a%/+'):rep(40000) "
        "assert(ngx.unescape_uri(ngx.escape_uri(s)) == s) end "
        r"""assert(ngx.quote_sql_str([[a\b'"]]) == [['a\\b\'\"']])"""
    )


def test_a_stack_overflow_is_a_fault_of_the_call() -> None:
    with pytest.raises(LuaFaultError, match="stack overflow"):
        run("local function f() return 1 + f() end f()")


def test_a_coroutine_left_hanging_is_a_fault_of_the_call() -> None:
    with pytest.raises(LuaFaultError, match="without anything to wait for"):
        run("coroutine.yield('never')")


def test_what_a_function_is_not_allowed_names_the_place() -> None:
    with pytest.raises(LuaFaultError, match=r"Cannot modify _G.string.x. Protected by the sandbox."):
        run("string.x = 1")
    with pytest.raises(LuaFaultError, match=r"require 'cjson' not allowed within sandbox"):
        run("require 'cjson'")


def test_a_listed_module_can_be_required() -> None:
    set_mode("sandbox", untrusted_lua_sandbox_requires=["cjson"])
    run("assert(require('cjson').encode({1, 2}) == '[1,2]')")


def test_a_listed_global_is_read_through_and_not_written_through() -> None:
    vm().globals["house"] = vm().table(number=7)
    set_mode("sandbox", untrusted_lua_sandbox_environment=["house", "nobody.is.here"])
    run("assert(house.number == 7) house.number = 8 assert(house.number == 8)")
    assert vm().globals["house"]["number"] == 7


def test_globals_of_one_chunk_are_not_seen_by_the_next() -> None:
    run("x = 1 _G.y = 2", "assert(x == nil and y == nil)")


@pytest.mark.parametrize("mode", ["strict", "lax", "sandbox"])
def test_secrets_of_the_configuration_are_masked_and_what_is_read_is_a_copy(mode: str) -> None:
    set_mode(mode, pg_password="secret", plugins=["bundled"])
    run("assert(kong.configuration.pg_password == '******')")
    run(
        "local p = kong.configuration.plugins p[1] = 'mine' assert(kong.configuration.plugins[1] == 'bundled')",
        "for _, name in ipairs(kong.configuration.plugins) do assert(name == 'bundled') end",
    )


def test_writing_reaches_the_request_and_nothing_else() -> None:
    run("kong.mine = 1 assert(kong.mine == 1)", "assert(kong.mine == nil)")
    run("local log = kong.log.new('mine', '%message') log.notice('x') kong.log.inspect({1}) kong.log('y')")
    run(
        "local t = table.new(1, 0) table.insert(t, 2) table.insert(t, 1, 3) table.sort(t) assert(t[1] == 2 and #t == 2)"
    )
    run("local t = {} for i = 1, 6000 do t[i] = -i end table.sort(t) assert(t[1] == -6000 and table.remove(t) == -1)")


def test_what_is_hidden_prints_as_nil() -> None:
    run("assert(tostring(kong.cache.cluster_events) == 'nil')")


@pytest.mark.parametrize("mode", ["strict", "lax"])
def test_the_modes_of_lists_have_what_is_listed_only(mode: str) -> None:
    set_mode(mode)
    run("assert(ngx.md5('') ~= nil and kong.request.get_header and ngx.timer == nil and ngx.shared == nil)")
    run("assert(require('cjson').encode(1) == '1' and kong.db == nil and kong.service.request.set_header)")
    with pytest.raises(LuaFaultError):
        run("kong.timer:at(0, print)")


def test_lax_has_more_than_strict() -> None:
    set_mode("strict")
    run("assert(kong.cache == nil and ngx.thread == nil and kong.service.set_target == nil)")
    set_mode("lax")
    run("assert(kong.cache ~= nil and ngx.thread.spawn and kong.service.set_target)")


def test_on_has_everything_and_globals_stay_private() -> None:
    set_mode("on")
    run("assert(os.time and io.open and require('cjson') and debug) private = 1", "assert(private == nil)")


def test_off_runs_nothing() -> None:
    set_mode("off")
    with pytest.raises(LuaFaultError, match="config option is set to 'off'"):
        run("return 1")


def test_a_function_that_is_returned_keeps_its_locals() -> None:
    counter = FunctionSet("pre-function", {"access": ["local n = 0 return function() n = n + 1 _G.n = n end"]})
    for _ in range(3):
        counter.run("access")
    body = FunctionSet("pre-function", {"access": ["n = (n or 0) + 1 assert(n == 1 or n == 2)"]})
    body.run("access")
    body.run("access")


def test_a_chunk_that_raised_before_it_returned_is_a_plain_body_from_then_on() -> None:
    chunk = "runs = (runs or 0) + 1 if runs == 1 then error('first') end return function() error('never called') end"
    once = FunctionSet("pre-function", {"access": [chunk]})
    with pytest.raises(LuaFaultError, match="first"):
        once.run("access")
    once.run("access")


def test_a_syntax_fault_names_the_line_and_nothing_runs() -> None:
    assert syntax_fault("print(") == """[string "print("]:1: unexpected symbol near '<eof>'"""
    assert syntax_fault("error('not run')") is None
    assert syntax_fault("\x1bLJ") is not None


def test_a_value_is_plain_data() -> None:
    assert LuaValue("return {a = {1, 2}, b = ngx.null}").get() == {"a": [1, 2], "b": None}
    assert LuaValue("local x = 1").get() is None
    with pytest.raises(LuaBudgetError):
        LuaValue("while true do end").get()


def test_a_long_text_is_trimmed_within_a_budget() -> None:
    run("assert((' '):rep(300) .. 'x' == (' '):rep(300) .. 'x')")
    run("assert(((' '):rep(300) .. 'x '):match('^%s*(.-)%s*$') == 'x')")
    run("local text = ('word '):rep(500) local n = select(2, text:gsub('%a+%s*', '')) assert(n == 500)")


def test_careful_matching_is_the_same_as_the_built_in_one() -> None:
    vm().compile(
        """
        local slow = require "headgate.matching"
        local patterns = { "a*b", "^(%a+)=(%d+)$", "(a-)b", "%s+", "()x()", "%b()", "%f[%w]%w+", "(.)%1", "[^,]*",
          "[]a]+", "x?y", "^%s*(.-)%s*$", ".-", "", "$", "^a", "[%a_][%w_]*", "%d+%.?%d*", "[a-c]+" }
        local subjects = { "", "abc", "  trim me  ", "key=12", "aaab", "(a(b)c)d", "hello world", "aabbcc", "a,b,,c",
          "]a]", "xyyxy", "3.14 15", "a_b1" }
        local function text(...)
          local parts = {}
          for i = 1, select("#", ...) do
            parts[i] = tostring((select(i, ...)))
          end
          return table.concat(parts, "|")
        end
        local function pieces(iterator)
          local found = {}
          for piece in iterator do
            found[#found + 1] = tostring(piece)
          end
          return table.concat(found, "|")
        end
        for _, p in ipairs(patterns) do
          for _, s in ipairs(subjects) do
            local built_in, careful = text(s:find(p)), text(slow.find(s, p))
            assert(built_in == careful or built_in == "nil" and careful == "", "find " .. p .. " " .. s)
            assert(text(s:gsub(p, "<%0>")) == text(slow.gsub(s, p, "<%0>")), "gsub " .. p .. " " .. s)
            assert(pieces(s:gmatch(p)) == pieces(slow.gmatch(s, p)), "gmatch " .. p .. " " .. s)
          end
        end""",
        "@matching",
    )()
