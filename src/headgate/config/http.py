"""Settings of HTTP behaviour: headers, trust, error bodies, limits, client and upstream connections."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from headgate.config.kinds import Buffers, Choice, ChoiceArray, Networks, Number, Seconds, Size, Switch, Text, Time
from headgate.config.setting import setting

_RESPONSE_HEADER_TOKENS = (
    "server_tokens",
    "latency_tokens",
    "server",
    "via",
    "x-kong-proxy-latency",
    "x-kong-upstream-latency",
    "x-kong-response-latency",
    "x-kong-admin-latency",
    "x-kong-upstream-status",
    "x-kong-request-id",
    "off",
)
_TOKEN_MEMBERS = {
    "server_tokens": ("server", "via"),
    "latency_tokens": (
        "x-kong-proxy-latency",
        "x-kong-upstream-latency",
        "x-kong-response-latency",
        "x-kong-admin-latency",
    ),
}


@dataclass(frozen=True)
class HttpBehaviour:
    """What is added to messages, who is trusted, and what a client may cost."""

    headers: tuple[str, ...] = setting(
        ChoiceArray(_RESPONSE_HEADER_TOKENS),
        "server_tokens, latency_tokens, x-kong-request-id",
        "Headers the gateway adds to responses; x-kong-upstream-status is off by default; off removes all.",
    )
    headers_upstream: tuple[str, ...] = setting(
        ChoiceArray(("x-kong-request-id", "off")), "x-kong-request-id", "Headers the gateway adds to upstream requests."
    )
    trusted_ips: tuple[str, ...] = setting(
        Networks(), "", "Peers whose X-Forwarded-* and real-IP headers are believed."
    )
    real_ip_header: str = setting(
        Text("header name"),
        "X-Real-IP",
        "Header with the client's address, sent by trusted peers.",
        aliases=("nginx_proxy_real_ip_header",),
    )
    real_ip_recursive: bool = setting(
        Switch(),
        "off",
        "Walk the header from the right over trusted addresses.",
        aliases=("nginx_proxy_real_ip_recursive",),
    )
    error_default_type: str = setting(
        Choice(("application/json", "application/xml", "text/html", "text/plain")),
        "text/plain",
        "Content type of errors when the request's Accept and Content-Type say nothing.",
    )
    error_template_html: str | None = setting(Text("path"), None, "Template of HTML errors: %s message, %s request id.")
    error_template_json: str | None = setting(Text("path"), None, "Template of JSON errors.")
    error_template_xml: str | None = setting(Text("path"), None, "Template of XML errors.")
    error_template_plain: str | None = setting(Text("path"), None, "Template of plain text errors.")
    client_max_body_bytes: int = setting(
        Size(),
        "0",
        "Largest request body, 0 is no limit; above: 413.",
        name="nginx_http_client_max_body_size",
        aliases=("client_max_body_size",),
    )
    client_body_buffer_bytes: int = setting(
        Size(),
        "8k",
        "Request body kept in memory for plugins and retries.",
        name="nginx_http_client_body_buffer_size",
        aliases=("client_body_buffer_size",),
    )
    admin_max_body_bytes: int = setting(
        Size(), "10m", "Largest body of an Admin API request, 0 is no limit.", name="nginx_admin_client_max_body_size"
    )
    large_client_header_buffers: tuple[int, int] = setting(
        Buffers(),
        "4 8k",
        "Number and size of buffers for a request head; one holds the request line (else 414) or a header (else 494).",
        name="nginx_http_large_client_header_buffers",
    )
    request_header_count: int = setting(
        Number(minimum=1), "1000", "Most header fields in one request head; above: 494."
    )
    response_head_bytes: int = setting(
        Size(), "64k", "Largest response head of an upstream; above: 502.", name="response_head_size"
    )
    request_body_memory_bytes: int = setting(
        Size(),
        "64m",
        "Most of a request body that a plugin may ask to hold in memory.",
        name="request_body_memory_size",
    )
    response_buffer_bytes: int = setting(
        Size(),
        "64m",
        "Largest response collected for plugins with a response phase; above: 502.",
        name="response_buffer_size",
    )
    websocket_client_payload_bytes: int = setting(
        Size(),
        "1m",
        "Largest message that a client of a WebSocket service may send; above: closed with 1009.",
        name="websocket_client_max_payload_size",
    )
    websocket_upstream_payload_bytes: int = setting(
        Size(),
        "16m",
        "Largest message that the upstream of a WebSocket service may send; above: closed with 1009.",
        name="websocket_upstream_max_payload_size",
    )
    websocket_compression: str = setting(
        Choice(("off", "client", "both")),
        "off",
        "permessage-deflate on WebSocket services: client agrees on it with clients that offer it, both offers it to "
        "upstreams as well, off declines it.",
    )
    response_read_ahead_bytes: int = setting(
        Size(),
        "64k",
        "Most of a response that is read from the upstream before a slow client takes it, on routes with "
        "response_buffering; 0 reads only what the client has room for.",
        name="response_read_ahead_size",
    )
    client_header_timeout_ms: int = setting(
        Time(is_zero_allowed=False),
        "60s",
        "Time for a client to send a request head; above: 408.",
        name="nginx_http_client_header_timeout",
    )
    client_body_timeout_ms: int = setting(
        Time(is_zero_allowed=False),
        "60s",
        "Time between two reads of a request body; above: 408.",
        name="nginx_http_client_body_timeout",
    )
    send_timeout_ms: int = setting(
        Time(is_zero_allowed=False), "60s", "Time between two writes of a response.", name="nginx_http_send_timeout"
    )
    keepalive_timeout_ms: int = setting(
        Time(), "75s", "Idle time of a client connection between two requests.", name="nginx_http_keepalive_timeout"
    )
    keepalive_requests: int = setting(
        Number(minimum=0),
        "10000",
        "Requests on one client connection, 0 is no limit.",
        name="nginx_http_keepalive_requests",
    )
    http2_concurrent_streams: int = setting(
        Number(minimum=1),
        "128",
        "HTTP/2 streams a client may have open on one connection.",
        aliases=("nginx_http_http2_max_concurrent_streams",),
    )
    upstream_keepalive_pool_size: int = setting(
        Number(minimum=0), "512", "Idle connections per pool; 0 disables pooling."
    )
    upstream_keepalive_max_requests: int = setting(
        Number(minimum=0), "10000", "Requests on one upstream connection; 0 is no limit."
    )
    upstream_keepalive_idle_timeout_ms: int = setting(
        Seconds(),
        "60",
        "Seconds before an idle upstream connection is closed; 0 is for ever.",
        name="upstream_keepalive_idle_timeout",
    )
    lua_max_req_headers: int = setting(Number(1, 1000), "100", "How many request headers plugins can read.")
    lua_max_resp_headers: int = setting(Number(1, 1000), "100", "How many response headers plugins can read.")
    lua_max_uri_args: int = setting(Number(1, 1000), "100", "How many query arguments plugins can read.")
    lua_max_post_args: int = setting(Number(1, 1000), "100", "How many form arguments plugins can read.")

    @property
    def response_headers(self) -> frozenset[str]:
        """Lower-case names of the headers that are added, tokens expanded."""
        names: set[str] = set()
        for token in self.headers:
            names.update(_TOKEN_MEMBERS.get(token, (token,)))
        return frozenset(names - {"off"}) if "off" not in self.headers else frozenset()

    def error_templates(self) -> dict[str, str | None]:
        """Return the text of each custom template by kind (html, json, xml, plain)."""
        kinds = {kind: getattr(self, f"error_template_{kind}") for kind in ("html", "json", "xml", "plain")}
        return {kind: Path(path).read_text(encoding="utf-8") if path else None for kind, path in kinds.items()}

    def check(self) -> Iterator[str]:
        """Yield faults that concern more than the syntax of one setting."""
        for token_list in ("headers", "headers_upstream"):
            tokens = getattr(self, token_list)
            if "off" in tokens and len(tokens) > 1:
                yield f"{token_list}: off cannot be combined with other entries"
        for kind in ("html", "json", "xml", "plain"):
            name = f"error_template_{kind}"
            path = getattr(self, name)
            if path is None:
                continue
            try:
                text = Path(path).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                yield f"{name}: cannot read {path}: {error.strerror if isinstance(error, OSError) else error}"
                continue
            if text.count("%s") > 2:
                yield f"{name}: {path} has more than two %s (message and request id)"
