"""How an upstream's health checks are read."""

from typing import Any

import pytest

from headgate.engine import Thresholds
from headgate.entities.registry import ENTITY_TYPES
from headgate.health.checks import Checks


def checks(**healthchecks: Any) -> Checks:
    entity, faults = ENTITY_TYPES["upstreams"].examine({"name": "u", "healthchecks": healthchecks}, now=1)
    assert faults == {}
    return Checks.of(entity, has_checker=True)


def test_nothing_is_probed_by_default() -> None:
    read = checks()
    assert not read.probing.is_on
    assert read.passive_thresholds == Thresholds(0, 0, 0, 0)
    assert read.threshold_percent == 0


def test_limits_and_statuses_are_those_of_the_entity() -> None:
    read = checks(
        threshold=20,
        passive={"healthy": {"successes": 1}, "unhealthy": {"http_failures": 2, "tcp_failures": 3, "timeouts": 4}},
        active={"healthy": {"interval": 1, "http_statuses": [204]}, "unhealthy": {"http_statuses": [500]}},
    )
    assert read.passive_thresholds == Thresholds(1, 2, 3, 4)
    assert read.threshold_percent == 20
    assert read.probing.is_on
    assert [read.probing.observation(status) for status in (204, 500, 200, 0)] == [
        "success",
        "http_failure",
        None,
        "http_failure",
    ]


@pytest.mark.parametrize(
    ("name", "is_tls", "is_grpc"),
    [
        ("tcp", False, False),
        ("http", False, False),
        ("https", True, False),
        ("grpc", False, True),
        ("grpcs", True, True),
    ],
)
def test_every_type_is_probed(name: str, is_tls: bool, is_grpc: bool) -> None:
    probing = checks(active={"type": name, "healthy": {"interval": 1}}).probing
    assert (probing.is_on, probing.is_tls, probing.is_grpc) == (True, is_tls, is_grpc)
