"""Entities that a Lua plugin declares, and what is wrong with declarations."""

import pytest

from headgate.entities.registry import ENTITY_TYPES
from headgate.errors import PluginLoadError
from headgate.lua.daos import declarations, own_daos
from headgate.lua.vm import vm
from headgate.policy.catalog import load_catalog
from tests.lua.conftest import Write

BADGES = """
local typedefs = require "kong.db.schema.typedefs"
return { {
  name = "badges", primary_key = { "id" }, endpoint_key = "code", cache_key = { "code" }, ttl = true,
  workspaceable = true, admin_api_name = "all-badges", admin_api_nested_name = "own-badges", db_export = false,
  fields = {
    { id = typedefs.uuid },
    { created_at = typedefs.auto_timestamp_s },
    { code = { type = "string", unique = true, auto = true } },
    { level = { type = "integer", between = { 1, 9 }, default = 1 } },
    { consumer = { type = "foreign", reference = "consumers", on_delete = "cascade", required = true } },
    { service = { type = "foreign", reference = "services", generate_admin_api = false } },
    { from = { type = "integer" } }, { till = { type = "integer" } },
  },
  entity_checks = { { mutually_required = { "from", "till" } } },
  check = function(entity) if entity.level == 3 then return nil, "there is no level 3" end return true end,
} }
"""
OWNER = {"consumer": {"id": "0c4ba3a3-2a62-4c1b-9f3c-6a3a7d0c8a11"}}


def entity(body: str) -> str:
    head = 'local typedefs = require "kong.db.schema.typedefs" return { { name = "notes", primary_key = { "id" }, '
    return head + body + " } }"


def faults_of(write: Write, source: str) -> list[str]:
    write(daos=source)
    with pytest.raises(PluginLoadError) as caught:
        load_catalog(["written"])
    return caught.value.faults


def test_a_declaration_becomes_an_entity_type(written_plugin: Write) -> None:
    written_plugin(daos=BADGES)
    kind = load_catalog(["written"]).entity_types["badges"]
    assert (kind.endpoint_key, kind.cache_key, kind.has_ttl, kind.is_exported) == ("code", ("code",), True, False)
    assert kind.admin_path == "all-badges"
    assert kind.nested_under == {"consumer": "own-badges"}
    assert kind.foreign["consumer"].on_delete == "cascade"
    assert kind.unique == ("code",)


def test_credentials_that_the_gateway_has_are_the_gateways(written_plugin: Write) -> None:
    fields = "fields = { { id = typedefs.uuid }, { group = { type = 'string' } } } "
    written_plugin(daos=entity(fields + ", dao = 'kong.plugins.acl.acls'").replace('"notes"', '"acls"'))
    kinds = load_catalog(["written"]).entity_types
    assert kinds["acls"] is ENTITY_TYPES["acls"]
    own = fields.replace("group", "color")
    assert faults_of(written_plugin, entity(own).replace('"notes"', '"acls"')) == [
        "plugin 'written': entity 'acls' is the gateway's, which has no field 'color'"
    ]


def test_an_entity_is_completed_and_checked_by_its_schema(written_plugin: Write) -> None:
    written_plugin(daos=BADGES)
    kind = load_catalog(["written"]).entity_types["badges"]
    complete, faults = kind.examine(OWNER, now=1_700_000_000.0)
    assert faults == {}
    assert complete["level"] == 1
    assert complete["created_at"] == 1_700_000_000
    assert len(complete["code"]) == 32
    assert complete["service"] is None
    _, faults = kind.examine({"level": 10, "from": 1, "code": 5}, now=1.0)
    assert faults == {
        "level": "value should be between 1 and 9",
        "consumer": "required field missing",
        "code": "expected a string",
        "@entity": ["all or none of these fields must be set: 'from', 'till'"],
    }
    assert kind.examine(OWNER | {"level": 3}, now=1.0)[1] == {"@entity": ["there is no level 3"]}


def test_a_plugin_without_the_module_has_no_entities(written_plugin: Write) -> None:
    written_plugin()
    assert declarations(vm(), "written") == ()


def test_a_map_of_entities_is_refused(written_plugin: Write) -> None:
    assert faults_of(written_plugin, "return { notes = {} }") == [
        "custom plugin 'written' returned non-array daos definition table"
    ]


