"""Writes of every entity over HTTP, on SQLite and PostgreSQL; what they leave is read the same without a database."""

from pathlib import Path
from typing import Any

import pytest

from headgate.admin.entities import collection_path
from headgate.entities.registry import ENTITY_TYPES
from headgate.store.declarative import export_declarative
from headgate.store.snapshot import Snapshot
from headgate.store.sql.store import SqlStore
from tests.admin.conftest import Api
from tests.support.entities import CERTIFICATE, KEY, SAMPLES

ABSENT = "00000000-0000-4000-8000-000000000000"
DERIVED = [name for name in SAMPLES if name not in ("targets", "consumer_group_consumers")]


def made(api: Api, name: str) -> dict[str, Any]:
    """Return the sample of a type, stored with its parents unless it is there already."""
    kind = ENTITY_TYPES[name]
    if name not in ("targets", "consumer_group_consumers"):
        known = api.get(f"{collection_path(kind)}")["data"]
        if known:
            return dict(known[0])
    given = sample(api, name)
    if name == "targets":
        path = f"/upstreams/{given.pop('upstream')['id']}/targets"
        known = api.get(path)["data"]
        return dict(known[0]) if known else created(api, path, given)
    if name == "consumer_group_consumers":
        return created(
            api, f"/consumer_groups/{given['consumer_group']['id']}/consumers", {"consumer": given["consumer"]["id"]}
        )
    return created(api, f"{collection_path(kind)}", given)


def sample(api: Api, name: str) -> dict[str, Any]:
    """Return the sample of a type with references to stored parents."""
    return {
        key: {"id": made(api, value[1:])["id"]} if isinstance(value, str) and value.startswith("@") else value
        for key, value in SAMPLES[name][0].items()
    }


def created(api: Api, path: str, given: dict[str, Any]) -> dict[str, Any]:
    answer = api.call("POST", path, json=given)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def shown(api: Api, path: str) -> dict[str, Any]:
    """Return the entity at a path; a consumer group comes with its members."""
    body = api.get(path)
    return dict(body["consumer_group"] if "consumers" in body else body)


@pytest.mark.parametrize("name", DERIVED)
def test_every_type_is_created_read_changed_replaced_and_removed(writable: Api, name: str) -> None:
    kind = ENTITY_TYPES[name]
    path = f"{collection_path(kind)}"
    given = sample(writable, name)
    entity = created(writable, path, given)
    assert entity.items() >= {key: value for key, value in given.items() if key not in ("config", "password")}.items()
    one = f"{path}/{entity['id']}"
    assert shown(writable, one) == entity
    assert writable.get(path)["data"] == [entity]
    if kind.endpoint_key is not None:
        assert shown(writable, f"{path}/{entity[kind.endpoint_key]}") == entity
    again = writable.call("POST", path, json=given | {"id": entity["id"]})
    assert (again.status_code, again.json()["code"]) == (400, 3)
    change = SAMPLES[name][1]
    changed = writable.call("PATCH", one, json=change)
    assert changed.status_code == 200
    assert shown(writable, one) == changed.json()
    replaced = writable.call("PUT", one, json=given)
    assert replaced.status_code == 200
    assert replaced.json()["id"] == entity["id"]
    assert writable.call("PATCH", one, json={"no_such_field": 1}).json()["fields"] == {"no_such_field": "unknown field"}
    assert writable.call("DELETE", one).status_code == 204
    assert writable.call("DELETE", one).status_code == 204
    assert writable.call("GET", one).status_code == 404
    assert writable.call("PATCH", one, json={}).status_code == 404


NESTED = [(name, field) for name in DERIVED for field in ENTITY_TYPES[name].nested_under]


@pytest.mark.parametrize(("name", "field"), NESTED)
def test_children_are_written_below_their_parent(writable: Api, name: str, field: str) -> None:
    kind = ENTITY_TYPES[name]
    parent_kind = ENTITY_TYPES[kind.foreign[field].reference]
    parent = made(writable, parent_kind.name)
    given = sample(writable, name)
    if kind.name == "plugins":
        given = {"name": "request-termination"}
    given.pop(field, None)
    if field == "client_certificate" and name == "services":
        given["protocol"] = "https"
    path = f"{collection_path(parent_kind)}/{parent['id']}/{kind.nested_under[field]}"
    child = created(writable, path, given)
    assert child[field] == {"id": parent["id"]}
    one = f"{path}/{child['id']}"
    assert writable.get(path)["data"] == [child]
    assert writable.get(one) == child
    if name != "snis":
        assert writable.get(f"{collection_path(kind)}/{child['id']}/{field}") == made(writable, parent_kind.name)
    assert writable.call("PATCH", one, json={"tags": ["t"]}).json()["tags"] == ["t"]
    assert writable.call("PUT", one, json=given).json()["id"] == child["id"]
    assert (
        writable.call(
            "POST", f"{collection_path(parent_kind)}/{ABSENT}/{kind.nested_under[field]}", json=given
        ).status_code
        == 404
    )
    assert writable.call("DELETE", one).status_code == 204
    assert writable.call("DELETE", one).status_code == 404
    made_by_put = writable.call("PUT", f"{path}/{ABSENT}", json=given).json()
    assert (made_by_put["id"], made_by_put[field]) == (ABSENT, {"id": parent["id"]})


