"""The registry, and published schemas against recorded samples of the contract."""

import json
from pathlib import Path
from typing import Any

import pytest

from headgate.entities.registry import ENTITY_TYPES

DATA = Path(__file__).parent / "data"
SAMPLES = sorted(path.stem for path in DATA.glob("*.json"))
# The samples are of the edition without WebSocket protocols, consumer groups, ordering and sticky sessions, which are
# built in here; circuit breaking is our own.
ADDED_VALUES = ("ws", "wss", "sticky-sessions")
ADDED_FIELDS = {
    "plugins": ("consumer_group", "ordering"),
    "upstreams": ("sticky_sessions_cookie", "sticky_sessions_cookie_path", "circuit_breaking"),
}


def without_additions(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_additions(item) for key, item in value.items()}
    if isinstance(value, list):
        kept = [without_additions(item) for item in value if item not in ADDED_VALUES]
        return [
            item
            for item, before in zip(kept, [i for i in value if i not in ADDED_VALUES], strict=True)
            if item != [] or before == []
        ]
    return value


@pytest.mark.parametrize("name", SAMPLES)
def test_published_schema_equals_the_sample(name: str) -> None:
    schema = json.loads(json.dumps(ENTITY_TYPES[name].schema))
    added = ADDED_FIELDS.get(name, ())
    schema["fields"] = [item for item in schema["fields"] if not any(field in item for field in added)]
    if "entity_checks" in schema:
        schema["entity_checks"] = [
            check for check in schema["entity_checks"] if check.get("conditional", {}).get("then_field") not in added
        ]
    assert without_additions(schema) == json.loads((DATA / f"{name}.json").read_text())


def test_types_are_in_dependency_order() -> None:
    seen: set[str] = set()
    for entity_type in ENTITY_TYPES.values():
        assert {key.reference for key in entity_type.foreign.values()} <= seen, entity_type.name
        seen.add(entity_type.name)


def test_children_come_from_the_foreign_keys() -> None:
    assert {(child.name, field) for child, field in ENTITY_TYPES.children_of("services")} == {
        ("routes", "service"),
        ("plugins", "service"),
    }
    assert ENTITY_TYPES["plugins"].foreign["route"].on_delete == "cascade"
    assert ENTITY_TYPES["routes"].foreign["service"].on_delete == "restrict"


@pytest.mark.parametrize(
    ("name", "given", "parents", "identifier"),
    [
        ("services", {"name": "my-service"}, {}, "0855b320-0dd2-547d-891d-601e9b38647f"),
        ("services", {"name": "example-service"}, {}, "7a267194-6123-5ee0-a1c9-4c1559eb0d95"),
        ("consumers", {"username": "bobby"}, {}, "d885e256-1abe-5e24-80b6-8f68fe59ea8e"),
        ("routes", {"name": "my-route"}, {}, "481a9539-f49c-51b6-b2e2-fe99ee68866c"),
    ],
)
def test_generated_id_equals_the_check_value(
    name: str, given: dict[str, Any], parents: dict[str, str], identifier: str
) -> None:
    assert ENTITY_TYPES[name].generated_id(given, parents) == identifier


def test_unnamed_entities_get_no_name_based_id() -> None:
    assert ENTITY_TYPES["services"].generated_id({}, {}) is None
    assert ENTITY_TYPES["keyauth_credentials"].generated_id({"key": "a"}, {"consumer": "b"}) is None


def test_consumer_group_enters_the_id_of_a_plugin_only_when_it_is_set() -> None:
    plugins = ENTITY_TYPES["plugins"]
    plain = plugins.generated_id({"name": "p"}, {"service": "s"})
    assert plugins.generated_id({"name": "p"}, {"service": "s", "consumer_group": "g"}) != plain
    assert plugins.generated_id({"name": "p"}, {"service": "s", "consumer_group": ""}) == plain
