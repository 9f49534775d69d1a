"""The record of a request for logging plugins: `kong.log.serialize` (PDK reference 11.5, 11.6)."""

from copy import deepcopy
from math import isfinite
from typing import Any

from headgate.pdk._call import Call
from headgate.pdk._certificates import upstream_tls
from headgate.pdk._exchange import Exchange
from headgate.pdk._headers import header_map
from headgate.pdk._node import node
from headgate.pdk._phase import phase_label
from headgate.pdk._query import parse_arguments
from headgate.pdk.router import matched_route, matched_service

MODES = ("set", "add", "replace")

SECRET_HEADERS = ("authorization", "proxy-authorization")

_INVALID_VALUE = (
    "value must be nil, a number, string, boolean or a non-self-referencial table "
    "containing numbers, string and booleans"
)


def serialize_request(call: Call) -> dict[str, Any]:
    """Build the record; fields that do not apply are absent.

    Raises: ValueError for custom values that cannot be placed or serialised.
    """
    exchange = call.exchange
    kong_ms, proxy_ms, request_ms, receive_ms = exchange.latencies_ms()
    record: dict[str, Any] = {
        "request": _request(exchange),
        "upstream_uri": exchange.upstream_uri,
        "upstream_status": exchange.upstream_status_text,
        "response": {
            "status": exchange.response_status,
            "headers": dict(header_map(exchange.response_headers(), node.max_response_headers)),
            "size": exchange.response_bytes,
        },
        "latencies": {"kong": kong_ms, "proxy": proxy_ms, "request": request_ms, "receive": receive_ms},
        "client_ip": exchange.forwarded_client_ip,
        "started_at": exchange.start_time_ms,
        "source": "upstream" if exchange.response_source == "service" else "kong",
        "workspace_name": "default",
    }
    upstream = upstream_tls(exchange)
    if upstream is not None:
        record["upstream_tls"] = upstream
    if call.times:
        record["latencies"]["plugins"] = _plugin_latencies_ms(call)
    return _completed(record, call)


def serialize_stream(call: Call) -> dict[str, Any]:
    """Build the record of a stream; fields that do not apply are absent.

    Raises: ValueError for custom values that cannot be placed or serialised.
    """
    exchange = call.exchange
    kong_ms, _, session_ms, _ = exchange.latencies_ms()
    record: dict[str, Any] = {
        "session": {
            "received": exchange.request_bytes,
            "sent": exchange.response_bytes,
            "status": exchange.session_status,
            "server_port": exchange.server_port,
        },
        "upstream": {"received": exchange.upstream_received_bytes, "sent": exchange.upstream_sent_bytes},
        "latencies": {"kong": kong_ms, "session": session_ms},
        "client_ip": exchange.forwarded_client_ip,
        "started_at": exchange.start_time_ms,
        "workspace_name": "default",
    }
    if exchange.tls_version is not None:
        record["session"]["tls"] = _tls(exchange)
    if call.times:
        record["latencies"]["plugins"] = _plugin_latencies_ms(call)
    return _completed(record, call)


def _completed(record: dict[str, Any], call: Call) -> dict[str, Any]:
    """Add what requests and streams have in common, and the values that plugins set."""
    exchange = call.exchange
    route = matched_route(exchange)
    if route is not None:
        record["tries"] = exchange.tries()
        record["route"] = deepcopy(route)
    service = matched_service(exchange)
    if service is not None:
        record["service"] = deepcopy(service)
    if call.consumer is not None:
        record["consumer"] = deepcopy(call.consumer)
    if call.credential is not None:
        record["authenticated_entity"] = _authenticated_entity(call.credential)
    workspace = (route or {}).get("ws_id") or node.configuration.get("default_workspace")
    if workspace:
        record["workspace"] = workspace
    for key, value, mode in call.serialize_values or ():
        _apply(record, key, value, mode)
    return record


def _plugin_latencies_ms(call: Call) -> dict[str, dict[str, float]]:
    """Return how long each plugin took in each phase that is over, waiting included; several chunks add up."""
    sums_ns: dict[str, dict[str, int]] = {}
    for instance, phase, took_ns in call.times:
        of_plugin = sums_ns.setdefault(instance.name, {})
        label = phase_label(phase)
        of_plugin[label] = of_plugin.get(label, 0) + took_ns
    return {
        name: {label: round(took_ns / 1e6, 3) for label, took_ns in of_plugin.items()}
        for name, of_plugin in sums_ns.items()
    }


def _request(exchange: Exchange) -> dict[str, Any]:
    headers = dict(header_map(exchange.request_headers(), node.max_request_headers))
    for name in SECRET_HEADERS:
        if name in headers:
            headers[name] = "REDACTED"
    target = exchange.request_target
    request: dict[str, Any] = {
        "id": exchange.id or "",
        "uri": target,
        "url": f"{exchange.scheme}://{exchange.host}:{exchange.mapped_port}{target}",
        "querystring": dict(parse_arguments(exchange.query or "", node.max_uri_args)),
        "method": exchange.method,
        "headers": headers,
        "size": exchange.request_bytes,
    }
    if exchange.tls_version is not None:
        request["tls"] = _tls(exchange)
    return request


def _tls(exchange: Exchange) -> dict[str, Any]:
    return {
        "version": exchange.tls_version,
        "cipher": exchange.tls_cipher,
        "client_verify": exchange.client_verify,
    }


def _authenticated_entity(credential: dict[str, Any]) -> dict[str, Any]:
    entity = {"id": credential.get("id")}
    consumer = credential.get("consumer")
    consumer_id = consumer.get("id") if isinstance(consumer, dict) else credential.get("consumer_id")
    if consumer_id is not None:
        entity["consumer_id"] = consumer_id
    return entity


def _apply(record: dict[str, Any], key: str, value: Any, mode: str) -> None:
    if not _is_serialisable(value, ()):
        raise ValueError(_INVALID_VALUE)
    *path, last = _levels(key)
    table = record
    for name in path:
        below = table.get(name)
        if below is None:
            if mode == "replace":
                return
            below = table[name] = {}
        elif not isinstance(below, dict):
            raise ValueError(
                f"The key '{key}' could not be used as a serialize value. Subkey '{name}' is not a table. It's {below}"
            )
        table = below
    is_present = table.get(last) is not None
    if mode == "set" or (mode == "add" and not is_present) or (mode == "replace" and is_present):
        if value is None:
            table.pop(last, None)
        else:
            table[last] = value


def _levels(key: str) -> list[str]:
    r"""Split at dots; `\.` is a literal one, and the first character never splits."""
    levels = [""]
    position = 0
    while position < len(key):
        if key.startswith("\\.", position):
            levels[-1] += "."
            position += 2
        elif key[position] == "." and position > 0:
            levels.append("")
            position += 1
        else:
            levels[-1] += key[position]
            position += 1
    return levels


def _is_serialisable(value: Any, above: tuple[int, ...]) -> bool:
    if value is None or isinstance(value, str | bool | int):
        return True
    if isinstance(value, float):
        return isfinite(value)
    if id(value) in above:
        return False
    inside = (*above, id(value))
    if isinstance(value, dict):
        return all(
            isinstance(key, str | int | float) and not isinstance(key, bool) and _is_serialisable(element, inside)
            for key, element in value.items()
        )
    return isinstance(value, list | tuple) and all(_is_serialisable(element, inside) for element in value)
