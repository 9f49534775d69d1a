"""What the page of pre-function says: its phases, functions that keep their state, and what limits them."""

from typing import Any

import pytest

from headgate.config.lua import UNTRUSTED_MODES
from headgate.plugins import post_function, pre_function
from headgate.policy.catalog import load_catalog
from headgate.schema import examine, record_definition
from headgate.testing import run_phase

PAGE = (
    *("access", "body_filter", "certificate", "header_filter", "log", "rewrite"),
    *("ws_client_frame", "ws_close", "ws_handshake", "ws_upstream_frame"),
)


def config(**functions: str) -> dict[str, Any]:
    return {phase: [source] for phase, source in functions.items()}


def test_functions_can_run_in_each_of_the_published_phases() -> None:
    fields = set(record_definition(pre_function.Config).fields)
    assert set(PAGE) <= fields
    for phase in PAGE:
        result = run_phase(pre_function.Handler, phase, config=config(**{phase: 'kong.log.warn("in ", "phase")'}))
        assert [line.message.endswith("in phase") for line in result.logs] == [True], phase


def test_functions_may_be_given_for_several_phases() -> None:
    both = config(rewrite="kong.ctx.shared.seen = 1", access="kong.response.exit(200, tostring(kong.ctx.shared.seen))")
    rewrite = run_phase(pre_function.Handler, "rewrite", config=both)
    assert run_phase(pre_function.Handler, "access", config=both, exchange=rewrite.exchange).body == b"1"


def test_pre_functions_run_before_other_plugins_and_post_functions_after() -> None:
    names = list(load_catalog(["bundled"]))
    assert (names[0], names[-1]) == ("pre-function", "post-function")
    assert post_function.Handler.PRIORITY < 0 < pre_function.Handler.PRIORITY


def test_a_returned_function_keeps_its_upvalues_from_request_to_request() -> None:
    source = """
    local count = 0
    return function()
      count = count + 1
      kong.response.exit(200, "hello world: " .. count)
    end
    """
    handler, conf = pre_function.Handler(), pre_function.Config(access=[source])
    # A gateway compiles the functions of an instance once.
    compiled = handler.adapt_config(conf, None)
    handler.adapt_config = lambda *_: compiled  # type: ignore[method-assign]
    bodies = [run_phase(handler, "access", config=conf).body for _ in range(3)]
    assert bodies == [b"hello world: 1", b"hello world: 2", b"hello world: 3"]


def test_the_language_is_not_limited_but_its_environment_is() -> None:
    language = "local t = {} for i = 1, 3 do t[i] = i end return kong.response.exit(200, tostring(#t))"
    assert run_phase(pre_function.Handler, "access", config=config(access=language)).body == b"3"
    for outside in ('require "os"', 'os.execute("true")', 'io.open("/etc/passwd")'):
        with pytest.raises(Exception):  # noqa: B017 whatever it says, it does not run
            run_phase(pre_function.Handler, "access", config=config(access=outside))


def test_plugin_does_not_support_conditional_expressions() -> None:
    assert "condition" not in record_definition(pre_function.Config).fields
    assert examine(pre_function.Config, {**config(access="return"), "condition": "true"}).errors == {
        "condition": "unknown field"
    }


def test_sandbox_has_the_published_modes() -> None:
    assert UNTRUSTED_MODES == ("off", "strict", "lax", "sandbox", "on")
