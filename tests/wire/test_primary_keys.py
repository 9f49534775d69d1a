"""Entities of a Lua plugin with primary keys other than `id`, and functions of its own for them, in every store."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.support.databases import DATABASES, database_settings
from tests.support.gateway import ROOT, Gateway
from tests.support.http1 import Response, wait_until

SETTINGS: dict[str, Any] = {
    "lua_package_path": f"{ROOT}/tests/lua/data/?.lua;{ROOT}/tests/lua/data/?/init.lua",
    "plugins": "bundled,shelf",
}
ANN = "0c4ba3a3-2a62-4c1b-9f3c-6a3a7d0c8a11"
DOCUMENT: dict[str, Any] = {
    "_format_version": "3.0",
    "routes": [{"name": "r", "paths": ["/"]}],
    "plugins": [{"name": "shelf"}, {"name": "request-termination", "config": {"status_code": 200}}],
    "consumers": [{"id": ANN, "username": "ann"}],
    "genres": [{"name": "crime", "rank": 1}, {"name": "poetry", "about": "verse"}],
    "shelf_marks": [
        {"consumer": "ann", "genre": "crime", "number": 1, "note": "first"},
        {"consumer": ANN, "genre": "crime", "number": 2, "next_genre": "poetry"},
    ],
}


def call(gateway: Gateway, entity: str, operation: str, *arguments: Any) -> dict[str, Any]:
    """Call a function of `kong.db` in a worker."""
    asked = json.dumps({"entity": entity, "operation": operation, "arguments": list(arguments)})
    answer = gateway.get("/", {"X-Call": asked})
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json()
    return found


def admin(gateway: Gateway, method: str, path: str, body: Any = None) -> Response:
    given = None if body is None else json.dumps(body).encode()
    return gateway.admin_request(method, path, given, {"Content-Type": "application/json"})


@pytest.fixture(scope="module", params=DATABASES)
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("database")
    with (
        database_settings(request.param, directory, SETTINGS) as database,
        Gateway(**SETTINGS, **database) as running,
    ):
        admin(running, "POST", "/routes", {"name": "r", "paths": ["/"]})
        admin(running, "POST", "/plugins", {"name": "shelf"})
        admin(running, "POST", "/plugins", {"name": "request-termination", "config": {"status_code": 200}})
        admin(running, "PUT", f"/consumers/{ANN}", {"username": "ann"})
        yield running


@pytest.fixture(scope="module")
def declared() -> Iterator[Gateway]:
    with Gateway(DOCUMENT, **SETTINGS) as running:
        yield running


@pytest.fixture(scope="module", params=("memory", *DATABASES))
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway of each store with the document's entities."""
    if request.param == "memory":
        with Gateway(DOCUMENT, **SETTINGS) as running:
            yield running
        return
    directory = tmp_path_factory.mktemp("filled")
    with (
        database_settings(request.param, directory, SETTINGS) as database,
        Gateway(**SETTINGS, **database) as running,
    ):
        for name in ("routes", "plugins", "consumers", "genres"):
            path = "all-genres" if name == "genres" else name
            for entity in DOCUMENT[name]:
                assert admin(running, "POST", f"/{path}", entity).status == 201
        for mark in DOCUMENT["shelf_marks"]:
            references = {"consumer": {"id": ANN}, "genre": {"name": mark["genre"]}}
            if "next_genre" in mark:
                references["next_genre"] = {"name": mark["next_genre"]}
            made = admin(running, "POST", "/shelf_marks", mark | references)
            assert made.status == 201, made.body
        yield running