def test_what_was_written_reads_the_same_without_a_database(writable: Api, tmp_path: Path) -> None:
    for name in SAMPLES:
        made(writable, name)
    for directory in ("other", "again"):
        (tmp_path / directory).mkdir()
    plain = Api(tmp_path / "other")
    text = export_declarative(writable.node.store.snapshot(), ENTITY_TYPES)
    plain.load(text)
    for name in DERIVED:
        path = f"{collection_path(ENTITY_TYPES[name])}"
        assert plain.get(path) == writable.get(path)
        entity = plain.get(path)["data"][0]
        assert plain.get(f"{path}/{entity['id']}") == writable.get(f"{path}/{entity['id']}")
        refused = plain.call("POST", path, json={})
        assert (refused.status_code, refused.json()["message"]) == (
            405,
            f"cannot create '{name}' entities when not using a database",
        )
    for path in ("/upstreams/up/targets", "/consumer_groups/g", "/consumers/u/consumer_groups", "/tags"):
        assert plain.get(path) == writable.get(path)
    again = Api(tmp_path / "again")
    again.load(plain.get("/config")["config"])
    assert again.get("/config") == plain.get("/config")


def test_put_by_name_creates_replaces_and_renames(writable: Api) -> None:
    first = writable.call("PUT", "/services/s", json={"host": "h", "retries": 1}).json()
    assert (first["name"], first["retries"]) == ("s", 1)
    second = writable.call("PUT", "/services/s", json={"host": "i", "name": "t"}).json()
    assert (second["id"], second["name"], second["retries"]) == (first["id"], "t", 5)
    assert writable.call("GET", "/services/s").status_code == 404


def test_patch_merges_records_and_null_resets(writable: Api) -> None:
    writable.call("PUT", "/upstreams/up", json={"host_header": "a.test", "healthchecks": {"active": {"timeout": 3}}})
    changed = writable.call(
        "PATCH", "/upstreams/up", json={"host_header": None, "healthchecks": {"active": {"concurrency": 4}}}
    ).json()
    assert changed["host_header"] is None
    assert (changed["healthchecks"]["active"]["timeout"], changed["healthchecks"]["active"]["concurrency"]) == (3, 4)
    assert writable.call("PATCH", "/upstreams/up").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "expected"),
    [
        (
            "POST",
            "/services",
            {"host": "", "port": 99999, "foo": 1},
            400,
            {
                "code": 2,
                "name": "schema violation",
                "message": "3 schema violations (foo: unknown field; host: length must be at least 1; "
                "port: value should be between 0 and 65535)",
                "fields": {
                    "foo": "unknown field",
                    "host": "length must be at least 1",
                    "port": "value should be between 0 and 65535",
                },
            },
        ),
        (
            "POST",
            "/services",
            {"name": "s", "host": "h"},
            409,
            {
                "code": 5,
                "name": "unique constraint violation",
                "message": "UNIQUE violation detected on '{name=\"s\"}'",
                "fields": {"name": "s"},
            },
        ),
        (
            "POST",
            "/routes",
            {"paths": ["/"], "service": {"id": ABSENT}},
            400,
            {
                "code": 4,
                "name": "foreign key violation",
                "message": f"the foreign key '{{id=\"{ABSENT}\"}}' does not reference an existing 'services' entity.",
                "fields": {"service": {"id": ABSENT}},
            },
        ),
        (
            "POST",
            "/routes",
            {"paths": ["/"], "service": {"name": "x"}},
            400,
            {
                "code": 13,
                "name": "foreign keys unresolved",
                "message": "foreign key unresolved (service.name: the foreign key cannot be resolved with "
                "'{name=\"x\"}' for an existing 'services' entity)",
                "fields": {
                    "service": {
                        "name": "the foreign key cannot be resolved with "
                        "'{name=\"x\"}' for an existing 'services' entity"
                    }
                },
            },
        ),
        (
            "DELETE",
            "/services/s",
            None,
            400,
            {
                "code": 4,
                "name": "foreign key violation",
                "message": "an existing 'routes' entity references this 'services' entity",
                "fields": {"@referenced_by": "routes"},
            },
        ),
        (
            "GET",
            "/ca_certificates/x",
            None,
            400,
            {
                "code": 1,
                "name": "invalid primary key",
                "message": "invalid primary key: '{id=\"x\"}'",
                "fields": {"id": "expected a valid UUID"},
            },
        ),
        ("PATCH", "/services/none", {}, 404, {"message": "Not found"}),
        ("PUT", "/services", {}, 405, {"message": "Method not allowed"}),
        ("DELETE", "/routes/r/service", None, 405, {"message": "Method not allowed"}),
        ("PUT", "/upstreams/up/targets/127.0.0.1:1", {}, 404, {"message": "Not found"}),
        ("PATCH", "/certificates/none.test", {}, 404, {"message": "SNI not found"}),
    ],
)
def test_refusals_have_the_bodies_that_clients_parse(
    writable: Api, method: str, path: str, body: Any, status: int, expected: dict[str, Any]
) -> None:
    writable.call("PUT", "/services/s", json={"host": "h"})
    writable.call("PUT", "/routes/r", json={"paths": ["/r"], "service": {"name": "s"}})
    writable.call("PUT", "/upstreams/up", json={})
    answer = writable.call(method, path, **({} if body is None else {"json": body}))
    assert (answer.status_code, answer.json()) == (status, expected)


