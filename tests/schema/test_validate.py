"""Checks of data against models: values, texts, positions, defaults."""

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.errors import SchemaViolation
from headgate.schema import (
    Deprecation,
    Pattern,
    PluginConfig,
    Record,
    checks,
    examine,
    field,
    plain,
    shorthand,
    types,
    validate,
)


class Redis(Record):
    host: types.Host | None = None
    port: types.Port | None = 6379
    password: str | None = field(None, len_min=0, referenceable=True)


class Rule(Record):
    entity_checks = (checks.at_least_one_of("ip", "port"),)
    ip: types.Ip | None = None
    port: types.Port | None = None


class Config(PluginConfig):
    entity_checks = (checks.at_least_one_of("config.minute", "config.hour"),)
    shorthand_fields = (
        shorthand("redis_host", str, replaced_with=("redis", "host"), message="old", removal_in_version="4.0"),
        shorthand("per_hour", float, function=lambda value: {"hour": value}),
    )

    minute: float | None = field(None, gt=0)
    hour: float | None = None
    policy: Literal["local", "redis"] | None = "local"
    names: list[str] = field(default_factory=lambda: ["apikey"])
    tags: list[str] | None = field(None, set_=True)
    headers: dict[str, str] | None = None
    count: int = 3
    redis: Redis = field(default_factory=Redis)
    rules: list[Rule] | None = None
    secret: str | None = field(None, one_of=("a", "b"), referenceable=True)


def faults(data: dict[str, Any], model: type[Record] = Config) -> dict[str, Any]:
    with pytest.raises(SchemaViolation) as caught:
        validate(model, data, prefix="config")
    return caught.value.fields


def test_missing_fields_get_their_defaults_and_nested_records_are_expanded() -> None:
    config = validate(Config, {"minute": 5})
    assert plain(config) == {
        "minute": 5,
        "hour": None,
        "policy": "local",
        "names": ["apikey"],
        "tags": None,
        "headers": None,
        "count": 3,
        "redis": {"host": None, "port": 6379, "password": None},
        "rules": None,
        "secret": None,
    }


def test_explicit_null_stays_null_although_there_is_a_default() -> None:
    config = validate(Config, {"minute": 1, "policy": None, "redis": {"port": None}})
    assert config.policy is None
    assert config.redis.port is None


def test_instances_are_frozen() -> None:
    config = validate(Config, {"minute": 1})
    with pytest.raises(ValueError, match="frozen"):
        config.minute = 2


def test_defaults_are_not_shared_between_instances() -> None:
    assert validate(Config, {"minute": 1}).names is not validate(Config, {"minute": 1}).names


def test_all_faults_are_told_at_once() -> None:
    assert faults({"minute": "1", "foo": 1, "count": None, "redis": {"port": 99999, "x": 1}, "policy": "z"}) == {
        "config": {
            "minute": "expected a number",
            "foo": "unknown field",
            "count": "required field missing",
            "redis": {"port": "value should be between 0 and 65535", "x": "unknown field"},
            "policy": "expected one of: local, redis",
        }
    }


def test_list_faults_stand_at_their_position() -> None:
    assert faults({"minute": 1, "names": ["a", 1, ""]}) == {
        "config": {"names": [None, "expected a string", "length must be at least 1"]}
    }


def test_map_fault_is_one_text() -> None:
    assert faults({"minute": 1, "headers": {"a": "b", "c": 1, "d": 2}}) == {"config": {"headers": "expected a string"}}


def test_faults_of_two_map_values_are_not_mixed() -> None:
    class Headers(Record):
        headers: dict[str, list[str]]

    assert faults({"headers": {"a": ["x", 1], "b": [2, 3]}}, Headers) == {
        "config": {"headers": [None, "expected a string"]}
    }


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("minute", "1", "expected a number"),
        ("minute", True, "expected a number"),
        ("minute", float("nan"), "expected a number"),
        ("minute", 0, "value must be greater than 0"),
        ("count", 2.5, "expected an integer"),
        ("count", "3", "expected an integer"),
        ("policy", 5, "expected a string"),
        ("names", "a", "expected an array"),
        ("names", {"a": 1}, "expected an array"),
        ("tags", 5, "expected a set"),
        ("headers", ["a"], "expected a map"),
        ("redis", "a", "expected a record"),
        ("redis", None, "required field missing"),
        ("secret", "", "expected one of: a, b"),
    ],
)
def test_wrong_value_gets_the_text_of_its_type_or_check(name: str, value: Any, text: str) -> None:
    assert faults({"hour": 1, name: value}) == {"config": {name: text}}


