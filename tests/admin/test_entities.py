"""Read endpoints of entities, derived from the registry."""

from pathlib import Path

import pytest

from headgate.store.memory import MemoryStore
from headgate.store.snapshot import EMPTY
from tests.admin.conftest import Api

DOCUMENT = """\
_format_version: "3.0"
services:
- name: s1
  host: one.test
  tags: [a, b]
  routes:
  - name: r1
    paths: [/one]
  plugins:
  - name: key-auth
- name: s2
  host: two.test
consumers:
- username: bobby
  custom_id: c-1
  keyauth_credentials:
  - key: secret-key
consumer_groups:
- name: gold
consumer_group_consumers:
- consumer: bobby
  consumer_group: gold
upstreams:
- name: up
  targets:
  - target: 10.0.0.1:80
  - target: 10.0.0.2:80
"""


@pytest.fixture
def loaded(api: Api) -> Api:
    api.load(DOCUMENT)
    return api


def test_collection_is_a_page(loaded: Api) -> None:
    answer = loaded.get("/services?tags=a,b")
    assert [row["name"] for row in answer["data"]] == ["s1"]
    assert answer["next"] is None
    assert len(loaded.get("/services?size=1")["data"]) == 1


def test_entity_is_found_by_id_and_by_name(loaded: Api) -> None:
    service = loaded.get("/services/s1")
    assert loaded.get(f"/services/{service['id']}") == service
    assert loaded.get("/services/s1/") == service
    assert service["client_certificate"] is None


@pytest.mark.parametrize(
    "path",
    [
        "/services/none",
        "/nothing",
        "/services/s2/routes/r1",
        "/consumers/none/key-auth",
        "/targets",
        "/routes/x/service",
    ],
)
def test_absent_things_are_404(loaded: Api, path: str) -> None:
    answer = loaded.call("GET", path)
    assert (answer.status_code, answer.json()) == (404, {"message": "Not found"})


def test_children_and_parents(loaded: Api) -> None:
    assert [row["name"] for row in loaded.get("/services/s1/routes")["data"]] == ["r1"]
    assert loaded.get("/services/s1/routes/r1")["name"] == "r1"
    assert loaded.get("/routes/r1/service")["name"] == "s1"
    assert loaded.get("/services/s1/plugins")["data"][0]["name"] == "key-auth"
    credential = loaded.get("/consumers/bobby/key-auth")["data"][0]
    assert credential["key"] == "secret-key"
    assert loaded.get("/key-auths/secret-key/consumer")["username"] == "bobby"


def test_consumer_is_found_by_custom_id(loaded: Api) -> None:
    assert loaded.get("/consumers?custom_id=c-1")["data"][0]["username"] == "bobby"
    assert loaded.get("/consumers?custom_id=c-2") == {"data": [], "next": None}
    assert loaded.call("GET", "/consumers?custom_id=").status_code == 400


def test_targets_live_below_their_upstream(loaded: Api) -> None:
    assert {row["target"] for row in loaded.get("/upstreams/up/targets")["data"]} == {"10.0.0.1:80", "10.0.0.2:80"}
    assert loaded.get("/upstreams/up/targets/10.0.0.1:80")["weight"] == 100
    assert len(loaded.get("/upstreams/up/targets/all")["data"]) == 2


def test_consumer_groups_have_their_own_shapes(loaded: Api) -> None:
    group = loaded.get("/consumer_groups/gold")
    assert group["consumer_group"]["name"] == "gold"
    assert [row["username"] for row in group["consumers"]] == ["bobby"]
    assert "consumers" not in loaded.get("/consumer_groups/gold?list_consumers=false")
    assert loaded.get("/consumers/bobby/consumer_groups")["data"][0]["name"] == "gold"


@pytest.mark.parametrize(
    ("method", "path", "text"),
    [
        ("POST", "/services", "cannot create 'services' entities when not using a database"),
        ("PUT", "/services/s1", "cannot create or update 'services' entities by 'name' when not using a database"),
        ("DELETE", "/routes/r1", "cannot remove 'routes' entities by 'name' when not using a database"),
        ("POST", "/services/s1/routes", "cannot create 'routes' entities when not using a database"),
    ],
)
def test_writes_are_refused_without_a_database(loaded: Api, method: str, path: str, text: str) -> None:
    answer = loaded.call(method, path, json={})
    assert answer.status_code == 405
    assert answer.json() == {"code": 12, "name": "operation unsupported", "message": text}


def test_method_without_meaning_and_options(loaded: Api) -> None:
    answer = loaded.call("PATCH", "/services")
    assert (answer.status_code, answer.json()) == (405, {"message": "Method not allowed"})
    options = loaded.call("OPTIONS", "/services")
    assert (options.status_code, options.headers["Allow"]) == (204, "GET, HEAD, OPTIONS, POST")


def test_head_has_no_body_and_cors_is_off(loaded: Api) -> None:
    answer = loaded.call("HEAD", "/services", headers={"Origin": "http://evil.test"})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_bad_page_size_is_an_entity_error(loaded: Api) -> None:
    answer = loaded.call("GET", "/services?size=0")
    body = {"code": 9, "name": "invalid size", "message": "size must be an integer between 1 and 1000"}
    assert (answer.status_code, answer.json()) == (400, body)


def test_with_a_database_there_is_no_configuration_as_a_whole(tmp_path: Path) -> None:
    api = Api(tmp_path, MemoryStore(EMPTY), database="sqlite")
    text = "this endpoint is only available when Kong is configured to not use a database"
    for method in ("GET", "POST"):
        answer = api.call(method, "/config", json={"config": "{}"})
        assert (answer.status_code, answer.json()) == (400, {"message": text})