def test_a_second_plugin_of_one_scope_is_a_conflict(writable: Api) -> None:
    assert writable.call("POST", "/plugins", json={"name": "key-auth"}).status_code == 201
    answer = writable.call("POST", "/plugins", json={"name": "key-auth"})
    assert (answer.status_code, answer.json()["fields"]["name"]) == (409, "key-auth")


def test_forms_and_uploaded_files_are_bodies_too(writable: Api) -> None:
    form = {"name": "r", "paths[]": "/r", "strip_path": "false", "headers.x-a": "1", "hosts": ["a.test", "b.test"]}
    route = writable.call("POST", "/routes", data=form).json()
    assert (route["paths"], route["strip_path"], route["hosts"]) == (["/r"], False, ["a.test", "b.test"])
    assert route["headers"] == {"x-a": ["1"]}
    plugin = writable.call("POST", "/routes/r/plugins", data={"name": "key-auth", "config.key_names[1]": "k"}).json()
    changed = writable.call("PATCH", f"/plugins/{plugin['id']}", data={"config.hide_credentials": "true"}).json()
    assert (changed["config"]["key_names"], changed["config"]["hide_credentials"]) == (["k"], True)
    answer = writable.call(
        "POST", "/certificates", files={"cert": ("c.pem", CERTIFICATE), "key": ("k.pem", KEY), "snis": (None, "a.test")}
    )
    assert (answer.status_code, answer.json()["snis"]) == (201, ["a.test"])


def test_certificates_are_written_by_the_name_of_an_sni(writable: Api) -> None:
    pair = {"cert": CERTIFICATE, "key": KEY}
    first = writable.call("PUT", "/certificates/a.test", json=pair)
    assert (first.status_code, first.json()["snis"]) == (200, ["a.test"])
    assert writable.call("PATCH", "/certificates/a.test", json={"tags": ["t"]}).json()["snis"] == ["a.test"]
    both = writable.call("PATCH", "/certificates/a.test", json={"snis": ["a.test", "b.test"]}).json()
    assert [row["name"] for row in writable.get(f"/certificates/{both['id']}/snis")["data"]] == sorted(
        (row["name"] for row in writable.get("/snis")["data"]),
        key=lambda name: writable.get(f"/snis/{name}")["id"],
    )
    assert both["snis"] == ["a.test", "b.test"]
    taken = writable.call("POST", "/certificates", json=pair | {"snis": ["a.test"]})
    assert "already associated with existing certificate" in taken.json()["fields"]["snis"]
    assert writable.get("/certificates")["data"] == [both]
    assert writable.call("PUT", f"/certificates/{both['id']}", json=pair).json()["snis"] == []
    assert writable.call("DELETE", "/certificates/a.test").json() == {"message": "SNI not found"}


def test_targets_are_changed_but_not_made_by_put(writable: Api) -> None:
    writable.call("PUT", "/upstreams/up", json={})
    target = created(writable, "/upstreams/up/targets", {"target": "127.0.0.1"})
    assert target["target"] == "127.0.0.1:8000"
    path = f"/upstreams/up/targets/{target['target']}"
    assert writable.call("PUT", path, json={"target": "127.0.0.1:8000", "weight": 3}).json()["weight"] == 3
    assert writable.call("PATCH", path, json={"weight": 0}).json()["weight"] == 0
    assert writable.call("PUT", f"/upstreams/up/targets/{ABSENT}", json={"target": "127.0.0.2"}).status_code == 404
    assert writable.call("POST", "/upstreams/up/targets", json={"target": "127.0.0.1:8000"}).status_code == 409
    assert writable.call("DELETE", path).status_code == 204
    assert writable.call("DELETE", path).status_code == 404
    assert writable.call("GET", "/targets").status_code == 404


