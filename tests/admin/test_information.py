"""What the node says about itself."""

from collections.abc import Callable

import pytest

from tests.admin.conftest import Api


def test_root_document_has_what_clients_read(api: Api) -> None:
    answer = api.call("GET", "/")
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.headers["Server"].startswith("headgate/")
    assert answer.headers["X-Kong-Admin-Latency"].isdigit()
    root = answer.json()
    assert root["version"] == "3.9.1"
    assert root["configuration"]["database"] == "off"
    assert root["configuration"]["router_flavor"] == "traditional_compatible"
    assert root["plugins"]["available_on_server"]["key-auth"].keys() == {"version", "priority"}
    assert root["node_id"] == "7a267194-6123-5ee0-a1c9-4c1559eb0d95"


def test_headers_can_be_switched_off(make_api: type[Api]) -> None:
    answer = make_api(headers="off").call("GET", "/")
    assert "Server" not in answer.headers
    assert "X-Kong-Admin-Latency" not in answer.headers


def test_status_sums_counters_and_shows_the_hash(api: Api) -> None:
    status = api.get("/status")
    assert status["configuration_hash"] == "0" * 32
    assert status["server"]["total_requests"] == 0
    assert status["memory"]["lua_shared_dicts"]["headgate"]["capacity"] == "16.00 MiB"
    assert api.get("/status?unit=b")["memory"]["lua_shared_dicts"]["headgate"]["capacity"] == 16 * 1024**2
    assert api.get("/status?unit=x") == {"message": "invalid unit 'x' (expected 'k/K', 'm/M', or 'g/G')"}


def test_empty_node_is_not_ready_and_a_loaded_one_is(api: Api) -> None:
    answer = api.call("GET", "/status/ready", api="status")
    expected = {"message": "no configuration available (empty configuration present)"}
    assert (answer.status_code, answer.json()) == (503, expected)
    api.load('_format_version: "3.0"\nconsumers:\n- username: a\n')
    assert api.get("/status/ready", api="status") == {"message": "ready"}
    assert api.call("POST", "/status/ready", api="status", json={"status": "draining"}).status_code == 204
    assert api.get("/status/ready", api="status") == {"message": "draining"}


def test_endpoints_and_enabled_plugins(api: Api) -> None:
    paths = api.get("/endpoints")["data"]
    assert {"/", "/config", "/services/{services}", "/consumers/{consumers}/key-auth"} <= set(paths)
    assert api.get("/plugins/enabled") == {"enabled_plugins": ["key-auth", "request-termination"]}


def test_there_are_no_filters_and_no_data_planes(api: Api) -> None:
    text = "this endpoint is only available when wasm is enabled"
    for path in ("/filter-chains", "/services/s/filter-chains", "/routes/r/filters/enabled"):
        answer = api.call("GET", path)
        assert (answer.status_code, answer.json()) == (400, {"message": text})
    assert api.call("DELETE", "/filter-chains/f").status_code == 400
    assert "Control Plane" in api.get("/clustering/status")["message"]
    assert api.call("GET", "/clustering/nothing").status_code == 404


def test_tags_name_their_entities(api: Api) -> None:
    api.load('_format_version: "3.0"\nconsumers:\n- username: a\n  tags: [x, y]\n')
    assert [row["tag"] for row in api.get("/tags")["data"]] == ["x", "y"]
    assert api.get("/tags/x")["data"][0]["entity_name"] == "consumers"
    assert api.get("/tags/none")["data"] == []


def test_schemas(api: Api) -> None:
    assert {"name"} <= {next(iter(field)) for field in api.get("/schemas/services")["fields"]}
    assert any("config" in field for field in api.get("/schemas/plugins/key-auth")["fields"])
    assert api.get("/schemas/nothing") == {"message": "No entity named 'nothing'"}
    assert api.get("/schemas/plugins/nothing") == {"message": "No plugin named 'nothing'"}
    assert api.get("/schemas/vaults/nothing") == {"message": "No vault named 'nothing'"}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/schemas/services/validate", {"host": "a.test"}, 200),
        ("/schemas/services/validate", {"foo": 1}, 400),
        ("/schemas/vaults/validate", {"name": "env", "prefix": "my", "config": {"prefix": "X_"}}, 200),
        ("/schemas/vaults/validate", {"name": "env", "prefix": "my", "config": {"none": 1}}, 400),
        ("/schemas/plugins/validate", {"name": "key-auth", "config": {}}, 200),
        ("/schemas/plugins/validate", {"name": "key-auth", "config": {"hide_credentials": 1}}, 400),
    ],
)
def test_validation_stores_nothing(api: Api, path: str, body: dict[str, object], status: int) -> None:
    answer = api.call("POST", path, json=body)
    assert answer.status_code == status
    if status == 200:
        assert answer.json() == {"message": "schema validation successful"}
    else:
        assert answer.json()["code"] == 2
    assert api.get("/services")["data"] == []


def test_schema_of_a_vault_type(api: Api) -> None:
    (member,) = api.get("/schemas/vaults/env")["fields"]
    assert [list(field) for field in member["config"]["fields"]] == [["prefix"]]
    assert api.call("GET", "/schemas/vaults/none").json() == {"message": "No vault named 'none'"}


def test_forms_are_validated_as_what_they_mean(api: Api) -> None:
    good = api.call("POST", "/schemas/services/validate", data={"host": "h", "port": "80", "tags[]": "a"})
    assert good.json() == {"message": "schema validation successful"}
    plugin = {"name": "key-auth", "config.key_names[]": "k", "config.key_in_body": "true"}
    assert api.call("POST", "/schemas/plugins/validate", data=plugin).status_code == 200
    bad = api.call("POST", "/schemas/services/validate", data={"host": "h", "port": "x"})
    assert bad.json()["fields"] == {"port": "expected an integer"}


def test_status_api_shows_targets_of_a_node_without_a_database(api: Api) -> None:
    api.load('{"_format_version": "3.0", "upstreams": [{"name": "up", "targets": [{"target": "10.0.0.1:80"}]}]}')
    (target,) = api.get("/upstreams/up/targets", api="status")["data"]
    assert api.get("/upstreams/up/targets/10.0.0.1:80", api="status") == target
    assert api.call("POST", "/upstreams/up/targets", api="status", json={}).status_code == 405


def test_plugins_keep_older_names_of_their_settings_in_answers(make_api: Callable[..., Api]) -> None:
    api = make_api(plugins="rate-limiting")
    api.load('{"_format_version": "3.0", "plugins": [{"name": "rate-limiting", "config": {"minute": 5}}]}')
    (plugin,) = api.get("/plugins")["data"]
    assert plugin["config"]["redis_port"] == plugin["config"]["redis"]["port"]
