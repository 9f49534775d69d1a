"""Functions of the PDK in a real gateway: what they tell of a request from a socket, and what they do to it."""

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from headgate.testing.gateway import Answer
from tests.support.documents import document
from tests.support.gateway import PLUGIN_DIRECTORY, Gateway
from tests.support.http1 import wait_until
from tests.support.stream_peers import received
from tests.support.upstream import Upstream
from tests.wire.test_proxy_protocol import version_2

ANNA = "5f3b2a9e-8c1d-4e6f-9a7b-0c1d2e3f4a5b"


def calls(*called: Any, **config: Any) -> dict[str, Any]:
    """Return an instance of the plugin; each call is a name, or a name with its arguments."""
    listed = [{"name": one} if isinstance(one, str) else {"name": one[0], "arguments": list(one[1:])} for one in called]
    return {"name": "calls", "config": {"calls": listed, **config}}


PLUGINS = {
    "request": calls(
        "request.get_forwarded_scheme",
        "request.get_forwarded_host",
        "request.get_forwarded_port",
        "request.get_forwarded_path",
        "request.get_raw_forwarded_path",
        "request.get_forwarded_prefix",
        "request.get_http_version",
        "request.get_path_with_query",
        "request.get_raw_path",
        "request.get_raw_query",
        "request.get_raw_headers",
        "request.get_start_time",
        "request.read_raw_body",
    ),
    "client": calls(
        ("client.load_consumer", ANNA),
        ("client.authenticate_consumer_group_by_consumer_id", ANNA),
        "client.get_consumer_groups",
        "client.get_consumer_group",
        ("client.set_identity_realm_source", {"id": "here"}),
        "client.get_identity_realm_source",
        ("client.set_token", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm5hIn0."),
        "client.get_token",
        "client.get_jwt_token_header",
        "client.get_jwt_token_payload",
    ),
    "groups": calls(
        ("client.set_authenticated_consumer_groups", [{"id": "1", "name": "b"}, {"id": "2", "name": "a"}]),
        "client.get_consumer_groups",
        ("client.set_authenticated_consumer_group", {"id": "3", "name": "only"}),
        "client.get_consumer_group",
    ),
    "trust": calls(("ip.is_trusted", "127.0.0.1"), "client.get_aws_vpce_id"),
    "cache": calls(
        ("cache.safe_set", "one", {"a": 1}),
        ("cache.probe", "one"),
        ("cache.invalidate_local", "one"),
        ("cache.safe_set", "two", 2),
        "cache.purge",
        ("cache.get_bulk", []),
    ),
    "logs": calls(
        ("log.set_format", "<%message>"),
        ("log.debug", "a debug line"),
        ("log.info", "an info line"),
        ("log.crit", "a crit line"),
        ("log.alert", "an alert line"),
        ("log.emerg", "an emerg line"),
        ("log.trace", "a trace line"),
    ),
    "vaults": calls(
        ("vault.is_reference", "{vault://env/a}"),
        ("vault.parse_reference", "{vault://env/a?ttl=5}"),
        ("table.merge", {"a": 1}, {"b": 2}),
    ),
    "tracing": calls(
        ("tracing.start_span", "own"),
        "tracing.active_span",
        "tracing.get_root_span",
        ("tracing.set_should_sample", True),
        ("tracing.get_sampling_decision", None, 1),
    ),
}


def service(upstream: Upstream) -> dict[str, Any]:
    routes = [{"name": name, "paths": [f"/{name}"], "plugins": [plugin]} for name, plugin in PLUGINS.items()]
    sent = calls(
        ("service.set_upstream", "balanced"),
        ("service.set_retries", 0),
        ("service.set_timeouts", 1000, 1000, 1000),
        ("service.request.set_scheme", "http"),
        ("service.request.set_raw_query", "own=1&two=%20"),
        "service.request.enable_buffering",
        is_answering=False,
    )
    routes.append({"name": "sent", "paths": ["/sent"], "plugins": [sent], "strip_path": False})
    return {"name": "main", "host": "nowhere.invalid", "protocol": "https", "port": 1, "routes": routes}


@pytest.fixture(scope="module")
def gateway(upstream: Upstream) -> Iterator[Gateway]:
    config = document(
        services=[service(upstream)],
        upstreams=[{"name": "balanced", "targets": [{"target": f"127.0.0.1:{upstream.port}"}]}],
        consumer_groups=[{"name": "gold"}, {"name": "basic"}],
        consumers=[{"id": ANNA, "username": "anna", "groups": [{"name": "gold"}, {"name": "basic"}]}],
    )
    settings = {
        "plugins": "bundled,calls",
        "plugin_path": PLUGIN_DIRECTORY,
        "trusted_ips": "127.0.0.1",
        "real_ip_header": "proxy_protocol",
        "log_level": "debug",
        "tracing_instrumentations": "all",
        "tracing_sampling_rate": 1,
        "proxy_listen": "127.0.0.1:0, 127.0.0.1:0 proxy_protocol",
    }
    with Gateway(config, **settings) as running:
        yield running


def ask(gateway: Gateway, target: str, headers: dict[str, str] | None = None, body: bytes = b"") -> dict[str, Any]:
    answer: Answer = gateway.request("POST" if body else "GET", target, headers, body)
    assert answer.status == 200, (answer.body, gateway.output())
    told: dict[str, Any] = json.loads(answer.body)
    return told


def test_a_request_is_told_as_it_came_and_as_a_trusted_peer_forwarded_it(gateway: Gateway) -> None:
    headers = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "public.test",
        "X-Forwarded-Port": "8443",
        "X-Forwarded-Path": "/public/%7Epath?x=1",
        "X-Forwarded-Prefix": "/public",
        "X-Own": "1",
    }
    told = ask(gateway, "/request//a%2Fb?x=1&y", headers, b"the body")
    assert told.pop("request.get_start_time") == pytest.approx(time.time() * 1000, abs=60_000)
    assert told.pop("request.get_raw_headers") is not None
    assert told == {
        "request.get_forwarded_scheme": "https",
        "request.get_forwarded_host": "public.test",
        "request.get_forwarded_port": 8443,
        "request.get_forwarded_path": "/public/%7Epath?x=1",
        "request.get_raw_forwarded_path": "/public/%7Epath?x=1",
        "request.get_forwarded_prefix": "/public",
        "request.get_http_version": 1.1,
        "request.get_path_with_query": "/request//a%2Fb?x=1&y",
        "request.get_raw_path": "/request//a%2Fb",
        "request.get_raw_query": "x=1&y",
        "request.read_raw_body": "the body",
    }


