"""Upstreams: virtual hosts that spread requests over targets."""

from typing import Any, Final

from headgate.entities.entity_type import Entity, EntityType
from headgate.schema import Record, addresses, checks, field, plain, types
from headgate.schema.describe import without_nulls

HASH_INPUTS: Final = ("none", "consumer", "ip", "header", "cookie", "path", "query_arg", "uri_capture")
ALGORITHMS: Final = ("consistent-hashing", "least-connections", "round-robin", "latency", "sticky-sessions")
CHECK_TYPES: Final = ("tcp", "http", "https", "grpc", "grpcs")
_COUNT: Final = (0, 255)
_SECONDS: Final = (0, 65535)
_ACTIVE_UNHEALTHY: Final = (429, 404, 500, 501, 502, 503, 504, 505)
_PASSIVE_HEALTHY: Final = (*range(200, 209), 226, *range(300, 309))
_STATUS: Final = field(between=(100, 999))


class ActiveHealthy(Record):
    """When a probed target counts as healthy; `interval` in seconds, 0 for no probes."""

    http_statuses: list[int] | None = field(default_factory=lambda: [200, 302], elements=_STATUS)
    successes: int | None = field(0, between=_COUNT)
    interval: float | None = field(0, between=_SECONDS)


class ActiveUnhealthy(Record):
    """When a probed target counts as unhealthy; `interval` in seconds, 0 for no probes."""

    tcp_failures: int | None = field(0, between=_COUNT)
    timeouts: int | None = field(0, between=_COUNT)
    http_statuses: list[int] | None = field(default_factory=lambda: list(_ACTIVE_UNHEALTHY), elements=_STATUS)
    http_failures: int | None = field(0, between=_COUNT)
    interval: float | None = field(0, between=_SECONDS)


class ActiveChecks(Record):
    """Probes; `timeout` in seconds."""

    headers: dict[types.HeaderName, list[str]] | None = field(None, required=False)
    http_path: types.Path | None = "/"
    https_sni: types.Sni | None = field(None, required=False)
    https_verify_certificate: bool = True
    healthy: ActiveHealthy = field(default_factory=ActiveHealthy, show_default=True)
    unhealthy: ActiveUnhealthy = field(default_factory=ActiveUnhealthy, show_default=True)
    type: str | None = field("http", one_of=CHECK_TYPES)
    concurrency: int | None = field(10, between=(1, 2147483648))
    timeout: float | None = field(1, between=_SECONDS)


class PassiveHealthy(Record):
    """When traffic shows a target to be healthy."""

    http_statuses: list[int] | None = field(default_factory=lambda: list(_PASSIVE_HEALTHY), elements=_STATUS)
    successes: int | None = field(0, between=_COUNT)


class PassiveUnhealthy(Record):
    """When traffic shows a target to be unhealthy."""

    http_statuses: list[int] | None = field(default_factory=lambda: [429, 500, 503], elements=_STATUS)
    http_failures: int | None = field(0, between=_COUNT)
    tcp_failures: int | None = field(0, between=_COUNT)
    timeouts: int | None = field(0, between=_COUNT)


class PassiveChecks(Record):
    """Health by the traffic itself."""

    healthy: PassiveHealthy = field(default_factory=PassiveHealthy, show_default=True)
    type: str | None = field("http", one_of=CHECK_TYPES)
    unhealthy: PassiveUnhealthy = field(default_factory=PassiveUnhealthy, show_default=True)


class Healthchecks(Record):
    """All health checks; `threshold` in percent of the weight."""

    active: ActiveChecks = field(default_factory=ActiveChecks, show_default=True)
    passive: PassiveChecks = field(default_factory=PassiveChecks, show_default=True)
    threshold: float | None = field(0, between=(0, 100))


class OutlierEjection(Record):
    """Put a target's address out after failures in a row (5xx, no connection, no answer in time), on one worker."""

    consecutive_failures: int = field(0, between=(0, 10_000))
    """0: off."""
    ejection_time_ms: int = field(30_000, between=(100, 3_600_000))
    """Time out of use, times the number of ejections of that address so far."""
    max_ejected_percent: int = field(50, between=(0, 100))
    """Most addresses of the upstream that are out at the same time."""


class CircuitBreaking(Record):
    """What one upstream may hold of each worker, beyond Kong; null is no limit."""

    max_connections: int | None = field(None, between=(1, 1_000_000))
    """Requests on their way to the upstream; with HTTP/1.1 each has a connection."""
    max_pending_requests: int = field(0, between=(0, 1_000_000))
    """Requests that may wait for one of these, each for up to `connect_timeout`; others are answered 503."""
    max_concurrent_retries: int | None = field(None, between=(0, 1_000_000))
    """Requests on their way that are retries; when it is reached, a failed attempt is the last one."""
    outlier_ejection: OutlierEjection = field(default_factory=OutlierEjection, show_default=True)


