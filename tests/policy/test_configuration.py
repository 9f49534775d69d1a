"""From a declarative document to a snapshot, with what only the catalog and all plugins together tell."""

import logging

import pytest

from headgate.errors import DeclarativeError
from headgate.policy.catalog import Catalog, load_catalog
from headgate.policy.configuration import broken_plugins, load_configuration, log_ordering

CIRCLE = """
_format_version: "3.0"
services:
- name: one
  host: example.test
  routes:
  - name: r
    paths: [/]
    plugins:
    - {name: acl, config: {allow: [a]}, ordering: {before: {access: [key-auth]}}}
    - {name: key-auth, ordering: {before: {access: [acl]}}}
"""
WRONG = '{_format_version: "3.0", plugins: [{name: acl, config: {no_such_field: 1}}]}'


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog(["bundled"])


def test_a_circle_is_refused_at_the_path_of_each_instance_in_it(catalog: Catalog) -> None:
    with pytest.raises(DeclarativeError) as caught:
        load_configuration(CIRCLE, catalog)
    plugins = caught.value.fields["services"][0]["routes"][0]["plugins"]
    text = "There is a circular dependency in the graph. It is not possible to derive a topological sort."
    assert [list(one) for one in plugins] == [["ordering"], ["ordering"]]
    assert plugins[0]["ordering"].startswith(f"{text} (")
    assert {"acl", "before", "key-auth"} < set(plugins[0]["ordering"].replace("(", "").replace(")", "").split())


def test_a_doubtful_order_is_logged(catalog: Catalog, caplog: pytest.LogCaptureFixture) -> None:
    text = '{_format_version: "3.0", plugins: [{name: key-auth, ordering: {after: {access: [acl]}}}]}'
    load_configuration(text, catalog)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "no effect on 'acl'" in caplog.text


def test_a_configuration_that_its_plugin_rejects_is_refused_unless_allowed(catalog: Catalog) -> None:
    with pytest.raises(DeclarativeError) as caught:
        load_configuration(WRONG, catalog)
    assert caught.value.fields["plugins"][0]["config"] == {"no_such_field": "unknown field"}
    snapshot = load_configuration(WRONG, catalog, is_broken_allowed=True)
    [plugin] = snapshot.all("plugins")
    assert plugin["config"] == {"no_such_field": 1}
    [broken] = broken_plugins(snapshot, catalog)
    assert (broken["id"], broken["name"]) == (plugin["id"], "acl")
    assert "no_such_field" in broken["fault"]


def test_a_plugin_that_the_settings_do_not_name_stays_refused(catalog: Catalog) -> None:
    text = '{_format_version: "3.0", plugins: [{name: nobody-knows-it}]}'
    with pytest.raises(DeclarativeError):
        load_configuration(text, catalog, is_broken_allowed=True)


def test_what_is_wrong_with_the_order_of_a_stored_configuration_is_logged_once(
    catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    # A database may hold what a document may not: two nodes may each write one half of a circle.
    snapshot = load_configuration(
        CIRCLE.replace("ordering: {before: {access: [acl]}}", "ordering: {before: {access: [request-transformer]}}"),
        catalog,
    )
    key_auth = next(one for one in snapshot.all("plugins") if one["name"] == "key-auth")
    key_auth["ordering"] = {"before": {"access": ["acl", "request-transformer"]}}
    caplog.clear()
    known = log_ordering(snapshot, catalog, "legacy", frozenset())
    assert len(known) == 3
    dangling = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    circles = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert dangling == [
        f"ordering of plugin 'key-auth' ({key_auth['id']}) has no effect on 'request-transformer', "
        "which is configured nowhere"
    ]
    assert len(circles) == 2
    assert all("circular dependency" in text for text in circles)
    assert any(key_auth["id"] in text for text in circles)
    caplog.clear()
    assert log_ordering(snapshot, catalog, "legacy", known) == known
    assert caplog.records == []
    # Mended: nothing is known any more, so that the same fault is told again when it comes back.
    key_auth["ordering"] = None
    assert log_ordering(snapshot, catalog, "legacy", known) == frozenset()
    key_auth["ordering"] = {"before": {"access": ["acl"]}}
    assert len(log_ordering(snapshot, catalog, "legacy", frozenset())) == 2


def test_a_name_that_is_no_plugin_of_the_node_is_told(catalog: Catalog, caplog: pytest.LogCaptureFixture) -> None:
    text = '{_format_version: "3.0", plugins: [{name: key-auth, ordering: {after: {access: [long-gone]}}}]}'
    snapshot = load_configuration(text, catalog)
    caplog.clear()
    log_ordering(snapshot, catalog, "legacy", frozenset())
    assert "no effect on 'long-gone', which is no plugin of this node" in caplog.text