def test_clients_have_consumers_groups_tokens_and_realms(gateway: Gateway) -> None:
    told = ask(gateway, "/client")
    assert told["client.load_consumer"]["username"] == "anna"
    assert [group["name"] for group in told["client.get_consumer_groups"]] == ["basic", "gold"]
    assert told["client.get_consumer_group"]["name"] == "basic"
    assert told["client.get_identity_realm_source"] == {"id": "here"}
    assert told["client.get_token"].startswith("eyJ")
    assert told["client.get_jwt_token_header"] == {"alg": "none"}
    assert told["client.get_jwt_token_payload"] == {"sub": "anna"}


def test_groups_can_be_set_without_a_consumer(gateway: Gateway) -> None:
    told = ask(gateway, "/groups")
    assert [group["name"] for group in told["client.get_consumer_groups"]] == ["a", "b"]
    assert told["client.get_consumer_group"]["name"] == "only"


def test_the_endpoint_of_a_trusted_balancers_head_is_told(gateway: Gateway) -> None:
    head = version_2(tlvs=b"\xea\x00\x10\x01vpce-08d2bf15fa")
    with socket.create_connection(gateway.addresses("proxy")[1], timeout=20) as client:
        client.sendall(head + b"GET /trust HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = received(client)
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {
        "ip.is_trusted": True,
        "client.get_aws_vpce_id": "vpce-08d2bf15fa",
    }
    assert ask(gateway, "/trust")["client.get_aws_vpce_id"] is None


def test_cache_keeps_and_forgets(gateway: Gateway) -> None:
    told = ask(gateway, "/cache")
    assert told["cache.probe"] is not None
    assert told["cache.get_bulk"] == []


def test_every_level_of_log_is_written_in_the_format_that_was_set(gateway: Gateway) -> None:
    ask(gateway, "/logs")
    for line in ("<a debug line>", "<an info line>", "<a crit line>", "<an alert line>", "<an emerg line>"):
        assert wait_until(lambda line=line: line in gateway.output()), line
    assert "a trace line" not in gateway.output()


def test_references_are_taken_apart_and_tables_merged(gateway: Gateway) -> None:
    told = ask(gateway, "/vaults")
    assert told["vault.is_reference"] is True
    assert told["table.merge"] == {"a": 1, "b": 2}


def test_a_request_has_spans(gateway: Gateway) -> None:
    told = ask(gateway, "/tracing")
    assert told["tracing.start_span"] == told["tracing.active_span"] == told["tracing.get_root_span"] == "Span"
    assert told["tracing.get_sampling_decision"] is True


def test_what_goes_upstream_is_what_the_functions_say(gateway: Gateway, upstream: Upstream) -> None:
    answer = gateway.request("GET", "/sent?theirs=2")
    assert answer.status == 200
    assert upstream.requests[-1].target == "/sent?own=1&two=%20"
