"""Paths that a plugin brings: its functions, its entities, and what is wrong with them told at the start."""

import os
from pathlib import Path

import pytest

from headgate.policy.catalog import load_catalog
from headgate.store.snapshot import EMPTY
from headgate.store.sql.connect import sqlite_engine
from headgate.store.sql.store import SqlStore
from tests.admin.conftest import Api
from tests.store.conftest import migrator
from tests.support.note_plugin import RECORD, write_plugin

DAOS = f"""{RECORD}
ENTITIES = [
    EntityDeclaration(
        name="notes", model=Note, endpoint_key="label", admin_api_name="my-notes",
        admin_api_nested_names={{"consumer": "notes-of"}},
    ),
    EntityDeclaration(name="hidden", model=type("Hidden", (Record,), {{"__annotations__": {{"id": types.Id}}}}),
                      generate_admin_api=False),
]
"""
API = """
from headgate.pdk.admin_api import AdminAnswer, AdminPath

def refuse_strangers(request):
    if "x-stranger" in request.headers:
        return AdminAnswer(403, {"message": "stranger"})

def star(request):
    note = request.db.select("notes", request.params["label"], by="label")
    if note is None:
        return AdminAnswer(404, {"message": "no such note"})
    stars = note["stars"] + request.body.get("stars", 1)
    return AdminAnswer(200, request.db.update("notes", note["id"], {"stars": stars}))

async def count(request):
    return AdminAnswer(200, {"count": len(list(request.db.all("notes"))), "query": dict(request.query)})

def broken(request):
    return "text"

PATHS = [
    AdminPath(path="/my-notes/:label/stars", methods={"POST": star}, before=refuse_strangers, entity="notes"),
    AdminPath(path="/my-notes-count", methods={"GET": count, "POST": broken}),
    AdminPath(path="/services/{service}", methods={"DELETE": lambda request: AdminAnswer(409, request.params)}),
]
"""


def plugin(directory: Path, **modules: str) -> str:
    return os.fspath(write_plugin(directory / "plugins", **modules).parent)


@pytest.fixture
def notes(tmp_path: Path) -> Api:
    path = plugin(tmp_path, daos=DAOS, api=API)
    catalog = load_catalog(["notes"], [path])
    engine = sqlite_engine(tmp_path / "headgate.db")
    entities = {"notes": catalog["notes"].entities}
    migrator(engine, catalog.entity_types, {"notes": None}, entities).bootstrap()
    store = SqlStore(engine, catalog.entity_types, catalog)
    return Api(tmp_path, store, database="sqlite", plugins="notes", plugin_path=path)


def test_entities_of_a_plugin_have_the_derived_endpoints(notes: Api) -> None:
    assert notes.call("PUT", "/consumers/u", json={}).status_code == 200
    made = notes.call("POST", "/my-notes", data={"label": "t", "stars": "3"})
    assert (made.status_code, made.json()["stars"]) == (201, 3)
    child = notes.call("POST", "/consumers/u/notes-of", json={"label": "of-u"})
    assert child.status_code == 201, child.text
    assert notes.get("/consumers/u/notes-of/of-u") == child.json()
    assert notes.get("/my-notes/of-u/consumer")["username"] == "u"
    assert notes.call("GET", "/hidden").status_code == 404
    assert notes.get("/schemas/notes")["fields"]


def test_functions_of_a_plugin_read_and_write(notes: Api) -> None:
    notes.call("POST", "/my-notes", json={"label": "a b"})
    starred = notes.call("POST", "/my-notes/a%20b/stars", data={"stars": "2"})
    assert (starred.status_code, starred.json()["stars"]) == (200, 2)
    assert starred.headers["x-headgate-revision"].isdigit()
    assert notes.get("/my-notes/a%20b")["stars"] == 2
    assert notes.get("/my-notes-count?x=1") == {"count": 1, "query": {"x": "1"}}
    assert notes.call("POST", "/my-notes/none/stars").json() == {"message": "no such note"}
    refused = notes.call("POST", "/my-notes/a%20b/stars", json={"stars": "many"})
    assert refused.status_code == 500
    assert notes.call("POST", "/my-notes/a%20b/stars", headers={"x-stranger": "1"}).status_code == 403
    assert notes.call("POST", "/my-notes-count").json() == {"message": "An unexpected error occurred"}
    assert notes.call("PUT", "/my-notes-count").status_code == 405
    assert notes.call("OPTIONS", "/my-notes-count").headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert "/my-notes/{label}/stars" in notes.get("/endpoints")["data"]


def test_methods_of_a_plugin_take_the_place_of_the_gateways_own(notes: Api) -> None:
    notes.call("PUT", "/services/s", json={"host": "h"})
    answer = notes.call("DELETE", "/services/s")
    assert (answer.status_code, answer.json()) == (409, {"service": "s"})
    assert notes.get("/services/s")["name"] == "s"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "plugin 'notes': api.py needs PATHS, a list of AdminPath"),
        ("PATHS = [1]", "plugin 'notes': api.py: PATHS holds a int, not an AdminPath"),
        (
            "from headgate.pdk.admin_api import AdminPath\nPATHS = [AdminPath(path='x', methods={'LOOK': 1})]",
            "plugin 'notes': api.py: x: there is no method 'LOOK'",
        ),
    ],
)
def test_what_is_wrong_with_paths_is_told_when_they_are_loaded(tmp_path: Path, text: str, fault: str) -> None:
    catalog = load_catalog(["notes"], [plugin(tmp_path, api=text)])
    found = catalog.admin_paths()
    assert fault in found.faults["notes"]
    assert found.paths == ()


def test_a_plugin_whose_paths_are_broken_is_named_and_has_none(tmp_path: Path) -> None:
    path = plugin(tmp_path, daos=DAOS, api="import a_library_that_was_removed")
    api = Api(tmp_path, plugins="notes", plugin_path=path, allow_broken_plugins="on")
    [broken] = api.get("/status")["broken_plugins"]
    assert broken["name"] == "notes"
    assert "a_library_that_was_removed" in broken["fault"]
    assert api.call("GET", "/my-notes-count").status_code == 404
    assert api.get("/my-notes")["data"] == []


def test_without_a_database_the_store_is_read_only(tmp_path: Path) -> None:
    path = plugin(tmp_path, daos=DAOS, api=API)
    api = Api(tmp_path, plugins="notes", plugin_path=path)
    api.load('{"_format_version": "3.0", "notes": [{"label": "t"}]}')
    assert api.get("/my-notes-count")["count"] == 1
    assert api.call("POST", "/my-notes/t/stars").json()["code"] == 12
    assert api.node.store.snapshot() is not EMPTY
