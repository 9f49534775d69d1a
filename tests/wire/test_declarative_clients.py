"""Declarative clients against a running node: what decK calls, in its order, and what comes back."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.testing.gateway import Gateway
from tests.support.declarative_client import Call, DeclarativeClient, RefusedError, State
from tests.support.entities import CA_CERTIFICATE, CERTIFICATE, KEY

pytestmark = pytest.mark.wire

SETTINGS = {"database": "sqlite", "workers": 1, "plugins": "bundled"}


@pytest.fixture
def node() -> Iterator[Gateway]:
    with Gateway(None, **SETTINGS) as running:
        yield running


def caller(node: Gateway) -> Call:
    def call(method: str, path: str, body: Any) -> tuple[int, Any]:
        headers = {} if body is None else {"Content-Type": "application/json"}
        content = None if body is None else json.dumps(body)
        answer = node.request(method, path, to="admin", headers=headers, body=content)
        return answer.status, answer.json() if answer.body else None

    return call


def identifier(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012}"


def wanted() -> State:
    """Return a state with every kind of entity; references are by ids that the client has chosen."""
    consumer, service, route, upstream = ({"id": identifier(number)} for number in range(1, 5))
    certificate, key_set = {"id": identifier(5)}, {"id": identifier(6)}
    return {
        "certificates": [{"id": certificate["id"], "cert": CERTIFICATE, "key": KEY}],
        "ca_certificates": [{"id": identifier(7), "cert": CA_CERTIFICATE}],
        "consumers": [{"id": consumer["id"], "username": "bob", "custom_id": "1"}, {"username": "eve"}],
        "vaults": [{"prefix": "my-env", "name": "env", "config": {"prefix": "X_"}}],
        "key-sets": [{"id": key_set["id"], "name": "set"}],
        "consumer_groups": [{"id": identifier(8), "name": "gold"}],
        "snis": [{"name": "a.example.com", "certificate": certificate}],
        "services": [
            {"id": service["id"], "name": "s", "host": "127.0.0.1", "port": 9, "tags": ["team"]},
            {"name": "tls", "protocol": "https", "host": "h", "port": 443, "client_certificate": certificate},
        ],
        "upstreams": [{"id": upstream["id"], "name": "up", "healthchecks": {"active": {"healthy": {"interval": 0}}}}],
        "keys": [{"name": "k", "kid": "1", "set": key_set, "jwk": '{"kid":"1","kty":"oct","k":"AAAA"}'}],
        "key-auths": [{"key": "secret", "consumer": consumer}],
        "hmac-auths": [{"username": "h", "secret": "s", "consumer": consumer}],
        "jwts": [{"key": "j", "secret": "s", "consumer": consumer}],
        "oauth2": [
            {"name": "o", "client_id": "c", "client_secret": "s", "redirect_uris": ["https://x/"], "consumer": consumer}
        ],
        "acls": [{"group": "staff", "consumer": consumer}],
        "routes": [
            {"id": route["id"], "name": "r", "paths": ["/r"], "service": service},
            {"name": "other", "hosts": ["a.test", "b.test"], "methods": ["GET"], "headers": {"x": ["1"]}},
        ],
        "targets": [{"target": "127.0.0.1:80", "weight": 10, "upstream": upstream}],
        "plugins": [
            {"name": "key-auth", "route": route, "config": {"key_names": ["apikey"]}},
            {"name": "rate-limiting", "consumer": consumer, "config": {"minute": 5}},
            {"name": "correlation-id"},
            {"name": "request-transformer", "service": service, "config": {"add": {"headers": ["a:b"]}}},
        ],
        "members": [{"group": identifier(8), "consumer": consumer["id"]}],
    }


def test_a_client_pings_syncs_changes_and_resets(node: Gateway) -> None:
    client = DeclarativeClient(caller(node))
    assert client.ping() == "3.9.1"
    assert client.dump() == {}
    state = wanted()
    assert client.validate(state) == []
    first = client.sync(state)
    assert first.counts == (sum(map(len, state.values())), 0, 0)
    assert {path: len(rows) for path, rows in client.dump().items()} == {
        path: len(rows) for path, rows in state.items()
    }
    # What the server adds is what it says it adds: nothing is left to do.
    assert client.sync(state).counts == (0, 0, 0)
    state["services"][0]["retries"] = 1
    state["consumer_groups"][0]["tags"] = ["new"]
    state["targets"][0]["weight"] = 0
    state["plugins"].pop()
    state["members"] = []
    changed = client.sync(state)
    assert {f"/services/{identifier(2)}", f"/consumer_groups/{identifier(8)}"} < set(changed.updated)
    assert changed.counts == (0, 3, 2)
    assert client.sync(state).counts == (0, 0, 0)
    assert client.reset().counts[:2] == (0, 0)
    assert client.dump() == {}


def test_a_client_with_tags_leaves_everything_else_alone(node: Gateway) -> None:
    call = caller(node)
    assert call("PUT", "/services/of-somebody-else", {"host": "h", "tags": ["theirs"]})[0] == 200
    client = DeclarativeClient(call, ["mine", "too"])
    state: State = {"services": [{"name": "s", "host": "h"}], "consumers": [{"username": "u"}]}
    assert client.sync(state).counts == (2, 0, 0)
    assert client.sync(state).counts == (0, 0, 0)
    assert client.reset().counts == (0, 0, 2)
    assert call("GET", "/services/of-somebody-else", None)[0] == 200


def test_a_client_is_told_what_is_wrong(node: Gateway) -> None:
    client = DeclarativeClient(caller(node))
    state: State = {"services": [{"name": "s", "host": "h", "port": 70000}]}
    text = "schema violation (port: value should be between 0 and 65535)"
    assert client.validate(state) == [f"services: HTTP status 400 (message: {text!r})"]
    with pytest.raises(RefusedError, match="value should be between 0 and 65535"):
        client.sync(state)
    assert client.dump() == {}


def test_deck_itself(node: Gateway, tmp_path: Path) -> None:
    program = shutil.which("deck")
    if program is None:
        pytest.skip("deck is not installed, and its Go modules cannot be had here")
    file = tmp_path / "kong.yml"
    file.write_text(
        '_format_version: "3.0"\nservices: [{name: s, host: h, routes: [{name: r, paths: [/r]}]}]\n', encoding="utf-8"
    )

    def deck(*arguments: str) -> str:
        line = [program, "gateway", *arguments, "--kong-addr", node.admin_url]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "Successfully connected" in deck("ping")
    assert "Created: 2" in deck("sync", str(file))
    assert "Created: 0" in deck("diff", str(file))
    deck("dump", "-o", str(tmp_path / "dumped.yml"))
    deck("reset", "--force")