def test_every_fault_of_every_entity_is_told(written_plugin: Write) -> None:
    source = entity(
        'fields = { { id = typedefs.uuid }, { a = {} }, { b = { type = "map", keys = { type = "integer" }, '
        'values = { type = "string" } } } }, dao = "own.dao", colour = "red"'
    )
    faults = faults_of(written_plugin, source)
    prefix = "schema of custom plugin entity 'written.notes' is invalid: "
    assert sorted(faults) == [
        f"{prefix}a: missing type declaration",
        f"{prefix}b: Entities map keys must be strings.",
        f"{prefix}colour: unknown field",
        f"{prefix}dao: there is no module 'own.dao'",
    ]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ('fields = { { id = typedefs.uuid } }, endpoint_key = "name"', "endpoint_key: value must be a field name"),
        ('fields = { { id = { type = "string" } } }', "id: must be typedefs.uuid where it is the primary key"),
        (
            'fields = { { id = typedefs.uuid }, { to = { type = "foreign", reference = "nobodies" } } }',
            "schema refers to an invalid foreign entity: nobodies",
        ),
        ("", "fields: expected an array"),
    ],
)
def test_a_declaration_that_cannot_be_stored_is_refused(written_plugin: Write, body: str, text: str) -> None:
    assert text in "\n".join(faults_of(written_plugin, entity(body or "cache_key = {}")))


def test_another_primary_key_takes_the_place_of_the_id(written_plugin: Write) -> None:
    fields = '{ { title = { type = "string" } }, { part = { type = "integer" } } }'
    written_plugin(daos=f'return {{ {{ name = "notes", primary_key = {{ "title", "part" }}, fields = {fields} }} }}')
    kind = load_catalog(["written"]).entity_types["notes"]
    assert (kind.primary_key, kind.id_fields) == (("title", "part"), ())
    assert kind.own_key is not None
    assert kind.own_key.kinds == {"title": "string", "part": "integer"}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            'primary_key = { "nothing" }, fields = { { a = { type = "string" } } }',
            "primary_key: there is no field 'nothing'",
        ),
        (
            'primary_key = "a", fields = { { a = { type = "string" } } }',
            "primary_key: expected an array of field names",
        ),
        ("fields = { { id = typedefs.uuid } }", "primary_key: required field missing"),
        (
            'primary_key = { "a" }, fields = { { id = typedefs.uuid }, { a = { type = "string" } } }',
            "a field named id must be the primary key",
        ),
        (
            'primary_key = { "a" }, fields = { { a = { type = "set", elements = { type = "string" } } } }',
            "primary_key: 'a' is of type set and cannot be a key",
        ),
        (
            'primary_key = { "a" }, '
            'fields = { { a = { type = "foreign", reference = "consumers", on_delete = "null" } } }',
            "primary_key: 'a' is part of the key and cannot become null on delete",
        ),
        (
            'primary_key = { "id" }, cache_key = { "b" }, '
            'fields = { { id = typedefs.uuid }, { b = { type = "string" } } }',
            "cache_key: a field used as a single cache key must be unique",
        ),
        (
            'primary_key = { "id" }, cache_key = { "c" }, fields = { { id = typedefs.uuid } }',
            "values must be field names",
        ),
        (
            'primary_key = { "id" }, ttl = true, fields = { { id = typedefs.uuid }, { ttl = { type = "integer" } } }',
            "ttl: ttl is a reserved field name when ttl is enabled",
        ),
        (
            'primary_key = { "id" }, fields = { { id = typedefs.uuid }, { a = { type = "string", nilable = true } } }',
            "a: Entities cannot have nilable types.",
        ),
        (
            'primary_key = { "id" }, subschema_key = "a", fields = { { id = typedefs.uuid } }',
            "subschema_key: not supported",
        ),
    ],
)
def test_what_a_key_cannot_be_is_told(written_plugin: Write, body: str, text: str) -> None:
    head = 'local typedefs = require "kong.db.schema.typedefs" return { { name = "notes", '
    assert text in "\n".join(faults_of(written_plugin, head + body + " } }"))


def test_strategies_hold_sql_and_are_refused(written_plugin: Write) -> None:
    fault = faults_of(
        lambda **modules: written_plugin(strategies__postgres__notes="return {}", **modules),
        entity("fields = { { id = typedefs.uuid } }"),
    )[0]
    assert (
        "strategies: kong.plugins.written.strategies.postgres.notes cannot be used: SQL of plugins is not run" in fault
    )


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("return 1", "dao: module 'kong.plugins.written.notes_dao' must return a table of functions"),
        ("return {", "dao: error loading module 'kong.plugins.written.notes_dao'"),
        ("return { cache_key = function() end }", "dao: cache_key cannot be replaced: what is forgotten"),
    ],
)
def test_what_functions_of_the_plugin_cannot_be_is_told(written_plugin: Write, source: str, text: str) -> None:
    daos = entity('fields = { { id = typedefs.uuid } }, dao = "kong.plugins.written.notes_dao"')
    written_plugin(notes_dao=source)
    assert text in faults_of(written_plugin, daos)[0]


def test_functions_of_the_plugin_s_own_are_found_at_load(written_plugin: Write) -> None:
    written_plugin(
        daos=entity('fields = { { id = typedefs.uuid } }, dao = "kong.plugins.written.notes_dao"'),
        notes_dao="return {}",
    )
    load_catalog(["written"])
    assert own_daos(vm(), "written") == {"notes": "kong.plugins.written.notes_dao"}
