"""The contract of the native module, checked against it by stubtest.

Only `headgate.engine` imports `_engine`; the PDK sees `Exchange` and `Handshake` through protocol classes.
Header names are case-insensitive, `-` and `_` are equal in lookups. Text is UTF-8; bytes that are not UTF-8
arrive as surrogate escapes and go back unchanged. Every method of `Exchange` and `Handshake` raises
`RuntimeError` when the request is not in a phase (a reference kept beyond it).
"""

from collections.abc import Awaitable
from typing import Any, Protocol, final, type_check_only

PHASES: dict[str, int]
"""Phase name to bit, for the phases the engine knows."""

ERROR_MESSAGES: dict[int, str]
"""Default text of each error status, as the engine answers it."""

LUA_FUNCTIONS: dict[str, tuple[int, list[str]]]
"""C functions for LuaJIT by kind: the address, and the PDK's functions behind it in the order of their numbers."""

class PlanError(ValueError):
    """A plan that cannot be applied; `args[0]` is the list of faults, each a text with its path."""

@type_check_only
class Runner(Protocol):
    """What the engine calls: one method per phase, on the engine thread with the GIL held.

    Each returns None when the phase is over, or an awaitable (run on the worker's loop; the request waits for it),
    or a `NeedBody` (the engine reads the request body up to the limit, then calls `resume`). A raised exception is a
    fault of the runner itself: the request ends with 500.
    """

    def certificate(self, handshake: Handshake) -> Awaitable[None] | None: ...
    def preread(self, exchange: Exchange) -> Awaitable[None] | None: ...
    def stream_log(self, exchange: Exchange) -> Awaitable[None] | None: ...
    def rewrite(self, exchange: Exchange) -> Awaitable[None] | NeedBody | None: ...
    def access(self, exchange: Exchange) -> Awaitable[None] | NeedBody | None: ...
    def response(self, exchange: Exchange) -> Awaitable[None] | NeedBody | None: ...
    def header_filter(self, exchange: Exchange) -> Awaitable[None] | NeedBody | None: ...
    def body_filter(self, exchange: Exchange) -> Awaitable[None] | NeedBody | None: ...
    def log(self, exchange: Exchange) -> Awaitable[None] | NeedBody | None: ...
    def ws_handshake(self, exchange: Exchange) -> Awaitable[None] | NeedBody | None: ...
    def ws_client_frame(self, exchange: Exchange) -> Awaitable[None] | NeedBody | None: ...
    def ws_upstream_frame(self, exchange: Exchange) -> Awaitable[None] | NeedBody | None: ...
    def ws_close(self, exchange: Exchange) -> Awaitable[None] | NeedBody | None: ...

@final
class NeedBody:
    """Returned by a phase that cannot go on before the request body is read.

    `limit_bytes`: stop reading beyond this size (the body then stays unreadable for plugins, `request_body_state`
    says so). `resume()` is called on the engine thread afterwards and returns what a phase returns.
    """

    def __new__(cls, limit_bytes: int, resume: Any) -> NeedBody: ...

