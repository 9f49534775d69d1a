"""Functions of the PDK in running workers: tokens, renewed values, named timers, all entities of a type."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwe
from joserfc.jwk import OctKey

from headgate.testing.gateway import command, environment
from tests.support.gateway import Gateway
from tests.support.http1 import wait_until

PLUGIN = """
import os

from headgate import Plugin, PluginConfig, kong
from headgate.errors import GatewayError

KEY = {"kty": "oct", "k": "MDEyMzQ1Njc4OWFiY2RlZg"}


class Handler(Plugin[PluginConfig]):
    VERSION = "1.0.0"
    PRIORITY = 10

    def init_worker(self):
        self.ticks, self.once = 0, []

    async def access(self, conf):
        if kong.request.get_query_arg("pid") not in (None, str(os.getpid())):
            kong.response.exit(200, {"pid": os.getpid()})
        try:
            answer = await getattr(self, kong.request.get_path().strip("/"))(kong.request.get_query_arg)
        except GatewayError as error:
            answer = {"error": str(error)}
        kong.response.exit(200, {"pid": os.getpid(), "answer": answer})

    async def encrypt(self, given):
        return kong.jwe.encrypt("A128KW", "A128GCM", KEY, given("text"))

    async def decrypt(self, given):
        token = given("token")
        return [kong.jwe.decode(token)["protected"], kong.jwe.decrypt(KEY, token).decode()]

    async def cached(self, given):
        return kong.cache.get("key", None, lambda: "first")

    async def renew(self, given):
        async def load():
            return given("value")
        return await kong.cache.renew("key", None, load)

    def tick(self, by):
        self.ticks += by

    async def start(self, given):
        name = kong.timer.named_every("tick", 0.005, self.tick, 2)
        return [name, kong.timer.named_at("once", 0.005, self.later, "x")]

    async def later(self, what):
        self.once.append(what)

    async def timers(self, given):
        return {"ticks": self.ticks, "once": self.once, "names": sorted(kong.timer.stats()["timers"])}

    async def cancel(self, given):
        return [kong.timer.cancel("tick"), kong.timer.cancel("tick")]

    async def each(self, given):
        options = {"tags": given("tags")} if given("tags") else None
        return sorted(one["username"] for one in kong.db.consumers.each(options=options))

    async def by_cache_key(self, given):
        table = kong.db.keyauth_credentials
        found = table.select_by_cache_key(table.cache_key(given("key")))
        return found and found["key"]

    async def truncate(self, given):
        return await getattr(kong.db, given("table")).truncate()
