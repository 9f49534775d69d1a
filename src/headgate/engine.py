"""The only importer of the native module: node settings to engine settings, and a typed handle of one engine.

Owns the JSON form of `EngineSettings` (crates/engine/src/settings.rs); every default in it comes from
`headgate.config`. `Engine` is the worker's; `find_route` asks the same router without serving.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from headgate.config.load import Settings
from headgate.config.tls import read_pem
from headgate.entities import routes
from headgate.entities.registry import ENTITY_TYPES, Registry
from headgate.errors import EngineError, NameResolutionError, PlanError
from headgate.node import default_certificate
from headgate.node.ticket_secret import TicketSecret, TicketState
from headgate.policy.description import Description, RouteMatch
from headgate.version import SERVER_TOKEN

_WEBSOCKET_CLOSING_MS = 5000
"""Beyond it, a draining worker would be killed while its clients still read their close frames."""


@dataclass(frozen=True)
class InheritedListener:
    """A listening socket that this process got from the supervisor."""

    fd: int
    address: str
    port: int
    is_ssl: bool
    is_http2: bool
    is_proxy_protocol: bool = False
    is_stream: bool = False
    is_udp: bool = False


def lua_functions() -> Mapping[str, tuple[int, Sequence[str]]]:
    """Return the C functions that Lua code may call: by kind the address, and the functions of the PDK behind it."""
    from headgate import _engine

    return _engine.LUA_FUNCTIONS


class NativeEngine(Protocol):
    """What this module uses of `_engine.Engine`; tests of the worker give their own."""

    def apply(self, plan: bytes, attachment: Any) -> None: ...
    def apply_change(self, change: bytes, attachment: Any) -> None: ...
    def start(self) -> None: ...
    def drain(self) -> None: ...
    def stop(self) -> None: ...
    def reopen_logs(self) -> None: ...
    @property
    def is_running(self) -> bool: ...
    def stats(self) -> dict[str, int]: ...
    def on_health_reports(self, callback: Callable[[], None]) -> None: ...
    def take_health_reports(self, limit: int) -> bytes | None: ...
    def report_pools(self) -> None: ...
    def set_health(self, upstream_id: str, address: tuple[str, str, int], health: str, is_reset: bool) -> None: ...
    def resolve(self, name: str, kind: str | None, callback: Callable[..., None]) -> bool: ...
    def resolve_next(self, name: str, callback: Callable[..., None]) -> bool: ...
    def name_usage(self, limit: int) -> list[tuple[str, tuple[int, int, int, int, int]]]: ...


ResolvedRecord: TypeAlias = tuple[str, tuple[int | None, int, str] | None]
"""An address, and what an SRV record says beside it: port, weight and target."""


class Thresholds(NamedTuple):
    """How many observations change the health of an address; 0: they are ignored."""

    successes: int
    http_failures: int
    tcp_failures: int
    timeouts: int


class HealthMachine(Protocol):
    """State and counters of one address, by the rules that workers follow, too."""

    @property
    def health(self) -> str:
        """`healthy`, `mostly_healthy`, `unhealthy` or `mostly_unhealthy`."""

    def observe(self, observation: str, times: int, thresholds: Thresholds) -> bool:
        """Count equal observations: `success`, `http_failure`, `tcp_failure`, `timeout`. True: another state now."""

    def set(self, health: str) -> None:
        """Set the state; counters start from zero."""


def health_machine() -> HealthMachine:
    """Return the machine of an address that is healthy."""
    from headgate import _engine

    return _engine.HealthMachine()


MOST_REPORTS: Final = 1_000
"""Health reports in one frame to control: the frame stays far below its limit."""

NativeFactory = Callable[[bytes, Any, Any], NativeEngine]


class Engine:
    """One worker's engine.

    Args: `runner` is what the engine calls per phase; `call_soon_threadsafe` that of the worker's asyncio loop;
    `factory` makes the native engine, by default the one of the native module; `ticket_state`: what the workers of a
    node share to read each other's session tickets, None for an engine of its own.
    Raises: EngineError with every fault of the settings.
    """

    def __init__(
        self,
        settings: Settings,
        listeners: Sequence[InheritedListener],
        default_certificates: Sequence[tuple[str, str]],
        runner: Any,
        call_soon_threadsafe: Callable[..., Any],
        factory: NativeFactory | None = None,
        ticket_state: TicketState | None = None,
    ) -> None:
        document = engine_settings(settings, listeners, default_certificates, ticket_state)
        try:
            self._native = (factory or _native_factory())(json.dumps(document).encode(), runner, call_soon_threadsafe)
        except ValueError as error:
            raise EngineError(_fault_text(error)) from error

    def apply(self, plan: bytes, attachment: object) -> None:
        """Put a plan in force for new requests; `attachment` is what exchanges show as their plan.

        Raises: PlanError with every fault; the plan before stays in force.
        """
        try:
            self._native.apply(plan, attachment)
        except ValueError as error:
            raise PlanError(_faults(error)) from error

    def apply_change(self, change: bytes, attachment: object) -> None:
        """Put the plan in force that a change makes of the one in force (`policy.change`).

        Raises: PlanError with every fault, or when the change is for another plan; the plan before stays in force.
        """
        try:
            self._native.apply_change(change, attachment)
        except ValueError as error:
            raise PlanError(_faults(error)) from error

    def start(self) -> None:
        """Accept connections; a plan must be in force."""
        self._native.start()

    def drain(self) -> None:
        """Stop accepting and let running requests finish; returns at once, `is_running` turns false when done."""
        self._native.drain()

    def stop(self) -> None:
        """Cut everything and wait for the engine's thread."""
        self._native.stop()

    def reopen_logs(self) -> None:
        """Open the access log anew, after it was moved away."""
        self._native.reopen_logs()

    @property
    def is_running(self) -> bool:
        """Whether the engine's thread still serves something."""
        return self._native.is_running

    def stats(self) -> dict[str, int]:
        """Return the counters of connections and requests."""
        return self._native.stats()

    def on_health_reports(self, callback: Callable[[], None]) -> None:
        """Have a function called, on any thread, whenever there is something for `take_health_reports` again."""
        self._native.on_health_reports(callback)

    def take_health_reports(self) -> bytes | None:
        """Return the next health reports, JSON for control; None when there are no more."""
        return self._native.take_health_reports(MOST_REPORTS)

    def report_pools(self) -> None:
        """Report the addresses of all upstreams with their states again, for a control that knows nothing."""
        self._native.report_pools()

    def set_health(self, upstream_id: str, address: tuple[str, str, int], health: str, *, is_reset: bool) -> None:
        """Set the state of an address (target's host, ip, port) as control says."""
        self._native.set_health(upstream_id, address, health, is_reset)

    async def resolve(self, name: str, kind: str | None = None) -> list[ResolvedRecord] | None:
        """Resolve a name by the settings `dns_*`, with the cache that requests have, too.

        Args: `kind`: `A`, `AAAA` or `SRV` only, whatever `dns_order` says.
        Returns: None while the engine does not run.
        Raises: NameResolutionError.
        """
        return await _answered(lambda callback: self._native.resolve(name, kind, callback))

    async def resolve_next(self, name: str) -> list[ResolvedRecord] | None:
        """Do as `resolve` with the one record whose turn it is: they take turns, by weight those of SRV."""
        return await _answered(lambda callback: self._native.resolve_next(name, callback))

    def name_usage(self, limit: int) -> dict[str, tuple[int, int, int, int, int]]:
        """Return how names were used, most used first: hits, stale hits, misses, queries that succeeded, that failed.

        A name that was asked for one kind of records has that behind a colon.
        """
        return dict(self._native.name_usage(limit))


