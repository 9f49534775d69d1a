"""Several writes as one transaction."""

from typing import Any

from tests.admin.conftest import Api


def batch(api: Api, *operations: dict[str, Any]) -> Any:
    return api.call("POST", "/batch", json={"operations": list(operations)})


SERVICE = {"method": "PUT", "path": "/services/s", "body": {"host": "h"}}
ROUTE = {"method": "POST", "path": "/services/s/routes", "body": {"name": "r", "paths": ["/r"]}}


def test_all_operations_are_done_and_later_ones_see_earlier_ones(writable: Api) -> None:
    answer = batch(writable, SERVICE, ROUTE, {"method": "DELETE", "path": "/consumers/none"})
    assert answer.status_code == 200, answer.text
    assert [outcome["status"] for outcome in answer.json()["data"]] == [200, 201, 204]
    assert answer.json()["data"][1]["body"] == writable.get("/routes/r")
    assert writable.get("/routes/r")["service"]["id"] == writable.get("/services/s")["id"]
    assert answer.headers["x-headgate-revision"].isdigit()


def test_one_refused_operation_leaves_nothing_behind(writable: Api) -> None:
    bad = {"method": "POST", "path": "/services", "body": {"host": ""}}
    answer = batch(writable, SERVICE, ROUTE, bad)
    assert (answer.status_code, answer.json()["operation"], answer.json()["code"]) == (400, 2, 2)
    assert writable.get("/services")["data"] == []
    absent = batch(writable, SERVICE, {"method": "PATCH", "path": "/routes/none", "body": {}})
    assert (absent.status_code, absent.json()) == (404, {"message": "Not found", "operation": 1})
    assert writable.get("/services")["data"] == []


def test_conditions_hold_for_each_operation(writable: Api) -> None:
    assert batch(writable, SERVICE | {"if_none_match": "*"}).status_code == 200
    tag = writable.call("GET", "/services/s").headers["etag"]
    change = {"method": "PATCH", "path": "/services/s", "body": {"retries": 1}, "if_match": tag}
    assert batch(writable, change).status_code == 200
    assert batch(writable, change).status_code == 412


def test_what_is_no_batch_is_refused_with_all_faults(writable: Api) -> None:
    answer = batch(
        writable, SERVICE, {"method": "GET", "path": "/services"}, {"path": 1}, {"method": "PUT", "path": "/x"}
    )
    assert answer.status_code == 400
    assert answer.json()["faults"] == [
        {"operation": 1, "message": "GET is not a write of /services"},
        {"operation": 2, "message": "method and path must be strings"},
        {"operation": 3, "message": "there are no entities at /x"},
    ]
    for given in ({}, {"operations": []}, {"operations": [SERVICE] * 1001}):
        assert writable.call("POST", "/batch", json=given).status_code == 400


def test_without_a_database_a_batch_is_refused(api: Api) -> None:
    answer = batch(api, SERVICE)
    assert (answer.status_code, answer.json()["code"]) == (405, 12)