def _published_healthchecks() -> dict[str, Any]:
    """Return the default as the contract publishes it: the nested records without nulls, and no threshold."""
    return {name: without_nulls(value) for name, value in plain(Healthchecks()).items() if isinstance(value, dict)}


def _required_with(source: str, value: str, name: str) -> checks.EntityCheck:
    return checks.conditional(source, if_match={"match": f"^{value}$"}, then_field=name, then_match={"required": True})


def _fallback_for(value: str, allowed: list[str]) -> checks.EntityCheck:
    return checks.conditional(
        "hash_on", if_match={"match": f"^{value}$"}, then_field="hash_fallback", then_match={"one_of": allowed}
    )


class Upstream(Record):
    """One upstream."""

    entity_checks = (
        _required_with("hash_on", "header", "hash_on_header"),
        _required_with("hash_fallback", "header", "hash_fallback_header"),
        _required_with("hash_on", "cookie", "hash_on_cookie"),
        _required_with("hash_fallback", "cookie", "hash_on_cookie"),
        _fallback_for("none", ["none"]),
        _fallback_for("cookie", ["none"]),
        _fallback_for("consumer", ["none", "ip", "header", "cookie", "path", "query_arg", "uri_capture"]),
        _fallback_for("ip", ["none", "consumer", "header", "cookie", "path", "query_arg", "uri_capture"]),
        _fallback_for("path", ["none", "consumer", "header", "cookie", "query_arg", "ip", "uri_capture"]),
        checks.distinct("hash_on_header", "hash_fallback_header"),
        _required_with("hash_on", "query_arg", "hash_on_query_arg"),
        _required_with("hash_fallback", "query_arg", "hash_fallback_query_arg"),
        checks.distinct("hash_on_query_arg", "hash_fallback_query_arg"),
        _required_with("hash_on", "uri_capture", "hash_on_uri_capture"),
        _required_with("hash_fallback", "uri_capture", "hash_fallback_uri_capture"),
        checks.distinct("hash_on_uri_capture", "hash_fallback_uri_capture"),
        checks.conditional(
            "algorithm",
            if_match={"eq": "sticky-sessions"},
            then_field="sticky_sessions_cookie",
            then_match={"required": True},
        ),
    )

    id: types.Id = field(schema_extra={"len_min": 1})
    created_at: types.TimestampSeconds
    name: str = field(unique=True, len_min=1, validator=addresses.upstream_name_fault, schema_extra={"len_min": 1})
    updated_at: types.TimestampSeconds
    algorithm: str | None = field("round-robin", one_of=ALGORITHMS)
    hash_on: str | None = field("none", one_of=HASH_INPUTS)
    hash_fallback: str | None = field("none", one_of=HASH_INPUTS)
    hash_on_header: types.HeaderName | None = None
    hash_fallback_header: types.HeaderName | None = None
    hash_on_cookie: types.CookieName | None = None
    hash_on_cookie_path: types.Path | None = "/"
    hash_on_query_arg: str | None = field(None, len_min=1)
    hash_fallback_query_arg: str | None = field(None, len_min=1)
    hash_on_uri_capture: str | None = field(None, len_min=1)
    hash_fallback_uri_capture: str | None = field(None, len_min=1)
    slots: int | None = field(10000, between=(10, 65536))
    healthchecks: Healthchecks = field(
        default_factory=Healthchecks, schema_extra={"default": _published_healthchecks()}
    )
    tags: types.Tags | None = None
    host_header: types.HostWithOptionalPort | None = None
    client_certificate: types.foreign("certificates") | None = None  # type: ignore[valid-type]
    use_srv_name: bool | None = False
    sticky_sessions_cookie: types.CookieName | None = None
    sticky_sessions_cookie_path: types.Path | None = "/"
    circuit_breaking: CircuitBreaking = field(default_factory=CircuitBreaking, show_default=True)


def _choose_algorithm(given: Entity) -> Entity:
    """Let algorithm and hash input follow one another: first the algorithm's rule, then that of `hash_on`."""
    chosen = dict(given)
    if chosen.get("algorithm") in ("least-connections", "latency", "sticky-sessions"):
        chosen["hash_on"] = "none"
        return chosen
    hash_on = chosen.get("hash_on")
    if hash_on == "none":
        chosen["algorithm"] = "round-robin"
    elif hash_on is not None:
        chosen["algorithm"] = "consistent-hashing"
    return chosen


ENTITY = EntityType(
    "upstreams",
    Upstream,
    "upstreams",
    endpoint_key="name",
    nested_under={"client_certificate": "upstreams"},
    id_fields=("name",),
    rewrite=_choose_algorithm,
)
