"""pre-function and post-function: what their configuration may hold, and how their functions run in a request."""

import json
import os
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest

from headgate.errors import SchemaViolation
from headgate.lua import functions
from headgate.pdk import configure_node
from headgate.plugins import post_function, pre_function
from headgate.schema import validate
from headgate.testing import Request, run_phase


@pytest.fixture(autouse=True)
def _mode() -> Iterator[None]:
    configure_node({"untrusted_lua": "sandbox"})
    functions._sandbox.cache_clear()
    yield
    configure_node({})
    functions._sandbox.cache_clear()


def faults(**config: Any) -> Any:
    with pytest.raises(SchemaViolation) as caught:
        validate(pre_function.Config, config, prefix="config")
    return caught.value.fields


def access(*sources: str, language: str = "lua", request: Request | None = None) -> Any:
    config = {"access": list(sources), "language": language}
    return run_phase(pre_function.Handler, "access", config=config, request=request, name="pre-function")


def test_they_run_before_and_after_everything() -> None:
    assert (pre_function.Handler.PRIORITY, post_function.Handler.PRIORITY) == (1_000_000, -1000)


def test_all_syntax_faults_are_told_at_once_at_their_positions() -> None:
    found = faults(access=["return 1", "print("], log=["x ="])
    assert found["config"]["access"] == [
        None,
        """error parsing pre-function: [string "print("]:1: unexpected symbol near '<eof>'""",
    ]
    assert found["config"]["log"] == [
        """error parsing pre-function: [string "x ="]:1: unexpected symbol near '<eof>'"""
    ]


def test_a_configuration_without_functions_is_refused() -> None:
    text = faults()["@entity"][0]
    assert text.startswith("at least one of these fields must be non-empty: 'config.certificate', 'config.rewrite'")


def test_texts_and_types_of_elements() -> None:
    assert faults(access=[""])["config"]["access"] == ["length must be at least 1"]
    assert faults(access=[1])["config"]["access"] == ["expected a string"]
    assert faults(functions=["return 1"])["config"]["functions"] == "unknown field"


def test_functions_of_a_phase_run_in_order_until_one_answers() -> None:
    result = access(
        "kong.ctx.shared.seen = 'first'",
        "kong.response.exit(400, { seen = kong.ctx.shared.seen })",
        "kong.response.exit(500)",
    )
    assert (result.status, result.is_exit) == (400, True)
    assert result.body == b'{"seen":"first"}'


def test_pcall_does_not_keep_an_answer_from_ending_the_function() -> None:
    result = access("pcall(kong.response.exit, 403) kong.response.exit(200, 'went on')")
    assert result.status == 403


def test_phases_without_functions_cost_nothing() -> None:
    config = validate(pre_function.Config, {"access": ["return 1"]})
    assert pre_function.Handler().used_phases(config) == {"access"}


def test_a_function_reads_the_request_and_changes_what_goes_upstream() -> None:
    result = access(
        "kong.service.request.set_header('x-name', kong.request.get_query_arg('name') .. ngx.var.http_x_more)",
        request=Request(path="/?name=ann", headers={"X-More": "!"}),
    )
    assert result.upstream.headers["x-name"] == "ann!"


def test_a_function_reads_the_body_that_is_still_on_its_way() -> None:
    result = access("kong.response.exit(200, kong.request.get_raw_body())", request=Request("POST", body=b"\xff\x00ab"))
    assert result.body == b"\xff\x00ab"


def test_python_functions_keep_their_globals_between_requests() -> None:
    handler = pre_function.Handler()
    source = "seen = []\ndef handler():\n    seen.append(1)\n    kong.response.exit(200, str(len(seen)))"
    config = validate(pre_function.Config, {"access": [source], "language": "python"})
    argument = handler.adapt_config(config, None)
    handler.adapt_config = lambda *_: argument  # type: ignore[method-assign]
    bodies = [run_phase(handler, "access", config=config, name="pre-function").body for _ in range(3)]
    assert bodies == [b"1", b"2", b"3"]


def test_python_functions_may_wait() -> None:
    result = access("async def handler():\n    kong.response.exit(200, 'later')", language="python")
    assert result.body == b"later"


def test_python_faults_are_told_with_their_line() -> None:
    assert faults(language="python", access=["x = 1\ndef ("])["config"]["access"] == [
        "error parsing pre-function: line 2: invalid syntax"
    ]