def test_groups_below_a_consumer_are_named_by_group(writable: Api) -> None:
    writable.call("PUT", "/consumers/u", json={})
    created(writable, "/consumers/u/acls", {"group": "gold"})
    assert writable.get("/consumers/u/acls/gold")["group"] == "gold"
    assert writable.call("PUT", "/consumers/u/acls/silver", json={}).json()["group"] == "silver"
    assert writable.call("DELETE", "/consumers/u/acls/gold").status_code == 204
    assert [row["group"] for row in writable.get("/consumers/u/acls")["data"]] == ["silver"]


def test_the_parent_is_written_through_its_child(writable: Api) -> None:
    writable.call("PUT", "/routes/r", json={"paths": ["/r"]})
    assert writable.call("PATCH", "/routes/r/service", json={"host": "h"}).status_code == 404
    assert writable.call("DELETE", "/routes/r/service").status_code == 404
    service = writable.call("PUT", "/routes/r/service", json={"host": "h"}).json()
    assert writable.get("/routes/r")["service"] == {"id": service["id"]}
    assert writable.call("PUT", "/routes/r/service", json={"host": "i"}).json()["id"] == service["id"]
    assert writable.call("PATCH", "/routes/r/service", json={"retries": 1}).json()["host"] == "i"


def test_passwords_are_changed_together_with_their_consumer(writable: Api) -> None:
    writable.call("PUT", "/consumers/u", json={})
    first = created(writable, "/consumers/u/basic-auth", {"username": "b", "password": "p"})
    assert first["password"] != "p"
    refused = writable.call("PATCH", f"/basic-auths/{first['id']}", json={"password": "q"})
    text = "schema violation (all or none of these fields must be set: 'password', 'consumer.id')"
    assert (refused.status_code, refused.json()["message"]) == (400, text)
    kept = writable.call("PATCH", "/consumers/u/basic-auth/b", json={"username": "c"}).json()
    assert kept["password"] == first["password"]
    assert writable.call("PATCH", "/consumers/u/basic-auth/c", json={"password": "q"}).json()["password"] not in (
        "q",
        first["password"],
    )


def test_keys_in_paths_are_decoded_once(writable: Api) -> None:
    made_by_put = writable.call("PUT", "/consumers/a%2Fb%20%2541", json={}).json()
    assert made_by_put["username"] == "a/b %41"
    assert writable.get("/consumers/a%2fb%20%2541") == made_by_put
    assert writable.call("PUT", "/consumers/a%2Fb%20%2541/key-auth/k", json={}).status_code == 200


def test_ttl_counts_down_and_is_no_content(writable: Api) -> None:
    writable.call("PUT", "/consumers/u", json={})
    answer = writable.call("POST", "/consumers/u/key-auth", data={"key": "k", "ttl": "100"})
    assert answer.status_code == 201
    assert isinstance(answer.json()["ttl"], int)
    refused = writable.call("POST", "/consumers/u/key-auth", json={"ttl": -1})
    assert refused.json()["options"] == {"ttl": "must be an integer between 0 and 100000000"}


def test_a_circle_of_orders_is_refused(writable: Api) -> None:
    writable.call("PUT", "/routes/r", json={"paths": ["/r"]})
    one, other = ({"before": {"access": [name]}} for name in ("key-auth", "request-termination"))
    assert writable.call("POST", "/plugins", json={"name": "request-termination", "ordering": one}).status_code == 201
    refused = writable.call("POST", "/plugins", json={"name": "key-auth", "ordering": other})
    assert (refused.status_code, list(refused.json()["fields"])) == (400, ["ordering"])
    assert len(writable.get("/plugins")["data"]) == 1


def test_what_cannot_be_configured_any_more_can_be_switched_off(writable: Api) -> None:
    plugin = created(writable, "/plugins", {"name": "key-auth"})
    stored = writable.node.store.snapshot()
    outdated = {**stored.entities["plugins"][plugin["id"]], "config": {"option_of_an_older_release": 1}}
    store = writable.node.store
    assert isinstance(store, SqlStore)
    store.load(Snapshot({"plugins": {plugin["id"]: outdated}}))
    path = f"/plugins/{plugin['id']}"
    assert writable.call("PATCH", path, json={"enabled": False}).json()["enabled"] is False
    assert writable.call("PATCH", path, json={"config": {"other": 1}}).status_code == 400
