"""`schema.lua` as a model: the checks, texts and published form of Kong's field attributes."""

from typing import Any

import pytest

from headgate.errors import PluginLoadError, SchemaViolation
from headgate.lua.patterns import python_pattern
from headgate.lua.schema import SchemaReader
from headgate.lua.vm import vm
from headgate.schema import plain, schema_json, validate, with_deprecated_fields


def model(fields: str, more: str = "") -> Any:
    source = f"""
        local typedefs = require "kong.db.schema.typedefs"
        return {{ name = "x", fields = {{
          {{ consumer = typedefs.no_consumer }},
          {{ protocols = typedefs.protocols_http }},
          {{ config = {{ type = "record", fields = {{ {fields} }} {more} }} }} }} }}"""
    return SchemaReader(vm()).config_model("x", vm().compile(source, "@schema.lua")())


def faults(of: Any, **config: Any) -> Any:
    with pytest.raises(SchemaViolation) as caught:
        validate(of, config, prefix="config")
    return caught.value.fields


def test_types_have_their_texts() -> None:
    typed = model(
        """{ s = { type = "string" } }, { n = { type = "number" } }, { i = { type = "integer" } },
        { b = { type = "boolean" } }, { a = { type = "array", elements = { type = "string" } } },
        { m = { type = "map", keys = { type = "string" }, values = { type = "integer" } } }"""
    )
    assert faults(typed, s=1, n="x", i=1.5, b="x", a=["x", 1], m={"k": "v"}) == {
        "config": {
            "s": "expected a string",
            "n": "expected a number",
            "i": "expected an integer",
            "b": "expected a boolean",
            "a": [None, "expected a string"],
            "m": "expected an integer",
        }
    }


def test_defaults_and_required_follow_the_schema() -> None:
    typed = model(
        """{ a = { type = "string", required = true } }, { b = { type = "integer", default = 3 } },
        { c = { type = "set", elements = { type = "string" }, default = { "x" } } },
        { r = { type = "record", fields = { { d = { type = "number", default = 0.5 } } } } }"""
    )
    assert faults(typed) == {"config": {"a": "required field missing"}}
    assert plain(validate(typed, {"a": "v"})) == {"a": "v", "b": 3, "c": ["x"], "r": {"d": 0.5}}


@pytest.mark.parametrize(
    ("attributes", "value", "text"),
    [
        ("between = { 1, 5 }, type = 'integer'", 9, "value should be between 1 and 5"),
        ("one_of = { 'a', 'b' }, type = 'string'", "c", "expected one of: a, b"),
        ("match = '^%d+$', type = 'string'", "x1", "invalid value: x1"),
        ("len_max = 2, type = 'string'", "abc", "length must be at most 2"),
        ("starts_with = '/', type = 'string'", "a", "should start with: /"),
        ("gt = 3, type = 'number'", 3, "value must be greater than 3"),
        ("type = 'string', match_none = { { pattern = '//', err = 'no slashes' } }", "a//b", "no slashes"),
        ("type = 'string', custom_validator = function(v) return nil, 'not ' .. v end", "x", "not x"),
        ("type = 'string', custom_validator = function(v) return false end", "x", "failed validating: x"),
        ("type = 'string', match = '^a', err = 'only a'", "b", "only a"),
    ],
)
def test_a_validator_has_its_text(attributes: str, value: Any, text: str) -> None:
    assert faults(model(f"{{ f = {{ {attributes} }} }}"), f=value) == {"config": {"f": text}}


def test_typedefs_bring_their_checks() -> None:
    typed = model("{ port = typedefs.port { default = 80 } }, { host = typedefs.host }, { url = typedefs.url }")
    assert plain(validate(typed, {}))["port"] == 80
    assert faults(typed, port=70000, host="a:1", url="x")["config"] == {
        "port": "value should be between 0 and 65535",
        "host": "must not have a port",
        "url": "missing host in url",
    }


