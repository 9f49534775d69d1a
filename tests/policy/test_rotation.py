"""Secrets from vaults in plans: resolved when a plan comes into force, put anew when they change."""

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from headgate.pdk import Plugin, instance_of
from headgate.pdk._secrets import FOR_EVER_S, Secrets, secrets
from headgate.policy.catalog import Catalog
from headgate.policy.compile import compile_plan
from headgate.policy.rotation import DEFAULT_INTERVAL_S, interval_s, rotate_once
from headgate.policy.runner import Runtime
from headgate.schema import PluginConfig, field
from headgate.store.snapshot import Snapshot
from tests.policy.plans import World, reference
from tests.support.certificates import Authority


class SecretConfig(PluginConfig):
    """One secret."""

    password: str | None = field(None, referenceable=True)


class Handler(Plugin[SecretConfig]):
    """Keeps what configure saw."""

    VERSION = "1.0.0"
    PRIORITY = 10
    seen: list[Any]

    def configure(self, configs: list[SecretConfig] | None) -> None:
        self.seen = [one.password for one in configs or ()]

    def access(self, conf: SecretConfig) -> None: ...


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    secrets.flush()
    yield
    secrets.flush()


def test_handlers_get_secrets_and_the_instance_says_where_they_are_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_TEST_SECRET", "one")
    world = World()
    world.install("keeper", Handler)
    world.add("vaults", name="env", prefix="mine", config={"prefix": "HEADGATE_TEST_", "ttl": 0.001})
    entity = world.plugin("keeper", {"password": "{vault://mine/secret}"})
    world.route()
    catalog = Catalog(world.types)
    plan = compile_plan(Snapshot(world.entities, revision=1), catalog)
    asyncio.run(Runtime(catalog).configure(plan))
    instance = plan.instances("keeper")[0]
    assert instance.config.password == "one"
    assert instance.handler.seen == ["one"]
    assert instance_of(instance.config).refs == {"password": "{vault://mine/secret}"}
    assert entity["config"]["password"] == "{vault://mine/secret}"

    changes: list[str] = []

    async def changed() -> None:
        changes.append(instance.config.password)

    async def rotate() -> None:
        monkeypatch.setenv("HEADGATE_TEST_SECRET", "two")
        await asyncio.sleep(0.002)
        await rotate_once(changed)
        await asyncio.sleep(0.002)
        await rotate_once(changed)

    asyncio.run(rotate())
    assert changes == ["two"]


def test_certificates_come_from_vaults_and_one_without_secrets_is_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pair = Authority().issue("a.example")
    monkeypatch.setenv("HEADGATE_TEST_PAIR", json.dumps({"cert": pair.certificate, "key": pair.key}))
    world = World()
    good = world.add(
        "certificates", cert="{vault://env/headgate-test-pair/cert}", key="{vault://env/headgate-test-pair/key}"
    )
    bad = world.add("certificates", cert="{vault://env/headgate-test-absent}", key="k")
    world.add("snis", name="a.example", certificate=reference(good))
    world.add("snis", name="b.example", certificate=reference(bad))
    world.route(world.service(client_certificate=reference(bad)))
    with caplog.at_level(logging.WARNING):
        plan = world.plan()
    engine_plan = json.loads(plan.engine_plan())
    assert engine_plan["certificates"] == [{"id": good["id"], "cert": pair.certificate, "key": pair.key}]
    assert engine_plan["snis"] == {"a.example": 0}
    assert "client_certificate" not in engine_plan["services"][0]
    assert plan.holds_references
    assert f"certificate {bad['id']} is not used: its secrets cannot be had" in caplog.messages


def test_rotation_waits_for_the_shortest_time_to_live(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Secrets({"A": "a"})
    monkeypatch.delenv("KONG_VAULT_ROTATION_INTERVAL", raising=False)
    assert (interval_s(source), source.shortest_ttl_s()) == (DEFAULT_INTERVAL_S, FOR_EVER_S)
    source.get("{vault://env/a?ttl=5}")
    assert interval_s(source) == 5
    monkeypatch.setenv("KONG_VAULT_ROTATION_INTERVAL", "2")
    assert interval_s(source) == 2