"""
NAMES = {"anna": ["a", "both"], "bert": ["b", "both"], "carl": []}


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory: Path = tmp_path_factory.mktemp("plugins")
    (directory / "functions.py").write_text(PLUGIN, encoding="utf-8")
    return directory


@pytest.fixture
def gateway(plugins: Path, tmp_path: Path) -> Iterator[Gateway]:
    """Two workers on a database with three consumers, who have a key each."""
    consumers = [
        {"username": name, "tags": tags, "keyauth_credentials": [{"key": f"key-{name}"}]}
        for name, tags in NAMES.items()
    ]
    document = {
        "_format_version": "3.0",
        "routes": [{"name": "all", "paths": ["/"]}],
        "plugins": [{"name": "functions"}],
        "consumers": consumers,
    }
    (tmp_path / "kong.json").write_text(json.dumps(document), encoding="utf-8")
    settings: dict[str, Any] = {
        "plugins": "bundled,functions",
        "workers": 2,
        "database": "sqlite",
        "sqlite_path": str(tmp_path / "shared.db"),
    }
    importing = [*command(), "config", "db_import", str(tmp_path / "kong.json")]
    subprocess.run(
        importing,
        env=environment(settings | {"plugin_path": plugins}, tmp_path / "importing"),
        check=True,
        capture_output=True,
    )
    with Gateway(None, plugin_path=plugins, **settings) as running:
        yield running


def ask(gateway: Gateway, target: str, pid: int | None = None) -> Any:
    """Ask a worker, or any; each connection may reach another one, which then does nothing."""
    answers: list[dict[str, Any]] = []
    if pid is not None:
        target += f"{'&' if '?' in target else '?'}pid={pid}"

    def is_found() -> bool:
        response = gateway.get(f"/{target}")
        assert response.status == 200, response.body
        answers.append(response.json())
        return pid is None or answers[-1]["pid"] == pid

    assert wait_until(is_found)
    return answers[-1]["answer"]


def test_tokens_are_those_of_other_programs(gateway: Gateway) -> None:
    key = OctKey.import_key("0123456789abcdef")
    token = ask(gateway, "encrypt?text=between%20us")
    assert jwe.decrypt_compact(token, key).plaintext == b"between us"
    theirs = jwe.encrypt_compact({"alg": "A128KW", "enc": "A256GCM"}, b"from elsewhere", key)
    assert ask(gateway, f"decrypt?token={theirs}") == [{"alg": "A128KW", "enc": "A256GCM"}, "from elsewhere"]
    changed = theirs[:-4] + ("AAAA" if theirs[-4:] != "AAAA" else "BBBB")
    assert ask(gateway, f"decrypt?token={changed}")["error"].startswith("unable to decrypt: ")


def test_a_renewed_value_is_that_of_every_worker(gateway: Gateway) -> None:
    one, other = gateway.worker_pids
    for pid in (one, other):
        assert ask(gateway, "cached", pid) == "first"
    assert ask(gateway, "renew?value=second", one) == "second"
    for pid in (other, one):
        assert ask(gateway, "cached", pid) == "second"


def test_timers_have_names_of_their_worker(gateway: Gateway) -> None:
    one, other = gateway.worker_pids
    assert ask(gateway, "start", one) == ["tick", "once"]
    assert ask(gateway, "start", one) == {"error": "timer 'tick' exists already"}
    assert wait_until(lambda: ask(gateway, "timers", one)["ticks"] >= 6)
    assert wait_until(lambda: ask(gateway, "timers", one)["once"] == ["x"])
    running = ask(gateway, "timers", one)
    assert running["ticks"] % 2 == 0
    assert running["names"] == ["tick"]
    assert ask(gateway, "timers", other) == {"ticks": 0, "once": [], "names": []}
    # The name of one that has run is free again.
    assert ask(gateway, "cancel", one) == [True, False]
    stopped = ask(gateway, "timers", one)["ticks"]
    assert ask(gateway, "start", other) == ["tick", "once"]
    assert wait_until(lambda: ask(gateway, "timers", other)["ticks"] >= 6)
    assert ask(gateway, "timers", one)["ticks"] == stopped


def test_entities_are_gone_through_and_found_by_the_key_of_their_cache(gateway: Gateway) -> None:
    assert ask(gateway, "each") == ["anna", "bert", "carl"]
    assert ask(gateway, "each?tags=both") == ["anna", "bert"]
    assert ask(gateway, "each?tags=both,b") == ["bert"]
    assert ask(gateway, "each?tags=a/b") == ["anna", "bert"]
    assert ask(gateway, "by_cache_key?key=key-bert") == "key-bert"
    assert ask(gateway, "by_cache_key?key=key-nobody") is None


def test_a_type_that_is_emptied_is_empty_in_every_worker_and_takes_along_what_belongs_to_it(gateway: Gateway) -> None:
    assert ask(gateway, "truncate?table=keyauth_credentials") is True
    for pid in gateway.worker_pids:
        assert wait_until(lambda pid=pid: ask(gateway, "by_cache_key?key=key-anna", pid) is None)
    assert ask(gateway, "each") == ["anna", "bert", "carl"]
    created = gateway.admin_request(
        "POST", "/consumers/anna/key-auth", b'{"key": "again"}', {"Content-Type": "application/json"}
    )
    assert created.status == 201
    assert ask(gateway, "truncate?table=consumers") is True
    for pid in gateway.worker_pids:
        assert wait_until(lambda pid=pid: ask(gateway, "each", pid) == [])
    assert gateway.admin_request("GET", "/key-auths").json()["data"] == []
