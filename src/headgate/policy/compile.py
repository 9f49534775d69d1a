"""From a snapshot and the catalog of plugins to a plan: the one compilation of everything that serves requests.

Owns which routes, services and plugin instances take part, and the JSON that the engine gets. Its form is that of
`crates/engine/src/plan.rs`. A plan is immutable but for the picks that late slots remember. Called for every snapshot,
beside the running plan; whatever is wrong is a PlanError with all faults, and the running plan stays.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from headgate.config.general import LEGACY
from headgate.entities.plugins import read_plugin
from headgate.errors import EntityError, PlanError, SchemaViolation
from headgate.pdk._bound import bind_references, secret_or_empty
from headgate.pdk._reference import is_reference
from headgate.pdk._secrets import secrets
from headgate.pdk.plugin import InstanceInfo, remember_instance
from headgate.phases import Phase
from headgate.policy.broken import BrokenInstance
from headgate.policy.catalog import Catalog, PluginType
from headgate.policy.chain import (
    LATER_PHASES,
    WEBSOCKET_PHASES,
    Chain,
    ChainBuilder,
    Globals,
    PluginInstance,
    mask_of,
)
from headgate.policy.order import CycleError
from headgate.policy.precedence import Scope
from headgate.policy.streams import StreamChain, StreamChainBuilder, StreamGlobals
from headgate.schema import HTTP_PROTOCOLS, STREAM_PROTOCOLS, WEBSOCKET_PROTOCOLS, validate
from headgate.store.snapshot import Snapshot

HTTP_SUBSYSTEM = frozenset((*HTTP_PROTOCOLS, *WEBSOCKET_PROTOCOLS))
"""A plugin instance takes part when it names any of these (reference: phases 16)."""

STREAM_SUBSYSTEM = frozenset(STREAM_PROTOCOLS)
"""The same for streams."""

SERVED_PROTOCOLS = HTTP_SUBSYSTEM | STREAM_SUBSYSTEM
"""Protocols of services that the engine speaks."""

_SCOPES = ("consumer", "consumer_group", "route", "service")

_ROUTE_FIELDS = (
    "id",
    "name",
    "created_at",
    "methods",
    "hosts",
    "paths",
    "headers",
    "snis",
    "regex_priority",
    "strip_path",
    "path_handling",
    "preserve_host",
    "https_redirect_status_code",
    "request_buffering",
    "response_buffering",
    "sources",
    "destinations",
    "expression",
    "priority",
)

_log = logging.getLogger("headgate.policy")


class CompiledPlan:
    """What a worker serves: routes by position, each with its chain, and the global instances.

    The engine keeps it as the attachment of its plan, so a request sees one plan from its first phase to its last.
    """

    __slots__ = (
        "_builder",
        "_engine_plan",
        "_instances",
        "_positions",
        "_routes",
        "_service_positions",
        "_services",
        "chains",
        "configuration_hash",
        "globals",
        "holds_references",
        "revision",
        "snapshot",
        "stream_chains",
        "stream_globals",
    )

    def __init__(
        self,
        snapshot: Snapshot,
        instances: Mapping[str, list[PluginInstance]],
        chains: list[Chain],
        routes: list[dict[str, Any]],
        services: list[dict[str, Any] | None],
        global_instances: Globals,
        engine_plan: dict[str, Any],
        builder: ChainBuilder,
        service_positions: Mapping[str, int],
        *,
        stream_chains: list[StreamChain],
        stream_globals: StreamGlobals,
        holds_references: bool = False,
    ) -> None:
        self.snapshot = snapshot
        self.revision = snapshot.revision
        self.configuration_hash = snapshot.configuration_hash
        self.chains = chains
        self.globals = global_instances
        self.stream_chains = stream_chains
        """Chains of the stream routes, whose positions follow those of the others."""
        self.stream_globals = stream_globals
        self._instances = instances
        self._routes = routes
        self._services = services
        self._engine_plan = engine_plan
        self._builder = builder
        self._service_positions = service_positions
        self._positions: dict[str, int] | None = None
        self.holds_references = holds_references
        """Certificates of this plan come from vaults, so that it has to be compiled anew when secrets change."""

    def route(self, index: int) -> dict[str, Any]:
        """Return the route entity at a position."""
        return self._routes[index]

    def service(self, index: int) -> dict[str, Any] | None:
        """Return the service entity of the route at a position; None without one."""
        return self._services[index]

    def stream_chain(self, index: int) -> StreamChain:
        """Return the chain of the stream route at a position."""
        return self.stream_chains[index - len(self.chains)]

    def instances(self, name: str) -> list[PluginInstance]:
        """Return all enabled instances of a plugin that have a configuration, in the order of the snapshot."""
        return [one for one in self._instances.get(name, ()) if not isinstance(one, BrokenInstance)]

    @property
    def broken_instances(self) -> list[BrokenInstance]:
        """The enabled instances that could not be configured."""
        return [one for same in self._instances.values() for one in same if isinstance(one, BrokenInstance)]

    def instance(self, instance_id: str) -> PluginInstance | None:
        """Return an enabled instance by id."""
        return next((one for same in self._instances.values() for one in same if one.id == instance_id), None)

    def engine_plan(self) -> bytes:
        """Return the JSON for `Engine.apply`."""
        return orjson.dumps(self._engine_plan)


def compile_plan(
    snapshot: Snapshot,
    catalog: Catalog,
    *,
    router_flavor: str = "traditional_compatible",
    previous: CompiledPlan | None = None,
    ordering_algorithm: str = LEGACY,
    is_broken_allowed: bool = False,
    is_serving_streams: bool = True,
) -> CompiledPlan:
    """Compile one snapshot.

    Args: `previous`: plan whose plugin instances are kept where the entity is the same, which saves building their
        configurations anew. `ordering_algorithm`: what rules make of the static order (`order`). `is_broken_allowed`:
        instances that cannot be configured refuse their requests instead of the whole snapshot. `is_serving_streams`:
        without listeners for streams their routes are left out, with a warning each.
    Raises: PlanError with all faults.
    """
    parts = plugin_parts(snapshot, catalog, previous, ordering_algorithm, is_broken_allowed=is_broken_allowed)
    builder, stream_builder = parts.builder, parts.stream_builder
    faults: list[str] = []
    certificate_plans, holds_references = _certificates(snapshot)
    certificates = {one["id"]: position for position, one in enumerate(certificate_plans)}
    service_positions, service_plans = _services(snapshot, certificates)
    chains: list[Chain] = []
    routes: list[dict[str, Any]] = []
    services: list[dict[str, Any] | None] = []
    route_plans: list[dict[str, Any]] = []
    inert: set[str] = set()
    stream_routes: list[dict[str, Any]] = []
    for route in snapshot.all("routes"):
        protocols = [protocol for protocol in route["protocols"] if protocol in HTTP_SUBSYSTEM]
        if not protocols:
            if is_serving_streams and not STREAM_SUBSYSTEM.isdisjoint(route["protocols"]):
                stream_routes.append(route)
                continue
            _log.warning("route %s is not served: protocols %s", named(route), ", ".join(route["protocols"]))
            continue
        try:
            served = served_route(route, protocols, snapshot, service_positions, builder)
        except CycleError as error:
            faults.append(f"route {named(route)}: {error}")
            continue
        if served is None:
            continue
        if is_websocket(served.service):
            inert.update(_inert(served.chain))
        chains.append(served.chain)
        routes.append(route)
        services.append(served.service)
        route_plans.append(served.plan)
    if faults:
        raise PlanError(faults)
    if inert:
        _log.warning(
            "these plugins apply to WebSocket services but handle none of their phases, so they do nothing there: %s",
            ", ".join(sorted(inert)),
        )
    stream_chains: list[StreamChain] = []
    for route in stream_routes:
        service = snapshot.get("services", route["service"]["id"]) if route.get("service") else None
        if service is not None and not service.get("enabled", True):
            continue
        stream_chain = stream_builder.chain(route["id"], service["id"] if service is not None else None)
        plan = {field: route[field] for field in _ROUTE_FIELDS if route.get(field) is not None}
        plan["protocols"] = [protocol for protocol in route["protocols"] if protocol in STREAM_SUBSYSTEM]
        plan["phases"] = stream_chain.phases
        if service is not None:
            plan["service"] = service_positions[service["id"]]
        stream_chains.append(stream_chain)
        routes.append(route)
        services.append(service)
        route_plans.append(plan)
    engine_plan = {
        "revision": snapshot.revision,
        "router_flavor": router_flavor,
        "global_phases": parts.globals.mask,
        "stream_global_phases": parts.stream_globals.mask,
        "routes": route_plans,
        "services": service_plans,
        "upstreams": _upstreams(snapshot, certificates),
        "certificates": certificate_plans,
        "snis": {
            one["name"]: certificates[one["certificate"]["id"]]
            for one in snapshot.all("snis")
            if one["certificate"]["id"] in certificates
        },
        "ca_certificates": {one["id"]: one["cert"] for one in snapshot.all("ca_certificates")},
    }
    return CompiledPlan(
        snapshot,
        parts.instances,
        chains,
        routes,
        services,
        parts.globals,
        engine_plan,
        builder,
        service_positions,
        stream_chains=stream_chains,
        stream_globals=parts.stream_globals,
        holds_references=holds_references,
    )


class ServedRoute(NamedTuple):
    """A route of HTTP that takes part: its chain, its service if that does too, and what the engine gets."""

    chain: Chain
    service: dict[str, Any] | None
    plan: dict[str, Any]


def served_route(
    route: dict[str, Any],
    protocols: list[str],
    snapshot: Snapshot,
    service_positions: Mapping[str, int],
    builder: ChainBuilder,
) -> ServedRoute | None:
    """Return a route as it is served; None when its service is disabled. `protocols`: those of HTTP that it has.

    Raises: CycleError.
    """
    service_id = route["service"]["id"] if route.get("service") else None
    service = snapshot.get("services", service_id) if service_id is not None else None
    if service is not None and not service.get("enabled", True):
        return None
    position = service_positions.get(service_id) if service_id is not None else None
    if service is not None and (position is None or service["protocol"] not in HTTP_SUBSYSTEM):
        position = None
        _log.warning(
            "route %s has no service: protocol %s of %s is not served",
            named(route),
            service["protocol"],
            named(service),
        )
        service = None
    chain = chain_of(route, service, builder)
    plan = {field: value for field in _ROUTE_FIELDS if (value := route.get(field)) is not None}
    plan["protocols"] = protocols
    plan["phases"] = chain.phases
    if position is not None:
        plan["service"] = position
    return ServedRoute(chain, service, plan)


def chain_of(route: Mapping[str, Any], service: Mapping[str, Any] | None, builder: ChainBuilder) -> Chain:
    """Return the chain of a route of HTTP. Raises: CycleError."""
    service_id = service["id"] if service is not None else None
    return builder.chain(route["id"], service_id, is_websocket=is_websocket(service))


def is_websocket(service: Mapping[str, Any] | None) -> bool:
    """Say whether WebSocket messages are exchanged with a service."""
    return service is not None and service["protocol"] in WEBSOCKET_PROTOCOLS


def _inert(chain: Chain) -> Iterable[str]:
    """Return the plugins of a WebSocket chain that have handlers for other requests only."""
    here = (Phase.REWRITE, Phase.WS_HANDSHAKE, *WEBSOCKET_PHASES)
    for slot in chain.slots:
        if mask_of((slot,), (Phase.ACCESS, *LATER_PHASES)) and not mask_of((slot,), here):
            yield slot.name


def _of_subsystem(
    instances: Mapping[str, list[PluginInstance]], subsystem: frozenset[str]
) -> dict[str, list[PluginInstance]]:
    """Return the instances that take part in a subsystem, by plugin name; no name without any."""

    def takes_part(one: PluginInstance) -> bool:
        protocols = one.entity.get("protocols") or HTTP_SUBSYSTEM
        return not subsystem.isdisjoint(protocols)

    found = {name: [one for one in same if takes_part(one)] for name, same in instances.items()}
    return {name: same for name, same in found.items() if same}


def _by_scope(instances: Mapping[str, list[PluginInstance]]) -> dict[str, dict[Scope, PluginInstance]]:
    """Return the instances by name and scope, the first of each scope: one name never runs twice."""
    return {name: {one.scope: one for one in reversed(same)} for name, same in instances.items()}


def _globals(instances: Mapping[str, list[PluginInstance]]) -> list[PluginInstance]:
    return [by_scope[Scope()] for by_scope in _by_scope(instances).values() if Scope() in by_scope]


class PluginParts(NamedTuple):
    """What plugin instances make: themselves by name, the makers of chains, and those for every request or stream."""

    instances: dict[str, list[PluginInstance]]
    builder: ChainBuilder
    globals: Globals
    stream_builder: StreamChainBuilder
    stream_globals: StreamGlobals


def plugin_parts(
    snapshot: Snapshot,
    catalog: Catalog,
    previous: CompiledPlan | None,
    ordering_algorithm: str,
    *,
    is_broken_allowed: bool,
) -> PluginParts:
    """Return what the plugin instances of a snapshot make; those of `previous` are kept where nothing changed.

    Raises: PlanError.
    """
    instances = _instances(snapshot, catalog, previous, is_broken_allowed=is_broken_allowed)
    http_instances = _of_subsystem(instances, HTTP_SUBSYSTEM)
    stream_instances = _of_subsystem(instances, STREAM_SUBSYSTEM)
    return PluginParts(
        instances,
        ChainBuilder(_by_scope(http_instances), ordering_algorithm),
        Globals(_globals(http_instances)),
        StreamChainBuilder(_by_scope(stream_instances)),
        StreamGlobals(_globals(stream_instances)),
    )


def _instances(
    snapshot: Snapshot, catalog: Catalog, previous: CompiledPlan | None, *, is_broken_allowed: bool
) -> dict[str, list[PluginInstance]]:
    """Return the enabled instances by plugin name, names in the order of running."""
    faults: list[str] = []
    by_name: dict[str, list[PluginInstance]] = {name: [] for name in catalog}
    kept = {} if previous is None else {one.id: one for same in previous._instances.values() for one in same}
    for sequence, entity in enumerate(snapshot.all("plugins"), snapshot.revision << 20):
        name = entity["name"]
        plugin = catalog.get(name)
        if plugin is None:
            not_enabled = f"{name} plugin is in use but not enabled"
            if not_enabled not in faults:
                faults.append(not_enabled)
            continue
        if not entity.get("enabled", True):
            continue
        earlier = kept.get(entity["id"])
        if earlier is not None and (earlier.entity is entity or earlier.entity == entity):
            by_name[name].append(earlier)
            continue
        info, scope = _info(entity, plugin, sequence)
        fault = plugin.fault
        if fault is None:
            try:
                shown = read_plugin(entity, plugin.config_model)
                config = validate(plugin.config_model, shown.get("config") or {}, is_stored=True)
                handler = catalog.handler(name)
            except (SchemaViolation, EntityError) as error:
                fault = f"plugin '{name}' ({entity['id']}): {error}"
            # The constructor of a handler is the plugin's code: whatever it raises is that plugin's fault.
            except (Exception, SystemExit) as error:
                fault = f"plugin '{name}' cannot be made: {type(error).__name__}: {error}"
            else:
                if references := bind_references(config):
                    info = replace(info, refs=references)
                remember_instance(config, info)
                by_name[name].append(PluginInstance(info, scope, config, handler, entity))
                continue
        if not is_broken_allowed:
            faults.append(fault)
            continue
        _log.error(
            "plugin instance %s of plugin '%s' is broken, requests it applies to are answered 500: %s",
            entity["id"],
            name,
            fault,
        )
        broken = BrokenInstance(
            info, scope, entity, fault, plugin_phases=plugin.phases, is_plugin_broken=plugin.fault is not None
        )
        by_name[name].append(broken)
    if faults:
        raise PlanError(faults)
    return by_name


def _info(entity: dict[str, Any], plugin: PluginType, sequence: int) -> tuple[InstanceInfo, Scope]:
    ids = {kind: entity[kind]["id"] if entity.get(kind) else None for kind in _SCOPES}
    info = InstanceInfo(
        id=entity["id"],
        name=plugin.name,
        instance_name=entity.get("instance_name"),
        route_id=ids["route"],
        service_id=ids["service"],
        consumer_id=ids["consumer"],
        consumer_group_id=ids["consumer_group"],
        sequence=sequence,
    )
    scope = Scope(**{kind: None if _is_forbidden(plugin, kind) else scope_id for kind, scope_id in ids.items()})
    return info, scope


def _is_forbidden(plugin: PluginType, kind: str) -> bool:
    """Say whether the plugin's schema forbids this part of a scope: it is ignored then (reference: phases 4.2)."""
    return bool(getattr(plugin.config_model, f"no_{kind}", False))


