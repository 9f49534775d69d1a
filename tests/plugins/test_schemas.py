"""The configuration schemas of the bundled plugins against recorded answers of `/schemas/plugins/<name>`."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from headgate import PluginConfig
from headgate.schema import schema_json

DATA = Path(__file__).parent / "data"
PRIORITIES = {
    "acl": (950, {"access"}),
    "correlation-id": (100001, {"init_worker", "access", "header_filter"}),
    "file-log": (9, {"configure", "log"}),
    "key-auth": (1250, {"access"}),
    "rate-limiting": (910, {"configure", "access"}),
    "request-termination": (2, {"access"}),
    "request-transformer": (801, {"access"}),
    "response-transformer": (800, {"header_filter", "body_filter"}),
}
PHASES = {
    "init_worker",
    "configure",
    "certificate",
    "rewrite",
    "access",
    "response",
    "header_filter",
    "body_filter",
    "log",
}


def handler_of(name: str) -> Any:
    return importlib.import_module(f"headgate.plugins.{name.replace('-', '_')}").Handler


def config_of(name: str) -> type[PluginConfig]:
    config: type[PluginConfig] = handler_of(name).__orig_bases__[0].__args__[0]
    return config


@pytest.mark.parametrize("name", sorted(PRIORITIES))
def test_the_published_schema_is_the_recorded_one(name: str) -> None:
    assert schema_json(config_of(name)) == json.loads((DATA / f"{name}.json").read_text())


@pytest.mark.parametrize("name", sorted(PRIORITIES))
def test_priority_and_phases_are_the_recorded_ones(name: str) -> None:
    handler = handler_of(name)
    priority, phases = PRIORITIES[name]
    assert priority == handler.PRIORITY
    assert {phase for phase in PHASES if hasattr(handler, phase)} == phases
