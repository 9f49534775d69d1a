"""POST /config in all its forms, and what a fault answers."""

import hashlib
import json
from typing import Any

import pytest

from tests.admin.conftest import Api

DOCUMENT = """\
_format_version: "3.0"
services:
- name: my-service
  url: http://127.0.0.1:9000/base
  routes:
  - name: my-route
    paths: [/a]
"""
SERVICE_ID = "0855b320-0dd2-547d-891d-601e9b38647f"
AS_JSON = {"_format_version": "3.0", "services": [{"name": "my-service", "url": "http://127.0.0.1:9000/base"}]}


@pytest.mark.parametrize(
    "arguments",
    [
        {"json": {"config": DOCUMENT}},
        {"json": {"config": json.dumps(AS_JSON)}},
        {"json": AS_JSON},
        {"content": DOCUMENT, "headers": {"Content-Type": "application/yaml"}},
        {"content": DOCUMENT, "headers": {"Content-Type": "text/yaml; charset=utf-8"}},
        {"data": {"config": DOCUMENT}},
        {"files": {"config": ("kong.yml", DOCUMENT)}},
    ],
    ids=["text in json", "json in json", "document", "yaml", "yaml with charset", "form", "multipart"],
)
def test_document_is_loaded_and_shown(api: Api, arguments: dict[str, object]) -> None:
    answer = api.call("POST", "/config", **arguments)
    assert answer.status_code == 201
    assert answer.json()["services"][SERVICE_ID]["host"] == "127.0.0.1"
    assert api.get("/services/my-service")["id"] == SERVICE_ID


@pytest.mark.parametrize("arguments", [{}, {"json": {}}, {"data": {"x": "1"}}, {"json": {"config": ""}}])
def test_nothing_to_load_is_said(api: Api, arguments: dict[str, object]) -> None:
    answer = api.call("POST", "/config", **arguments)
    assert answer.status_code == 400
    assert answer.json() == {"message": "expected a declarative configuration"}


def test_known_hash_is_not_loaded_again(api: Api) -> None:
    api.load(DOCUMENT)
    assert api.get("/status")["configuration_hash"] == hashlib.md5(DOCUMENT.encode()).hexdigest()
    answer = api.call("POST", "/config?check_hash=1", json={"config": DOCUMENT})
    assert (answer.status_code, answer.content) == (304, b"")


def test_faults_are_answered_whole_and_the_old_configuration_stays(api: Api) -> None:
    api.load(DOCUMENT)
    bad = {"_format_version": "3.0", "services": [{"name": "x"}], "unknown": []}
    answer = api.call("POST", "/config?flatten_errors=1", json=bad)
    assert answer.status_code == 400
    body = answer.json()
    assert (body["code"], body["name"]) == (14, "invalid declarative configuration")
    assert body["message"].startswith("declarative config is invalid: {")
    assert {"entity_type": "service", "entity_name": "x"}.items() <= body["flattened_errors"][0].items()
    assert body["fields"]["unknown"] == "unknown field"
    assert api.get("/services")["data"][0]["name"] == "my-service"


def test_a_circle_in_the_order_of_plugins_is_refused_at_its_paths(api: Api) -> None:
    api.load(DOCUMENT)

    def ordered(name: str, other: str) -> dict[str, object]:
        return {"name": name, "ordering": {"before": {"access": [other]}}}

    plugins = [ordered("key-auth", "request-termination"), ordered("request-termination", "key-auth")]
    routed = {"name": "s", "host": "a.test", "routes": [{"name": "r", "paths": ["/"]}]}
    answer = api.call("POST", "/config", json={"_format_version": "3.0", "services": [routed], "plugins": plugins})
    assert answer.status_code == 400
    text = "There is a circular dependency in the graph. It is not possible to derive a topological sort."
    fields = answer.json()["fields"]["plugins"]
    assert [fault["ordering"].partition(" (")[0] for fault in fields] == [text, text]
    assert api.get("/services")["data"][0]["name"] == "my-service"


def test_text_that_is_no_document_is_a_parse_failure(api: Api) -> None:
    answer = api.call("POST", "/config", json={"config": "a: [b"})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("failed parsing declarative configuration: ")


@pytest.mark.parametrize("body", ["", "{", "[1]", "1", '{"a": "\udcff"}', "[" * 5000])
def test_json_that_is_no_object_is_refused_as_any_body(api: Api, body: str) -> None:
    content = body.encode(errors="surrogateescape")
    answer = api.call("POST", "/config", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    expected = "Cannot parse JSON body" if body else "expected a declarative configuration"
    assert answer.json() == {"message": expected}


def test_a_key_given_twice_is_told_in_json_too(api: Api) -> None:
    content = b'{"_format_version": "3.0", "services": [], "services": []}'
    answer = api.call("POST", "/config", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json() == {"error": "failed parsing declarative configuration: duplicate key 'services'"}


def test_the_answer_has_all_entities_by_type_and_id_each_time(api: Api) -> None:
    document: dict[str, Any] = {"_format_version": "3.0", "services": [{"name": "a", "host": "a.test"}]}
    [(first, service)] = api.call("POST", "/config", json=document).json()["services"].items()
    assert (service["id"], service["name"]) == (first, "a")
    document["services"] += [{"name": "b\u00e9", "host": "b.test"}]
    again = api.call("POST", "/config", json=document).json()
    assert list(again) == ["services"]
    assert again["services"][first] == service
    assert sorted(one["name"] for one in again["services"].values()) == ["a", "b\u00e9"]
    assert api.get("/config")["config"].count("host: b.test") == 1


def test_other_content_type_is_refused(api: Api) -> None:
    assert api.call("POST", "/config", content="x", headers={"Content-Type": "image/png"}).status_code == 415


def test_too_large_body_is_refused(make_api: type[Api]) -> None:
    api = make_api(nginx_admin_client_max_body_size="100")
    assert api.call("POST", "/config", json={"config": "x" * 200}).status_code == 413


def test_exported_configuration_loads_again(api: Api) -> None:
    api.load(DOCUMENT)
    exported = api.get("/config")["config"]
    api.load(exported)
    assert api.get("/routes/my-route")["service"] == {"id": SERVICE_ID}
