"""Declarative documents: shapes, references, ids, faults, and the way back."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.entities.registry import ENTITY_TYPES
from headgate.errors import DeclarativeError
from headgate.schema import ALL_PROTOCOLS, PluginConfig, field
from headgate.store.declarative import configuration_hash, export_declarative, load_declarative
from headgate.store.snapshot import Snapshot
from tests.support.entities import SAMPLES


class Config(PluginConfig):
    no_consumer = True
    minute: float | None = field(None, gt=0)


class AnyConfig(PluginConfig):
    protocols = ALL_PROTOCOLS


@dataclass(frozen=True)
class Kind:
    name: str
    config_model: type[PluginConfig]


PLUGINS = {"limit": Kind("limit", Config), "log": Kind("log", AnyConfig)}


def load(document: Any, **options: Any) -> Snapshot:
    text = document if isinstance(document, (str, bytes)) else json.dumps({"_format_version": "3.0", **document})
    return load_declarative(text, plugin_types=PLUGINS, now=1000, **options)


def refused(document: Any, **options: Any) -> DeclarativeError:
    with pytest.raises(DeclarativeError) as caught:
        load(document, **options)
    return caught.value


def faults(document: Any) -> dict[str, Any]:
    return refused(document).fields


NESTED = """
_format_version: "3.0"
_comment: all shapes
services:
- name: my-service
  url: https://example.com/base
  _comment: nested
  routes:
  - name: my-route
    paths: [/a]
    plugins: [{name: limit, config: {minute: 5}}]
  plugins: [{name: log}]
consumers:
- username: bobby
  groups: [{name: gold}]
  keyauth_credentials: [{key: secret}]
  basicauth_credentials: [{username: b, password: p}]
  acls: [{group: g}]
consumer_groups:
- name: gold
  plugins: [{name: limit}]
- name: silver
  consumers: [{username: bobby}]
upstreams:
- name: up
  targets: [{target: a, weight: 1}, {target: "b:80"}]
