"""rate-limiting: windows, identifiers, headers and refusals, with counters in shared memory and in Redis."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import RedisError

from headgate.pdk import shared_dict
from headgate.plugins.rate_limiting import handler as rate_limiting
from headgate.plugins.rate_limiting.config import Config
from headgate.plugins.rate_limiting.handler import Handler
from headgate.plugins.rate_limiting.periods import CurrentWindows
from tests.plugins.redis_server import needs_redis_server, running_redis_server
from tests.plugins.scene import Scene

# 2023-11-14 22:13:20 UTC
NOW_S = 1_700_000_000.0
ADA = {"id": "1b9d5a3e-0000-4000-8000-000000000001", "username": "ada"}
BOB = {"id": "1b9d5a3e-0000-4000-8000-000000000002", "username": "bob"}
ROUTE_ID = "1b9d5a3e-0000-4000-8000-00000000000a"
SERVICE_ID = "1b9d5a3e-0000-4000-8000-00000000000b"


class Clock:
    def __init__(self) -> None:
        self.now_s = NOW_S

    def time(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(rate_limiting, "time", clock)
    return clock


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, clock: Clock) -> Iterator[None]:
    shared_dict.close()
    shared_dict.configure(tmp_path / "shared", 1024 * 1024, clock=clock.time)
    yield
    shared_dict.close()


def play(config: dict[str, Any], **request: Any) -> Scene:
    return Scene(Handler, config, **request).access()


@pytest.mark.parametrize(
    ("period", "start_s"),
    [
        ("second", 1_700_000_000),
        ("minute", 1_699_999_980),
        ("hour", 1_699_999_200),
        ("day", 1_699_920_000),
        ("month", 1_698_796_800),
        ("year", 1_672_531_200),
    ],
)
def test_windows_are_aligned_to_the_calendar(period: str, start_s: int) -> None:
    assert CurrentWindows().at(int(NOW_S))[period].start_s == start_s


def test_allowed_requests_tell_what_remains() -> None:
    config = {"minute": 3, "hour": 10}
    played = play(config, consumer=ADA)
    assert played.refusal is None
    assert played.client_headers == {
        "x-ratelimit-limit-minute": "3",
        "x-ratelimit-remaining-minute": "2",
        "x-ratelimit-limit-hour": "10",
        "x-ratelimit-remaining-hour": "9",
        "ratelimit-limit": "3",
        "ratelimit-remaining": "2",
        "ratelimit-reset": "40",
    }
    assert play(config, consumer=ADA).client_headers["x-ratelimit-remaining-minute"] == "1"


def test_beyond_the_limit_the_answer_is_429_and_does_not_count(clock: Clock) -> None:
    config = {"minute": 2, "hour": 3}
    for _ in range(2):
        assert play(config, consumer=ADA).refusal is None
    for _ in range(3):
        played = play(config, consumer=ADA)
        assert played.refusal == (429, "API rate limit exceeded")
    assert played.answered("Retry-After") == ["40"]
    assert played.answered("RateLimit-Remaining") == ["0"]
    assert played.answered("X-RateLimit-Remaining-Minute") == ["0"]
    assert played.answered("X-RateLimit-Remaining-Hour") == ["1"]
    clock.now_s += 40
    played = play(config, consumer=ADA)
    assert played.refusal is None
    assert played.client_headers["x-ratelimit-remaining-hour"] == "0"
    assert play(config, consumer=ADA).answered("Retry-After") == [str(3600 - 800 - 40)]


def test_on_a_tie_the_longer_window_is_told() -> None:
    played = play({"second": 5, "year": 5}, consumer=ADA)
    assert played.client_headers["ratelimit-reset"] == str(31_536_000 - (1_700_000_000 - 1_672_531_200))


def test_a_reset_is_at_least_one_second(clock: Clock) -> None:
    # The last day of a month with 31 days is beyond the 30 that a month counts.
    clock.now_s = 1_698_796_800 - 10
    assert play({"month": 5}, consumer=ADA).client_headers["ratelimit-reset"] == "1"


def test_hidden_headers_are_not_sent() -> None:
    config = {"minute": 1, "hide_client_headers": True}
    assert play(config, consumer=ADA).client_headers == {}
    played = play(config, consumer=ADA)
    assert played.refusal == (429, "API rate limit exceeded")
    assert played.answered("Retry-After") == []
    assert played.answered("RateLimit-Limit") == []


def test_code_and_message_can_be_chosen() -> None:
    config = {"minute": 1, "error_code": 403, "error_message": "slow down"}
    play(config, consumer=ADA)
    assert play(config, consumer=ADA).refusal == (403, "slow down")


def test_a_fractional_limit_prints_its_decimals() -> None:
    assert play({"minute": 1.5}, consumer=ADA).client_headers["x-ratelimit-limit-minute"] == "1.5"


@pytest.mark.parametrize(
    ("config", "one", "same", "other"),
    [
        ({"limit_by": "consumer"}, {"consumer": ADA}, {"consumer": ADA, "ip": "9.9.9.9"}, {"consumer": BOB}),
        ({"limit_by": "consumer"}, {"credential": {"id": "c1"}}, {"credential": {"id": "c1"}}, {"ip": "9.9.9.9"}),
        (
            {"limit_by": "credential"},
            {"consumer": ADA, "credential": {"id": "c1"}},
            {"consumer": BOB, "credential": {"id": "c1"}},
            {"consumer": ADA, "credential": {"id": "c2"}},
        ),
        ({"limit_by": "ip"}, {"consumer": ADA}, {"consumer": BOB}, {"ip": "9.9.9.9"}),
        ({"limit_by": "ip"}, {"ip": "2001:db8::1"}, {"ip": "2001:db8::1"}, {"ip": "2001:db8::2"}),
        (
            {"limit_by": "service"},
            {"service": {"id": "s1"}, "ip": "9.9.9.9"},
            {"service": {"id": "s1"}},
            {"service": {"id": "s2"}},
        ),
        (
            {"limit_by": "header", "header_name": "X-Tenant"},
            {"headers": [("x-tenant", "a")], "ip": "9.9.9.9"},
            {"headers": [("x-tenant", "a")]},
            {"headers": [("x-tenant", "b")]},
        ),
        (
            {"limit_by": "path", "path": "/a"},
            {"target": "/a", "ip": "9.9.9.9"},
            {"target": "/a?q=1"},
            {"target": "/b"},
        ),
        ({"limit_by": "consumer"}, {}, {}, {"ip": "9.9.9.9"}),
    ],
)
def test_requests_are_counted_by_who_sends_them(
    config: dict[str, Any], one: dict[str, Any], same: dict[str, Any], other: dict[str, Any]
) -> None:
    config = {"minute": 1, **config}
    assert play(config, **one).refusal is None
    assert play(config, **same).refusal is not None
    assert play(config, **other).refusal is None


def test_instances_of_different_scopes_count_apart() -> None:
    config = {"minute": 1}
    assert play(config, consumer=ADA).refusal is None
    assert play(config, consumer=ADA, scope={"route_id": ROUTE_ID}).refusal is None
    assert play(config, consumer=ADA, scope={"service_id": SERVICE_ID}).refusal is None
    assert play(config, consumer=ADA, scope={"route_id": ROUTE_ID}).refusal is not None
    counters = shared_dict.SharedDict(rate_limiting.COUNTERS)
    start_ms = 1_699_999_980_000
    zero = "00000000-0000-0000-0000-000000000000"
    assert counters.get(f"ratelimit:{ROUTE_ID}:{zero}:{ADA['id']}:{start_ms}:minute") == 1
    assert counters.get(f"ratelimit:{zero}:{SERVICE_ID}:{ADA['id']}:{start_ms}:minute") == 1


@pytest.fixture
def _failing_store(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise shared_dict.SharedDictError("the store is out of order")

    monkeypatch.setattr(shared_dict, "_memory", fail)


@pytest.mark.usefixtures("_failing_store")
def test_a_failing_store_lets_requests_pass_when_faults_are_tolerated() -> None:
    played = play({"minute": 1}, consumer=ADA)
    assert played.refusal is None
    assert played.client_headers == {}


@pytest.mark.usefixtures("_failing_store")
def test_a_failing_store_is_an_error_when_faults_are_not_tolerated() -> None:
    with pytest.raises(shared_dict.SharedDictError):
        play({"minute": 1, "fault_tolerant": False}, consumer=ADA)


class OneLoopHandler(Handler):
    """Runs what it awaits on one loop, as a worker does: connections belong to the loop they were made on."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self.awaited = 0

    def access(self, conf: Config) -> None:
        awaitable = super().access(conf)
        if awaitable is not None:
            self.awaited += 1
            self._loop.run_until_complete(awaitable)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with running_redis_server(tmp_path_factory.mktemp("redis")) as port:
        yield port


