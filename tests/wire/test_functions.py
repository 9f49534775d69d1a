"""Functions of the configuration that go astray, in the real gateway: their request fails, the worker lives."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.gateway import Gateway
from tests.support.http1 import wait_until
from tests.support.upstream import Upstream

ASTRAY: dict[str, tuple[str, str]] = {
    "loop": ("lua", "while true do end"),
    "caught": ("lua", "while true do pcall(function() while true do end end) end"),
    "gigabyte": ("lua", "local s = ('x'):rep(1e9)"),
    "overflow": ("lua", "local function f() return 1 + f() end f()"),
    "hanging": ("lua", "coroutine.yield('never')"),
    "pattern": ("lua", "(('a'):rep(30)):find(('a?'):rep(30) .. ('a'):rep(30) .. 'b')"),
    "expression": ("lua", "local m, err = ngx.re.match(('a'):rep(50), '(a*)*b') error(err)"),
    "forbidden": ("lua", "require('ffi')"),
    "python": ("python", "while True:\n    pass"),
    "waiting": ("python", "async def handler():\n    while True:\n        pass"),
}


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with Upstream() as upstream:
        routes = [{"name": name, "paths": [f"/{name}"]} for name in (*ASTRAY, "fine")]
        plugins: list[dict[str, Any]] = [
            {"name": "pre-function", "route": name, "config": {"language": language, "access": [source]}}
            for name, (language, source) in ASTRAY.items()
        ]
        document = {
            "_format_version": "3.0",
            "services": [{"name": "s", "url": upstream.url, "routes": routes}],
            "plugins": plugins,
        }
        with Gateway(document, untrusted_lua_instructions=1_000_000, untrusted_lua_memory="16m") as running:
            yield running


@pytest.mark.parametrize("name", ASTRAY)
def test_a_function_that_goes_astray_costs_its_own_request_only(gateway: Gateway, name: str) -> None:
    workers = gateway.worker_pids
    answer = gateway.get(f"/{name}/{name}")
    assert answer.status == 500
    assert answer.json()["message"] == "An unexpected error occurred"
    assert gateway.get("/fine").status == 200
    assert gateway.worker_pids == workers
    assert wait_until(lambda: "pre-function" in gateway.output())
