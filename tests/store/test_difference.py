"""What a document would change: entities are matched by id, name or what is unique, and chance is no difference."""

from typing import Any

from headgate.entities.registry import ENTITY_TYPES
from headgate.store.declarative import export_declarative, load_declarative
from headgate.store.difference import MASK, differences
from headgate.store.snapshot import EMPTY, Snapshot
from tests.store.conftest import PLUGINS

DOCUMENT = """
_format_version: "3.0"
services:
- name: s
  url: http://example.com
  routes:
  - name: r
    paths: [/r]
    plugins:
    - name: key-auth
      config: {key_names: [k]}
consumers:
- username: u
  keyauth_credentials:
  - key: secret-of-u
  basicauth_credentials:
  - {username: b, password: p}
upstreams:
- name: up
  targets:
  - {target: "127.0.0.1:80", weight: 1}
"""


def load(text: str) -> Snapshot:
    return load_declarative(text, plugin_types=PLUGINS)


def told(current: Snapshot, text: str) -> list[tuple[str, str, str, dict[str, Any]]]:
    return [tuple(one) for one in differences(current, load(text), ENTITY_TYPES)]  # type: ignore[misc]


def test_the_same_document_and_its_export_change_nothing() -> None:
    current = load(DOCUMENT)
    assert told(current, DOCUMENT) == []
    assert told(current, export_declarative(current)) == []


def test_entities_with_other_ids_are_the_same_by_what_is_unique() -> None:
    others = DOCUMENT.replace("- name: s\n", "- name: s\n  id: 11111111-1111-4111-8111-111111111111\n").replace(
        "- username: u\n", "- username: u\n  id: 22222222-2222-4222-8222-222222222222\n"
    )
    assert told(load(others), DOCUMENT) == []


def test_each_change_is_told_with_its_fields_and_without_secrets() -> None:
    changed = DOCUMENT.replace("paths: [/r]", "paths: [/x]").replace("key_names: [k]", "key_names: [k, l]")
    changed = (
        changed.replace("secret-of-u", "other-secret").replace("weight: 1", "weight: 2").replace("name: up", "name: v")
    )
    found = told(load(DOCUMENT), changed)
    assert [(one[0], one[1]) for one in found] == [
        ("update", "routes"),
        ("update", "plugins"),
        ("create", "upstreams"),
        ("delete", "upstreams"),
        ("create", "targets"),
        ("delete", "targets"),
        ("create", "keyauth_credentials"),
        ("delete", "keyauth_credentials"),
    ]
    assert found[0][2:] == ("r", {"paths": (["/r"], ["/x"])})
    assert found[1][3] == {"config.key_names": (["k"], ["k", "l"])}
    assert "secret" not in str(found)


def test_a_changed_secret_is_masked() -> None:
    text = '_format_version: "3.0"\nconsumers:\n- username: u\n  jwt_secrets:\n  - {key: k, secret: %s}\n'
    ((operation, _, _, fields),) = told(load(text % "one"), text % "two")
    assert (operation, fields) == ("update", {"secret": (MASK, MASK)})


def test_everything_is_new_to_an_empty_configuration() -> None:
    assert {one[0] for one in told(EMPTY, DOCUMENT)} == {"create"}
