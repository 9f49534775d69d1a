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


def _member(fields: list[dict[str, Any]], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(item[name] for item in fields if name in item)
    return found


@pytest.mark.parametrize("name", sorted(PRIORITIES))
def test_the_published_schema_is_the_recorded_one(name: str) -> None:
    recorded = json.loads((DATA / f"{name}.json").read_text())
    config = _member(recorded["fields"], "config")
    published = schema_json(config_of(name))
    assert published["fields"] == config["fields"]
    assert published.get("shorthand_fields") == config.get("shorthand_fields")
    assert published["entity_checks"] == recorded["entity_checks"]


@pytest.mark.parametrize("name", sorted(PRIORITIES))
def test_protocols_and_forbidden_scopes_are_the_recorded_ones(name: str) -> None:
    recorded = json.loads((DATA / f"{name}.json").read_text())
    protocols = _member(recorded["fields"], "protocols")
    config = config_of(name)
    assert sorted(config.protocols) == sorted(protocols["elements"]["one_of"])
    assert sorted(config.default_protocols) == sorted(protocols["default"])
    forbidden = {scope for item in recorded["fields"] for scope, spec in item.items() if "eq" in spec}
    assert {"consumer"} & forbidden == ({"consumer"} if config.no_consumer else set())
    assert not config.no_route
    assert not config.no_service


@pytest.mark.parametrize("name", sorted(PRIORITIES))
def test_priority_and_phases_are_the_recorded_ones(name: str) -> None:
    handler = handler_of(name)
    priority, phases = PRIORITIES[name]
    assert priority == handler.PRIORITY
    assert {phase for phase in PHASES if hasattr(handler, phase)} == phases