async def _answered(ask: Callable[[Callable[..., None]], bool]) -> list[ResolvedRecord] | None:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[ResolvedRecord]] = loop.create_future()

    def settle(records: list[ResolvedRecord] | None, fault: str | None) -> None:
        if answer.done():
            return
        if records is None:
            answer.set_exception(NameResolutionError(fault or ""))
        else:
            answer.set_result(records)

    def take(records: list[ResolvedRecord] | None, fault: str | None) -> None:
        loop.call_soon_threadsafe(settle, records, fault)

    return await answer if ask(take) else None


def need_body_type() -> Callable[[int, Any], Any]:
    """Return the native `NeedBody`, which a runner gives back when it must wait for the request body."""
    from headgate import _engine

    return _engine.NeedBody


def core_entity_types(router_flavor: str) -> Registry:
    """Return the gateway's own entity types in a router flavour; expressions are checked by the engine."""
    return ENTITY_TYPES.with_changed(routes.entity_type_of(router_flavor, check_expression))


def check_expression(expression: str, is_stream: bool = False) -> list[str]:
    """Return every fault of a route's expression; none when it can be compiled."""
    from headgate import _engine

    return _engine.check_expression(expression, is_stream)


def find_route(plan: bytes, description: Description) -> RouteMatch:
    """Ask the router for the route of a described request or stream, without serving.

    Args: `plan` as for `Engine.apply`.
    Raises: PlanError with every fault of the plan's routes.
    """
    from headgate import _engine

    ends = {"source": description.source._asdict(), "destination": description.destination._asdict()}
    try:
        if description.is_stream:
            stream = {"transport": description.scheme, "sni": description.sni, **ends}
            return RouteMatch(_engine.explain_stream(plan, json.dumps(stream).encode()))
        request = {
            "method": description.method,
            "host": description.host,
            "target": description.target,
            "headers": [["Host", description.host], *map(list, description.headers)],
            "sni": description.sni,
            "is_tls": description.is_tls,
            **ends,
        }
        found = _engine.explain_route(plan, json.dumps(request).encode())
    except ValueError as error:
        raise PlanError(_faults(error)) from error
    unnamed, named = found["captures"] or ((), {})
    return RouteMatch(
        found["route"],
        _text(found["normalized_path"]),
        _text(found["matched_prefix"]) if found["matched_prefix"] is not None else None,
        _text(found["upstream_path"]) if found["upstream_path"] is not None else None,
        tuple(map(_text, unnamed)),
        {name: _text(value) for name, value in named.items()},
    )


