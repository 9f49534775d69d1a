"""`transformations`, `transient` and `json` fields of Lua schemas."""

from typing import Any

import pytest

from headgate.entities.entity_type import EntityType
from headgate.errors import EntityError, PluginLoadError
from headgate.policy.catalog import load_catalog
from headgate.schema import schema_json, validate
from headgate.schema.stored import incomplete, read, without_transient, written
from headgate.store.input import merged
from tests.lua.conftest import Write

CONFIG = """
return { name = "written",
  fields = { { config = { type = "record", fields = {
    { password = { type = "string", transient = true } },
    { salt = { type = "string" } },
    { digest = { type = "string" } },
    { shown = { type = "string" } },
    { rules = { type = "json", json_schema = { inline = { type = "object", required = { "rate" } } } } },
  } } } },
  transformations = {
    { input = { "config.password" }, needs = { "config.salt" },
      on_write = function(password, salt)
        if password == "123" then return nil, "too short a password" end
        return { config = { digest = salt .. password:reverse() } }
      end },
    { on_read = function(entity) return { config = { shown = (entity.config.digest or ""):upper() } } end },
  } }
"""
ENTITY = """
local typedefs = require "kong.db.schema.typedefs"
return { { name = "secrets", primary_key = { "id" },
  fields = { { id = typedefs.uuid },
    { plain = { type = "string", transient = true } }, { hash = { type = "string" } } },
  transformations = { { input = { "plain" }, on_write = function(plain) return { hash = ngx.md5(plain) } end } },
} }
"""


def model_of(write: Write, **modules: str) -> Any:
    write(**modules)
    return load_catalog(["written"])["written"].config_model


def test_fields_become_what_the_functions_return(written_plugin: Write) -> None:
    model = model_of(written_plugin, schema=CONFIG)
    given = {"config": {"password": "abc", "salt": "x"}}
    stored = written(model, given, given)
    assert stored["config"]["digest"] == "xcba"
    assert without_transient(model, stored["config"]) == {"salt": "x", "digest": "xcba"}
    assert read(model, stored)["config"]["shown"] == "XCBA"


def test_a_function_that_returns_an_error_refuses(written_plugin: Write) -> None:
    model = model_of(written_plugin, schema=CONFIG)
    given = {"config": {"password": "123", "salt": "x"}}
    with pytest.raises(EntityError, match="transformation failed: too short a password"):
        written(model, given, given)


def test_inputs_come_together_or_not_at_all(written_plugin: Write) -> None:
    model = model_of(written_plugin, schema=CONFIG)
    assert list(incomplete(model, {"config": {"password": "abc"}})) == [
        "all or none of these fields must be set: 'config.password', 'config.salt'"
    ]
    assert list(incomplete(model, {"config": {}})) == []


def test_a_json_field_is_checked_by_its_schema(written_plugin: Write) -> None:
    model = model_of(written_plugin, schema=CONFIG)
    assert validate(model, {"rules": {"rate": 1}}).rules == {"rate": 1}
    with pytest.raises(Exception, match="value failed JSON-schema validation: "):
        validate(model, {"rules": {}})
    listed = schema_json(model)["fields"][-1]["config"]["fields"]
    fields = {name: field for one in listed for name, field in one.items()}
    assert fields["rules"]["json_schema"] == {"inline": {"type": "object", "required": ["rate"]}}


def test_a_named_json_schema_is_found_by_another_field(written_plugin: Write) -> None:
    schema = """
    require("kong.db.schema.json").add_schema("limits/second", { type = "integer" })
    return { name = "written", fields = { { config = { type = "record", fields = {
      { kind = { type = "string" } },
      { value = { type = "json", json_schema = { namespace = "limits", parent_subschema_key = "kind" } } },
    } } } } }"""
    model = model_of(written_plugin, schema=schema)
    assert validate(model, {"kind": "second", "value": 5}).value == 5
    with pytest.raises(Exception, match="value failed JSON-schema validation: "):
        validate(model, {"kind": "second", "value": "five"})
    with pytest.raises(Exception, match="mandatory json schema for field"):
        validate(model, {"kind": "minute", "value": 5})