def _certificates(snapshot: Snapshot) -> tuple[list[dict[str, Any]], bool]:
    """Return the certificates with secrets in the place of references, and whether there were any references.

    One whose secrets cannot be had is left out with a warning: names that it was for get the default certificate.
    """
    plans: list[dict[str, Any]] = []
    holds_references = False
    for certificate in snapshot.all("certificates"):
        plan = _picked(certificate, "id", "cert", "key", "cert_alt", "key_alt")
        for part, text in plan.items():
            if is_reference(text):
                holds_references = True
                plan[part] = secret_or_empty(text, secrets, snapshot)
        if not plan["cert"] or not plan["key"]:
            _log.warning("certificate %s is not used: its secrets cannot be had", certificate["id"])
            continue
        plans.append({part: text for part, text in plan.items() if text})
    return plans, holds_references


def _services(snapshot: Snapshot, certificates: Mapping[str, int]) -> tuple[dict[str, int], list[dict[str, Any]]]:
    positions: dict[str, int] = {}
    plans: list[dict[str, Any]] = []
    for service in snapshot.all("services"):
        if service["protocol"] not in SERVED_PROTOCOLS or not service.get("enabled", True):
            continue
        plan = _picked(
            service, "id", "name", "protocol", "host", "port", "path", "retries", "tls_verify", "tls_verify_depth"
        )
        for timeout in ("connect_timeout", "write_timeout", "read_timeout"):
            if service.get(timeout) is not None:
                plan[f"{timeout}_ms"] = service[timeout]
        if service.get("ca_certificates") is not None:
            plan["ca_certificates"] = service["ca_certificates"]
        if (service.get("client_certificate") or {}).get("id") in certificates:
            plan["client_certificate"] = certificates[service["client_certificate"]["id"]]
        positions[service["id"]] = len(plans)
        plans.append(plan)
    return positions, plans


