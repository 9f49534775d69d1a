"""A Lua plugin with entities, paths of its own and migrations, over both databases in the real gateway."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.databases import DATABASES, database_settings
from tests.support.gateway import ROOT, Gateway
from tests.support.http1 import Response, wait_until
from tests.support.upstream import Upstream

SETTINGS: dict[str, Any] = {
    "lua_package_path": f"{ROOT}/tests/lua/data/?.lua;{ROOT}/tests/lua/data/?/init.lua",
    "plugins": "bundled,badge-auth",
}


@pytest.fixture(scope="module", params=DATABASES)
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with (
        database_settings(request.param, tmp_path_factory.mktemp("database"), SETTINGS) as database,
        Upstream() as upstream,
        Gateway(**SETTINGS, **database) as running,
    ):
        admin(running, "POST", "/services", {"name": "s", "url": upstream.url})
        admin(running, "POST", "/services/s/routes", {"name": "r", "paths": ["/"]})
        admin(running, "POST", "/plugins", {"name": "badge-auth", "config": {"counts": True}})
        admin(running, "POST", "/consumers", {"username": "ann"})
        admin(running, "POST", "/consumers", {"username": "bob"})
        yield running


def admin(gateway: Gateway, method: str, path: str, body: Any = None, **headers: str) -> Response:
    given = None if body is None else json.dumps(body).encode()
    return gateway.admin_request(method, path, given, {"Content-Type": "application/json", **headers})


def test_a_badge_of_a_consumer_opens_the_route(gateway: Gateway) -> None:
    made = admin(gateway, "POST", "/consumers/ann/badges", {"code": "ann-1", "level": 4})
    assert made.status == 201, made.body
    assert made.json()["uses"] == 0
    answer = gateway.get("/", {"X-Badge": "ann-1"})
    assert answer.status == 200
    assert ["X-Badge-Level", "4"] in answer.json()["headers"]
    assert ["X-Badge-Of", "ann"] in answer.json()["headers"]
    assert gateway.get("/", {"X-Badge": "ann-2"}).status == 401
    # The handler has counted, through kong.db.
    assert wait_until(lambda: admin(gateway, "GET", "/badges/ann-1").json()["uses"] >= 1)
    assert admin(gateway, "DELETE", "/badges/ann-1").status == 204
    assert wait_until(lambda: gateway.get("/", {"X-Badge": "ann-1"}).status == 401)


def test_entities_are_checked_by_the_plugin_s_schema(gateway: Gateway) -> None:
    refused = admin(gateway, "POST", "/consumers/ann/badges", {"level": 10, "valid_from": 1})
    assert refused.status == 400
    assert refused.json()["fields"] == {
        "level": "value should be between 1 and 9",
        "@entity": ["all or none of these fields must be set: 'valid_from', 'valid_to'"],
    }
    admin(gateway, "POST", "/consumers/bob/badges", {"code": "taken"})
    again = admin(gateway, "POST", "/consumers/bob/badges", {"code": "taken"})
    assert (again.status, again.json()["name"]) == (409, "unique constraint violation")
    assert admin(gateway, "GET", "/schemas/badges").json()["fields"][3]["code"]["unique"] is True


def test_paths_of_the_plugin_answer_and_stand_before_automatic_ones(gateway: Gateway) -> None:
    admin(gateway, "POST", "/consumers/ann/badges", {"code": "long-code", "ttl": 500})
    listed = admin(gateway, "GET", "/badges").json()["data"]
    assert "lon..." in [badge["code"] for badge in listed]
    assert admin(gateway, "GET", "/badges/long-code").json()["ttl"] <= 500
    assert admin(gateway, "GET", "/badges/long-code/consumer").json()["username"] == "ann"
    page = admin(gateway, "GET", "/consumers/ann/badges?size=1").json()
    assert len(page["data"]) == 1
    assert admin(gateway, "GET", "/consumers/nobody/badges").status == 404
    count = admin(gateway, "GET", "/badge-count?asked=x").json()
    assert count == {"count": len(listed), "asked": "x"}


def test_a_path_with_checks_of_its_own(gateway: Gateway) -> None:
    admin(gateway, "POST", "/consumers/ann/badges", {"code": "levelled"})
    assert admin(gateway, "GET", "/badges/levelled/level", **{"X-By": "me"}).json() == {"level": 1, "by": "me"}
    changed = admin(gateway, "PUT", "/badges/levelled/level", {"level": 2})
    assert (changed.status, changed.json()["level"], changed.headers.get("X-Level")) == (200, 2, "2")
    assert admin(gateway, "PUT", "/badges/levelled/level", {"level": 20}).json()["code"] == 2
    assert admin(gateway, "GET", "/badges/nowhere/level").json() == {"message": "no such badge"}
    assert admin(gateway, "DELETE", "/badges/levelled/level").status == 500
    assert wait_until(lambda: "levels stay" in gateway.output())
    assert admin(gateway, "PATCH", "/badges/levelled/level", {}).status == 405


def test_a_transformation_of_the_schema_stores_another_form(gateway: Gateway) -> None:
    made = admin(gateway, "POST", "/consumers/ann/badges", {"code": "pinned", "pin": "8765"}).json()
    assert (made.get("pin"), made["pin_digest"]) == (None, hashlib.md5(b"8765").hexdigest())
    changed = admin(gateway, "PATCH", "/badges/pinned", {"level": 7}).json()
    assert (changed["level"], changed["grade"], changed["pin_digest"]) == (7, "high", made["pin_digest"])
    # The same through kong.db in api.lua.
    assert "high" in [badge["grade"] for badge in admin(gateway, "GET", "/consumers/ann/badges").json()["data"]]
    refused = admin(gateway, "POST", "/consumers/ann/badges", {"pin": "1234"})
    assert (refused.status, refused.json()["message"]) == (500, "transformation failed: too common a PIN")
    assert admin(gateway, "POST", "/consumers/ann/badges", {"pin": "1"}).status == 400


def test_badges_go_with_their_consumer(gateway: Gateway) -> None:
    admin(gateway, "POST", "/consumers", {"username": "gone"})
    admin(gateway, "POST", "/consumers/gone/badges", {"code": "gone-1"})
    assert admin(gateway, "DELETE", "/consumers/gone").status == 204
    assert admin(gateway, "GET", "/badges/gone-1").status == 404


def test_entities_of_a_lua_plugin_are_part_of_declarative_documents() -> None:
    document = {
        "_format_version": "3.0",
        "consumers": [{"username": "ann", "badges": [{"code": "written"}]}],
        "routes": [{"name": "r", "paths": ["/"]}],
        "plugins": [{"name": "badge-auth"}, {"name": "request-termination", "config": {"status_code": 200}}],
    }
    with Gateway(document, **SETTINGS) as running:
        assert running.get("/", {"X-Badge": "written"}).status == 200
        assert running.get("/", {"X-Badge": "another"}).status == 401