def test_functions_of_kong_db_take_the_key_as_a_table(filled: Gateway) -> None:
    assert call(filled, "genres", "select", {"name": "crime"})["found"] == {"name": "crime", "rank": 1}
    # The plugin's own `select` looks for names in lower case.
    assert call(filled, "genres", "select", {"name": "CRIME"})["found"]["rank"] == 1
    key = {"consumer": {"id": ANN}, "genre": {"name": "crime"}, "number": 2}
    mark = call(filled, "shelf_marks", "select", key)["found"]
    assert "id" not in mark
    assert (mark["genre"], mark["next_genre"], mark["note"]) == ({"name": "crime"}, {"name": "poetry"}, "none")
    assert call(filled, "shelf_marks", "select", {**key, "number": 3}) == {}
    assert sorted(call(filled, "genres", "each")["found"]) == ["crime", "poetry"]
    children = call(filled, "shelf_marks", "page_for_genre", {"name": "crime"}, 1)
    assert len(children["found"]) == 1
    following = call(filled, "shelf_marks", "page_for_genre", {"name": "crime"}, 1, children["offset"])
    assert {children["found"][0]["number"], following["found"][0]["number"]} == {1, 2}
    assert call(filled, "genres", "select_by_rank", 1)["found"]["name"] == "crime"


def test_functions_of_the_plugin_stand_beside_those_of_kong_db(filled: Gateway) -> None:
    assert [one["name"] for one in call(filled, "genres", "select_by_prefix", "po")["found"]] == ["poetry"]


def test_functions_of_the_plugin_have_the_schema(filled: Gateway) -> None:
    asked = call(filled, "genres", "faults_of", {"name": 5})["found"]
    assert asked == {
        "text": "schema violation (name: expected a string)",
        "key": {"name": 5},
        "fields": ["name", "about", "rank"],
        "name": "genres",
    }
    assert call(filled, "genres", "faults_of", {"name": "new"})["found"]["ok"] is True
    assert call(filled, "genres", "faults_of", {"about": "x"}, True)["found"]["ok"] is True
    assert "ok" not in call(filled, "genres", "faults_of", {"about": "x"})["found"]


def test_references_by_key_are_validated_without_being_stored(filled: Gateway) -> None:
    mark = {"consumer": {"id": ANN}, "genre": {"name": "crime"}, "number": 9}
    assert admin(filled, "POST", "/schemas/shelf_marks/validate", mark).status == 200
    refused = admin(filled, "POST", "/schemas/shelf_marks/validate", mark | {"genre": {"colour": "red"}})
    assert refused.json()["fields"] == {"genre": {"colour": "not a primary key", "name": "missing primary key"}}
    assert admin(filled, "GET", "/schemas/shelf_marks").json()["fields"][1]["consumer"]["reference"] == "consumers"


def test_keys_are_told_what_is_wrong_with_them(filled: Gateway) -> None:
    refused = call(filled, "shelf_marks", "select", {"genre": {"name": "crime"}, "number": "x", "colour": "red"})
    assert refused["err_t"]["fields"] == {
        "colour": "not a primary key",
        "consumer": "missing primary key",
        "number": "expected an integer",
    }
    assert (refused["err_t"]["code"], refused["err_t"]["name"]) == (1, "invalid primary key")


def test_cache_keys_are_made_of_the_primary_key(filled: Gateway) -> None:
    assert call(filled, "genres", "cache_key", {"name": "crime"})["found"].startswith("genres:crime:::::")
    key = {"consumer": {"id": ANN}, "genre": {"name": "crime"}, "number": 2}
    made = call(filled, "shelf_marks", "cache_key", key)["found"]
    assert made.startswith(f"shelf_marks:{ANN}:")
    assert made.split(":")[3] == "2"
    assert call(filled, "shelf_marks", "select_by_cache_key", made)["found"]["number"] == 2


