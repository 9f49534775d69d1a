"""Headers between client, gateway and upstream: what is added, replaced, removed, believed, and switched off."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.certificates import insecure_context
from tests.support.documents import document
from tests.support.gateway import Gateway
from tests.support.http1 import Client, Headers, Response
from tests.support.upstream import Upstream


def config(upstream: Upstream) -> dict[str, Any]:
    service = {
        "name": "main",
        "url": f"{upstream.url}/base",
        "routes": [
            {"name": "all", "paths": ["/"], "strip_path": False},
            {"name": "stripped", "paths": ["/strip"], "strip_path": True},
            {"name": "host", "paths": ["/host"], "preserve_host": True},
        ],
    }
    scripts = {"name": "scripts", "url": upstream.url, "routes": [{"paths": ["/script-"], "strip_path": False}]}
    return document(services=[service, scripts])


def _seen(response: Response) -> Headers:
    return Headers([(name, value) for name, value in response.json()["headers"]])


def test_forwarded_headers_describe_the_clients_request(gateway: Gateway) -> None:
    with gateway.client() as client:
        response = client.request("GET", "/a//b?q=1", host="Api.Test:8000")
    seen = _seen(response)
    assert seen["X-Forwarded-For"] == "127.0.0.1"
    assert seen["X-Real-IP"] == "127.0.0.1"
    assert seen["X-Forwarded-Proto"] == "http"
    assert seen["X-Forwarded-Host"] == "api.test"
    assert seen["X-Forwarded-Port"] == str(gateway.plain[1])
    assert seen["X-Forwarded-Path"] == "/a//b"
    assert "X-Forwarded-Prefix" not in seen
    assert response.json()["target"] == "/base/a/b?q=1"


def test_stripped_prefix_is_told(gateway: Gateway) -> None:
    response = gateway.get("/strip/rest")
    assert _seen(response)["X-Forwarded-Prefix"] == "/strip"
    assert response.json()["target"] == "/base/rest"


def test_untrusted_peer_cannot_claim_anything(gateway: Gateway) -> None:
    forged = {
        "X-Forwarded-For": "9.9.9.9",
        "X-Real-IP": "9.9.9.9",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "forged.test",
        "X-Forwarded-Port": "1",
        "X-Forwarded-Path": "/forged",
        "X-Forwarded-Prefix": "/forged",
    }
    seen = _seen(gateway.get("/", forged))
    assert seen["X-Forwarded-For"] == "9.9.9.9, 127.0.0.1"
    assert seen["X-Real-IP"] == "127.0.0.1"
    assert seen["X-Forwarded-Proto"] == "http"
    assert seen["X-Forwarded-Host"] == "gateway.test"
    assert seen["X-Forwarded-Port"] == str(gateway.plain[1])
    assert seen["X-Forwarded-Path"] == "/"
    assert "X-Forwarded-Prefix" not in seen


def test_host_is_the_services_unless_preserved(gateway: Gateway, upstream: Upstream) -> None:
    assert _seen(gateway.get("/")).all("Host") == [f"127.0.0.1:{upstream.port}"]
    with gateway.client() as client:
        assert _seen(client.request("GET", "/host", host="Kept.Test:99")).all("Host") == ["Kept.Test:99"]


def test_hop_by_hop_fields_stay_on_their_hop(gateway: Gateway) -> None:
    sent = {
        "Connection": "keep-alive, X-Hop",
        "X-Hop": "1",
        "Keep-Alive": "timeout=5",
        "Proxy-Connection": "keep-alive",
        "Proxy": "evil",
        "TE": "gzip",
        "Upgrade": "foo",
        "Proxy-Authorization": "Basic eA==",
    }
    seen = _seen(gateway.get("/", sent))
    for name in ("X-Hop", "Keep-Alive", "Proxy-Connection", "Proxy", "TE", "Upgrade"):
        assert name not in seen, name
    assert seen["Proxy-Authorization"] == "Basic eA=="
    assert seen["Connection"].lower() == "keep-alive"


def test_hop_by_hop_fields_of_the_response_stay_on_their_hop(gateway: Gateway, upstream: Upstream) -> None:
    path = upstream.script(
        lambda request, connection: connection.respond(
            b"ok", headers={"Connection": "X-Hop", "X-Hop": "1", "Upgrade": "h2", "X-Kept": "1"}
        )
    )
    response = gateway.get(path)
    assert "Upgrade" not in response.headers
    assert "X-Hop" not in response.headers
    assert response.headers["X-Kept"] == "1"


def test_via_is_appended_both_ways(gateway: Gateway) -> None:
    response = gateway.get("/", {"Via": "1.0 before"})
    assert re.fullmatch(r"1\.0 before, 1\.1 headgate/[\d.]+", _seen(response)["Via"])
    assert re.fullmatch(r"1\.1 headgate/[\d.]+", response.headers["Via"])


def test_request_id_is_the_same_for_client_and_upstream(gateway: Gateway) -> None:
    response = gateway.get("/", {"X-Kong-Request-Id": "forged"})
    request_id = response.headers["X-Kong-Request-Id"]
    assert re.fullmatch("[0-9a-f]{32}", request_id)
    assert _seen(response).all("X-Kong-Request-Id") == [request_id]


def test_latencies_tell_proxied_from_made_here(gateway: Gateway) -> None:
    proxied = gateway.get("/").headers
    assert proxied["X-Kong-Proxy-Latency"].isdigit()
    assert proxied["X-Kong-Upstream-Latency"].isdigit()
    assert "X-Kong-Response-Latency" not in proxied
    with gateway.client() as client:
        made_here = client.request("TRACE", "/").headers
    assert made_here["X-Kong-Response-Latency"].isdigit()
    assert "X-Kong-Proxy-Latency" not in made_here
    assert made_here["Server"].startswith("headgate/")


def test_server_of_the_upstream_is_kept_and_a_missing_one_filled_in(gateway: Gateway, upstream: Upstream) -> None:
    path = upstream.script(lambda request, connection: connection.respond(b"ok", headers={"Server": "mine/1"}))
    assert gateway.get(path).headers.all("Server") == ["mine/1"]
    assert gateway.get("/").headers["Server"].startswith("headgate/")


@pytest.fixture(scope="module")
def silent(upstream: Upstream) -> Iterator[Gateway]:
    """A gateway that adds nothing."""
    with Gateway(config(upstream), headers="off", headers_upstream="off") as running:
        yield running


def test_headers_off_adds_nothing(silent: Gateway) -> None:
    response = silent.get("/")
    names = {name.lower() for name, _ in response.headers.items}
    assert not {name for name in names if name.startswith("x-kong")}
    assert not names & {"via", "server"}
    assert "X-Kong-Request-Id" not in _seen(response)


def test_headers_off_also_holds_for_errors(silent: Gateway) -> None:
    with silent.client() as client:
        names = {name.lower() for name, _ in client.request("TRACE", "/").headers.items}
    assert not {name for name in names if name.startswith("x-kong")}
    assert "server" not in names


@pytest.fixture(scope="module")
def trusting(upstream: Upstream) -> Iterator[Gateway]:
    """A gateway that believes its peer, and names the upstream's status."""
    with Gateway(
        config(upstream),
        trusted_ips="127.0.0.1/32,10.0.0.0/8",
        real_ip_header="X-Forwarded-For",
        real_ip_recursive="on",
        headers="X-Kong-Upstream-Status",
    ) as running:
        yield running


def test_trusted_peer_is_believed(trusting: Gateway) -> None:
    sent = {
        "X-Forwarded-For": "1.1.1.1, 8.8.8.8, 10.1.1.1",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "public.test",
        "X-Forwarded-Port": "443",
        "X-Forwarded-Path": "/public",
        "X-Forwarded-Prefix": "/prefix",
    }
    seen = _seen(trusting.get("/", sent))
    assert seen["X-Real-IP"] == "8.8.8.8"
    assert seen["X-Forwarded-For"] == "1.1.1.1, 8.8.8.8, 10.1.1.1, 127.0.0.1"
    for name in ("X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Path", "X-Forwarded-Prefix"):
        assert seen[name] == sent[name]


def test_single_header_may_be_switched_on(trusting: Gateway) -> None:
    response = trusting.get("/")
    assert response.headers["X-Kong-Upstream-Status"] == "200"
    assert "Via" not in response.headers


def test_https_is_told_to_the_upstream(gateway: Gateway) -> None:
    with Client(gateway.tls, tls=insecure_context(), server_name="a.test") as client:
        seen = _seen(client.request("GET", "/"))
    assert seen["X-Forwarded-Proto"] == "https"
    assert seen["X-Forwarded-Port"] == str(gateway.tls[1])
