"""An `Exchange` in memory: the protocol of the native one, written in plain Python, with no socket and no thread.

It is the readable statement of what each member does; `tests/testing` holds it to the protocol class. Response headers
that the engine adds last (latencies, `Via`, the request id) are not here: plugins never see those.
"""

import posixpath
import re
import time
import uuid
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from headgate.phases import Phase
from headgate.testing.error_body import default_message, error_body
from headgate.testing.grpc import grpc_name, grpc_status

Lines = list[tuple[str, str]]

# Triplets of these stay escaped when a path is normalised (PDK reference 3.2).
_RESERVED = frozenset(b"!*'();:@&=+$,/?%#[]")
_TRIPLET = re.compile(rb"%([0-9a-fA-F]{2})")
_PATH_SAFE = "!#$&'()*+,/:;=?@[]\\-._~%"

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

_BODY_IN_MEMORY, _BODY_UNREAD, _BODY_TOO_LARGE = 0, 1, 2

HeaderInput = dict[str, Any] | list[tuple[str, str]]


@dataclass
class Request:
    """The client's request; `path` may carry a query. `is_body_read` False: the body waits on the connection.
    `client_certificate`: the chain that the client presented, as PEM. `aws_vpce_id`: what a balancer's
    PROXY protocol says.
    """

    method: str = "GET"
    path: str = "/"
    headers: HeaderInput = field(default_factory=dict)
    body: bytes | str = b""
    scheme: str = "http"
    host: str = "localhost"
    port: int = 8000
    http_version: float = 1.1
    client_ip: str = "127.0.0.1"
    client_port: int = 40000
    forwarded_ip: str | None = None
    is_trusted: bool = False
    is_body_read: bool = True
    client_certificate: str | None = None
    aws_vpce_id: str | None = None


@dataclass
class Upstream:
    """The upstream's response, for the phases that come after it."""

    status: int = 200
    headers: HeaderInput = field(default_factory=dict)
    body: bytes | str = b""


def header_lines(headers: HeaderInput) -> Lines:
    """Return headers as lines; a mapping's list values become several."""
    if isinstance(headers, list):
        return list(headers)
    return [
        (name, str(one)) for name, value in headers.items() for one in (value if isinstance(value, list) else [value])
    ]


