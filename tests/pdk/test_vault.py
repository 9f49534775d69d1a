"""References, where they are resolved, and what happens when secrets change or are missing."""

import asyncio
import logging
from typing import Any

import pytest

from headgate import PluginConfig
from headgate.pdk import _node
from headgate.pdk._bound import bind_references, resolve_bound
from headgate.pdk._reference import VaultError
from headgate.pdk._secrets import Secrets
from headgate.pdk.vault import Vault
from headgate.schema import Record, field, validate
from headgate.testing.plan import MemorySnapshot


class Clock:
    """Seconds that only tests move."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def environment() -> dict[str, str]:
    return {"MY_SECRET_VALUE": "one", "MY_SECRET_VALUE_PREVIOUS": "zero", "JSON": '{"user": "anna", "n": 1}'}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def secrets(environment: dict[str, str], clock: Clock) -> Secrets:
    return Secrets(environment, clock)


def test_a_reference_is_taken_apart() -> None:
    vault = Vault()
    assert vault.parse_reference("{vault://env/my/secret%2Fname/key?prefix=X_&ttl=5#2}") == {
        "name": "env",
        "resource": "my/secret/name",
        "key": "key",
        "config": {"prefix": "X_", "ttl": "5"},
        "version": 2,
    }
    assert vault.parse_reference("{vault://env/one}")["key"] is None
    assert vault.parse_reference("{vault://env/a/b/}")["resource"] == "a/b"
    assert [vault.is_reference(value) for value in ("{vault://}", "{vault://env/x", 1, None)] == [
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ("plain", "not a reference [plain]"),
        ("{vault:///x}", "reference url is missing host [{vault:///x}]"),
        ("{vault://env}", "reference url is missing path [{vault://env}]"),
        ("{vault://env/}", "reference url has empty path [{vault://env/}]"),
        ("{vault://env/x#a}", "reference url has invalid version [{vault://env/x#a}]"),
        ("{vault://env//x}", "reference url has invalid path [{vault://env//x}]"),
        ("{vault://none/x}", "could not find vault (none)"),
        ("{vault://env/absent}", "could not get value from external vault (no value found)"),
        ("{vault://env/json/absent}", "could not get subfield value: subfield absent not found in JSON secret"),
        (
            "{vault://env/json/n}",
            "could not get subfield value: unexpected number value in JSON secret for subfield n",
        ),
    ],
)
def test_faults_have_the_documented_texts(secrets: Secrets, reference: str, text: str) -> None:
    with pytest.raises(VaultError) as caught:
        Vault(secrets).get(reference)
    assert str(caught.value) == text


def test_values_come_from_the_environment(secrets: Secrets) -> None:
    vault = Vault(secrets)
    assert vault.get("{vault://env/my-secret-value}") == "one"
    assert vault.get("{vault://env/secret-value?prefix=MY_}") == "one"
    assert vault.get("{vault://env/my-secret-value#2}") == "zero"
    assert vault.get("{vault://env/json/user}") == "anna"
    with pytest.raises(VaultError, match="unable to json decode value"):
        vault.get("{vault://env/my-secret-value/key}")


def test_a_miss_is_remembered(secrets: Secrets) -> None:
    with pytest.raises(VaultError):
        secrets.get("{vault://env/absent}")
    assert secrets.get("{vault://env/absent}") is None


def test_a_vault_entity_gives_prefix_and_times_to_live(
    secrets: Secrets, environment: dict[str, str], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    vaults = [{"name": "env", "prefix": "mine", "config": {"prefix": "MY_", "ttl": 10, "resurrect_ttl": 30}}]
    monkeypatch.setattr(_node.node, "snapshot", MemorySnapshot({"vaults": vaults}))
    reference = "{vault://mine/secret-value}"
    assert secrets.get(reference) == "one"
    assert secrets.shortest_ttl_s() == 10
    environment["MY_SECRET_VALUE"] = "two"
    assert secrets.get(reference) == "one"
    clock.now_s += 11
    assert secrets.rotate()
    assert not secrets.rotate()
    assert secrets.get(reference) == "two"
    environment["MY_SECRET_VALUE"] = "three"
    clock.now_s += 11
    assert secrets.get(reference) == "three"
    assert secrets.rotate(), "who asks in between hides no change from the others"
    environment["MY_SECRET_VALUE"] = "two"
    clock.now_s += 11
    assert secrets.rotate()
    del environment["MY_SECRET_VALUE"]
    clock.now_s += 11
    assert not secrets.rotate()
    assert secrets.get(reference) == "two"
    clock.now_s += 300
    assert secrets.rotate()
    assert secrets.get(reference) is None


class Redis(Record):
    """A record inside a configuration."""

    password: str | None = field(None, referenceable=True)


class Config(PluginConfig):
    """References at every depth, and one in a field that may not hold any."""

    key: str | None = field(None, referenceable=True)
    plain: str | None = None
    redis: Redis = field(default_factory=Redis)
    names: list[str] = field(default_factory=list, elements=field(referenceable=True))
    headers: dict[str, str] = field(default_factory=dict, values=field(referenceable=True))


REFERENCE = "{vault://env/my-secret-value}"


def config(**values: Any) -> Config:
    return validate(Config, values)


def test_secrets_are_in_the_configuration_that_handlers_get(secrets: Secrets, environment: dict[str, str]) -> None:
    made = config(
        key=REFERENCE,
        plain=REFERENCE,
        redis={"password": "{vault://env/json/user}"},
        names=["a", REFERENCE],
        headers={"x": REFERENCE},
    )
    assert bind_references(made) == {
        "key": REFERENCE,
        "redis.password": "{vault://env/json/user}",
        "names.1": REFERENCE,
        "headers.x": REFERENCE,
    }
    resolve_bound(secrets)
    assert (made.key, made.plain, made.redis.password) == ("one", REFERENCE, "anna")
    assert (made.names, made.headers) == (["a", "one"], {"x": "one"})
    environment["MY_SECRET_VALUE"] = "two"
    secrets.flush()
    resolve_bound(secrets)
    assert made.key == "two"


def test_what_cannot_be_resolved_is_empty_with_a_warning(secrets: Secrets, caplog: pytest.LogCaptureFixture) -> None:
    made = config(key="{vault://env/absent}")
    bind_references(made)
    with caplog.at_level(logging.WARNING, "headgate.plugin"):
        resolve_bound(secrets)
    assert made.key == ""
    assert caplog.messages == [
        "error updating secret reference {vault://env/absent}: could not get value from external vault (no value found)"
    ]


def test_a_configuration_without_references_is_not_remembered() -> None:
    assert bind_references(config(key="plain")) == {}


def test_update_fills_a_table_from_what_is_known(secrets: Secrets) -> None:
    vault = Vault(secrets)
    secrets.get(REFERENCE)
    options = {
        "key": "",
        "list": ["", "b"],
        "inner": {"password": "", "$refs": {"password": "{vault://env/json/user}"}},
        "$refs": {"key": REFERENCE, "list": [REFERENCE, None]},
    }
    assert vault.update(options) is options
    assert (options["key"], options["list"]) == ("one", ["one", "b"])
    assert options["inner"]["password"] == ""  # type: ignore[index]
    assert vault.update("text") == "text"


def test_try_asks_the_vault_again_when_the_first_call_fails(secrets: Secrets, environment: dict[str, str]) -> None:
    vault = Vault(secrets)
    options = {"key": "", "$refs": {"key": REFERENCE}}
    secrets.get(REFERENCE)
    environment["MY_SECRET_VALUE"] = "two"
    seen: list[Any] = []

    def connect(given: dict[str, Any]) -> bool:
        seen.append(given["key"])
        return given["key"] == "two"

    async def connect_later(given: dict[str, Any]) -> bool:
        return connect(given)

    assert vault.try_(connect, options) is True
    assert seen == ["one", "two"]
    environment["MY_SECRET_VALUE"] = "three"
    assert asyncio.run(vault.try_(connect_later, options)) is True
    assert vault.try_(lambda given: given["key"], {"key": "as it is"}) == "as it is"
