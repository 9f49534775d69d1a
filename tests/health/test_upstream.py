"""The addresses of an upstream over all workers."""

import pytest

from headgate.entities.registry import ENTITY_TYPES
from headgate.health import upstream as module
from headgate.health.checks import Checks
from headgate.health.pools import AddressKey, Pool, PoolAddress, PoolTarget
from headgate.health.upstream import UpstreamHealth, split_target


def health() -> UpstreamHealth:
    entity, _ = ENTITY_TYPES["upstreams"].examine({"name": "u"}, now=1)
    return UpstreamHealth("id", "u", Checks.of(entity, has_checker=True))


def pool(*ips: str, weight: int = 100) -> Pool:
    addresses = [PoolAddress(ip, 80, weight, "healthy") for ip in ips]
    return Pool("id", [PoolTarget("target.test", 80, weight, "A", addresses)])


def test_a_target_has_the_addresses_that_any_worker_uses() -> None:
    upstream = health()
    upstream.take_pool(1, pool("10.0.0.1", "10.0.0.2"))
    upstream.take_pool(2, pool("10.0.0.2", "10.0.0.3"))
    target = upstream.targets()["target.test", 80]
    assert [address.ip for address in target.addresses] == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    upstream.forget_worker(1)
    assert [key.ip for key, _ in upstream.in_rotation] == ["10.0.0.2", "10.0.0.3"]


def test_addresses_without_weight_are_shown_and_not_probed() -> None:
    upstream = health()
    upstream.take_pool(1, pool("10.0.0.1", weight=0))
    assert upstream.in_rotation == []
    described = upstream.describe_target("target.test", 80)
    assert described is not None
    assert described[1]["addresses"][0]["weight"] == 0


def test_an_address_that_is_gone_is_remembered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    upstream = health()
    key = AddressKey("target.test", "10.0.0.1", 80)
    upstream.take_pool(1, pool("10.0.0.1"))
    upstream.addresses[key].machine.set("unhealthy")
    upstream.take_pool(1, pool("10.0.0.2"))
    now += module.REMEMBERED_S
    assert upstream.take_pool(1, pool("10.0.0.1")) == [key], "the worker is to be told"
    upstream.take_pool(1, pool("10.0.0.2"))
    now += module.REMEMBERED_S + 1
    upstream.take_pool(1, pool("10.0.0.2"))
    assert key not in upstream.addresses


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("a.test:80", "a.test", 80), ("[::1]:8080", "::1", 8080), ("127.0.0.1:1", "127.0.0.1", 1)],
)
def test_targets_are_split(text: str, host: str, port: int) -> None:
    assert split_target(text) == (host, port)
