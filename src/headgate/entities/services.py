"""Services: what the gateway calls."""

from typing import Any
from urllib.parse import urlsplit

from headgate.entities.entity_type import Entity, EntityType
from headgate.schema import Record, checks, field, types

_NULL = {"eq": None}
_TIMEOUT_MS = (1, 2147483646)
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def _null_without_tls(name: str) -> checks.EntityCheck:
    protocols = ["https", "tls", "wss"]
    return checks.conditional("protocol", if_match={"not_one_of": protocols}, then_field=name, then_match=_NULL)


class Service(Record):
    """One service; `url` is accepted on input in place of protocol, host, port and path."""

    entity_checks = (
        checks.conditional(
            "protocol",
            if_match={"one_of": ["tcp", "tls", "udp", "grpc", "grpcs"]},
            then_field="path",
            then_match=_NULL,
        ),
        _null_without_tls("client_certificate"),
        _null_without_tls("tls_verify"),
        _null_without_tls("tls_verify_depth"),
        _null_without_tls("ca_certificates"),
    )

    id: types.Id = field(schema_extra={"len_min": 1})
    created_at: types.TimestampSeconds
    updated_at: types.TimestampSeconds
    name: types.Name | None = field(None, len_min=1)
    retries: int | None = field(5, between=(0, 32767))
    protocol: types.Protocol = "http"
    host: types.Host
    port: types.Port = 80
    path: types.Path | None = None
    connect_timeout: int | None = field(60000, between=_TIMEOUT_MS)
    write_timeout: int | None = field(60000, between=_TIMEOUT_MS)
    read_timeout: int | None = field(60000, between=_TIMEOUT_MS)
    tags: types.Tags | None = None
    client_certificate: types.foreign("certificates") | None = None  # type: ignore[valid-type]
    tls_verify: bool | None = None
    tls_verify_depth: int | None = field(None, between=(0, 64), schema_extra={"default": None})
    ca_certificates: list[types.Uuid] | None = None
    enabled: bool = True


def _expand_url(given: Entity) -> Entity:
    if "url" not in given:
        return given
    url = given["url"]
    rest = {key: value for key, value in given.items() if key != "url"}
    return {**rest, **parsed_url(url)} if url is not None else rest


def parsed_url(url: Any) -> dict[str, Any]:
    """Return protocol, host, port and path of a URL; without a host it is None, so that its absence is reported."""
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    protocol = parts.scheme or {80: "http", 443: "https"}.get(port or 0, "http")
    if host is not None and ":" in host:
        host = f"[{host}]"
    return {
        "protocol": protocol,
        "host": host or None,
        "port": port if port is not None else _DEFAULT_PORTS.get(protocol, 80),
        "path": (parts.path or None) if host else None,
    }


ENTITY = EntityType(
    "services",
    Service,
    "services",
    endpoint_key="name",
    nested_under={"client_certificate": "services"},
    id_fields=("name",),
    rewrite=_expand_url,
)
