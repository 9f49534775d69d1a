"""The short way from Lua into the engine against the way through Python: the same outcome for every call."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.engine import lua_functions
from tests.support.documents import catch_all
from tests.support.gateway import ROOT, Gateway
from tests.support.http1 import wait_until
from tests.support.upstream import Upstream

LUA_PLUGINS = ROOT / "tests" / "lua" / "data"
PHASES = ["access", "header_filter", "log"]
LAST_CALL = "service.response.get_header true"
TWICE = {"X-Twice": "a", "x-twice": "b", "X-TWICE": "c"}
HEADERS = TWICE | {"X-Plain": "plain", "X-Bytes": "caf\u00e9", "X-Long": "v" * 6_000}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("told") / "lines"


@pytest.fixture(scope="module")
def gateway(upstream: Upstream, told: Path) -> Iterator[Gateway]:
    config = catch_all(upstream, plugins=[{"name": "two-ways", "config": {"file": str(told)}}])
    settings: dict[str, Any] = {
        "lua_package_path": f"{LUA_PLUGINS}/?.lua",
        "plugins": "bundled,two-ways",
        "trusted_ips": "0.0.0.0/0",
    }
    with Gateway(config, **settings) as running:
        yield running


@pytest.fixture(scope="module")
def lines(gateway: Gateway, told: Path) -> list[list[Any]]:
    """What the plugin wrote about one request, until its last word."""
    assert gateway.get("/a%20b/../c?d=e", HEADERS | {"X-Forwarded-For": "192.0.2.7"}, "PUT").status == 200

    def read() -> list[list[Any]]:
        return [json.loads(line) for line in told.read_text(encoding="latin-1").split("\n") if line]

    assert wait_until(lambda: {"log", "late", "timer"} <= {line[0] for line in read()})
    assert wait_until(lambda: [line[1] for line in read() if line[0] == "log"][-1].endswith(LAST_CALL))
    return read()


@pytest.mark.parametrize("phase", [*PHASES, "timer", "late"])
def test_both_ways_have_the_same_outcome(lines: list[list[Any]], phase: str) -> None:
    told = [line for line in lines if line[0] == phase]
    assert told
    assert [[call, short] for _, call, short, _, _ in told] == [[call, long] for _, call, _, long, _ in told]


def test_every_function_of_the_list_is_compared_and_takes_the_short_way(lines: list[list[Any]]) -> None:
    taken = {call.partition(" ")[0] for _, call, _, _, is_short_taken in lines if is_short_taken}
    assert taken == {name for _, names in lua_functions().values() for name in names}


@pytest.mark.parametrize(
    ("phase", "call"),
    [
        ("access", "response.get_status"),
        ("access", "request.get_header x-long"),
        ("access", "request.get_header 5"),
        ("access", "request.get_headers 1000"),
        ("access", "service.request.set_header bad name"),
        ("access", "service.request.set_header X-Number"),
        ("header_filter", "response.set_header Transfer-Encoding"),
        ("timer", "request.get_path"),
        ("late", "request.get_path"),
    ],
)
def test_what_is_unusual_goes_through_python(lines: list[list[Any]], phase: str, call: str) -> None:
    assert [is_short_taken for *what, _, _, is_short_taken in lines if what == [phase, call]] == [False]


def test_values_of_a_request_are_not_those_of_an_earlier_one(gateway: Gateway) -> None:
    with gateway.client() as client:
        for number in range(6):
            answer = client.request("GET", "/", {"X-Keep": str(number)} if number % 2 else {})
            assert answer.headers.get("X-Kept") == (str(number) if number % 2 else "nil")