@pytest.mark.parametrize(
    "source",
    [
        "import os",
        "open('/etc/passwd')",
        "kong.request._call",
        "().__class__.__bases__",
        "eval('1')",
        "getattr(kong, '__class__')",
        "'{0.__class__}'.format(kong)",
        "exec('x = 1')",
        "import re\nre.enum.sys.modules",
        "from re import enum",
        "import json\njson.codecs.builtins",
        "import string\nstring.Formatter()",
        "from re import *",
        "def g():\n    yield 1\ng().gi_frame",
        "try:\n    1 / 0\nexcept Exception as e:\n    e.__traceback__",
        "f'{kong.__class__}'",
        "'{0.__class__}'.format_map({'0': kong})",
        "(lambda a=kong: a)()._real",
        "match 1:\n    case int(real=x):\n        pass",
        "type('A', (), {})",
        "list.__subclasses__()",
        "str.format('{0.__class__}', 1)",
        "class A(metaclass=str):\n    pass",
        "_step_ = 1",
        "kong.request.get_header = 1",
        "(x := kong)._real",
        "async def f():\n    pass\nf().cr_frame",
        "getattr",
        "vars(kong)",
        "globals()",
        "__builtins__['open']",
        "__import__('os')",
        "print(kong)",
    ],
)
def test_restricted_python_takes_no_way_out(source: str) -> None:
    with pytest.raises((SchemaViolation, ImportError, NameError, AttributeError, NotImplementedError, TypeError)):
        access(source, language="python")


ENDLESS_PYTHON = {
    "a loop": "while True:\n    pass",
    "a loop that catches": "while True:\n    try:\n        while True:\n            pass\n    except:\n        pass",
    "a loop that ends in a loop": "try:\n    while True:\n        pass\nfinally:\n    while True:\n        pass",
    "a generator": "def g():\n    while True:\n        yield 1\nsum(g())",
    "calls": "def f(n):\n    f(n - 1) if n else 0\n    f(n - 1) if n else 0\nf(60)",
    "calls of lambdas": "f = lambda f, n: n and (f(f, n - 1) or f(f, n - 1))\nf(f, 60)",
    "a loop over a generator": "def g():\n    while True:\n        yield 1\nfor x in g():\n    pass",
    "a handler": "def handler():\n    while True:\n        pass",
    "a handler that waits": "async def handler():\n    while True:\n        pass",
    "a handler that goes on after waiting": (
        "async def nothing():\n    return 1\nasync def handler():\n    await nothing()\n    while True:\n        pass"
    ),
}


@pytest.mark.parametrize("source", ENDLESS_PYTHON.values(), ids=ENDLESS_PYTHON.keys())
def test_a_python_call_without_end_is_ended_and_the_next_one_runs(source: str) -> None:
    configure_node({"untrusted_lua": "sandbox", "untrusted_lua_instructions": 200_000})
    with pytest.raises(RuntimeError, match="the function took more"):
        access(source, language="python")
    assert access("kong.response.exit(200, 'ran')", language="python").body == b"ran"