def test_paths_of_the_admin_api_have_the_key(filled: Gateway) -> None:
    # Through the plugin's own functions, so that what is null is left out.
    assert admin(filled, "GET", "/all-genres/crime").json() == {"name": "crime", "rank": 1}
    assert admin(filled, "GET", "/all-genres/nothing").status == 404
    mark = admin(filled, "GET", "/shelf_marks/ann,crime,2").json()
    assert (mark["number"], mark["genre"], mark["consumer"]) == (2, {"name": "crime"}, {"id": ANN})
    assert "id" not in mark
    assert admin(filled, "GET", f"/shelf_marks/{ANN},crime,2").json() == mark
    assert admin(filled, "GET", "/shelf_marks/ann,crime,2/genre").json()["name"] == "crime"
    assert admin(filled, "GET", "/consumers/ann/marks/ann,crime,2").json() == mark
    assert len(admin(filled, "GET", "/all-genres/crime/marks").json()["data"]) == 2
    refused = admin(filled, "GET", "/shelf_marks/ann,crime")
    assert (refused.status, refused.json()["code"]) == (400, 1)
    assert admin(filled, "GET", "/shelf_marks/bob,crime,2").status == 404
    page = admin(filled, "GET", "/shelf_marks?size=1").json()
    following = admin(filled, "GET", page["next"]).json()
    assert {page["data"][0]["number"], following["data"][0]["number"]} == {1, 2}


def test_a_document_is_dumped_and_loaded_again(declared: Gateway) -> None:
    dumped = yaml.safe_load(declared.admin_request("GET", "/config").json()["config"])
    assert sorted(one["name"] for one in dumped["genres"]) == ["crime", "poetry"]
    assert all("id" not in one for one in (*dumped["genres"], *dumped["shelf_marks"]))
    assert {one["genre"] for one in dumped["shelf_marks"]} == {"crime"}
    assert {one["next_genre"] for one in dumped["shelf_marks"]} == {None, "poetry"}
    assert declared.load(dumped).status == 201
    assert call(declared, "genres", "select", {"name": "poetry"})["found"]["about"] == "verse"


def test_a_document_with_a_key_twice_or_without_one_is_refused(declared: Gateway) -> None:
    twice = DOCUMENT | {"genres": [*DOCUMENT["genres"], {"name": "crime"}, {"about": "nothing"}]}
    answer = declared.load(twice)
    assert answer.status == 400
    assert answer.json()["fields"]["genres"] == [
        None,
        None,
        "uniqueness violation: 'genres' entity with primary key set to 'crime' already declared",
        {"name": "required field missing"},
    ]
    with_id = declared.load(DOCUMENT | {"genres": [{"id": ANN, "name": "crime"}, {"name": "poetry"}]})
    assert with_id.json()["fields"]["genres"][0] == {"id": "unknown field"}


def test_writes_address_an_entity_by_its_key(stored: Gateway) -> None:
    made = call(stored, "genres", "insert", {"name": "Drama", "rank": 7})
    # The plugin's own `insert` has put it in lower case.
    assert made["found"] == {"name": "drama", "rank": 7}
    again = call(stored, "genres", "insert", {"name": "drama"})
    assert (again["err_t"]["code"], again["err_t"]["message"]) == (
        3,
        "primary key violation on key '{name=\"drama\"}'",
    )
    changed = call(stored, "genres", "update", {"name": "drama"}, {"about": "stage"})
    assert changed["found"] == {"name": "drama", "rank": 7, "about": "stage"}
    moved = call(stored, "genres", "update", {"name": "drama"}, {"name": "tragedy"})
    assert moved["err_t"]["fields"] == {"name": "immutable field cannot be updated"}
    missing = call(stored, "genres", "update", {"name": "opera"}, {"about": "sung"})
    assert missing["err_t"]["message"] == "could not find the entity with primary key '{name=\"opera\"}'"
    assert call(stored, "genres", "upsert", {"name": "opera"}, {"about": "sung"})["found"]["name"] == "opera"
    key = {"consumer": {"id": ANN}, "genre": {"name": "drama"}, "number": 1}
    mark = call(stored, "shelf_marks", "upsert", key, {"note": "seat 4"}, {"ttl": 100})["found"]
    assert (mark["genre"], mark["note"]) == ({"name": "drama"}, "seat 4")
    assert mark["ttl"] > 90
    assert call(stored, "shelf_marks", "update", key, {"note": "seat 5"})["found"]["note"] == "seat 5"
    restricted = call(stored, "genres", "delete", {"name": "drama"})
    assert restricted["err_t"]["code"] == 4
    assert call(stored, "shelf_marks", "delete", key)["found"] is True
    assert call(stored, "genres", "delete", {"name": "drama"})["found"] is True
    assert wait_until(lambda: call(stored, "genres", "select", {"name": "drama"}) == {})


