"""The router flavour `expressions`: routes by expression over every input, beside routes with attributes."""

import json
from pathlib import Path
from typing import Any

import pytest

from headgate.cli.main import main
from tests.support.documents import document
from tests.support.gateway import Gateway
from tests.support.http1 import Client
from tests.support.upstream import Upstream

SETTINGS = {"router_flavor": "expressions", "trusted_ips": "127.0.0.1", "allow_debug_header": "on"}


def _route(name: str, expression: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "expression": expression, "strip_path": False, **fields}


def config(upstream: Upstream) -> dict[str, Any]:
    routes = [
        _route("tenant", 'any(lower(http.headers.x_tenant)) == "blue"', priority=9),
        _route("query", 'http.path ^= "/search" && http.queries.kind == "book"', priority=5),
        _route("network", 'http.path ^= "/search" && net.src.ip in 10.9.0.0/16', priority=5),
        _route("regex", r'http.path ~ r#"^/items/(?<id>\d+)"#', priority=4, strip_path=True),
        _route("post", 'http.method == "POST" && http.path.segments.0 == "search"', priority=6),
        {"name": "attributes", "paths": ["/search"], "strip_path": False},
        {"name": "from-network", "paths": ["/search"], "sources": [{"ip": "10.8.0.0/16"}]},
    ]
    return document(services=[{"name": "all", "url": upstream.url, "routes": routes}])


@pytest.mark.parametrize(
    ("method", "target", "headers", "route"),
    [
        ("GET", "/search", {}, "attributes"),
        ("GET", "/search?kind=book", {}, "query"),
        ("POST", "/search?kind=book", {}, "post"),
        ("GET", "/search", {"X-Real-IP": "10.9.3.4"}, "network"),
        ("GET", "/search", {"X-Real-IP": "10.8.3.4"}, "from-network"),
        ("GET", "/search?kind=book", {"X-Tenant": "BLUE"}, "tenant"),
        ("GET", "/items/12/parts", {}, "regex"),
        ("GET", "/elsewhere", {}, None),
    ],
)
def test_route_is_found_by_its_expression(
    gateway: Gateway, method: str, target: str, headers: dict[str, str], route: str | None
) -> None:
    with Client(gateway.plain) as client:
        answer = client.request(method, target, headers={"Kong-Debug": "1", **headers})
    assert answer.headers.get("kong-route-name") == route
    assert answer.status == (200 if route else 404)


def test_text_that_a_regular_expression_matched_is_stripped(gateway: Gateway) -> None:
    with Client(gateway.plain) as client:
        assert client.request("GET", "/items/12/parts").json()["target"] == "/parts"


def test_explain_finds_the_same_route(gateway: Gateway) -> None:
    query = "scheme=http&path=/items/7/x"
    with Client(gateway.admin) as client:
        found = client.request("GET", f"/explain?{query}").json()
    assert found["route"]["name"] == "regex"
    assert found["match"]["named_captures"] == {"id": "7"}
    assert found["match"]["upstream_path"] == "/x"


def test_faults_of_expressions_are_refused_all_at_once(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KONG_ROUTER_FLAVOR", "expressions")
    routes = [
        _route("unknown", 'http.what == "x" && http.path == 1'),
        _route("both", 'http.path == "/"', paths=["/"]),
        _route("fine", 'http.path == "/"'),
    ]
    file = tmp_path / "kong.yml"
    file.write_text(json.dumps(document(services=[{"name": "all", "url": upstream.url, "routes": routes}])))
    assert main(["config", "parse", str(file)]) == 1
    shown = capsys.readouterr()
    output = shown.out + shown.err
    assert "Unknown LHS field; Type mismatch between the LHS and RHS values of predicate" in output
    assert "cannot set 'expression' with 'methods', 'hosts', 'paths'" in output


def test_schema_of_routes_has_the_fields_of_the_flavour(gateway: Gateway) -> None:
    with Client(gateway.admin) as client:
        fields = client.request("GET", "/schemas/routes").json()["fields"]
    names = {name for field in fields for name in field}
    assert {"expression", "priority"} <= names