HUGE_PYTHON = (
    "'x' * 10**9",
    "[0] * 10**9",
    "10 ** 10 ** 8",
    "1 << 10 ** 8",
    "pow(10, 10 ** 8)",
    "x = [1]\nx *= 10 ** 9",
    "x = 9\nx **= 10 ** 8",
    "list(range(10**9))",
    "tuple(range(10**9))",
    "set(range(10**9))",
    "sorted(range(10**9))",
    "bytes(10**9)",
    "bytearray(10**9)",
    "[0 for _ in range(10**9)]",
    "{n: n for n in range(10**9)}",
    "dict.fromkeys(range(10**9))",
    "list(map(str, range(10**9)))",
    "list(zip(range(10**9), range(10**9)))",
    "''.join('x' for _ in range(10**9))",
    "','.join(map(str, range(10**9)))",
    "sum(range(10**10))",
    "max(range(10**10))",
    "any(False for _ in range(10**10))",
    "9 in map(abs, range(-10**10, -10))",
    "x = 'x'\nwhile True:\n    x += x",
    "x = []\nwhile True:\n    x.append('x' * 10**6)",
    "x = [1]\nwhile True:\n    x.extend(x)",
    "x = [1]\nwhile True:\n    x += x",
    "x = [1]\nwhile True:\n    x = [*x, *x]",
    "x = [1]\nwhile True:\n    x[0:0] = x",
    "x = {}\nwhile True:\n    x[len(x)] = [0] * 1000",
    "x = 'x' * 10**6\nx = x + x + x + x\nx = x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x",
    "'x'.ljust(10**9)",
    "'x'.zfill(10**9)",
    "'x'.center(10**9)",
    "'\\t'.expandtabs(10**9)",
    "('x' * 10**6).replace('x', 'y' * 10**4)",
    "('x' * 10**6).translate({120: 'y' * 10**4})",
    "('x' * 10**5).join(['y'] * 10**5)",
    "str.join('x' * 10**5, ['y'] * 10**5)",
    "('x ' * 10**7).split()",
    "'%1000000000d' % 1",
    "'%*d' % (10**9, 1)",
    "x = '%s' * 10**5\nx % (('y' * 10**5,) * 10**5)",
    "f'{1:1000000000}'",
    "n = 10**9\nf'{1:{n}}'",
    "x = 'x' * 10**7\nf'{x}{x}{x}{x}{x}{x}{x}{x}{x}'",
    "(1).to_bytes(10**9, 'big')",
    "x = []\nfor _ in range(90):\n    x = [x, x]\nstr(x)",
    "x = []\nfor _ in range(90):\n    x = [x, x]\nf'{x}'",
    "x = []\nfor _ in range(90):\n    x = [x, x]\nkong.response.exit(200, x)",
    "import json\nx = []\nfor _ in range(90):\n    x = [x, x]\njson.dumps(x)",
    "import json\njson.loads('[' + '[],' * 10**7 + '[]]')",
    "import re\nre.sub('x', 'y' * 10**4, 'x' * 10**5)",
    "import math\nmath.factorial(10**7)",
    "from math import comb\ncomb(10**8, 10**7)",
)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("source", HUGE_PYTHON)
def test_a_python_call_that_would_fill_the_memory_is_ended_and_the_memory_stays(source: str) -> None:
    configure_node({"untrusted_lua": "lax", "untrusted_lua_memory": 32 * 1024 * 1024})
    before = resident_bytes()
    with pytest.raises(RuntimeError, match="the function took more"):
        access(source, language="python")
    assert resident_bytes() - before < 128 * 1024 * 1024


def test_an_expression_in_python_that_backtracks_ends_with_the_call() -> None:
    configure_node({"untrusted_lua": "lax"})
    with pytest.raises((RuntimeError, TimeoutError)):
        access("import re\nre.match('(a|aa)+$', 'a' * 100 + 'b')", language="python")
    with pytest.raises(ValueError, match="too large"):
        access("import re\nre.match('((a{1000}){1000}){1000}', 'a')", language="python")


def test_python_types_and_modules_work_as_ever() -> None:
    configure_node({"untrusted_lua": "lax"})
    source = """
import base64, hashlib, json, math, re, string, time
from datetime import datetime, timedelta
checks = [
    isinstance([], list), isinstance({}, dict), isinstance('', (str, bytes)), not isinstance(1, str),
    list('ab') == ['a', 'b'], tuple([1]) == (1,), dict(a=1) == {'a': 1}, dict([('a', 1)]) == {'a': 1},
    sorted([2, 1], reverse=True) == [2, 1], sum([1, 2], 3) == 6, sum([[1], [2]], []) == [1, 2], str(1.5) == '1.5',
    bytes([1, 2]) == b'\x01\x02', bytes('a', 'utf-8') == b'a', set('aa') == {'a'}, max(1, 2) == 2, min([3, 2]) == 2,
    list(map(str, [1])) == ['1'], list(zip('a', 'b')) == [('a', 'b')], list(enumerate('a')) == [(0, 'a')],
    ' a b '.split() == ['a', 'b'], 'a,b'.split(',', 1) == ['a', 'b'], 'aXb'.replace('X', '-') == 'a-b',
    '-'.join(x for x in 'ab') == 'a-b', '%s-%d' % ('a', 1) == 'a-1',
    f'{1:03d}|{"a"!r}' == "001|'a'", 7 % 4 == 3,
    re.sub('(a)', r'<\\1>', 'ba') == 'b<a>',
    re.findall('a.', 'abac') == ['ab', 'ac'], re.search('b', 'abc').start() == 1,
    re.compile('A', re.I).match('a').group() == 'a', re.split(',', 'a,b') == ['a', 'b'],
    json.loads(json.dumps({'a': [1]})) == {'a': [1]},
    base64.b64encode(b'a') == b'YQ==', len(hashlib.sha256(b'').hexdigest()) == 64, math.factorial(5) == 120,
    datetime(2020, 1, 1) + timedelta(days=1) == datetime(2020, 1, 2), string.digits == '0123456789', time.time() > 1,
    [*range(2), 5] == [0, 1, 5], dict.fromkeys('a') == {'a': None},
    int.from_bytes(b'a', 'big') == 97, 'ß'.upper() == 'SS',
]
def spread(*values, **named):
    return values, named
checks.append(spread(*[1], **{'a': 2}) == ((1,), {'a': 2}))
numbers = [1, 2, 3]
numbers[1:2] = [7, 8]
alias = numbers
alias += (9,)
checks.append(numbers == [1, 7, 8, 3, 9])
kong.response.exit(200, str([n for n, ok in enumerate(checks) if not ok]))
"""
    assert access(source, language="python").body == b"[]"