def test_what_the_plugin_refuses_is_refused_by_the_admin_api_too(stored: Gateway) -> None:
    refused = admin(stored, "POST", "/all-genres", {"name": "forbidden"})
    assert (refused.status, refused.json()["fields"]) == (400, {"name": "there is no such genre"})
    made = admin(stored, "POST", "/all-genres", {"name": "EPIC"})
    assert (made.status, made.json()["name"]) == (201, "epic")
    assert admin(stored, "PUT", "/all-genres/epic", {"about": "long"}).json()["about"] == "long"
    assert admin(stored, "PATCH", "/all-genres/epic", {"rank": 70}).json()["rank"] == 70
    assert admin(stored, "DELETE", "/all-genres/epic").status == 204
    assert admin(stored, "GET", "/all-genres/epic").status == 404


def test_the_admin_api_writes_composite_keys(stored: Gateway) -> None:
    admin(stored, "POST", "/all-genres", {"name": "satire"})
    made = admin(stored, "PUT", "/shelf_marks/ann,satire,4", {"note": "funny"})
    assert (made.status, made.json()["number"]) == (200, 4)
    assert admin(stored, "PATCH", "/shelf_marks/ann,satire,4", {"note": "dry"}).json()["note"] == "dry"
    assert admin(stored, "PATCH", "/shelf_marks/ann,satire,4", {"number": 5}).status == 400
    below = admin(stored, "POST", "/consumers/ann/marks", {"genre": {"name": "satire"}, "number": 6})
    assert below.status == 201, below.body
    unknown = admin(stored, "POST", "/consumers/ann/marks", {"genre": {"name": "nothing"}, "number": 6})
    assert (unknown.status, unknown.json()["code"]) == (400, 4)
    assert admin(stored, "POST", "/consumers/ann/marks", {"number": 6}).json()["fields"] == {
        "genre": "required field missing"
    }
    assert admin(stored, "DELETE", "/shelf_marks/ann,satire,4").status == 204
    assert admin(stored, "DELETE", "/all-genres/satire").status == 400


def test_what_a_key_refers_to_takes_the_entity_along(stored: Gateway) -> None:
    admin(stored, "POST", "/consumers", {"username": "bob"})
    admin(stored, "PUT", "/all-genres/fable", {})
    admin(stored, "PUT", "/all-genres/myth", {})
    assert admin(stored, "PUT", "/shelf_marks/bob,fable,1", {"next_genre": {"name": "myth"}}).status == 200
    assert admin(stored, "DELETE", "/all-genres/myth").status == 204
    assert admin(stored, "GET", "/shelf_marks/bob,fable,1").json()["next_genre"] is None
    assert admin(stored, "DELETE", "/consumers/bob").status == 204
    assert admin(stored, "GET", "/all-genres/fable/marks").json()["data"] == []
    assert admin(stored, "DELETE", "/all-genres/fable").status == 204


def test_an_entity_with_a_time_to_live_is_gone_when_it_is_over(stored: Gateway) -> None:
    admin(stored, "PUT", "/all-genres/brief", {})
    key = {"consumer": {"id": ANN}, "genre": {"name": "brief"}, "number": 1}
    assert call(stored, "shelf_marks", "insert", key, {"ttl": 3})["found"]["ttl"] <= 3
    assert wait_until(lambda: "found" in call(stored, "shelf_marks", "select", key))
    taken = call(stored, "shelf_marks", "insert", key)["err_t"]
    assert (taken["code"], taken["fields"]["genre"]) == (3, {"name": "brief"})
    assert wait_until(lambda: call(stored, "shelf_marks", "select", key) == {})
    # Its key is free again.
    assert call(stored, "shelf_marks", "insert", key)["found"]["number"] == 1