@final
class Exchange:
    """One client request on its way: reads and writes go straight to the engine, nothing is copied unasked."""

    state: Any
    """The runner's own state of this request; None at first, kept until the log phase is over."""

    # -- identity -----------------------------------------------------------------------------------------------
    @property
    def lua_handle(self) -> int | None:
        """The number that `LUA_FUNCTIONS` know the request by; None where there is none."""
    @property
    def plan(self) -> Any:
        """The object given to `Engine.apply` with the plan that is in force for this request."""
    @property
    def route_index(self) -> int | None:
        """Position of the matched route in the plan's list; None before routing or without a match."""
    @property
    def phase(self) -> int:
        """Bit of the current phase (see PHASES)."""
    @property
    def id(self) -> str:
        """Request id, 32 lower-case hex characters."""
    @property
    def start_time_ms(self) -> int:
        """Unix milliseconds."""
    def set_phases(self, mask: int) -> None:
        """Say which later phases have handlers for this request (bits); others are not called."""

    # -- client connection --------------------------------------------------------------------------------------
    @property
    def scheme(self) -> str: ...
    @property
    def http_version(self) -> float: ...
    @property
    def server_port(self) -> int:
        """Local port of the listener that accepted the connection."""
    @property
    def server_ip(self) -> str: ...
    @property
    def mapped_port(self) -> int:
        """Listener port after `port_maps`."""
    @property
    def client_ip(self) -> str:
        """Address of the directly connected peer."""
    @property
    def client_port(self) -> int: ...
    @property
    def forwarded_client_ip(self) -> str:
        """Address after real-IP processing."""
    @property
    def forwarded_client_port(self) -> int: ...
    @property
    def is_peer_trusted(self) -> bool: ...
    @property
    def aws_vpce_id(self) -> str | None:
        """AWS VPC endpoint of the client, as a trusted balancer's PROXY protocol head says."""
    @property
    def tls_version(self) -> str | None:
        """`TLSv1.3`, `TLSv1.2`; None on a plain connection."""
    @property
    def tls_cipher(self) -> str | None: ...
    @property
    def tls_server_name(self) -> str | None: ...
    def client_certificate_chain(self) -> str | None:
        """What the client presented as PEM, leaf first, not verified; None without."""
    @property
    def client_verify(self) -> str:
        """`NONE`, `SUCCESS` or `FAILED:<reason>`; the engine judges no certificate, plugins do."""
    def set_client_verify(self, value: str) -> None: ...

    # -- request as sent ----------------------------------------------------------------------------------------
    @property
    def request_target(self) -> str:
        """The request target as sent, untouched."""
    @property
    def raw_path(self) -> str: ...
    @property
    def path(self) -> str:
        """The normalised path (reference: PDK get_path)."""
    @property
    def host(self) -> str:
        """Lower-case host without port."""
    @property
    def stripped_prefix(self) -> str | None: ...
    def uri_captures(self) -> tuple[list[str | None], dict[str, str]] | None:
        """(unnamed with the whole match first, named); None when the route's path is no regex with groups."""

    # -- request as it will go upstream (readers see what setters changed) --------------------------------------
    @property
    def method(self) -> str: ...
    def set_method(self, method: str) -> None: ...
    @property
    def query(self) -> str | None:
        """Query string without `?`; None when there is none."""
    def set_query(self, query: str | None) -> None: ...
    def get_request_header(self, name: str) -> str | None:
        """First value, or None."""
    def get_request_header_values(self, name: str) -> list[str]: ...
    def request_headers(self) -> list[tuple[str, str]]:
        """All (name as sent, value) in order."""
    def set_request_header(self, name: str, values: list[str]) -> None:
        """Replace all occurrences. `Host` also sets the upstream's Host and TLS server name."""
    def add_request_header(self, name: str, value: str) -> None: ...
    def clear_request_header(self, name: str) -> None: ...
    @property
    def request_body_state(self) -> int:
        """0: none or wholly in memory; 1: not (wholly) read yet; 2: too large for the last limit; 3: gone upstream."""
    def request_body(self) -> bytes | None:
        """The whole body when its state is 0, else None."""
    @property
    def request_body_buffer_bytes(self) -> int:
        """Setting `client_body_buffer_size`."""
    def set_request_body(self, body: bytes) -> None: ...
    def read_request_body(self, limit_bytes: int) -> Awaitable[bool]:
        """For `async def` handlers: read the body into memory; False when it is larger than the limit."""
    def set_upstream_scheme(self, scheme: str) -> None: ...
    def set_upstream_path(self, path: str) -> None:
        """Absolute path, escaped by the engine (PDK 6.1); replaces service path and route path."""
    def set_upstream(self, name: str) -> bool:
        """False when the plan has no such upstream."""
    def set_target(self, host: str, port: int) -> None: ...
    def set_balancing_identity(self, identity: str | None) -> None:
        """Id of the consumer, else of the credential, for upstreams with `hash_on: consumer`."""
    def set_retries(self, retries: int) -> None: ...
    def set_timeouts(self, connect_ms: int, write_ms: int, read_ms: int) -> None: ...
    def set_upstream_tls(
        self,
        verify: bool | None = None,
        depth: int | None = None,
        ca_pem: str | None = None,
        certificate: tuple[str, str] | None = None,
    ) -> None:
        """Change TLS towards the upstream for this request; None keeps what was in force. PEM texts are read when the
        connection is made: faults end the attempt with 502.
        """
    def set_target_retry_callback(self, callback: Any) -> None: ...
    def enable_buffering(self) -> None: ...

    # -- answers ------------------------------------------------------------------------------------------------
    def respond(self, status: int, headers: list[tuple[str, str]], body: bytes | None, is_json: bool = False) -> None:
        """Answer instead of proxying (`kong.response.exit`): recorded, sent after the phase.

        `headers` replace same-named ones set earlier. Content-Length is set unless given; `is_json` sets the JSON
        content type unless `headers` has one. In header_filter the body replaces the whole response body.
        """
    def respond_error(self, status: int, message: str | None, headers: list[tuple[str, str]]) -> None:
        """Answer with the negotiated error body (`kong.response.error`); default text for None."""
    def fail(self) -> None:
        """A handler raised: answer 500 `An unexpected error occurred`; `response_source` becomes `error`."""
    @property
    def is_answered(self) -> bool:
        """True when `respond`, `respond_error` or `fail` was called in this or an earlier phase."""
    @property
    def response_source(self) -> str:
        """`error`, `exit` or `service` (PDK 8.1)."""

    # -- response to the client (before the response phases: what is kept for it) ---------------------------------
    @property
    def response_status(self) -> int: ...
    def set_response_status(self, status: int) -> None: ...
    def get_response_header(self, name: str) -> str | None: ...
    def response_headers(self) -> list[tuple[str, str]]: ...
    def set_response_header(self, name: str, values: list[str]) -> None: ...
    def add_response_header(self, name: str, value: str) -> None: ...
    def clear_response_header(self, name: str) -> None: ...
    def response_chunk(self) -> tuple[bytes, bool]:
        """body_filter: (current chunk, is it the last one)."""
    def set_response_chunk(self, chunk: bytes, is_last: bool) -> None: ...

    # -- response of the upstream -------------------------------------------------------------------------------
    @property
    def upstream_status(self) -> int | None:
        """Status of the last attempt; None when nothing was proxied."""
    @property
    def upstream_status_text(self) -> str:
        """Every attempt's status, `502, 200`; empty when not proxied."""
    def get_upstream_header(self, name: str) -> str | None:
        """Only names that the upstream sent; a changed value shows as changed."""
    def upstream_headers(self) -> list[tuple[str, str]]: ...
    @property
    def is_buffered(self) -> bool: ...
    def buffered_body(self) -> bytes:
        """The upstream's whole body in buffered mode; empty otherwise."""
    def set_buffered_body(self, body: bytes) -> None: ...

    # -- WebSocket messages ---------------------------------------------------------------------------------------
    def websocket_message(self) -> tuple[bytes, str, int | None]:
        """(payload, kind, status) of the message in its phase; the status is a close frame's, whose payload is the
        reason.
        """
    def set_websocket_message(self, data: bytes | None = None, status: int | None = None) -> None:
        """Replace the payload, the status or both; None leaves it."""
    def drop_websocket_message(self) -> None:
        """Do not pass the message on."""
    def close_websocket(self, client: tuple[int, bytes], upstream: tuple[int, bytes]) -> None:
        """End the connection after this phase: (status, reason) for each side."""
    def set_websocket_limit(self, side: str, size_bytes: int) -> None:
        """Largest message of `client` or `upstream`; 0 is the node's default."""

    # -- record for the log phase ---------------------------------------------------------------------------------
    @property
    def upstream_uri(self) -> str:
        """Path and query sent upstream; empty when not proxied."""
    @property
    def request_bytes(self) -> int:
        """Received, with request line and headers."""
    @property
    def response_bytes(self) -> int:
        """Sent to the client, with status line and headers."""
    @property
    def stream_protocol(self) -> str | None:
        """`tcp`, `tls`, `tls_passthrough` or `udp`; None for HTTP, where the three below are 0."""
    @property
    def session_status(self) -> int:
        """Status of the stream."""
    @property
    def upstream_received_bytes(self) -> int:
        """Bytes that the stream's upstream sent."""
    @property
    def upstream_sent_bytes(self) -> int:
        """Bytes that the stream's upstream got."""
    def latencies_ms(self) -> tuple[int, int, int, int]:
        """(kong, proxy or -1, request, receive)."""
    def routing_ns(self) -> tuple[int, int] | None:
        """Begin and end of looking for the route, Unix nanoseconds; None before it."""
    def record_upstream_tls(self) -> None:
        """Keep the TLS facts of the connection to the upstream."""
    def upstream_tls_facts(self) -> tuple[str, str, bytes | None] | None:
        """(version, cipher suite, the upstream's certificate in DER), of the last attempt; None where not kept."""
    def tries(self) -> list[dict[str, Any]]:
        """One dict per attempt: balancer_start and balancer_latency (also as `_ns`), ip, port, and state and code of
        failed ones.
        """

