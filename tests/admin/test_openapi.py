"""The OpenAPI document is true: requests made from it are answered as it says, and none with a fault of ours.

HEADGATE_SCHEMATHESIS_CALLS sets how many requests are made; `make schemathesis` makes 20,000.
"""

import os
import random
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis import given as hypothesis_given
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from headgate.entities.registry import ENTITY_TYPES
from headgate.store.sql.connect import sqlite_engine
from headgate.store.sql.store import SqlStore
from tests.admin.conftest import Api
from tests.admin.test_writes import made
from tests.store.conftest import PLUGINS, migrator
from tests.support.entities import SAMPLES
from tests.support.note_plugin import write_plugin

CALLS = int(os.environ.get("HEADGATE_SCHEMATHESIS_CALLS", "600"))
# Of the samples.
KEYS = {name: str(given.get(ENTITY_TYPES[name].endpoint_key, "none")) for name, (given, _) in SAMPLES.items()} | {
    "level": "info",
    "name": "plugins",
    "acls": "a",
    "targets": "127.0.0.1:80",
    "certificates": "a.example.com",
}
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


API_OF_A_PLUGIN = """
from headgate.pdk.admin_api import AdminAnswer, AdminPath

def show(request):
    found = request.db.select("services", request.params["name"], by="name")
    return AdminAnswer(404, {"message": "none"}) if found is None else AdminAnswer(200, found)

def add(request):
    return AdminAnswer(201, request.db.insert("consumers", {"username": request.params["name"], **request.body}))

PATHS = [AdminPath(path="/of-a-plugin/:name", methods={"GET": show, "POST": add}, entity="consumers")]
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    directory = tmp_path_factory.mktemp("openapi")
    engine = sqlite_engine(directory / "headgate.db")
    migrator(engine).bootstrap()
    plugins = directory / "plugins"
    write_plugin(plugins, api=API_OF_A_PLUGIN)
    store = SqlStore(engine, ENTITY_TYPES, PLUGINS)
    names = "key-auth, request-termination, notes"
    api = Api(directory, store, database="sqlite", plugins=names, plugin_path=str(plugins))
    for name in SAMPLES:
        made(api, name)
    return api


def test_every_served_path_is_in_the_document(api: Api) -> None:
    document = api.get("/openapi.json")
    assert document["openapi"] == "3.1.0"
    assert set(document["paths"]) == set(api.get("/endpoints")["data"])
    for path, item in document["paths"].items():
        fixed = path
        for parameter in item.get("parameters", ()):
            fixed = fixed.replace(f"{{{parameter['name']}}}", "00000000-0000-4000-8000-000000000000")
        allowed = set(api.call("OPTIONS", fixed).headers["allow"].split(", ")) - {"HEAD", "OPTIONS"}
        assert {method.upper() for method in item if method != "parameters"} == allowed, path


def test_entities_are_as_the_document_says(api: Api) -> None:
    made = api.call("PUT", "/services/documented", json={"host": "h"}).json()
    schema = api.get("/openapi.json")["components"]["schemas"]["services"]
    assert set(schema["required"]) == set(schema["properties"]) == set(made)


def try_out(operation: Any, calls: int, choice: random.Random, faults: list[str]) -> None:
    """Make some requests to one operation; what is not as the document says is added to the faults."""

    @settings(
        max_examples=calls,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate,),
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis_given(case=operation.as_strategy())
    def check(case: Any) -> None:
        # Made-up keys find nothing: often enough those of entities that are there stand in their place.
        for parameter in case.path_parameters or {}:
            if parameter in KEYS and choice.random() < 0.7:
                case.path_parameters[parameter] = KEYS[parameter]
        try:
            case.validate_response(case.call(), checks=CHECKS)
        except FailureGroup as group:
            faults.extend(f"{operation.label}: {fault}\n{case.as_curl_command()}" for fault in group.exceptions)

    check()


@pytest.mark.timeout(0 if CALLS > 5000 else 120)
def test_requests_made_from_the_document_find_no_fault(api: Api) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", api.apps["admin"])
    operations = [result.ok() for result in schema.get_all_operations()]
    each = max(1, CALLS // len(operations))
    faults: list[str] = []
    choice = random.Random(CALLS)
    for operation in operations:
        try_out(operation, each, choice, faults)
    assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults[:10])