def test_python_operators_work_as_ever() -> None:
    source = (
        "x = 3\nx *= 2\nx **= 2\nx <<= 1\nkong.response.exit(200, str([x, 2 * 'a', [0] * 2, 2 ** -1, pow(2, 3, 5)]))"
    )
    assert access(source, language="python").body == b"[72, 'aa', [0, 0], 0.5, 3]"


def test_what_python_hands_to_a_cache_is_bounded_too() -> None:
    configure_node({"untrusted_lua": "sandbox", "untrusted_lua_instructions": 200_000})
    source = "def load():\n    while True:\n        pass\nkong.cache.get('endless', None, load)"
    with pytest.raises(Exception, match="the function took more"):
        access(source, language="python")


def test_a_python_function_reads_a_body_and_cannot_sleep() -> None:
    source = "kong.response.exit(200, kong.request.get_raw_body())"
    assert access(source, language="python", request=Request("POST", body=b"ab")).body == b"ab"
    configure_node({"untrusted_lua": "strict"})
    with pytest.raises((AttributeError, TypeError)):
        access("import time\ntime.sleep(1)", language="python")
    assert access("import time\nkong.response.exit(200, str(time.time() > 1))", language="python").body == b"True"


def test_secrets_are_masked_for_python_functions() -> None:
    configure_node({"untrusted_lua": "sandbox", "pg_password": "secret"})
    result = access("kong.response.exit(200, kong.configuration['pg_password'])", language="python")
    assert result.body == b"******"


def test_the_mode_off_is_told_when_a_function_should_run() -> None:
    configure_node({"untrusted_lua": "off"})
    validate(pre_function.Config, {"access": ["return 1"]})
    with pytest.raises(Exception, match="disabled because 'untrusted_lua' config option is set to 'off'"):
        access("return 1")