@final
class Handshake:
    """One TLS handshake in its certificate phase."""

    state: Any
    @property
    def lua_handle(self) -> None: ...
    @property
    def plan(self) -> Any: ...
    @property
    def phase(self) -> int: ...
    @property
    def server_name(self) -> str | None: ...
    @property
    def client_ip(self) -> str: ...
    @property
    def client_port(self) -> int: ...
    @property
    def server_port(self) -> int: ...
    @property
    def forwarded_client_ip(self) -> str: ...
    @property
    def forwarded_client_port(self) -> int: ...
    @property
    def aws_vpce_id(self) -> str | None:
        """AWS VPC endpoint of the client, as a trusted balancer's PROXY protocol head says."""
    @property
    def is_stream(self) -> bool:
        """The connection is a stream, not HTTP."""
    def request_client_certificate(self, ca_names: list[bytes] | None) -> None:
        """Ask the client for a certificate, naming these authorities (DER names); it may come without."""
    def set_certificate(self, chain: bytes, key: bytes) -> None:
        """Show this certificate instead of the configured one.

        Chain: PEM, leaf first, or one certificate in DER; key: PEM or DER. What was read is kept for later handshakes
        (the last 1024 pairs). Raises ValueError with every fault.
        """
    def disable_session_reuse(self) -> None:
        """Hand out no ticket and store no session for this connection."""
    def disable_http2(self) -> None:
        """Offer HTTP/1.1 only."""
    def fail(self) -> None:
        """Abort the handshake (a handler raised)."""