def test_integer_accepts_a_number_without_fraction_and_keeps_it_whole() -> None:
    config = validate(Config, {"minute": 5.0, "count": 4.0})
    assert (config.minute, config.count) == (5, 4)
    assert isinstance(config.minute, int)


def test_set_drops_duplicates_and_keeps_the_first_order() -> None:
    assert validate(Config, {"minute": 1, "tags": ["b", "a", "b"]}).tags == ["b", "a"]


def test_empty_object_is_an_empty_list_and_the_reverse() -> None:
    config = validate(Config, {"minute": 1, "names": {}, "headers": [], "redis": []})
    assert (config.names, config.headers, config.redis.port) == ([], {}, 6379)


def test_vault_reference_skips_the_checks_of_a_referenceable_field() -> None:
    assert validate(Config, {"minute": 1, "secret": "{vault://env/x}"}).secret == "{vault://env/x}"
    assert faults({"minute": 1, "policy": "{vault://env/x}"}) == {"config": {"policy": "expected one of: local, redis"}}


def test_entity_check_stands_beside_the_prefix_and_runs_although_fields_are_faulty() -> None:
    text = "at least one of these fields must be non-empty: 'config.minute', 'config.hour'"
    assert faults({}) == {"@entity": [text]}
    assert faults({"count": "x"}) == {"@entity": [text], "config": {"count": "expected an integer"}}


def test_entity_check_of_a_record_in_a_list_stands_in_that_record() -> None:
    text = "at least one of these fields must be non-empty: 'ip', 'port'"
    assert faults({"minute": 1, "rules": [{"port": 1}, {}]}) == {"config": {"rules": [None, {"@entity": [text]}]}}


def test_deprecated_shorthand_fills_the_new_field_and_warns(caplog: pytest.LogCaptureFixture) -> None:
    assert validate(Config, {"minute": 1, "redis_host": "a"}).redis.host == "a"
    assert "old (deprecated after 4.0)" in caplog.text


def test_deprecated_shorthand_and_new_field_must_agree() -> None:
    assert validate(Config, {"minute": 1, "redis_host": "a", "redis": {"host": "a"}}).redis.host == "a"
    assert faults({"minute": 1, "redis_host": "a", "redis": {"host": "b"}}) == {
        "config": {
            "redis_host": "both deprecated and new field are used but their values mismatch: "
            "redis_host = a vs redis.host = b"
        }
    }


def test_deprecated_field_works_and_warns_unless_it_has_its_old_default(caplog: pytest.LogCaptureFixture) -> None:
    class Inner(Record):
        queue_size: int = field(1, deprecation=Deprecation("inner: use queue", old_default=1))

    class Outer(PluginConfig):
        retry_count: int | None = field(
            None, deprecation=Deprecation("outer: no longer works", removal_in_version="4.0", old_default=10)
        )
        inner: Inner = field(default_factory=Inner)
        by_name: dict[str, Inner] = field(default_factory=dict)

    assert validate(Outer, {}).retry_count is None
    validate(Outer, {"retry_count": 10, "inner": {"queue_size": 1}})
    validate(Outer, {"retry_count": 3}, is_stored=True)
    assert caplog.messages == []
    assert validate(Outer, {"retry_count": 3, "inner": {"queue_size": 2}}).retry_count == 3
    assert caplog.messages == ["outer: no longer works (deprecated after 4.0)", "inner: use queue"]
    caplog.clear()
    validate(Outer, {"by_name": {"a": {"queue_size": 5}}})
    assert caplog.messages == ["inner: use queue"]


def test_shorthand_warns_unless_it_has_its_old_default(caplog: pytest.LogCaptureFixture) -> None:
    class Model(PluginConfig):
        shorthand_fields = (shorthand("old", int, replaced_with=("new",), message="old is old", old_default=7),)
        new: int | None = None

    assert validate(Model, {"old": 7}).new == 7
    assert caplog.messages == []
    validate(Model, {"old": 8})
    assert caplog.messages == ["old is old"]


