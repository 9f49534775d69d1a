"""Published schemas against recorded samples of the contract."""

import json
from pathlib import Path
from typing import Any

from headgate.schema import (
    ALL_PROTOCOLS,
    Deprecation,
    PluginConfig,
    Record,
    checks,
    field,
    schema_json,
    shorthand,
    types,
    with_deprecated_fields,
)

DATA = Path(__file__).parent / "data"


def sample(name: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text())
    return body


def test_scope_restriction_and_lists() -> None:
    class Config(PluginConfig):
        no_consumer = True
        entity_checks = (
            checks.only_one_of("config.allow", "config.deny"),
            checks.at_least_one_of("config.allow", "config.deny"),
        )
        allow: list[str] | None = None
        deny: list[str] | None = None
        hide_groups_header: bool = False
        always_use_authenticated_groups: bool = False

    assert schema_json(Config) == sample("acl")


def test_protocols_patterns_and_maps() -> None:
    class Config(PluginConfig):
        protocols = ALL_PROTOCOLS
        path: str = field(match=r"^[^*&%\\`]+$", lua_pattern=r"^[^*&%%\`]+$", err="not a valid filename")
        reopen: bool = False
        custom_fields_by_lua: dict[str, str] | None = field(
            None, keys=field(schema_extra={"len_min": 1}), values=field(schema_extra={"len_min": 1})
        )

    assert schema_json(Config) == sample("file-log")


def test_shorthand_is_published_with_its_deprecation() -> None:
    class Redis(Record):
        host: types.Host | None = None

    class Config(PluginConfig):
        shorthand_fields = (
            shorthand(
                "redis_host",
                str,
                replaced_with=("redis", "host"),
                message="rate-limiting: config.redis_host is deprecated, please use config.redis.host instead",
                removal_in_version="4.0",
            ),
        )
        redis: Redis = field(default_factory=Redis)

    config = next(item["config"] for item in schema_json(Config)["fields"] if "config" in item)
    expected = next(item["config"] for item in sample("rate-limiting")["fields"] if "config" in item)
    assert config["shorthand_fields"] == expected["shorthand_fields"][:1]
    shown = with_deprecated_fields(Config, {"redis": {"host": "a"}})
    assert shown == {"redis": {"host": "a"}, "redis_host": "a"}


def test_deprecation_of_a_field_is_published() -> None:
    class Config(PluginConfig):
        retry_count: int | None = field(
            None,
            examples=[3],
            deprecation=Deprecation("x: no longer works", removal_in_version="4.0", old_default=10),
        )

    config = next(item["config"] for item in schema_json(Config)["fields"] if "config" in item)
    assert config["fields"] == [
        {
            "retry_count": {
                "type": "integer",
                "examples": [3],
                "deprecation": {"message": "x: no longer works", "removal_in_version": "4.0", "old_default": 10},
            }
        }
    ]


def test_answers_show_what_a_shorthand_stands_for() -> None:
    class Config(PluginConfig):
        shorthand_fields = (
            shorthand("old", int, function=lambda value: {"new": value}, translate_backwards=("new",)),
            shorthand(
                "seconds",
                float,
                function=lambda value: {"milliseconds": value * 1000},
                translate_backwards=lambda record: record["milliseconds"] / 1000,
            ),
            shorthand("hidden", int, replaced_with=("new",)),
        )
        new: int | None = None
        milliseconds: float = 5000

    assert with_deprecated_fields(Config, {"new": 3, "milliseconds": 4000}) == {
        "new": 3,
        "milliseconds": 4000,
        "old": 3,
        "seconds": 4,
    }


def test_nested_records_and_element_patterns() -> None:
    class Entries(Record):
        body: list[str] = field(default_factory=list)
        headers: list[str] = field(default_factory=list, elements=field(match="^[^:]+:.*$"))
        querystring: list[str] = field(default_factory=list)

    class Config(PluginConfig):
        add: Entries = field(default_factory=Entries)

    fields = next(item["config"] for item in schema_json(Config)["fields"] if "config" in item)["fields"]
    expected = next(item["config"] for item in sample("request-transformer")["fields"] if "config" in item)["fields"]
    assert fields[0] == next(item for item in expected if "add" in item)