@final
class Engine:
    """One worker's engine: its own thread, its own tokio runtime."""

    def __new__(cls, settings: bytes, runner: Runner, call_soon_threadsafe: Any) -> Engine:
        """Build an engine from the JSON of `EngineSettings` (crates/engine/src/settings.rs).

        Raises ValueError with the list of faults.
        """
    def apply(self, plan: bytes, attachment: Any) -> None:
        """Check the JSON plan whole and swap it in for new requests; PlanError leaves the running one in place."""
    def apply_change(self, change: bytes, attachment: Any) -> None:
        """Swap in what a JSON change makes of the plan in force; PlanError leaves that in place."""
    def start(self) -> None:
        """Start the engine thread and accept connections (a plan must have been applied)."""
    def drain(self) -> None:
        """Stop accepting, let running requests finish, close idle connections; returns at once."""
    def stop(self) -> None:
        """Cut everything and wait for the thread."""
    def on_health_reports(self, callback: Any) -> None:
        """Call `callback()`, on any thread, whenever there are health reports to take again; once per engine."""
    def take_health_reports(self, limit: int) -> bytes | None:
        """JSON of up to `limit` reports (crates/engine/src/upstream/reports.rs); None when there are none."""
    def report_pools(self) -> None:
        """Report the pool of every upstream again, with the states of its addresses."""
    def set_health(self, upstream_id: str, address: tuple[str, str, int], health: str, is_reset: bool) -> None:
        """Set the state of an address (host, ip, port); unknown ones are passed over. `is_reset`: counters, too."""
    def resolve(self, name: str, kind: str | None, callback: Any) -> bool:
        """Resolve a name as the engine does for itself; `kind`: A, AAAA or SRV only.

        `callback(records, None)` or `callback(None, text)` is called on the engine thread; a record is its address, and
        (port or None, weight, target) of an SRV record. False, and no call, while the engine does not run.
        """
    def resolve_next(self, name: str, callback: Any) -> bool:
        """As `resolve`, with the one record whose turn it is."""
    def name_usage(self, limit: int) -> list[tuple[str, tuple[int, int, int, int, int]]]:
        """How names were used, most used first: hits, stale hits, misses, queries that succeeded, that failed."""
    def reopen_logs(self) -> None:
        """Open the access log anew (log rotation)."""
    @property
    def is_running(self) -> bool: ...
    def stats(self) -> dict[str, int]:
        """Counters of connections (active, reading, writing, waiting, accepted, handled), `total_requests`, and the
        `revision` in force.
        """

@final
class HealthMachine:
    """State and counters of one address (crates/engine/src/upstream/health.rs)."""

    def __new__(cls) -> HealthMachine: ...
    @property
    def health(self) -> str:
        """`healthy`, `mostly_healthy`, `unhealthy` or `mostly_unhealthy`."""
    def observe(self, observation: str, times: int, thresholds: tuple[int, int, int, int]) -> bool:
        """Count equal observations (`success`, `http_failure`, `tcp_failure`, `timeout`); True: another state now.

        `thresholds`: successes, HTTP failures, TCP failures, timeouts. ValueError for another name.
        """
    def set(self, health: str) -> None:
        """Set the state; counters start from zero. ValueError for another name."""

def check_expression(expression: str, is_stream: bool) -> list[str]:
    """Every fault of a route's expression; empty when it can be compiled."""

def explain_route(plan: bytes, request: bytes) -> dict[str, Any]:
    """Ask the router for the route of a described request, without serving.

    `plan`: JSON as for `Engine.apply`. `request`: JSON with method, host, target, headers (pairs), sni, is_tls, source
    and destination ({ip, port}, null for what is not known).
    Returns route (position or None), normalized_path, matched_prefix, upstream_path, captures ([unnamed], {named}).
    Raises ValueError with the list of faults.
    """

def explain_stream(plan: bytes, stream: bytes) -> int | None:
    """Ask the router for the route of a described stream: its position in the plan.

    `stream`: JSON with transport (`tcp`, `tls`, `udp`), sni, source and destination ({ip, port}).
    Raises ValueError with the list of faults.
    """