def test_shorthand_that_is_translated_backwards_must_agree_too() -> None:
    class Model(PluginConfig):
        shorthand_fields = (
            shorthand(
                "host", str, function=lambda value: {"redis": {"host": value}}, translate_backwards=("redis", "host")
            ),
            shorthand(
                "seconds",
                float,
                replaced_with=("milliseconds",),
                message="use milliseconds",
                function=lambda value: {"milliseconds": value * 1000},
                translate_backwards=lambda record: record["milliseconds"] / 1000,
            ),
        )
        redis: Redis = field(default_factory=Redis)
        milliseconds: float | None = None

    assert validate(Model, {"host": "a", "redis": {"host": "a"}}).redis.host == "a"
    mismatch = "both deprecated and new field are used but their values mismatch: "
    assert faults({"host": "a", "redis": {"host": "b"}}, Model) == {
        "config": {"host": f"{mismatch}host = a vs redis.host = b"}
    }
    assert validate(Model, {"seconds": 2, "milliseconds": 2000}).milliseconds == 2000
    assert faults({"seconds": 3, "milliseconds": 2000}, Model) == {
        "config": {"seconds": f"{mismatch}seconds = 3 vs milliseconds = 2"}
    }


def test_shorthands_of_records_in_a_map_are_expanded_and_checked() -> None:
    class Member(Record):
        shorthand_fields = (shorthand("address", str, replaced_with=("host",)),)
        host: str | None = None

    class Model(PluginConfig):
        members: dict[str, Member]

    assert validate(Model, {"members": {"a": {"address": "x"}}}).members["a"].host == "x"
    assert faults({"members": {"a": {"address": 1}}}, Model) == {
        "config": {"members": {"address": "expected a string"}}
    }


def test_shorthand_without_deprecation_wins() -> None:
    assert validate(Config, {"per_hour": 5, "hour": 1}).hour == 5


def test_shorthand_value_is_checked_by_its_own_type() -> None:
    assert faults({"minute": 1, "redis_host": 5}) == {"config": {"redis_host": "expected a string"}}


def test_record_validator_puts_its_text_on_the_whole_record() -> None:
    class Ordered(PluginConfig):
        record_validator = lambda config: "out of order" if config["a"] > config["b"] else None  # noqa: E731
        a: int = 1
        b: int = 2

    assert faults({"a": 3}, Ordered) == {"config": "out of order"}
    assert faults({"a": "x"}, Ordered) == {"config": {"a": "expected an integer"}}


def test_err_replaces_the_text_of_checks_but_not_of_types() -> None:
    class Named(Record):
        path: str = field(match="^[a-z]+$", err="not a valid filename")

    assert faults({"path": "A"}, Named) == {"config": {"path": "not a valid filename"}}
    assert faults({"path": 1}, Named) == {"config": {"path": "expected a string"}}
    assert faults({}, Named) == {"config": {"path": "required field missing"}}


def test_field_attributes_add_to_those_of_a_shared_type() -> None:
    class Ports(Record):
        port: types.Port | None = field(None, gt=1023)

    assert faults({"port": 80}, Ports) == {"config": {"port": "value must be greater than 1023"}}
    assert faults({"port": 70000}, Ports) == {"config": {"port": "value should be between 0 and 65535"}}


def test_published_name_may_differ_from_the_attribute() -> None:
    class Odd(Record):
        thumbprint: str | None = field(None, name="x5t#S256")

    odd = validate(Odd, {"x5t#S256": "a"})
    assert odd.thumbprint == "a"
    assert plain(odd) == {"x5t#S256": "a"}
    assert faults({"thumbprint": "a"}, Odd) == {"config": {"thumbprint": "unknown field"}}


def test_pattern_lists_give_the_text_of_the_failing_pattern() -> None:
    class Patterns(Record):
        value: str = field(
            match_none=(Pattern("//", err="empty segment"),), match_any=((Pattern("^/"), Pattern("^~")), "bad start")
        )

    assert faults({"value": "/a//"}, Patterns) == {"config": {"value": "empty segment"}}
    assert faults({"value": "a"}, Patterns) == {"config": {"value": "bad start"}}


def test_length_counts_bytes() -> None:
    class Short(Record):
        text: str = field(len_max=3)

    assert faults({"text": "äö"}, Short) == {"config": {"text": "length must be at most 3"}}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*Config.model_fields, "redis_host", "per_hour", "zzz"]), json_values))
def test_any_input_is_accepted_or_has_an_error_tree(data: dict[str, Any]) -> None:
    outcome = examine(Config, data)
    assert (outcome.instance is None) == bool(outcome.errors)
    if not outcome.errors:
        assert examine(Config, outcome.data).data == outcome.data
