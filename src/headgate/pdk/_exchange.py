"""The request as the PDK and the runner see it: a protocol class with the members of the native `Exchange`.

A test compares it with `_engine.pyi`, member by member; `headgate.testing` implements it in Python. Nothing of the PDK
imports the native module.
"""

from collections.abc import Awaitable
from typing import Any, Protocol


class Exchange(Protocol):
    """One client request on its way: reads and writes go straight to the engine, nothing is copied before it is asked
    for.
    """

    state: Any
    """The runner's own state of this request; None at first, kept until the log phase is over."""

    # -- identity -----------------------------------------------------------------------------------------------
    @property
    def lua_handle(self) -> int | None:
        """What Lua code knows the request by when it asks the engine itself; None where all goes through Python."""

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
        """What the client presented, as PEM with the leaf first; None without a client certificate."""

    @property
    def client_verify(self) -> str:
        """`SUCCESS`, `NONE` or `FAILED:<reason>`; what `set_client_verify` said wins."""

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
        """0: none or wholly in memory; 1: not (wholly) read yet; 2: too large for the last limit; 3: gone to the
        upstream.
        """

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
    def set_target_retry_callback(self, callback: Any) -> None: ...
    def set_upstream_tls(
        self,
        verify: bool | None = None,
        depth: int | None = None,
        ca_pem: str | None = None,
        certificate: tuple[str, str] | None = None,
    ) -> None:
        """Override TLS towards the upstream for this request; None leaves what is in force.

        `certificate`: (chain, key) as PEM, read when the connection is made: faults end the attempt with 502.
        """

    def record_upstream_tls(self) -> None:
        """Keep the TLS facts of the connection to the upstream."""

    def upstream_tls_facts(self) -> tuple[str, str, bytes | None] | None:
        """(version, cipher suite, the upstream's certificate in DER), of the last attempt; None where not kept."""

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

    def tries(self) -> list[dict[str, Any]]:
        """One dict per attempt: balancer_start, balancer_start_ns, balancer_latency, balancer_latency_ns, ip, port,
        state?, code?.
        """


class Handshake(Protocol):
    """What `kong.client.tls` does in the certificate phase: the part of the native `Handshake` that it needs."""

    def request_client_certificate(self, ca_names: list[bytes] | None) -> None:
        """Ask the client for a certificate; `ca_names`: subjects in DER, None for any."""

    @property
    def server_name(self) -> str | None: ...

    def set_certificate(self, chain: bytes, key: bytes) -> None:
        """Show this certificate; both PEM or DER. Raises: ValueError with every fault."""

    def disable_session_reuse(self) -> None:
        """Neither resume nor offer a session on this connection."""

    def disable_http2(self) -> None:
        """Offer HTTP/1.1 only."""
