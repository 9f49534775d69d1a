"""Upstreams and targets: hash rules, the choice of the algorithm, normalised addresses."""

from typing import Any

import pytest

from headgate.entities.registry import ENTITY_TYPES


def upstream(**given: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return ENTITY_TYPES["upstreams"].examine({"name": "u", **given}, now=1)


@pytest.mark.parametrize(
    ("given", "algorithm", "hash_on"),
    [
        ({}, "round-robin", "none"),
        ({"hash_on": "ip"}, "consistent-hashing", "ip"),
        ({"hash_on": "none", "algorithm": "consistent-hashing"}, "round-robin", "none"),
        ({"algorithm": "least-connections", "hash_on": "ip"}, "least-connections", "none"),
        ({"algorithm": "latency"}, "latency", "none"),
        (
            {"algorithm": "sticky-sessions", "sticky_sessions_cookie": "c", "hash_on": "ip"},
            "sticky-sessions",
            "none",
        ),
    ],
)
def test_algorithm_and_hash_input_follow_one_another(given: dict[str, Any], algorithm: str, hash_on: str) -> None:
    entity, errors = upstream(**given)
    assert errors == {}
    assert (entity["algorithm"], entity["hash_on"]) == (algorithm, hash_on)


def test_hash_input_needs_its_name() -> None:
    assert upstream(hash_on="header")[1]["hash_on_header"] == "required field missing"
    assert upstream(hash_on="header", hash_on_header="x")[1] == {}


def test_sticky_sessions_need_a_cookie() -> None:
    assert upstream(algorithm="sticky-sessions")[1]["sticky_sessions_cookie"] == "required field missing"


def test_circuit_breaking_is_off_by_default_and_bounded() -> None:
    entity, errors = upstream()
    assert errors == {}
    assert entity["circuit_breaking"]["max_connections"] is None
    assert entity["circuit_breaking"]["outlier_ejection"]["consecutive_failures"] == 0
    faults = upstream(circuit_breaking={"max_connections": 0, "outlier_ejection": {"max_ejected_percent": 101}})[1]
    assert faults["circuit_breaking"] == {
        "max_connections": "value should be between 1 and 1000000",
        "outlier_ejection": {"max_ejected_percent": "value should be between 0 and 100"},
    }


def test_fallback_must_differ() -> None:
    assert upstream(hash_on="ip", hash_fallback="ip")[1]["hash_fallback"].startswith("expected one of: none, consumer")
    assert upstream(hash_on="header", hash_on_header="x", hash_fallback="header", hash_fallback_header="x")[1] == {
        "@entity": ["values of these fields must be distinct: 'hash_on_header', 'hash_fallback_header'"]
    }


def test_healthchecks_are_merged_with_their_defaults() -> None:
    entity, _ = upstream(healthchecks={"active": {"healthy": {"interval": 5}}})
    assert entity["healthchecks"]["active"]["healthy"] == {"http_statuses": [200, 302], "successes": 0, "interval": 5}
    assert entity["healthchecks"]["passive"]["type"] == "http"


def test_target_is_stored_with_its_port() -> None:
    parent = {"upstream": {"id": "0855b320-0dd2-547d-891d-601e9b38647f"}}
    entity, errors = ENTITY_TYPES["targets"].examine({"target": "a", **parent}, now=1.2345)
    assert errors == {}
    assert (entity["target"], entity["weight"], entity["created_at"]) == ("a:8000", 100, 1.234)
    assert ENTITY_TYPES["targets"].examine({"target": "a b", **parent}, now=1)[1] == {
        "target": "Invalid target ('a b'); not a valid hostname or ip address"
    }
