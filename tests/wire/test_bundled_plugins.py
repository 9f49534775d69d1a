"""The first bundled plugins through the real process: authentication, groups, limits, transformation, logs."""

import json
import re
from typing import Any

import pytest

from tests.support.documents import document
from tests.support.gateway import Gateway
from tests.support.http1 import Headers, Response, wait_until
from tests.support.upstream import Upstream

SETTINGS = {"workers": 2}


def _route(name: str, *plugins: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "paths": [f"/{name}"], "strip_path": False, "plugins": list(plugins)}


def config(upstream: Upstream) -> dict[str, Any]:
    key_auth = {"name": "key-auth", "config": {"realm": "here"}}
    transformer = {
        "add": {"headers": ["X-Added:1"], "querystring": ["added:yes"]},
        "remove": {"headers": ["X-Removed"]},
    }
    routes = [
        _route("key-auth", key_auth),
        _route("hidden-key", {"name": "key-auth", "config": {"hide_credentials": True}}),
        _route("acl", key_auth, {"name": "acl", "config": {"allow": ["gold"]}}),
        _route("limited", key_auth, {"name": "rate-limiting", "config": {"minute": 3, "hour": 100}}),
        _route("transformed", {"name": "request-transformer", "config": transformer}),
        _route("answered", {"name": "response-transformer", "config": {"add": {"headers": ["X-Late:1"]}}}),
        _route("correlated", {"name": "correlation-id", "config": {"generator": "uuid", "echo_downstream": True}}),
        _route("ended", {"name": "request-termination", "config": {"status_code": 503, "message": "closed for today"}}),
        _route("logged", {"name": "file-log", "config": {"path": "/dev/stdout"}}),
    ]
    return document(
        services=[{"name": "main", "url": upstream.url, "routes": routes}],
        consumers=[
            {"username": "alice", "keyauth_credentials": [{"key": "alice-key"}], "acls": [{"group": "gold"}]},
            {"username": "bob", "custom_id": "b-1", "keyauth_credentials": [{"key": "bob-key"}]},
            {"username": "carol", "keyauth_credentials": [{"key": "carol-key"}]},
        ],
    )


def _seen(response: Response) -> Headers:
    return Headers([(name, value) for name, value in response.json()["headers"]])


@pytest.mark.parametrize(
    ("target", "headers", "message"),
    [
        ("/key-auth", {}, "No API key found in request"),
        ("/key-auth", {"apikey": "wrong"}, "Unauthorized"),
        ("/key-auth?apikey=a&apikey=b", {}, "Duplicate API key found"),
    ],
)
def test_request_without_a_valid_key_is_refused(
    gateway: Gateway, upstream: Upstream, target: str, headers: dict[str, str], message: str
) -> None:
    before = len(upstream.requests_to("/key-auth"))
    response = gateway.get(target, headers)
    assert response.status == 401
    assert response.json()["message"] == message
    assert response.headers["WWW-Authenticate"] == 'Key realm="here"'
    assert len(upstream.requests_to("/key-auth")) == before


@pytest.mark.parametrize(
    ("target", "headers"), [("/key-auth", {"apikey": "bob-key"}), ("/key-auth?apikey=bob-key", {})]
)
def test_consumer_of_a_valid_key_is_told_to_the_upstream(
    gateway: Gateway, target: str, headers: dict[str, str]
) -> None:
    seen = _seen(gateway.get(target, headers | {"X-Consumer-Username": "forged", "X-Anonymous-Consumer": "true"}))
    assert seen.all("X-Consumer-Username") == ["bob"]
    assert seen["X-Consumer-Custom-ID"] == "b-1"
    assert re.fullmatch("[0-9a-f-]{36}", seen["X-Consumer-ID"])
    assert re.fullmatch("[0-9a-f-]{36}", seen["X-Credential-Identifier"])
    assert "X-Anonymous-Consumer" not in seen


def test_hidden_key_does_not_reach_the_upstream(gateway: Gateway) -> None:
    assert "apikey" not in _seen(gateway.get("/hidden-key", {"apikey": "bob-key"}))
    assert gateway.get("/hidden-key?apikey=bob-key&a=1").json()["target"] == "/hidden-key?a=1"


def test_group_decides_who_passes(gateway: Gateway) -> None:
    allowed = gateway.get("/acl", {"apikey": "alice-key"})
    assert allowed.status == 200
    assert _seen(allowed)["X-Consumer-Groups"] == "gold"
    refused = gateway.get("/acl", {"apikey": "bob-key"})
    assert refused.status == 403
    assert refused.json()["message"] == "You cannot consume this service"


@pytest.mark.timeout(90)
def test_limit_holds_over_all_workers_and_per_consumer(gateway: Gateway) -> None:
    responses = [gateway.get("/limited", {"apikey": "alice-key"}) for _ in range(6)]
    statuses = [response.status for response in responses]
    if statuses != [200] * 3 + [429] * 3:
        # A minute began in between; the next six are within one.
        responses = [gateway.get("/limited", {"apikey": "carol-key"}) for _ in range(6)]
        statuses = [response.status for response in responses]
    assert statuses == [200] * 3 + [429] * 3
    first, last = responses[0].headers, responses[-1].headers
    assert (first["X-RateLimit-Limit-Minute"], first["X-RateLimit-Remaining-Minute"]) == ("3", "2")
    assert (first["RateLimit-Limit"], first["RateLimit-Remaining"]) == ("3", "2")
    assert first["X-RateLimit-Limit-Hour"] == "100"
    assert last["X-RateLimit-Remaining-Minute"] == "0"
    assert 1 <= int(last["Retry-After"]) <= 60
    assert responses[-1].json()["message"] == "API rate limit exceeded"
    assert gateway.get("/limited", {"apikey": "bob-key"}).status == 200


def test_request_is_transformed(gateway: Gateway) -> None:
    response = gateway.get("/transformed?own=1", {"X-Removed": "x"})
    seen = _seen(response)
    assert seen["X-Added"] == "1"
    assert "X-Removed" not in seen
    assert sorted(response.json()["target"].partition("?")[2].split("&")) == ["added=yes", "own=1"]


def test_response_is_transformed(gateway: Gateway) -> None:
    assert gateway.get("/answered").headers["X-Late"] == "1"


def test_correlation_id_goes_both_ways(gateway: Gateway) -> None:
    response = gateway.get("/correlated")
    made = response.headers["Kong-Request-ID"]
    assert re.fullmatch("[0-9a-f-]{36}", made)
    assert _seen(response)["Kong-Request-ID"] == made
    given = gateway.get("/correlated", {"Kong-Request-ID": "mine"})
    assert given.headers["Kong-Request-ID"] == "mine"


def test_termination_answers_itself(gateway: Gateway, upstream: Upstream) -> None:
    response = gateway.get("/ended")
    assert (response.status, response.json()) == (503, {"message": "closed for today"})
    assert upstream.requests_to("/ended") == []


def test_file_log_writes_one_line_for_each_request(gateway: Gateway) -> None:
    assert gateway.get("/logged?a=1").status == 200
    assert wait_until(lambda: '"uri":"/logged?a=1"' in gateway.output().replace('": "', '":"').replace("\\/", "/"))
    lines = [line for line in gateway.output().splitlines() if "/logged?a=1" in line.replace("\\/", "/")]
    entry = json.loads(next(line for line in lines if line.startswith("{")))
    assert entry["request"]["method"] == "GET"
    assert entry["response"]["status"] == 200
    assert entry["route"]["name"] == "logged"
    assert entry["service"]["name"] == "main"
