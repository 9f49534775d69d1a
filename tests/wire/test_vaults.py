"""Secrets that change while the gateway runs: plugins and certificates follow, and nothing else notices.

The environment of a process is its own: a plugin changes it, in place of whatever else would.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.testing.gateway import Gateway as PlainGateway
from tests.support.certificates import Pair, authority
from tests.support.documents import document
from tests.support.gateway import Gateway
from tests.support.http1 import wait_until
from tests.support.openssl import openssl_or_skip, s_client

PLUGIN = """
import os

from headgate import Plugin, PluginConfig, kong
from headgate.schema import field


class Config(PluginConfig):
    secret: str = field(referenceable=True)
    lasting: str = field(referenceable=True)


class Handler(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 10

    def access(self, conf):
        for name, value in (kong.request.get_body() or {}).items() if kong.request.get_method() == "POST" else ():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        kong.response.exit(200, {
            "secret": conf.secret, "lasting": conf.lasting, "asked": kong.vault.get("{vault://mine/secret}"),
        })
"""


def pair_text(pair: Pair) -> str:
    return json.dumps({"cert": pair.certificate, "key": pair.key})


@pytest.fixture
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    directory: Path = tmp_path_factory.mktemp("plugins")
    (directory / "secretive.py").write_text(PLUGIN, encoding="utf-8")
    lives_s = {"ttl": 1, "neg_ttl": 1, "resurrect_ttl": 1}
    config = document(
        vaults=[{"prefix": "mine", "name": "env", "config": {"prefix": "MINE_", **lives_s}}],
        certificates=[
            {
                "cert": "{vault://mine/pair/cert}",
                "key": "{vault://mine/pair/key}",
                "snis": [{"name": "secret.test"}],
            }
        ],
        routes=[{"name": "all", "paths": ["/"]}],
        plugins=[
            {
                "name": "secretive",
                "config": {"secret": "{vault://mine/secret}", "lasting": "{vault://env/mine-lasting?ttl=3600}"},
            }
        ],
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINE_SECRET", "first")
        patch.setenv("MINE_LASTING", "for long")
        patch.setenv("MINE_PAIR", pair_text(authority().issue("first pair")))
        with Gateway(config, plugin_path=directory, plugins="bundled,secretive") as running:
            yield running


def told(gateway: PlainGateway, change: dict[str, str | None] | None = None) -> dict[str, Any]:
    """Ask the plugin what it has, after a change of its environment."""
    if change is None:
        answer = gateway.request("GET", "/")
    else:
        answer = gateway.request("POST", "/", {"Content-Type": "application/json"}, json.dumps(change))
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json()
    return found


def test_a_changed_secret_is_in_the_configuration_within_its_time_to_live(gateway: Gateway) -> None:
    assert told(gateway) == {"secret": "first", "lasting": "for long", "asked": "first"}
    revision = gateway.output().count("is in force")
    told(gateway, {"MINE_SECRET": "second", "MINE_LASTING": "another"})
    assert wait_until(lambda: told(gateway)["secret"] == "second")
    assert told(gateway) == {"secret": "second", "lasting": "for long", "asked": "second"}
    assert gateway.output().count("is in force") == revision, "no configuration was loaded for it"


def test_a_secret_that_is_gone_stays_for_its_time_is_empty_then_and_comes_back(gateway: Gateway) -> None:
    told(gateway, {"MINE_SECRET": None})
    assert wait_until(lambda: told(gateway)["secret"] == "")
    assert "error rotating secret" not in gateway.output()
    told(gateway, {"MINE_SECRET": "back"})
    assert wait_until(lambda: told(gateway)["secret"] == "back")


def test_a_changed_certificate_is_shown_and_a_broken_one_is_not(gateway: Gateway) -> None:
    openssl_or_skip()

    def shown() -> str | None:
        return s_client(gateway.tls, "secret.test").common_name

    assert wait_until(lambda: shown() == "first pair")
    told(gateway, {"MINE_PAIR": pair_text(authority().issue("second pair"))})
    assert wait_until(lambda: shown() == "second pair")
    # A key that is not its certificate's.
    mixed = {"cert": authority().issue("third pair").certificate, "key": authority().issue("other").key}
    told(gateway, {"MINE_PAIR": json.dumps(mixed)})
    assert wait_until(lambda: "changed certificates are not used" in gateway.output())
    assert shown() == "second pair"
    told(gateway, {"MINE_PAIR": pair_text(authority().issue("fourth pair"))})
    assert wait_until(lambda: shown() == "fourth pair")