def _upstreams(snapshot: Snapshot, certificates: Mapping[str, int]) -> list[dict[str, Any]]:
    plans: list[dict[str, Any]] = []
    for upstream in snapshot.all("upstreams"):
        plan = _picked(upstream, "id", "name", "algorithm", "host_header", "use_srv_name", "slots")
        for rule in ("hash_on", "hash_fallback"):
            if (hash_input := _hash_input(upstream, rule)) is not None:
                plan[rule] = hash_input
        if upstream.get("sticky_sessions_cookie"):
            path = upstream.get("sticky_sessions_cookie_path") or "/"
            plan["sticky_cookie"] = {"name": upstream["sticky_sessions_cookie"], "path": path}
        if (checks := upstream.get("healthchecks")) is not None:
            plan["health_threshold_percent"] = checks.get("threshold") or 0
            if has_checker(checks):
                plan["passive_checks"] = _passive_checks(checks["passive"])
        if (breaking := upstream.get("circuit_breaking")) is not None:
            plan["circuit_breaking"] = _circuit_breaking(breaking)
        if (upstream.get("client_certificate") or {}).get("id") in certificates:
            plan["client_certificate"] = certificates[upstream["client_certificate"]["id"]]
        plan["targets"] = [_target(target) for target in snapshot.children("targets", "upstream", upstream["id"])]
        plans.append(plan)
    return plans