@needs_redis_server
class TestRedis:
    @pytest.fixture
    def handler(self) -> Iterator[OneLoopHandler]:
        loop = asyncio.new_event_loop()
        handler = OneLoopHandler(loop)
        yield handler

        async def close() -> None:
            handler.configure(None)
            await asyncio.gather(*rate_limiting._closing)

        loop.run_until_complete(close())
        loop.close()

    @pytest.fixture
    def config(self, port: int) -> dict[str, Any]:
        # The header keeps the tests' counters apart.
        return {
            "policy": "redis",
            "redis": {"host": "127.0.0.1", "port": port},
            "limit_by": "header",
            "header_name": "X-Test",
        }

    @pytest.fixture
    def headers(self, request: pytest.FixtureRequest) -> list[tuple[str, str]]:
        return [("X-Test", request.node.name)]

    def test_every_request_counts_at_once(
        self, handler: OneLoopHandler, config: dict[str, Any], headers: list[tuple[str, str]]
    ) -> None:
        remaining = []
        for _ in range(2):
            played = play({**config, "minute": 2}, handler=handler, headers=headers)
            remaining.append(played.client_headers["x-ratelimit-remaining-minute"])
        assert remaining == ["1", "0"]
        assert play({**config, "minute": 2}, handler=handler, headers=headers).refusal is not None
        # Refused requests count with this policy.
        assert play({**config, "minute": 4}, handler=handler, headers=headers).client_headers == {
            "x-ratelimit-limit-minute": "4",
            "x-ratelimit-remaining-minute": "0",
            "ratelimit-limit": "4",
            "ratelimit-remaining": "0",
            "ratelimit-reset": "40",
        }

    def test_with_a_sync_rate_the_worker_counts_by_itself(
        self, handler: OneLoopHandler, config: dict[str, Any], headers: list[tuple[str, str]]
    ) -> None:
        config = {**config, "minute": 2, "sync_rate": 10}
        assert play(config, handler=handler, headers=headers).refusal is None
        played = play(config, handler=handler, headers=headers)
        assert played.client_headers["x-ratelimit-remaining-minute"] == "0"
        assert play(config, handler=handler, headers=headers).refusal == (429, "API rate limit exceeded")
        assert handler.awaited == 1

    def test_an_instance_that_is_gone_writes_what_it_counted(
        self, handler: OneLoopHandler, config: dict[str, Any], headers: list[tuple[str, str]]
    ) -> None:
        play({**config, "minute": 5, "sync_rate": 10}, handler=handler, headers=headers)

        async def reconfigure() -> None:
            handler.configure(None)
            await asyncio.gather(*rate_limiting._closing)

        handler._loop.run_until_complete(reconfigure())
        played = play({**config, "minute": 5}, handler=handler, headers=headers)
        assert played.client_headers["x-ratelimit-remaining-minute"] == "3"

    def test_without_redis_requests_pass_when_faults_are_tolerated(self, handler: OneLoopHandler) -> None:
        config = {"policy": "redis", "redis": {"host": "127.0.0.1", "port": 1, "timeout": 200}, "minute": 1}
        assert play(config, handler=handler).refusal is None
        with pytest.raises((OSError, RedisError)):
            play({**config, "fault_tolerant": False}, handler=handler)