PYTHON_VALUES = (
    *(
        "kong",
        "kong.request",
        "kong.log",
        "kong.ctx",
        "kong.cache",
        "kong.configuration",
        "kong.db",
        "list",
        "str",
        "dict",
    ),
    *(
        "handler",
        "(lambda: 0)",
        "(x for x in [1])",
        "iter([1])",
        "[1].append",
        "''.join",
        "json",
        "re",
        "math",
        "json.dumps",
    ),
    *(
        "re.compile('a')",
        "re.match('a', 'a')",
        "ValueError('x')",
        "time",
        "base64",
        "caught()",
        "map(str, [1])",
        "range(3)",
    ),
    *(
        "datetime",
        "hashlib.sha256(b'')",
        "int",
        "object",
        "super",
        "BaseException",
        "__builtins__",
        "_getattr_",
        "_step_",
    ),
    *("kong.request.get_header", "kong.response.exit", "__name__", "True", "A", "A()", "bytearray(b'x')", "{}.items()"),
)
PYTHON_DEEDS = (
    *("v.__class__", "v.__class__.__base__.__subclasses__()", "v.__globals__['canary']()", "v.__dict__", "v.__init__"),
    *("v.__self__", "v.__module__", "v.__traceback__.tb_frame", "v.gi_frame.f_globals", "v.gi_code", "v.cr_frame"),
    *(
        "v.tb_frame",
        "v.f_back",
        "v.f_builtins",
        "v.func_globals",
        "v.mro()",
        "v.real.mro()",
        "v.make.x",
        "v._real",
        "v._change",
    ),
    *("f'{v.__class__}'", "'{0.__class__}'.format(v)", "'{0.__class__}'.format_map({'0': v})", "str.format('{0}', v)"),
    *(
        "getattr(v, '__class__')",
        "setattr(v, 'x', 1)",
        "delattr(v, 'dumps')",
        "vars(v)",
        "dir(v)",
        "type(v)",
        "object(v)",
    ),
    *("v.x = 1", "v['x'] = 1", "v.dumps = None", "v.sub = None", "v.get_header = None", "del v.dumps", "v.append = 1"),
    *("v.sys.modules", "v.enum.sys", "v.codecs.builtins", "v.os.system('true')", "v.decoder.scanner", "v.binascii"),
    *("eval('canary()')", "exec('canary()')", "compile('1', 'x', 'eval')", "open('/etc/passwd')", "__import__('os')"),
    *("import os", "from os import path", "from re import *", "import builtins", "from json import codecs"),
    *(
        "canary()",
        "globals()",
        "locals()",
        "breakpoint()",
        "input()",
        "print(v)",
        "v()",
        "v(v)",
        "v[0]",
        "v[v]",
        "next(v)",
    ),
    *(
        "(y := v).__class__",
        "[w.__class__ for w in [v]]",
        "(lambda a=v: a.__class__)()",
        "v.__call__()",
        "v.fromkeys('a')",
    ),
    *("match v:\n    case object(__class__=c):\n        c()", "async def f():\n    return v\nf().cr_frame"),
    *(
        "@v\ndef g():\n    pass",
        "class B(v):\n    pass\nB()",
        "class C(metaclass=v):\n    pass",
        "def h(a: v.__class__ = v): pass",
    ),
    *(
        "try:\n    raise v\nexcept v as e:\n    e.__traceback__",
        "with v as w:\n    w.__class__",
        "del v['x']",
        "v += v",
    ),
    *(
        "global __builtins__\n__builtins__ = {}",
        "_step_ = None",
        "__metaclass__ = v",
        "while True:\n    v",
        "x = [v] * 10**9",
    ),
    *(
        "x = 'x'\nwhile True:\n    x += x",
        "try:\n    while True:\n        pass\nexcept:\n    pass",
        "raise v",
        "assert v",
    ),
)
PYTHON_START = """
import base64, datetime, hashlib, json, math, re, time
def caught():
    try:
        1 / 0
    except ZeroDivisionError as error:
        return error
class A:
    pass
def handler():
    pass
"""
PYTHON_HONEST = """
import json, re, math
kong.response.exit(200, json.dumps([re.sub('a', 'b', 'aa'), math.floor(1.5), list('ab'), str(1), sorted([2, 1])]))
"""


@pytest.mark.parametrize("mode", ["strict", "lax", "sandbox"])
def test_no_python_program_calls_what_is_outside_or_leaves_anything_behind(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    monkeypatch.setattr("builtins.canary", lambda: called.append("called"), raising=False)
    modules = ["base64", "datetime", "hashlib", "json", "math", "re", "time"]
    configure_node(
        {
            "untrusted_lua": mode,
            "untrusted_lua_sandbox_requires": modules,
            "untrusted_lua_instructions": 50_000,
            "untrusted_lua_memory": 16 * 1024 * 1024,
        }
    )
    if mode == "strict":
        start = PYTHON_START.replace("datetime, ", "").replace("import base64", "datetime = 1\nimport base64")
    else:
        start = PYTHON_START
    chance = random.Random(mode)
    for _ in range(250):
        value, deed, other = chance.choice(PYTHON_VALUES), chance.choice(PYTHON_DEEDS), chance.choice(PYTHON_DEEDS)
        source = f"{start}v = {value}\ntry:\n{indent(deed, '    ')}\nexcept Exception:\n    pass\n{other}\n"
        with suppress(Exception):
            access(source, language="python")
        assert called == [], source
        assert access(PYTHON_HONEST, language="python").body == b'["bb", 1, ["a", "b"], "1", [1, 2]]', source
    assert json.dumps([1]) == "[1]"