def has_checker(healthchecks: Mapping[str, Any]) -> bool:
    """Say whether an upstream's health is watched at all (reference: balancing 4)."""
    active, passive = healthchecks["active"], healthchecks["passive"]["unhealthy"]
    return any(
        (
            active["healthy"].get("interval"),
            active["unhealthy"].get("interval"),
            passive.get("tcp_failures"),
            passive.get("timeouts"),
            passive.get("http_failures"),
        )
    )


def _passive_checks(passive: Mapping[str, Any]) -> dict[str, Any]:
    healthy, unhealthy = passive["healthy"], passive["unhealthy"]
    return {
        "thresholds": {
            "successes": healthy.get("successes") or 0,
            **{name: unhealthy.get(name) or 0 for name in ("http_failures", "tcp_failures", "timeouts")},
        },
        "healthy_statuses": healthy.get("http_statuses") or [],
        "unhealthy_statuses": unhealthy.get("http_statuses") or [],
    }


def _hash_input(upstream: Mapping[str, Any], rule: str) -> dict[str, Any] | None:
    """Return what `hash_on` or `hash_fallback` hashes; None for nothing."""
    kind = upstream.get(rule) or "none"
    if kind in ("none", "consumer", "ip", "path"):
        return None if kind == "none" else {"input": kind}
    if kind == "cookie":
        path = upstream.get("hash_on_cookie_path") or "/"
        return {"input": kind, "name": upstream["hash_on_cookie"], "path": path}
    return {"input": kind, "name": upstream[f"{rule}_{kind}"]}


def _circuit_breaking(breaking: Mapping[str, Any]) -> dict[str, Any]:
    plan = _picked(breaking, "max_connections", "max_pending_requests", "max_concurrent_retries")
    outliers = breaking.get("outlier_ejection") or {}
    if outliers.get("consecutive_failures"):
        plan["outlier_ejection"] = dict(outliers)
    return plan


def _target(target: Mapping[str, Any]) -> dict[str, Any]:
    host, _, port = target["target"].rpartition(":")
    return {"host": host.removeprefix("[").removesuffix("]"), "port": int(port), "weight": target["weight"]}


def _picked(entity: Mapping[str, Any], *fields: str) -> dict[str, Any]:
    return {field: entity[field] for field in fields if entity.get(field) is not None}


def named(entity: Mapping[str, Any]) -> str:
    """Return what a person knows an entity by: its name, else its id."""
    return str(entity.get("name") or entity["id"])
