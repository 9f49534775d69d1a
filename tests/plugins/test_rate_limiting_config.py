"""The configuration of rate-limiting: what is refused, with the texts that clients parse, and the older flat fields."""

from typing import Any

import pytest

from headgate.errors import SchemaViolation
from headgate.plugins.rate_limiting.config import Config, number_text
from headgate.schema import validate


def faults(config: dict[str, Any]) -> dict[str, Any]:
    with pytest.raises(SchemaViolation) as caught:
        validate(Config, config)
    fields: dict[str, Any] = caught.value.fields
    return fields


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (
            {"hour": 10, "minute": 20},
            "The limit for hour(10.0) cannot be lower than the limit for minute(20.0)",
        ),
        ({"year": 1, "second": 1.5}, "The limit for year(1.0) cannot be lower than the limit for second(1.5)"),
        ({"minute": 1, "sync_rate": 1}, "sync_rate can only be used with the redis policy"),
        (
            {"minute": 1, "policy": "redis", "redis": {"host": "r"}, "sync_rate": 0.01},
            "sync_rate must be greater than 0.02, or -1 to disable",
        ),
    ],
)
def test_contradicting_values_are_refused(config: dict[str, Any], text: str) -> None:
    assert text in str(faults(config))


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"minute": 0}, "minute"),
        ({"minute": "1"}, "minute"),
        ({"minute": 1, "policy": "cluster"}, "policy"),
        ({"minute": 1, "limit_by": "path", "path": "no-slash"}, "path"),
        ({"minute": 1, "limit_by": "path", "path": "/a//b"}, "path"),
        ({"minute": 1, "error_code": 0}, "error_code"),
    ],
)
def test_a_wrong_value_is_told_at_its_field(config: dict[str, Any], field: str) -> None:
    assert field in faults(config)


def test_older_flat_fields_fill_the_redis_record() -> None:
    config = validate(Config, {"minute": 1, "policy": "redis", "redis_host": "redis.example", "redis_port": 7000})
    assert (config.redis.host, config.redis.port) == ("redis.example", 7000)


def test_equal_limits_are_in_order() -> None:
    config = validate(Config, {"second": 5, "minute": 5, "year": 5})
    assert config.period_names == ("second", "minute", "year")
    assert config.amounts == (5, 5, 5)


@pytest.mark.parametrize(("number", "text"), [(3, "3"), (3.0, "3"), (2.5, "2.5"), (0, "0")])
def test_numbers_print_without_needless_decimals(number: float, text: str) -> None:
    assert number_text(number) == text