key_sets: [{name: set}]
"""


def test_nested_document_becomes_flat_entities_with_foreign_keys() -> None:
    snapshot = load(NESTED)
    service = snapshot.by("services", "name", "my-service")
    route = snapshot.by("routes", "name", "my-route")
    assert service is not None
    assert route is not None
    assert service["id"] == "0855b320-0dd2-547d-891d-601e9b38647f"
    assert route["id"] == "481a9539-f49c-51b6-b2e2-fe99ee68866c"
    assert (service["protocol"], service["port"], service["path"]) == ("https", 443, "/base")
    assert route["service"] == {"id": service["id"]}
    assert (service["created_at"], service["updated_at"]) == (1000, 1000)
    (limit,) = snapshot.children("plugins", "route", route["id"])
    assert limit["config"] == {"minute": 5}
    assert (limit["service"], limit["consumer"]) == (None, None)
    targets = {target["target"] for target in snapshot.all("targets")}
    assert targets == {"a:8000", "b:80"}


def test_memberships_come_from_consumers_and_from_groups() -> None:
    snapshot = load(NESTED)
    consumer = snapshot.by("consumers", "username", "bobby")
    assert consumer is not None
    groups = {
        (snapshot.get("consumer_groups", item["consumer_group"]["id"]) or {})["name"]
        for item in snapshot.children("consumer_group_consumers", "consumer", consumer["id"])
    }
    assert groups == {"gold", "silver"}


def test_flat_document_refers_by_name_or_id() -> None:
    snapshot = load(
        {
            "routes": [{"name": "r", "paths": ["/"], "service": "s"}],
            "services": [{"name": "s", "host": "a", "id": "11111111-2222-3333-4444-555555555555"}],
            "consumers": [{"username": "u"}],
            "consumer_groups": [{"name": "g"}],
            "consumer_group_consumers": [{"consumer": "u", "consumer_group": "g"}],
            "plugins": [
                {"name": "log", "service": "11111111-2222-3333-4444-555555555555", "consumer": "u"},
                {"name": "log", "consumer_group": "g", "ordering": {"before": {"access": ["limit"]}}},
            ],
        }
    )
    route = next(snapshot.all("routes"))
    assert route["service"] == {"id": "11111111-2222-3333-4444-555555555555"}
    assert sum(plugin["consumer_group"] is not None for plugin in snapshot.all("plugins")) == 1
    assert len(list(snapshot.all("consumer_group_consumers"))) == 1


def test_ids_of_named_entities_stay_over_loads_and_entities_are_in_their_order() -> None:
    first, second = load(NESTED), load(NESTED)
    for name in ("services", "routes", "consumers", "plugins", "targets", "acls"):
        ids = list(first.entities[name])
        assert ids == list(second.entities[name]) == sorted(ids)


def test_passwords_are_hashed_unless_transformations_are_off() -> None:
    document = {"consumers": [{"username": "u", "basicauth_credentials": [{"username": "b", "password": "p"}]}]}
    assert len(next(load(document).all("basicauth_credentials"))["password"]) == 40
    kept = load({**document, "_transform": False})
    assert next(kept.all("basicauth_credentials"))["password"] == "p"


def test_older_formats_mark_regular_expressions() -> None:
    route = {"name": "r", "paths": ["/a", "/a/\\d+", "/b%2e"]}
    snapshot = load({"_format_version": "1.1", "services": [{"name": "s", "host": "h", "routes": [route]}]})
    assert next(snapshot.all("routes"))["paths"] == ["/a", "~/a/\\d+", "/b."]


def test_all_faults_are_told_at_their_places() -> None:
    assert faults(
        {
            "_foo": 1,
            "services": [
                {"name": "ok", "host": "a"},
                {"name": "s", "port": "x", "routes": [{"name": "r"}, 5], "plugins": [{"name": "zz"}, {}]},
            ],
            "plugins": [{"name": "limit", "service": "nope", "config": {"minute": 0, "x": 1}}],
            "consumers": {"a": 1},
        }
    ) == {
        "services": [
            None,
            {
                "host": "required field missing",
                "port": "expected an integer",
                "routes": [
                    {
                        "@entity": [
                            "must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'https'"
                        ]
                    },
                    "expected a record",
                ],
                "plugins": [
                    {"name": "plugin 'zz' not enabled; add it to the 'plugins' configuration property"},
                    {"name": "required field missing"},
                ],
            },
        ],
        "plugins": [
            {
                "service": "invalid reference 'service: nope' (no such entry in 'services')",
                "config": {"minute": "value must be greater than 0", "x": "unknown field"},
            }
        ],
        "consumers": "expected an array",
        "_foo": "unknown field",
    }


@pytest.mark.parametrize(
    ("head", "fault"),
    [
        ({"_format_version": None}, {"_format_version": "required field missing"}),
        ({"_format_version": 3.0}, {"_format_version": "expected a string"}),
        ({"_format_version": "2.0"}, {"_format_version": "expected one of: 1.1, 2.1, 3.0"}),
        ({"_transform": "no"}, {"_transform": "expected a boolean"}),
        ({"_comment": 1}, {"_comment": "expected a string"}),
        ({"_info": {}}, {"_info": "unknown field"}),
    ],
)
def test_faults_of_the_head(head: dict[str, Any], fault: dict[str, str]) -> None:
    assert faults(head) == fault


def test_names_and_ids_are_unique() -> None:
    assert faults({"services": [{"name": "s", "host": "a"}, {"name": "s", "host": "b"}]}) == {
        "services": [None, "uniqueness violation: 'services' entity with name set to 's' already declared"]
    }
    identifier = "11111111-2222-3333-4444-555555555555"
    assert faults({"services": [{"id": identifier, "host": "a"}, {"id": identifier, "host": "b"}]}) == {
        "services": [
            None,
            f"uniqueness violation: 'services' entity with primary key set to '{identifier}' already declared",
        ]
    }


def test_second_plugin_of_one_name_on_one_scope_is_refused() -> None:
    tree = faults({"plugins": [{"name": "log"}, {"name": "log"}]})
    assert tree["plugins"][1].startswith("uniqueness violation: 'plugins' entity with primary key set to")


def test_nested_entity_may_not_name_its_parent() -> None:
    assert faults({"services": [{"name": "s", "host": "a", "routes": [{"paths": ["/"], "service": "s"}]}]}) == {
        "services": [{"routes": [{"service": "value must be null"}]}]
    }


def test_plugin_scopes_and_protocols_are_checked() -> None:
    assert faults(
        {
            "consumers": [{"username": "u", "plugins": [{"name": "limit"}]}],
            "services": [
                {
                    "name": "s",
                    "host": "a",
                    "plugins": [{"name": "log", "protocols": ["tcp"]}, {"name": "limit", "protocols": ["tcp"]}],
                    "routes": [{"name": "r", "paths": ["/"], "plugins": [{"name": "log", "protocols": ["grpc"]}]}],
                }
            ],
        }
    ) == {
        "consumers": [{"plugins": [{"consumer": "value must be null"}]}],
        "services": [
            {
                "plugins": [
                    {"protocols": "must match the protocols of at least one route pointing to this Plugin's service"},
                    {"protocols": ["expected one of: grpc, grpcs, http, https"]},
                ],
                "routes": [{"plugins": [{"protocols": "must match the associated route's protocols"}]}],
            }
        ],
    }


def test_plugin_for_http_may_be_put_on_a_websocket_route() -> None:
    route = {"name": "r", "protocols": ["wss"], "paths": ["/"], "plugins": [{"name": "limit"}]}
    assert len(list(load({"routes": [route]}).all("plugins"))) == 1


def test_report_is_indented_below_what_each_fault_is_in() -> None:
    error = refused("services: [{name: s}]")
    assert error.report() == (
        "Failed parsing:\n"
        "in 'services':\n"
        "  - in entry 1 of 'services':\n"
        "    in 'host': required field missing\n"
        "in '_format_version': required field missing"
    )


def test_message_prints_the_tree_with_positions() -> None:
    error = refused({"services": [{"name": "s", "host": "a"}, {"name": "s", "host": "b"}]})
    assert error.message == (
        "declarative config is invalid: {services={[2]=\"uniqueness violation: 'services' entity with name set to 's' "
        'already declared"}}'
    )


def test_flattened_errors_have_one_item_per_faulty_entity() -> None:
    identifier = "11111111-2222-3333-4444-555555555555"
    flattened, rest = refused(
        {
            "_foo": 1,
            "services": [
                {
                    "name": "s",
                    "id": identifier,
                    "host": "a",
                    "routes": [{"name": "r", "tags": ["t"], "paths": ["/", "x"], "protocols": ["zz"]}],
                }
            ],
        }
    ).flattened_errors()
    assert rest == {"_foo": "unknown field", "services": {}}
    (item,) = flattened
    errors = {error["field"]: error["message"] for error in item.pop("errors")}
    assert errors["paths.2"] == "should start with: / (fixed path) or ~/ (regex path)"
    assert errors["protocols.1"].startswith("expected one of: grpc, grpcs, http")
    assert item == {
        "entity_type": "route",
        "entity_name": "r",
        "entity_tags": ["t"],
        "entity": {
            "name": "r",
            "tags": ["t"],
            "paths": ["/", "x"],
            "protocols": ["zz"],
            "service": {"id": identifier},
        },
    }


def test_exported_document_loads_to_the_same_entities() -> None:
    snapshot = load(NESTED)
    exported = export_declarative(snapshot)
    assert yaml.safe_load(exported)["_transform"] is False
    assert load(exported).entities == snapshot.entities


def test_configuration_hash_is_the_md5_of_the_text() -> None:
    assert configuration_hash("") == "d41d8cd98f00b204e9800998ecf8427e"
    assert load('{"_format_version": "3.0"}').configuration_hash == configuration_hash(b'{"_format_version": "3.0"}')


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6) | st.just("s"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4) | st.sampled_from(["name", "id", "plugins", "routes"]), inner, max_size=3)
    ),
    max_leaves=6,
)
field_names = sorted({name for entity_type in ENTITY_TYPES.values() for name in entity_type.fields})
entities = st.dictionaries(
    st.sampled_from([*field_names, *ENTITY_TYPES, "url", "groups", "_comment"]), values, max_size=6
)


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(list(ENTITY_TYPES)), st.lists(entities, max_size=3) | values, max_size=4))
def test_any_document_loads_or_is_refused(document: dict[str, Any]) -> None:
    text = json.dumps({"_format_version": "3.0", **document})
    try:
        snapshot = load_declarative(text, plugin_types=PLUGINS)
    except DeclarativeError as error:
        assert error.report()
        error.flattened_errors()
    else:
        assert Snapshot.decode(snapshot.encode()).entities.keys() <= set(ENTITY_TYPES)


@given(st.text() | st.binary())
def test_any_text_loads_or_is_refused(text: str | bytes) -> None:
    try:
        load_declarative(text, plugin_types=PLUGINS)
    except DeclarativeError as error:
        assert error.message


_REFERENCES = [
    (name, field_name, key.reference)
    for name, entity_type in ENTITY_TYPES.items()
    for field_name, key in entity_type.foreign.items()
]
_PARENT_ID = "00000000-0000-4000-8000-0000000000AA"


def _sample(type_name: str) -> dict[str, Any]:
    """Return the fields of a sample that refer to nothing."""
    if type_name == "plugins":
        return {"name": "log"}
    return {name: value for name, value in SAMPLES[type_name][0].items() if not str(value).startswith("@")}


def _referring(type_name: str, field_name: str, reference: Any) -> dict[str, Any]:
    """Return a document with an entity whose one field refers so, whatever else it refers to being there."""
    document: dict[str, Any] = {}
    child = _sample(type_name)
    for name, key in ENTITY_TYPES[type_name].foreign.items():
        if name == field_name or key.is_required:
            document[key.reference] = [{**_sample(key.reference), "id": _PARENT_ID}]
            child[name] = reference if name == field_name else _PARENT_ID
    if field_name == "client_certificate":
        child |= {"protocol": "https"} if type_name == "services" else {}
    return {**document, type_name: [child]}


@pytest.mark.parametrize(("type_name", "field_name", "parent"), _REFERENCES)
def test_every_reference_may_be_a_text_or_an_object(type_name: str, field_name: str, parent: str) -> None:
    parent_fields = _sample(parent)
    named = [{name: parent_fields[name]} for name in ENTITY_TYPES[parent].lookup_fields if name in parent_fields]
    forms: list[Any] = [_PARENT_ID, {"id": _PARENT_ID}, {"id": _PARENT_ID.lower(), "name": "whatever"}, *named]
    key = ENTITY_TYPES[parent].endpoint_key
    if key in parent_fields:
        forms.append(parent_fields[key])
    for form in forms:
        [entity] = load(_referring(type_name, field_name, form)).entities[type_name].values()
        assert entity[field_name] == {"id": _PARENT_ID.lower()}, form


@pytest.mark.parametrize(("type_name", "field_name", "parent"), _REFERENCES)
def test_references_in_object_form_to_nothing_are_told(type_name: str, field_name: str, parent: str) -> None:
    other = _PARENT_ID.replace("AA", "BB")
    wrong = {
        f'{{id="{other}"}}': {"id": other},
        '{foo="x"}': {"foo": "x"},
    }
    for shown, form in wrong.items():
        told = faults(_referring(type_name, field_name, form))[type_name][0][field_name]
        assert told == f"invalid reference '{field_name}: {shown}' (no such entry in '{parent}')"
    for form in ({}, {"id": 1}, {"foo": "x", "bar": "y"}, 1, ["x"]):
        assert faults(_referring(type_name, field_name, form))[type_name][0][field_name] == "expected a string"


def test_an_object_says_by_which_field_it_refers() -> None:
    first, second = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
    services = [{"name": "one", "url": "http://h/", "id": first}, {"name": first, "url": "http://h/", "id": second}]
    for form, meant in (({"name": first}, second), ({"id": first}, first), (first, second)):
        [route] = (
            load({"services": services, "routes": [{"paths": ["/"], "service": form}]}).entities["routes"].values()
        )
        assert route["service"] == {"id": meant}


def test_an_object_gives_the_same_generated_id_as_the_text_in_it() -> None:
    document = {"upstreams": [{"name": "u"}]}
    forms: list[Any] = ["u", {"name": "u"}]
    ids = [
        list(load(document | {"targets": [{"target": "h:1", "upstream": form}]}).entities["targets"]) for form in forms
    ]
    assert ids[0] == ids[1]


def test_lists_of_ids_take_objects_too() -> None:
    other = _PARENT_ID.replace("AA", "BB")
    document = {"ca_certificates": [{**_sample("ca_certificates"), "id": _PARENT_ID}]}
    service = {"name": "s", "url": "https://h/"}
    for form in (_PARENT_ID.lower(), {"id": _PARENT_ID}):
        snapshot = load(document | {"services": [service | {"ca_certificates": [form]}]})
        assert next(snapshot.all("services"))["ca_certificates"] == [_PARENT_ID.lower()]
    told = faults(document | {"services": [service | {"ca_certificates": [_PARENT_ID, {"id": other}]}]})
    fault = f"invalid reference 'ca_certificates: {{id=\"{other}\"}}' (no such entry in 'ca_certificates')"
    assert told == {"services": [{"ca_certificates": [None, fault]}]}
