"""pre-function and post-function: what their configuration may hold, and how their functions run in a request."""

from collections.abc import Iterator
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
    ],
)
def test_restricted_python_takes_no_way_out(source: str) -> None:
    with pytest.raises((SchemaViolation, ImportError, NameError, AttributeError, NotImplementedError)):
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


@pytest.mark.parametrize(
    "source",
    [
        "'x' * 10**9",
        "10 ** 10 ** 8",
        "1 << 10 ** 8",
        "pow(10, 10 ** 8)",
        "x = [1]\nx *= 10 ** 9",
        "x = 9\nx **= 10 ** 8",
    ],
)
def test_python_operators_make_nothing_huge(source: str) -> None:
    with pytest.raises(ValueError, match="the result is too large"):
        access(source, language="python")


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