def _text(value: bytes | str | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def _native_factory() -> NativeFactory:
    from headgate import _engine

    return _engine.Engine


def _faults(error: ValueError) -> list[str]:
    faults = error.args[0] if error.args and isinstance(error.args[0], list) else [str(error)]
    return [str(fault) for fault in faults]


def _fault_text(error: ValueError) -> str:
    faults = error.args[0] if error.args else str(error)
    return "; ".join(str(fault) for fault in faults) if isinstance(faults, list | tuple) else str(faults)


def engine_settings(
    settings: Settings,
    listeners: Sequence[InheritedListener],
    default_certificates: Sequence[tuple[str, str]],
    ticket_state: TicketState | None = None,
) -> Mapping[str, Any]:
    """Return the JSON form of the engine's settings."""
    http, tls, dns, general = settings.http, settings.tls, settings.dns, settings.general
    added = http.response_headers
    ticket = ticket_state or TicketSecret(tls.session_timeout_s).state()
    buffer_count, buffer_bytes = http.large_client_header_buffers
    access_log = general.access_log_path(general.proxy_access_log)
    stream_access_log = (
        general.access_log_path(general.proxy_stream_access_log) if settings.listeners.stream_listen else None
    )
    return {
        "server_token": SERVER_TOKEN,
        "listeners": [
            {
                "fd": listener.fd,
                "address": listener.address,
                "port": listener.port,
                "ssl": listener.is_ssl,
                "http2": listener.is_http2,
                "proxy_protocol": listener.is_proxy_protocol,
                "stream": listener.is_stream,
                "udp": listener.is_udp,
            }
            for listener in listeners
        ],
        "trusted_ips": list(http.trusted_ips),
        "real_ip_header": http.real_ip_header.lower(),
        "real_ip_recursive": http.real_ip_recursive,
        "port_maps": [(inside, outside) for outside, inside in general.port_maps],
        "response_headers": {
            "server": "server" in added,
            "via": "via" in added,
            "proxy_latency": "x-kong-proxy-latency" in added,
            "upstream_latency": "x-kong-upstream-latency" in added,
            "response_latency": "x-kong-response-latency" in added,
            "upstream_status": "x-kong-upstream-status" in added,
            "request_id": "x-kong-request-id" in added,
        },
        "upstream_request_id": "x-kong-request-id" in http.headers_upstream,
        "allow_debug_header": general.allow_debug_header,
        "error_default_type": http.error_default_type,
        "websocket_compression": http.websocket_compression,
        "error_templates": http.error_templates(),
        "limits": {
            "request_line_bytes": buffer_bytes,
            "header_line_bytes": buffer_bytes,
            "request_head_bytes": buffer_count * buffer_bytes,
            "request_header_count": http.request_header_count,
            "response_head_bytes": http.response_head_bytes,
            "request_body_bytes": http.client_max_body_bytes,
            "request_body_buffer_bytes": http.client_body_buffer_bytes,
            "request_body_memory_bytes": http.request_body_memory_bytes,
            "response_buffer_bytes": http.response_buffer_bytes,
            "response_read_ahead_bytes": http.response_read_ahead_bytes,
            "keepalive_requests": http.keepalive_requests,
            "connections": general.worker_connections,
            "http2_concurrent_streams": http.http2_concurrent_streams,
            "websocket_client_payload_bytes": http.websocket_client_payload_bytes,
            "websocket_upstream_payload_bytes": http.websocket_upstream_payload_bytes,
            "udp_sessions": general.udp_sessions,
            "udp_waiting_bytes": general.udp_waiting_bytes,
        },
        "client_timeouts": {
            "header_ms": http.client_header_timeout_ms,
            "body_ms": http.client_body_timeout_ms,
            "send_ms": http.send_timeout_ms,
            "keepalive_ms": http.keepalive_timeout_ms,
            "handshake_ms": tls.handshake_timeout_ms,
            "drain_ms": _drain_ms(general.worker_shutdown_timeout_ms),
        },
        "upstream_keepalive": {
            "pool_size": http.upstream_keepalive_pool_size,
            "max_requests": http.upstream_keepalive_max_requests,
            "idle_timeout_ms": http.upstream_keepalive_idle_timeout_ms,
        },
        "tls": {
            "default_certificates": [list(pair) for pair in default_certificates],
            "protocols": list(tls.protocols),
            "cipher_suites": list(tls.cipher_suites),
            "prefers_server_order": tls.prefers_server_order,
            "session_tickets": tls.ssl_session_tickets,
            "session_timeout_s": tls.session_timeout_s,
            "session_cache_entries": tls.session_cache_entries,
            "session_ticket_secret": ticket.secret,
            "session_ticket_period": ticket.period,
            "trusted_certificates": tls.trusted_pem(),
            "verify_depth": tls.lua_ssl_verify_depth,
            "client_certificate": client_pair(settings),
        },
        "dns": {
            "resolvers": list(dns.dns_resolver),
            "order": [kind for kind in dns.dns_order if kind != "cname"],
            "hosts_file": dns.dns_hostsfile,
            "valid_ttl_ms": dns.dns_valid_ttl_ms,
            "stale_ttl_ms": dns.dns_stale_ttl_ms,
            "not_found_ttl_ms": dns.dns_not_found_ttl_ms,
            "error_ttl_ms": dns.dns_error_ttl_ms,
            "cache_size": dns.dns_cache_size,
        },
        "access_log": None if access_log is None else str(access_log),
        "stream_access_log": None if stream_access_log is None else str(stream_access_log),
    }


def _drain_ms(shutdown_timeout_ms: int) -> int:
    """Return how long a draining worker leaves connections open that no answer ends: what it is given less the time to
    close and log them in order, and never less than half of it.
    """
    return max(shutdown_timeout_ms - _WEBSOCKET_CLOSING_MS, shutdown_timeout_ms // 2)


def client_pair(settings: Settings) -> tuple[str, str] | None:
    """Return (certificate PEM, key PEM) that the node shows to upstreams; None without."""
    tls = settings.tls
    if tls.client_ssl and tls.client_ssl_cert and tls.client_ssl_cert_key:
        return read_pem(tls.client_ssl_cert), read_pem(tls.client_ssl_cert_key)
    return None


def default_certificate_pairs(settings: Settings, directory: Path) -> list[tuple[str, str]]:
    """Return (certificate PEM, key PEM) of the proxy's default certificates: the settings', else the generated ones."""
    tls = settings.tls
    if tls.ssl_cert:
        return [(read_pem(cert), read_pem(key)) for cert, key in zip(tls.ssl_cert, tls.ssl_cert_key, strict=True)]
    pairs = []
    for kind in default_certificate.KINDS:
        certificate, key = default_certificate.paths(directory, kind)
        if certificate.is_file() and key.is_file():
            pairs.append((certificate.read_text(encoding="ascii"), key.read_text(encoding="ascii")))
    return pairs
