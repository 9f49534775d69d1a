"""Errors that the gateway makes: their text, and the form that the client asks for."""

import re
import socket
from typing import Any

import pytest

from tests.support.documents import document
from tests.support.gateway import Gateway
from tests.support.upstream import Upstream


def config(upstream: Upstream) -> dict[str, Any]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dead_port = listener.getsockname()[1]
    return document(
        services=[
            {"name": "dead", "url": f"http://127.0.0.1:{dead_port}", "retries": 1, "routes": [{"paths": ["/dead"]}]},
            {"name": "nameless", "url": "http://does-not-exist.invalid", "routes": [{"paths": ["/nameless"]}]},
            {
                "name": "slow",
                "url": upstream.url,
                "read_timeout": 200,
                "retries": 0,
                "routes": [{"paths": ["/"], "strip_path": False, "hosts": ["slow.test"]}],
            },
        ],
        routes=[{"name": "serviceless", "paths": ["/serviceless"]}],
    )


JSON_BODY = '{\n  "message":"no Route matched with those values",\n  "request_id":"%s"\n}'
HTML_BODY = """<!doctype html>
<html>
  <head>
    <meta charset="utf-8">
    <title>Error</title>
  </head>
  <body>
    <h1>Error</h1>
    <p>no Route matched with those values.</p>
    <p>request_id: %s</p>
  </body>
</html>
"""
XML_BODY = """<?xml version="1.0" encoding="UTF-8"?>
<error>
  <message>no Route matched with those values</message>
  <requestid>%s</requestid>
</error>
"""
PLAIN_BODY = "no Route matched with those values\nrequest_id: %s\n"


@pytest.mark.parametrize(
    ("accept", "content_type", "body"),
    [
        (None, "application/json; charset=utf-8", JSON_BODY),
        ("*/*", "application/json; charset=utf-8", JSON_BODY),
        ("application/*", "application/json; charset=utf-8", JSON_BODY),
        ("image/png", "application/json; charset=utf-8", JSON_BODY),
        ("text/html", "text/html; charset=utf-8", HTML_BODY),
        ("application/xml", "application/xml; charset=utf-8", XML_BODY),
        ("text/plain", "text/plain; charset=utf-8", PLAIN_BODY),
        ("text/*", "text/plain; charset=utf-8", PLAIN_BODY),
        ("text/plain;q=0.3, text/html;q=0.8, application/json;q=0.5", "text/html; charset=utf-8", HTML_BODY),
        ("text/html, application/json", "text/html; charset=utf-8", HTML_BODY),
        ("text/html;q=0, application/xml;q=0.1", "application/xml; charset=utf-8", XML_BODY),
        ("nonsense, text/plain;q=0.1", "text/plain; charset=utf-8", PLAIN_BODY),
    ],
)
def test_form_of_an_error_follows_accept(gateway: Gateway, accept: str | None, content_type: str, body: str) -> None:
    response = gateway.get("/no/such/route", {"Accept": accept} if accept else None)
    request_id = response.headers["X-Kong-Request-Id"]
    assert re.fullmatch("[0-9a-f]{32}", request_id)
    assert response.status == 404
    assert response.headers["Content-Type"] == content_type
    # The reference does not say whether HTML ends with a line feed.
    assert response.body.decode().rstrip("\n") == (body % request_id).rstrip("\n")


def test_route_without_service_gives_503(gateway: Gateway) -> None:
    response = gateway.get("/serviceless")
    assert (response.status, response.json()["message"]) == (503, "no Service found with those values")


def test_refused_connection_gives_502_and_counts_as_proxied(gateway: Gateway) -> None:
    response = gateway.get("/dead", {"Accept": "application/json"})
    assert response.status == 502
    assert response.json()["message"] == "An invalid response was received from the upstream server"
    assert "X-Kong-Upstream-Latency" in response.headers
    assert "X-Kong-Proxy-Latency" in response.headers
    assert "X-Kong-Response-Latency" not in response.headers


def test_server_page_falls_back_to_plain_text(gateway: Gateway) -> None:
    response = gateway.get("/dead")
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.body.decode().startswith("An invalid response was received from the upstream server\nrequest_id: ")


def test_server_page_follows_the_requests_content_type(gateway: Gateway) -> None:
    response = gateway.get("/dead", {"Content-Type": "application/json"})
    assert response.json()["message"] == "An invalid response was received from the upstream server"


@pytest.mark.timeout(60)
def test_unknown_upstream_name_gives_503(gateway: Gateway) -> None:
    with gateway.client(timeout_s=45) as client:
        response = client.request("GET", "/nameless")
    assert (response.status, response.json()["message"]) == (503, "name resolution failed")


def test_upstream_that_is_too_slow_gives_504(gateway: Gateway, upstream: Upstream) -> None:
    path = upstream.script(lambda request, connection: connection.wait_for_end() and None)
    with gateway.client() as client:
        response = client.request("GET", path, {"Accept": "application/json"}, host="slow.test")
    assert response.status == 504
    assert response.json()["message"] == "The upstream server is timing out"


def test_upstreams_own_error_passes_unchanged(gateway: Gateway, upstream: Upstream) -> None:
    path = upstream.script(lambda request, connection: connection.respond(b"mine", "503 Service Unavailable"))
    with gateway.client() as client:
        response = client.request("GET", path, host="slow.test")
    assert (response.status, response.body) == (503, b"mine")