def normalized_path(raw_path: str) -> str:
    """Return the path as `kong.request.get_path` shows it."""
    if raw_path in ("", "/"):
        return raw_path

    def decoded(found: re.Match[bytes]) -> bytes:
        byte = int(found.group(1), 16)
        return found.group().upper() if byte in _RESERVED else bytes((byte,))

    path = _TRIPLET.sub(decoded, raw_path.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
    is_directory = path.endswith(("/", "/.", "/.."))
    path = re.sub("/+", "/", posixpath.normpath(path))
    return path if path == "/" or not is_directory else f"{path}/"


def _checked_name(name: str) -> str:
    """Return a header name; raise ValueError for what is no token, as the engine does."""
    if _TOKEN.fullmatch(name) is None:
        raise ValueError(f'invalid header name "{name}"')
    return name


def _escaped_value(value: str) -> str:
    """Return a header value with control characters percent-encoded, so that no plugin can split a message."""
    return _CONTROL.sub(lambda found: f"%{ord(found.group()):02X}", value)


def _key(name: str) -> str:
    return name.lower().replace("_", "-")


def _first(lines: Lines, name: str) -> str | None:
    key = _key(name)
    return next((value for other, value in lines if _key(other) == key), None)


def _replaced(lines: Lines, name: str, values: list[str]) -> Lines:
    key = _key(name)
    kept = [line for line in lines if _key(line[0]) != key]
    return kept + [(_checked_name(name), _escaped_value(value)) for value in values]


class MemoryExchange:
    """One request; attributes that start with `upstream_` and `answer` show what plugins made of it."""

    def __init__(self, request: Request, upstream: Upstream | None, plan: Any, route_index: int | None) -> None:
        self.state: Any = None
        self.plan = plan
        self.route_index = route_index
        self.phase = 0
        self.id = uuid.uuid4().hex
        self.start_time_ms = int(time.time() * 1000)
        self.later_phases: int | None = None

        self.scheme = request.scheme
        self.http_version = request.http_version
        self.server_port = request.port
        self.mapped_port = request.port
        self.server_ip = "127.0.0.1"
        self.client_ip = request.client_ip
        self.client_port = request.client_port
        self.forwarded_client_ip = request.forwarded_ip or request.client_ip
        self.forwarded_client_port = request.client_port
        self.is_peer_trusted = request.is_trusted
        self.tls_version: str | None = "TLSv1.3" if request.scheme == "https" else None
        self.tls_cipher: str | None = "TLS_AES_256_GCM_SHA384" if request.scheme == "https" else None
        self.tls_server_name: str | None = request.host if request.scheme == "https" else None

        self.aws_vpce_id = request.aws_vpce_id
        self.lua_handle: int | None = None
        self.is_stream = False
        self.stream_protocol: str | None = None
        self.session_status = 0
        self.upstream_received_bytes = 0
        self.upstream_sent_bytes = 0

        self.client_chain = request.client_certificate
        self.client_verify = "NONE"
        self.is_client_certificate_requested = False
        self.given_certificate: tuple[bytes, bytes] | None = None
        self.requested_ca_names: list[bytes] | None = None
        self.is_session_reusable = True
        self.is_http2_offered = True
        self.upstream_tls: dict[str, Any] = {}

        self.request_target = request.path
        raw_path, question_mark, query = request.path.partition("?")
        self.raw_path = raw_path
        self.path = normalized_path(raw_path)
        self.query: str | None = query if question_mark else None
        self.stripped_prefix: str | None = None
        self.captures: tuple[list[str | None], dict[str, str]] | None = None
        self.method = request.method
        self._request_lines = header_lines(request.headers)
        host = _first(self._request_lines, "host")
        if host is None:
            self._request_lines.insert(0, ("Host", request.host))
        self.host = re.sub(r":\d*$", "", host or request.host).lower()

        body = request.body.encode() if isinstance(request.body, str) else request.body
        self._body = body
        self.request_body_state = _BODY_IN_MEMORY if request.is_body_read or not body else _BODY_UNREAD
        self.request_body_buffer_bytes = 8192
        if body and _first(self._request_lines, "content-length") is None:
            self._request_lines.append(("Content-Length", str(len(body))))

        self.upstream_scheme: str | None = None
        self.upstream_path: str | None = None
        self.upstream_name: str | None = None
        self.upstream_target: tuple[str, int] | None = None
        self.balancing_identity: str | None = None
        self.upstream_retries: int | None = None
        self.upstream_timeouts_ms: tuple[int, int, int] | None = None
        self.retry_callback: Any = None
        self.is_buffered = False

        self.answer: tuple[int, Lines, bytes | None] | None = None
        self._is_failed = False
        self._is_exit = False
        self._response_lines: Lines = []
        self.response_status = 0
        self.response_body = b""
        self._chunk: tuple[bytes, bool] = (b"", True)
        self.message: tuple[bytes, str, int | None] | None = None
        self.is_message_dropped = False
        self.farewells: tuple[tuple[int, bytes], tuple[int, bytes]] | None = None
        self.websocket_limits: dict[str, int] = {}
        self.upstream_status: int | None = None
        self._upstream_names: frozenset[str] = frozenset()
        if upstream is not None:
            self.receive(upstream)

    def receive(self, upstream: Upstream) -> None:
        """Take the upstream's response, as the engine does before the response phases."""
        lines = header_lines(upstream.headers)
        self.upstream_status = self.response_status = upstream.status
        self._upstream_names = frozenset(_key(name) for name, _ in lines)
        self._response_lines += lines
        self.response_body = upstream.body.encode() if isinstance(upstream.body, str) else upstream.body

    # -- identity, request as sent ------------------------------------------------------------------------------
    def set_phases(self, mask: int) -> None:
        self.later_phases = mask

    def uri_captures(self) -> tuple[list[str | None], dict[str, str]] | None:
        return self.captures

    def client_certificate_chain(self) -> str | None:
        return self.client_chain

    def set_client_verify(self, value: str) -> None:
        self.client_verify = value

    # -- TLS handshake ------------------------------------------------------------------------------------------
    def request_client_certificate(self, ca_names: list[bytes] | None) -> None:
        self.requested_ca_names = ca_names
        self.is_client_certificate_requested = True

    @property
    def server_name(self) -> str | None:
        return self.tls_server_name

    def set_certificate(self, chain: bytes, key: bytes) -> None:
        self.given_certificate = (chain, key)

    def disable_session_reuse(self) -> None:
        self.is_session_reusable = False

    def disable_http2(self) -> None:
        self.is_http2_offered = False

    # -- request as it will go upstream -------------------------------------------------------------------------
    def set_method(self, method: str) -> None:
        self.method = method

    def set_query(self, query: str | None) -> None:
        self.query = query

    def get_request_header(self, name: str) -> str | None:
        return _first(self._request_lines, name)

    def get_request_header_values(self, name: str) -> list[str]:
        key = _key(name)
        return [value for other, value in self._request_lines if _key(other) == key]

    def request_headers(self) -> Lines:
        return list(self._request_lines)

    def set_request_header(self, name: str, values: list[str]) -> None:
        self._request_lines = _replaced(self._request_lines, name, values)

    def add_request_header(self, name: str, value: str) -> None:
        self._request_lines.append((_checked_name(name), _escaped_value(value)))

    def clear_request_header(self, name: str) -> None:
        self._request_lines = _replaced(self._request_lines, name, [])

    def request_body(self) -> bytes | None:
        return self._body if self.request_body_state == _BODY_IN_MEMORY else None

    def set_request_body(self, body: bytes) -> None:
        self._body = body
        self.request_body_state = _BODY_IN_MEMORY
        self.set_request_header("Content-Length", [str(len(body))])

    def read_body_now(self, limit_bytes: int) -> bool:
        """Read the waiting body as the engine does for `NeedBody`; say whether it is within the limit."""
        if self.request_body_state != _BODY_IN_MEMORY:
            self.request_body_state = _BODY_IN_MEMORY if len(self._body) <= limit_bytes else _BODY_TOO_LARGE
        return self.request_body_state == _BODY_IN_MEMORY

    def read_request_body(self, limit_bytes: int) -> Awaitable[bool]:
        async def read() -> bool:
            return self.read_body_now(limit_bytes)

        return read()

    def set_upstream_scheme(self, scheme: str) -> None:
        self.upstream_scheme = scheme

    def set_upstream_path(self, path: str) -> None:
        self.upstream_path = quote(path, safe=_PATH_SAFE, errors="surrogateescape")

    def set_upstream(self, name: str) -> bool:
        if self.plan is None or self.plan.snapshot.by("upstreams", "name", name) is None:
            return False
        self.upstream_name = name
        return True

    def set_target(self, host: str, port: int) -> None:
        self.upstream_target = (host, port)

    def set_balancing_identity(self, identity: str | None) -> None:
        self.balancing_identity = identity

    def set_retries(self, retries: int) -> None:
        self.upstream_retries = retries

    def set_timeouts(self, connect_ms: int, write_ms: int, read_ms: int) -> None:
        self.upstream_timeouts_ms = (connect_ms, write_ms, read_ms)

    def set_target_retry_callback(self, callback: Any) -> None:
        self.retry_callback = callback

    def set_upstream_tls(
        self,
        verify: bool | None = None,
        depth: int | None = None,
        ca_pem: str | None = None,
        certificate: tuple[str, str] | None = None,
    ) -> None:
        given = {"verify": verify, "depth": depth, "ca_pem": ca_pem, "certificate": certificate}
        self.upstream_tls |= {name: value for name, value in given.items() if value is not None}

    def enable_buffering(self) -> None:
        self.is_buffered = True

    # -- answers --------------------------------------------------------------------------------------------------
    def respond(self, status: int, headers: Lines, body: bytes | None, is_json: bool = False) -> None:
        lines = [(_checked_name(name), _escaped_value(value)) for name, value in headers]
        if is_json and _first(lines, "content-type") is None:
            lines.append(("Content-Type", "application/json; charset=utf-8"))
        if _first(lines, "content-length") is None:
            lines.append(("Content-Length", str(len(body or b""))))
        lines, body = self._as_grpc(status, lines, body)
        self.answer = (status, lines, body)
        self._is_exit = True

    def respond_error(self, status: int, message: str | None, headers: Lines) -> None:
        if self._is_grpc_request():
            lines = _replaced(headers, "Content-Type", ["application/grpc"])
            text = message or grpc_name(status)
            self.respond(status, [*lines, ("grpc-message", _escaped_value(text))], None)
            return
        accept = self.get_request_header_values("accept")
        content_type = _first(headers, "content-type")
        text = default_message(status) if message is None else message
        negotiated, body = error_body(text, self.id, accept if content_type is None else [content_type])
        self.respond(status, _replaced(headers, "Content-Type", [negotiated]), body)

    def _is_grpc_request(self) -> bool:
        return self.http_version >= 2 and (self.get_request_header("content-type") or "").startswith("application/grpc")

    def _as_grpc(self, status: int, lines: Lines, body: bytes | None) -> tuple[Lines, bytes | None]:
        """Return headers and body of an answer with what gRPC adds (PDK reference 8.5)."""
        content_type = _first(lines, "content-type") or _first(self._response_lines, "content-type")
        is_explicit = content_type is not None and content_type.startswith("application/grpc")
        if not is_explicit and (content_type is not None or not self._is_grpc_request()):
            return lines, body
        known = [*lines, *self._response_lines]
        added: Lines = []
        if _first(known, "grpc-status") is None:
            added.append(("grpc-status", str(grpc_status(status))))
        if _first(known, "grpc-message") is None:
            text = "" if is_explicit else (body or b"").decode("utf-8", "replace")
            added.append(("grpc-message", text or grpc_name(status)))
        if is_explicit:
            return lines + added, body
        return _replaced(lines, "Content-Length", ["0"]) + added, b""

    def fail(self) -> None:
        self._is_failed = True
        if self.phase & (Phase.WS_CLIENT_FRAME | Phase.WS_UPSTREAM_FRAME):
            self.farewells = ((1011, b"An unexpected error occurred"), (1001, b""))
            return
        self.respond_error(500, None, [])

    @property
    def is_answered(self) -> bool:
        return self.answer is not None

    @property
    def response_source(self) -> str:
        if self._is_failed:
            return "error"
        if self._is_exit:
            return "exit"
        return "error" if self.upstream_status is None else "service"

    def end_phase(self) -> None:
        """Turn a recorded answer into the response, as the engine does after the phase."""
        if self.answer is None:
            return
        status, lines, body = self.answer
        answering = Phase.REWRITE | Phase.ACCESS | Phase.PREREAD | Phase.WS_HANDSHAKE
        if self.phase & (answering | Phase.RESPONSE | Phase.HEADER_FILTER):
            self.response_status = status
            for name in dict.fromkeys(name for name, _ in lines):
                values = [value for other, value in lines if other == name]
                self._response_lines = _replaced(self._response_lines, name, values)
            self.response_body = body or b""

    # -- response to the client -----------------------------------------------------------------------------------
    def set_response_status(self, status: int) -> None:
        self.response_status = status

    def get_response_header(self, name: str) -> str | None:
        return _first(self._response_lines, name)

    def response_headers(self) -> Lines:
        return list(self._response_lines)

    def set_response_header(self, name: str, values: list[str]) -> None:
        self._response_lines = _replaced(self._response_lines, name, values)

    def add_response_header(self, name: str, value: str) -> None:
        self._response_lines.append((_checked_name(name), _escaped_value(value)))

    def clear_response_header(self, name: str) -> None:
        self._response_lines = _replaced(self._response_lines, name, [])

    def response_chunk(self) -> tuple[bytes, bool]:
        return self._chunk

    def set_response_chunk(self, chunk: bytes, is_last: bool) -> None:
        self._chunk = (chunk, is_last)

    # -- response of the upstream -----------------------------------------------------------------------------------
    @property
    def upstream_status_text(self) -> str:
        return "" if self.upstream_status is None else str(self.upstream_status)

    def get_upstream_header(self, name: str) -> str | None:
        return _first(self._response_lines, name) if _key(name) in self._upstream_names else None

    def upstream_headers(self) -> Lines:
        return [line for line in self._response_lines if _key(line[0]) in self._upstream_names]

    def buffered_body(self) -> bytes:
        return self.response_body if self.is_buffered else b""

    def set_buffered_body(self, body: bytes) -> None:
        self.response_body = body
        self.set_response_header("Content-Length", [str(len(body))])

    # -- WebSocket messages -----------------------------------------------------------------------------------------
    def websocket_message(self) -> tuple[bytes, str, int | None]:
        if self.message is None:
            raise RuntimeError("no message is in its phase")
        return self.message

    def set_websocket_message(self, data: bytes | None = None, status: int | None = None) -> None:
        payload, kind, code = self.websocket_message()
        self.message = (payload if data is None else data, kind, code if status is None else status)

    def drop_websocket_message(self) -> None:
        self.is_message_dropped = True

    def close_websocket(self, client: tuple[int, bytes], upstream: tuple[int, bytes]) -> None:
        self.farewells = (client, upstream)

    def set_websocket_limit(self, side: str, size_bytes: int) -> None:
        self.websocket_limits[side] = size_bytes

    # -- record for the log phase -------------------------------------------------------------------------------------
    @property
    def upstream_uri(self) -> str:
        if self.upstream_status is None:
            return ""
        path = self.upstream_path or self.path
        return f"{path}?{self.query}" if self.query else path

    @property
    def request_bytes(self) -> int:
        head = f"{self.method} {self.request_target} HTTP/1.1\r\n"
        return len(head) + sum(len(name) + len(value) + 4 for name, value in self._request_lines) + 2 + len(self._body)

    @property
    def response_bytes(self) -> int:
        lines = sum(len(name) + len(value) + 4 for name, value in self._response_lines)
        return len("HTTP/1.1 200 OK\r\n") + lines + 2 + len(self.response_body)

    def latencies_ms(self) -> tuple[int, int, int, int]:
        return (0, -1 if self.upstream_status is None else 0, 0, 0)

    def routing_ns(self) -> tuple[int, int] | None:
        started_ns = self.start_time_ms * 1_000_000
        return None if self.route_index is None else (started_ns, started_ns)

    def record_upstream_tls(self) -> None:
        """Nothing is encrypted here."""

    def upstream_tls_facts(self) -> tuple[str, str, bytes | None] | None:
        return None

    def tries(self) -> list[dict[str, Any]]:
        return []