def test_entities_of_a_plugin_are_transformed_too(written_plugin: Write) -> None:
    written_plugin(daos=ENTITY)
    kind: EntityType = load_catalog(["written"]).entity_types["secrets"]
    entity, faults = kind.examine({"plain": "abc"}, now=1.0)
    assert faults == {}
    assert kind.transformed(entity, {"plain": "abc"})["hash"] == "900150983cd24fb0d6963f7d28e17f72"
    assert kind.transient == ("plain",)


@pytest.mark.parametrize(
    ("transformations", "text"),
    [
        ("{ on_write = print }", "transformations: expected an array"),
        ("{ {} }", "at least one of these fields must be non-empty: 'on_write', 'on_read'"),
        ("{ { on_write = 1 } }", "on_write: expected a function"),
        ("{ { on_write = print, input = 'a' } }", "input: expected an array of field names"),
        ("{ { on_write = print, colour = 1 } }", "colour: unknown field"),
        ("{ { on_write = print, input = { 'config.nobody' } } }", "invalid field name: config.nobody"),
    ],
)
def test_what_is_no_transformation_is_refused(written_plugin: Write, transformations: str, text: str) -> None:
    written_plugin(
        schema="return { name = 'written', fields = { { config = { type = 'record', fields = {} } } }, "
        f"transformations = {transformations} }}"
    )
    with pytest.raises(PluginLoadError, match=text):
        load_catalog(["written"])


SHORTHANDS = """
local typedefs = require "kong.db.schema.typedefs"
return { { name = "limits", primary_key = { "id" },
  fields = { { id = typedefs.uuid }, { ms = { type = "number" } },
    { redis = { type = "record", fields = {
      { host = { type = "string" } }, { port = { type = "integer", default = 1 } } } } },
  },
  shorthand_fields = {
    { seconds = { type = "number", func = function(value) return { ms = value * 1000 } end,
      deprecation = { message = "use ms", replaced_with = { { path = { "ms" },
        reverse_mapping_function = function(entity) return entity.ms and entity.ms / 1000 end } } } } },
    { host = { type = "string", translate_backwards = { "redis", "host" },
      func = function(value) return { redis = { host = value } } end } },
    { minutes = { type = "number", func = function(value) return { ms = value * 60000 } end } },
  },
} }
"""


def test_older_names_of_an_entity_are_taken_changed_by_and_shown_again(written_plugin: Write) -> None:
    written_plugin(daos=SHORTHANDS)
    kind = load_catalog(["written"]).entity_types["limits"]
    stored, errors = kind.examine({"seconds": 2, "host": "a"}, now=1.0)
    assert errors == {}
    assert (stored["ms"], stored["redis"]) == (2000, {"host": "a", "port": 1})
    shown = read(kind.model, stored)
    assert (shown["seconds"], shown["host"], "minutes" in shown) == (2, "a", False)
    for changes, ms, host in (
        ({"seconds": 3}, 3000, "a"),
        ({"ms": 4000}, 4000, "a"),
        ({"minutes": 1}, 60000, "a"),
        ({"host": "b"}, 2000, "b"),
        ({"redis": {"host": "c"}}, 2000, "c"),
        ({"host": "d", "redis": {"port": 5}}, 2000, "d"),
    ):
        merged_data = merged(kind, stored, changes, {})
        changed, errors = kind.examine(merged_data, now=1.0, is_update=True)
        assert errors == {}, changes
        assert (changed["ms"], changed["redis"]["host"]) == (ms, host), changes
    _, errors = kind.examine(merged(kind, stored, {"seconds": 3, "ms": 1}, {}), now=1.0, is_update=True)
    assert "both deprecated and new field are used" in errors["seconds"]
    _, errors = kind.examine(merged(kind, stored, {"seconds": "x"}, {}), now=1.0, is_update=True)
    assert errors == {"seconds": "expected a number"}
