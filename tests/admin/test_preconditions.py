"""Entity tags and conditions on changes."""

from pathlib import Path

from headgate.store.sql.store import SqlStore
from tests.admin.conftest import Api


def test_a_tag_is_that_of_the_content(writable: Api) -> None:
    made = writable.call("POST", "/services", json={"name": "s", "host": "h"})
    read = writable.call("GET", "/services/s")
    assert read.headers["etag"] == made.headers["etag"]
    assert writable.call("GET", "/services/s", headers={"If-None-Match": made.headers["etag"]}).status_code == 304
    changed = writable.call("PATCH", "/services/s", json={"retries": 1})
    assert changed.headers["etag"] != made.headers["etag"]
    assert writable.call("GET", "/services/s", headers={"If-None-Match": made.headers["etag"]}).status_code == 200


def test_of_two_writers_the_one_that_saw_an_older_entity_loses(writable: Api) -> None:
    tag = writable.call("POST", "/services", json={"name": "s", "host": "h"}).headers["etag"]
    condition = {"If-Match": tag}
    assert writable.call("PATCH", "/services/s", json={"retries": 1}, headers=condition).status_code == 200
    for method in ("PATCH", "PUT", "DELETE"):
        answer = writable.call(method, "/services/s", headers=condition, **({} if method == "DELETE" else {"json": {}}))
        assert answer.status_code == 412
    assert writable.get("/services/s")["retries"] == 1
    assert writable.call("PATCH", "/services/none", json={}, headers=condition).status_code == 404
    assert writable.call("PUT", "/services/none", json={"host": "h"}, headers=condition).status_code == 412


def test_only_if_there_is_none_yet(writable: Api) -> None:
    condition = {"If-None-Match": "*"}
    assert writable.call("PUT", "/services/s", json={"host": "h"}, headers=condition).status_code == 200
    assert writable.call("PUT", "/services/s", json={"host": "h"}, headers=condition).status_code == 412


def test_changes_without_a_condition_are_refused_where_one_is_required(tmp_path: Path, store: SqlStore) -> None:
    api = Api(tmp_path, store, database="sqlite", admin_if_match_required="on")
    made = api.call("PUT", "/services/s", json={"host": "h"})
    assert made.status_code == 200
    assert api.call("PUT", "/services/s", json={"host": "h"}).status_code == 428
    assert api.call("DELETE", "/services/s").status_code == 428
    assert api.call("DELETE", "/services/s", headers={"If-Match": made.headers["etag"]}).status_code == 204
