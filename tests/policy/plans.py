"""Small snapshots, catalogs and exchanges for tests of the policy package."""

import uuid
from typing import Any

from headgate.pdk import Plugin
from headgate.pdk.plugin import config_model_of
from headgate.policy.catalog import HANDLER_PHASES, Catalog, PluginType
from headgate.policy.compile import CompiledPlan, compile_plan
from headgate.schema import PluginConfig
from headgate.store.snapshot import Snapshot
from headgate.testing import MemoryExchange, Request, Upstream

Entity = dict[str, Any]


class Config(PluginConfig):
    """What the plugins of these tests are told."""

    label: str = "default"
    action: str = "none"


class World:
    """Entities by name, plugins by class; `plan()` compiles, `exchange()` makes a request on a route."""

    def __init__(self) -> None:
        self.entities: dict[str, dict[str, Entity]] = {}
        self.types: list[PluginType] = []

    def add(self, kind: str, **fields: Any) -> Entity:
        entity = {"id": str(uuid.uuid4()), **fields}
        self.entities.setdefault(kind, {})[entity["id"]] = entity
        return entity

    def service(self, **fields: Any) -> Entity:
        defaults = {"name": "service", "protocol": "http", "host": "upstream", "port": 80, "enabled": True}
        return self.add("services", **defaults | fields)

    def route(self, service: Entity | None = None, **fields: Any) -> Entity:
        defaults = {"name": "route", "protocols": ["http", "https"], "paths": ["/"]}
        return self.add("routes", **defaults | fields, service=reference(service))

    def install(self, name: str, handler: type[Plugin[Any]]) -> None:
        phases = frozenset(phase for phase in HANDLER_PHASES if hasattr(handler, phase))
        model = config_model_of(handler) or PluginConfig
        self.types.append(PluginType(name, handler.VERSION, handler.PRIORITY, handler, model, phases, "test"))

    def plugin(self, name: str, config: Any = None, **fields: Any) -> Entity:
        scopes = {
            kind: reference(fields.pop(kind, None)) for kind in ("route", "service", "consumer", "consumer_group")
        }
        defaults = {"name": name, "config": config or {}, "enabled": True, "protocols": ["http", "https"]}
        return self.add("plugins", **defaults | fields | scopes)

    def plan(self, **options: Any) -> CompiledPlan:
        return compile_plan(Snapshot(self.entities, revision=1), Catalog(self.types), **options)


def reference(entity: Entity | None) -> dict[str, str] | None:
    return None if entity is None else {"id": entity["id"]}


def exchange(plan: CompiledPlan, route_index: int | None = 0, request: Request | None = None) -> MemoryExchange:
    return MemoryExchange(request or Request(), None, plan, route_index)


def answer(one: MemoryExchange, status: int = 200) -> None:
    """Let the upstream answer, unless a plugin has."""
    one.end_phase()
    if not one.is_answered:
        one.receive(Upstream(status))