def test_entity_checks_run_over_several_fields() -> None:
    typed = model(
        '{ a = { type = "string" } }, { b = { type = "string" } }',
        """, entity_checks = { { at_least_one_of = { "a", "b" } },
          { custom_entity_check = { field_sources = { "a" }, fn = function(e) return e.a ~= "bad", "is bad" end } },
          { conditional = { if_field = "a", if_match = { eq = "x" }, then_field = "b",
              then_match = { required = true } } } }""",
    )
    assert faults(typed) == {"config": {"@entity": ["at least one of these fields must be non-empty: 'a', 'b'"]}}
    assert faults(typed, a="bad") == {"config": {"@entity": ["is bad"]}}
    conditional = "failed conditional validation given value of field 'a'"
    assert faults(typed, a="x") == {"config": {"b": "required field missing", "@entity": [conditional]}}
    published = schema_json(typed)
    assert published["entity_checks"] == []
    assert published["fields"][-1]["config"]["entity_checks"][0] == {"at_least_one_of": ["a", "b"]}


def test_checks_beside_the_fields_have_paths_from_the_plugin() -> None:
    source = """return { name = "x", fields = { { config = { type = "record", fields = { { a = { type = "string" } },
        { r = { type = "record", fields = { { b = { type = "string" } } },
          entity_checks = { { at_least_one_of = { "b" } } } } } } } } },
        entity_checks = { { at_least_one_of = { "config.a" } } } }"""
    made = SchemaReader(vm()).config_model("x", vm().compile(source, "@schema.lua")())
    text = "at least one of these fields must be non-empty: "
    assert faults(made) == {"@entity": [f"{text}'config.a'"], "config": {"r": {"@entity": [f"{text}'b'"]}}}
    assert schema_json(made)["entity_checks"] == [{"at_least_one_of": ["config.a"]}]


def test_automatic_fields_of_a_configuration_fill_themselves() -> None:
    record = "{ type = 'record', fields = { { u = typedefs.uuid } } }"
    typed = model(
        f"""{{ u = typedefs.uuid }}, {{ s = {{ type = 'string', auto = true, required = true }} }},
        {{ c = typedefs.auto_timestamp_s }}, {{ m = typedefs.auto_timestamp_ms }}, {{ r = {record} }},
        {{ l = {{ type = 'array', elements = {record} }} }},
        {{ k = {{ type = 'map', keys = {{ type = 'string' }}, values = {record} }} }}"""
    )
    made = plain(validate(typed, {"l": [{}, {}], "k": {"a": {}}}))
    assert len(made["s"]) == 32
    assert made["c"] == int(made["m"]) or made["c"] + 1 == int(made["m"])
    identifiers = {made["u"], made["r"]["u"], *(one["u"] for one in made["l"]), made["k"]["a"]["u"]}
    assert len(identifiers) == 5
    assert all(len(identifier) == 36 for identifier in identifiers)
    assert plain(validate(typed, made)) == made
    assert faults(typed, s=None)["config"]["s"] == "required field missing"


def test_null_is_refused_by_what_a_value_must_be() -> None:
    typed = model("{ a = { type = 'number', ne = ngx.null } }, { b = { type = 'number', eq = 5 } }")
    assert faults(typed, a=None, b=None) == {"config": {"a": "value must not be null", "b": "value must be 5"}}
    assert plain(validate(typed, {"a": 1, "b": 5})) == {"a": 1, "b": 5}


def test_a_shorthand_is_translated_by_its_function() -> None:
    typed = model(
        '{ new = { type = "string" } }',
        """, shorthand_fields = { { old = { type = "string", func = function(v) return { new = v .. "!" } end } } }""",
    )
    assert plain(validate(typed, {"old": "hello"})) == {"new": "hello!"}


def test_the_published_form_is_that_of_the_schema() -> None:
    typed = model('{ f = { type = "string", match = "^%d+$", default = "1", description = "A number as text." } }')
    published = schema_json(typed)
    assert published["fields"][0] == {"consumer": {"type": "foreign", "reference": "consumers", "eq": None}}
    assert published["fields"][-1]["config"]["fields"] == [
        {"f": {"type": "string", "match": "^%d+$", "default": "1", "description": "A number as text."}}
    ]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ("{ f = { } }", "config.f: missing type declaration"),
        ("{ f = { type = 'strin' } }", "config.f: expected one of: string"),
        ("{ f = { type = 'array' } }", "config.f: field of type 'array' must declare 'elements'"),
        ("{ f = { type = 'boolean', between = { 1, 2 } } }", "field of type 'boolean' cannot have attribute 'between'"),
        ("{ f = { type = 'string', requierd = true } }", "config.f: requierd: unknown field"),
        ("{ f = { type = 'string' }, g = { type = 'string' } }", "length must be 1"),
        ("{ f = { type = 'string', required = 'yes' } }", "config.f: required: expected a boolean"),
        ("{ f = { type = 'string', len_min = '1' } }", "config.f: len_min: expected a number"),
        ("{ f = { type = 'string', match = 1 } }", "config.f: match: expected a string"),
        ("{ f = { type = 'string', one_of = 'a' } }", "config.f: one_of: expected an array"),
        ("{ f = { type = 'string', custom_validator = {} } }", "config.f: custom_validator: expected a function"),
        ("{ f = { type = 'number', between = { 1 } } }", "config.f: between: length must be 2"),
        ("{ f = { type = 'string', description = 'short' } }", "config.f: description: length must be at least 10"),
        ("{ f = { type = 'string', nilable = true } }", "config.f: Entities cannot have nilable types."),
        ("{ f = { type = 'function' } }", "config.f: Entities cannot have function types."),
        ("{ f = { type = 'foreign' } }", "config.f: field of type 'foreign' must declare 'reference'"),
        (
            "{ f = { type = 'foreign', reference = 'services', on_delete = 'forget' } }",
            "config.f: on_delete: expected one of: restrict, cascade, null",
        ),
        (
            "{ f = { type = 'string', unique_across_ws = true } }",
            "config.f: failed conditional validation given value of field 'unique_across_ws'",
        ),
    ],
)
def test_a_fault_of_the_definition_is_told_at_load(fields: str, text: str) -> None:
    with pytest.raises(PluginLoadError) as caught:
        model(fields)
    assert any(text in fault for fault in caught.value.faults)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (
            "entity_checks = { { conditional = { if_field = 'a' } } }",
            "config: entity_checks: conditional: if_match: required field missing",
        ),
        (
            "entity_checks = { { custom_entity_check = { field_sources = { 'a' } } } }",
            "config: entity_checks: custom_entity_check: fn: required field missing",
        ),
        ("entity_checks = { { all_of = { 'a' } } }", "config: entity_checks: all_of: unknown entity check"),
        ("entity_checks = { 'a' }", "config: entity_checks: 1: expected a record"),
        ("shorthand_fields = { { old = { type = 'string' } } }", "config.old: func: required field missing"),
        (
            "shorthand_fields = { { old = { type = 'record', fields = {}, func = print } } }",
            "config.old: type: expected one of: string, number, integer, boolean, array, set, map, json",
        ),
    ],
)
def test_a_fault_beside_the_fields_is_told_at_load(more: str, text: str) -> None:
    with pytest.raises(PluginLoadError) as caught:
        model("{ a = { type = 'string' } }", f", {more}")
    assert any(text in fault for fault in caught.value.faults), caught.value.faults


@pytest.mark.parametrize(
    ("top", "text"),
    [
        ("fields = { { consumer = { type = 'string' } } }", "consumer: cannot change type in a specialized field"),
        ("fields = { { protocols = { type = 'string' } } }", "protocols: cannot change type in a specialized field"),
        (
            "fields = { { colour = { type = 'string' } } }",
            "error in definition of 'x': colour: cannot create a new field",
        ),
        ("fields = { config = { type = 'record' } }", "fields: expected an array"),
        ("fields = {}, colour = 'red'", "colour: unknown field"),
        ("fields = {}, shorthand_fields = {}", "shorthand_fields: only those of records in config are supported"),
        (
            "fields = {}, transformations = { { input = { 'config.a' }, on_write = print }, "
            "{ input = { 'colour' }, on_write = print } }",
            "transformations: invalid field name: colour",
        ),
    ],
)
def test_a_fault_of_the_whole_schema_is_told_at_load(top: str, text: str) -> None:
    with pytest.raises(PluginLoadError) as caught:
        SchemaReader(vm()).config_model("x", vm().compile(f"return {{ name = 'x', {top} }}", "@schema.lua")())
    assert any(text in fault for fault in caught.value.faults), caught.value.faults


def test_a_shorthand_whose_function_raises_is_a_fault_of_the_value() -> None:
    made = model(
        "{ a = { type = 'string' } }",
        ", shorthand_fields = { { old = { type = 'string', func = function() error('not like this', 0) end } } }",
    )
    assert faults(made, old="x") == {"config": {"old": "not like this"}}


@pytest.mark.parametrize(
    ("typedef", "value", "text"),
    [
        ("hosts", ["*.a.*"], ["invalid wildcard: must have at most one wildcard"]),
        ("hosts", ["a*b"], ["invalid wildcard: must be placed at leftmost or rightmost label"]),
        ("router_path", "x", "should start with: / (fixed path) or ~/ (regex path)"),
        ("router_path", "/a/../b", "non-normalized path, consider use '/b' instead"),
        ("router_paths", ["/a//b"], ["must not have empty segments"]),
        ("no_methods", ["GET"], "value must be null"),
        ("no_paths", ["/"], "value must be null"),
        ("no_sources", [{"ip": "127.0.0.1"}], "value must be null"),
        ("jwk", {"kid": "1", "kty": "RSA"}, "could not load JWK, likely not a valid key"),
        ("pem", {"public_key": "x"}, "could not load public key"),
        (
            "propagation",
            {"default_format": "none"},
            {"default_format": "expected one of: ot, w3c, datadog, b3, b3-single, gcp, jaeger, aws, instana"},
        ),
    ],
)
def test_typedefs_of_routes_and_keys_bring_their_checks(typedef: str, value: Any, text: Any) -> None:
    assert faults(model(f"{{ f = typedefs.{typedef} }}"), f=value) == {"config": {"f": text}}


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("^%a[%w_]*$", "a_1", "1a"),
        ("^[^%s]+$", "ab", "a b"),
        ("a.-b", "axxb", "ba"),
        ("^%-?%d+$", "-12", "--1"),
        ("[]]", "]", "["),
        ("^(%a)%1$", "aa", "ab"),
        ("%f[%a]x", "1x", "ax"),
    ],
)
def test_a_lua_pattern_decides_as_in_lua(pattern: str, matching: str, other: str) -> None:
    import re

    find = vm().globals["string"]["find"]
    for text in (matching, other):
        assert bool(re.search(python_pattern(pattern), text)) == bool(find(text, pattern))
    assert re.search(python_pattern(pattern), matching)


def test_deprecated_fields_and_shorthands_that_are_shown_again(caplog: pytest.LogCaptureFixture) -> None:
    made = model(
        """{ retry = { type = "integer", default = 10,
             deprecation = { message = "no longer works", removal_in_version = "4.0", old_default = 10 } } },
        { redis = { type = "record", fields = { { host = { type = "string" } } } } }, { ms = { type = "number" } }""",
        """, shorthand_fields = {
        { host = { type = "string", translate_backwards = { "redis", "host" },
          func = function(value) return { redis = { host = value } } end } },
        { seconds = { type = "number", func = function(value) return { ms = value * 1000 } end,
          deprecation = { message = "use ms", replaced_with = { { path = { "ms" },
            reverse_mapping_function = function(config) return config.ms and config.ms / 1000 end } } } } } }""",
    )
    stored = plain(validate(made, {"host": "a", "seconds": 2}))
    assert stored == {"retry": 10, "redis": {"host": "a"}, "ms": 2000}
    assert with_deprecated_fields(made, stored) == {**stored, "host": "a", "seconds": 2}
    validate(made, {"retry": 3})
    assert caplog.messages == ["use ms", "no longer works (deprecated after 4.0)"]
    mismatch = "both deprecated and new field are used but their values mismatch: "
    assert faults(made, seconds=3, ms=2000) == {"config": {"seconds": f"{mismatch}seconds = 3 vs ms = 2"}}
    assert faults(made, host="a", redis={"host": "b"}) == {"config": {"host": f"{mismatch}host = a vs redis.host = b"}}


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        ('nil, "not so"', {"@entity": ["not so"]}),
        (
            'nil, { config = { a = "not this" }, "in general" }',
            {"config": {"a": "not this"}, "@entity": ["in general"]},
        ),
        ("false", {"@entity": ["entity check failed"]}),
    ],
)
def test_the_schemas_own_check_sees_the_configuration(returned: str, told: dict[str, Any]) -> None:
    source = f"""return {{ name = "x",
        fields = {{ {{ config = {{ type = "record", fields = {{ {{ a = {{ type = "string" }} }} }} }} }} }},
        check = function(entity) if entity.config.a == "bad" then return {returned} end return true end }}"""
    made = SchemaReader(vm()).config_model("x", vm().compile(source, "@schema.lua")())
    assert validate(made, {"a": "good"}).a == "good"
    assert faults(made, a="bad") == told
