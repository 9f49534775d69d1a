"""`kong.request`: what the client sent, with the changes that plugins have made so far.

PDK reference 3 and 24. Forwarded values are believed only from a direct peer in `trusted_ips`.
"""

import sys
from dataclasses import dataclass, field
from typing import Any

from headgate.errors import GatewayError
from headgate.pdk._body import (
    ABORTED,
    GONE,
    NOT_IN_BUFFER,
    UNREAD_IN_ASYNC,
    BodyError,
    RequestAbortedError,
    decode_body,
    is_form,
    read_limit,
    too_large,
)
from headgate.pdk._call import Call
from headgate.pdk._check import need_limit, need_string
from headgate.pdk._headers import HeaderMap, header_map
from headgate.pdk._node import node
from headgate.pdk._phase import REQUEST, REQUEST_BODY, phases
from headgate.pdk._query import Arguments, first_argument, parse_arguments
from headgate.pdk.log import log
from headgate.phases import Phase

LARGEST_PORT = 65535

_BODY_UNREAD, _BODY_TOO_LARGE, _BODY_GONE = 1, 2, 3


@dataclass(frozen=True)
class UriCaptures:
    """Captures of the matched regular-expression path: `unnamed[0]` is the whole match, groups follow in order."""

    unnamed: list[str | None] = field(default_factory=list)
    named: dict[str, str] = field(default_factory=dict)


class HeadersError(GatewayError):
    """The request has no header lines (Kong returns nil and the text)."""


class Request:
    """`kong.request`."""

    __slots__ = ()

    @phases(REQUEST)
    def get_scheme(self, call: Call) -> str:
        """Return `http` or `https`, the scheme of the connection; forwarded headers do not count."""
        return call.exchange.scheme

    @phases(REQUEST)
    def get_host(self, call: Call) -> str:
        """Return the lower-case host without port: of the request target, else the Host header, else the server
        name.
        """
        return call.exchange.host

    @phases(rejected=Phase.INIT_WORKER)
    def get_port(self, call: Call) -> int:
        """Return the local port of the listener that accepted the connection."""
        return call.exchange.server_port

    @phases(REQUEST)
    def get_forwarded_scheme(self, call: Call) -> str:
        """Return `X-Forwarded-Proto` of a trusted peer in lower case, else `get_scheme()`."""
        exchange = call.exchange
        if exchange.is_peer_trusted:
            scheme = exchange.get_request_header("x-forwarded-proto")
            if scheme is not None:
                return scheme.lower()
        return exchange.scheme

    @phases(REQUEST)
    def get_forwarded_host(self, call: Call) -> str:
        """Return the host of a trusted peer's `X-Forwarded-Host` (after `@`, before `:`, lower case), else
        `get_host()`.
        """
        exchange = call.exchange
        if exchange.is_peer_trusted:
            host = exchange.get_request_header("x-forwarded-host")
            if host is not None:
                return _after_at(host).partition(":")[0].lower()
        return exchange.host

    @phases(REQUEST)
    def get_forwarded_port(self, call: Call) -> int:
        """Return the port that the client used, as a trusted peer tells it, else the mapped or the listener's port.

        Looks at `X-Forwarded-Port`, then at the port of `X-Forwarded-Host`; values that are no port are passed over.
        """
        exchange = call.exchange
        if exchange.is_peer_trusted:
            port = _port(exchange.get_request_header("x-forwarded-port"))
            if port is not None:
                return port
            host = exchange.get_request_header("x-forwarded-host")
            if host is not None:
                port = _port(_after_at(host).partition(":")[2])
                if port is not None:
                    return port
        return exchange.mapped_port

    @phases(REQUEST)
    def get_forwarded_path(self, call: Call) -> str:
        """Return `X-Forwarded-Path` of a trusted peer untouched, else `get_path()`."""
        exchange = call.exchange
        if exchange.is_peer_trusted:
            path = exchange.get_request_header("x-forwarded-path")
            if path is not None:
                return path
        return exchange.path

    @phases(REQUEST)
    def get_raw_forwarded_path(self, call: Call) -> str:
        """Return `X-Forwarded-Path` of a trusted peer untouched, else `get_raw_path()`."""
        exchange = call.exchange
        if exchange.is_peer_trusted:
            path = exchange.get_request_header("x-forwarded-path")
            if path is not None:
                return path
        return exchange.raw_path

    @phases(REQUEST)
    def get_forwarded_prefix(self, call: Call) -> str | None:
        """Return `X-Forwarded-Prefix` of a trusted peer untouched, else the prefix that the route stripped (from
        access on).
        """
        exchange = call.exchange
        if exchange.is_peer_trusted:
            prefix = exchange.get_request_header("x-forwarded-prefix")
            if prefix is not None:
                return prefix
        return exchange.stripped_prefix

    @phases(REQUEST)
    def get_http_version(self, call: Call) -> float:
        """Return 1.0, 1.1 or 2.0."""
        return call.exchange.http_version

    @phases(REQUEST)
    def get_method(self, call: Call) -> str:
        """Return the method in upper case; sees `service.request.set_method`."""
        return call.exchange.method

    @phases(REQUEST)
    def get_raw_path(self, call: Call) -> str:
        """Return the path as sent: not decoded, not normalised, without query."""
        return call.exchange.raw_path

    @phases(REQUEST)
    def get_path(self, call: Call) -> str:
        """Return the normalised path: dot segments and double slashes gone, unreserved triplets decoded."""
        return call.exchange.path

    @phases(REQUEST)
    def get_path_with_query(self, call: Call) -> str:
        """Return the request target as sent."""
        return call.exchange.request_target

    @phases(REQUEST)
    def get_raw_query(self, call: Call) -> str:
        """Return the query string without `?`, not decoded; empty when there is none. Sees `set_query` and friends."""
        return call.exchange.query or ""

    @phases(REQUEST)
    def get_query(self, call: Call, max_args: int | None = None) -> Arguments:
        """Return the query's arguments by name: `str`, True for `?a`, a list for a repeated name; order kept, a copy.

        Args: at most `max_args` (1 to 1000, default setting `lua_max_uri_args`) are read; more set `.truncated`.
        Raises: TypeError `max_args must be a number`; ValueError out of range.
        """
        limit = need_limit(max_args, "max_args", node.max_uri_args)
        query = call.exchange.query
        if not query:
            return Arguments()
        arguments = parse_arguments(query, limit)
        if arguments.truncated:
            log.notice("uri args truncated")
        return arguments

    @phases(REQUEST)
    def get_query_arg(self, call: Call, name: str) -> str | bool | None:
        """Return the first value of an argument (case-sensitive); True for `?name`, None when absent.

        Raises: TypeError `query argument name must be a string`.
        """
        if name.__class__ is not str:
            need_string(name, "query argument name")
        query = call.exchange.query
        return first_argument(query, name, node.max_uri_args) if query else None

    @phases(REQUEST)
    def get_header(self, call: Call, name: str) -> str | None:
        """Return the first value of a header, in any case, `-` and `_` alike; None when absent.

        Raises: TypeError `header name must be a string`.
        """
        if name.__class__ is not str:
            need_string(name, "header name")
        return call.exchange.get_request_header(name)

    @phases(REQUEST)
    def get_headers(self, call: Call, max_headers: int | None = None) -> HeaderMap:
        """Return all headers by lower-case name as sent; a repeated one is a list. A copy.

        Args: at most `max_headers` values (1 to 1000, default setting `lua_max_req_headers`); more set `.truncated`.
        Raises: TypeError `max_headers must be a number`; ValueError out of range.
        """
        limit = need_limit(max_headers, "max_headers", node.max_request_headers)
        headers = header_map(call.exchange.request_headers(), limit)
        if headers.truncated:
            log.notice("request headers truncated")
        return headers

    @phases(REQUEST)
    def get_raw_headers(self, call: Call) -> HeaderMap:
        """Return all headers by lower-case name, dashes and underscores kept apart; a repeated one is a list. A copy.

        A name is looked up as given, in lower case, then with dashes for its underscores. What plugins have changed
        before is seen.

        Raises: HeadersError over HTTP/2, which has no header lines (Kong returns nil and a text).
        """
        if call.exchange.http_version >= 2:
            raise HeadersError("raw request headers are not available in HTTP/2")
        return header_map(call.exchange.request_headers(), sys.maxsize)

    @phases(REQUEST_BODY)
    def get_raw_body(self, call: Call, max_allowed_file_size: int | None = None) -> bytes:
        """Return the request body; empty when there is none. Waits for it, without blocking others.

        In an `async def` handler a body that was not read yet needs `await read_raw_body()` first.

        Args: `max_allowed_file_size` in bytes lets bodies in that are larger than `client_body_buffer_size`; 0 means
            any.
        Raises: BodyError, larger than allowed or gone (Kong returns nil and this text).
        """
        exchange = call.exchange
        limit = read_limit(max_allowed_file_size, exchange.request_body_buffer_bytes)
        if must_read_body(call, limit):
            if call.suspend is None:
                raise BodyError(UNREAD_IN_ASYNC)
            call.body_limit_bytes = limit
            call.suspend(limit)
        return _body(call, max_allowed_file_size, limit)

    @phases(REQUEST_BODY)
    async def read_raw_body(self, call: Call, max_allowed_file_size: int | None = None) -> bytes:
        """Read and return the request body in an `async def` handler; rules, limits and errors of `get_raw_body`."""
        exchange = call.exchange
        limit = read_limit(max_allowed_file_size, exchange.request_body_buffer_bytes)
        if must_read_body(call, limit):
            call.body_limit_bytes = limit
            await exchange.read_request_body(limit)
        return _body(call, max_allowed_file_size, limit)

    def get_body(
        self,
        mimetype: str | None = None,
        max_args: int | None = None,
        max_allowed_file_size: int | None = None,
        multipart_include_headers: bool = False,
    ) -> Any:
        """Return the decoded request body: a dict for forms and multipart, a dict or list for JSON.

        Args: `mimetype` overrides the Content-Type header; `max_args` (forms, 1 to 1000, default setting
            `lua_max_post_args`); `max_allowed_file_size` as in `get_raw_body`, not for forms;
            `multipart_include_headers`: the headers of a multipart body's parts are under `__extra`, by part name.
        Raises: BodyError, with Kong's text, and its third value as `.mime`; TypeError or ValueError for `max_args`.
        """
        content_type = self._body_type(mimetype)
        if content_type is None:
            raise BodyError("missing content type")
        try:
            body = self.get_raw_body(None if is_form(content_type) else max_allowed_file_size)
        except BodyError as error:
            if is_form(content_type) and str(error) == NOT_IN_BUFFER:
                need_limit(max_args, "max_args", node.max_post_args)
                raise BodyError(
                    "request body in temp file not supported", "application/x-www-form-urlencoded"
                ) from None
            raise
        return decode_body(
            body, content_type, max_args, node.max_post_args, with_part_headers=multipart_include_headers
        )

    @phases(REQUEST_BODY)
    def _body_type(self, call: Call, mimetype: str | None) -> str | None:
        return call.exchange.get_request_header("content-type") if mimetype is None else mimetype

    # get_body is guarded by the two calls it makes.
    get_body.__phases__ = REQUEST_BODY  # type: ignore[attr-defined]

    @phases(REQUEST)
    def get_start_time(self, call: Call) -> int:
        """Return when the request started, Unix milliseconds."""
        return call.exchange.start_time_ms

    @phases(REQUEST)
    def get_uri_captures(self, call: Call) -> UriCaptures:
        """Return the captures of the matched path; both parts are empty before routing and for paths without groups."""
        captures = call.exchange.uri_captures()
        return UriCaptures() if captures is None else UriCaptures(*captures)

    @phases(REQUEST)
    def get_id(self, call: Call) -> str:
        """Return the request id, the value of `X-Kong-Request-Id`."""
        return call.exchange.id


def _after_at(host: str) -> str:
    return host.partition("@")[2] if "@" in host else host


def _port(text: str | None) -> int | None:
    if text is None or not text.isascii() or not text.isdigit():
        return None
    port = int(text)
    return port if 1 <= port <= LARGEST_PORT else None


def must_read_body(call: Call, limit: int) -> bool:
    """Say whether the engine has to read: nothing read so far, or given up at a smaller limit."""
    state = call.exchange.request_body_state
    return state == _BODY_UNREAD or (state == _BODY_TOO_LARGE and limit > call.body_limit_bytes)


def _body(call: Call, max_allowed_file_size: float | None, limit: int) -> bytes:
    exchange = call.exchange
    body = exchange.request_body()
    if body is None:
        state = exchange.request_body_state
        if state == _BODY_GONE:
            raise BodyError(GONE)
        if state == _BODY_UNREAD:
            raise RequestAbortedError(ABORTED)
        length = exchange.get_request_header("content-length")
        raise too_large(length or f"more than {limit}", max_allowed_file_size)
    if len(body) > limit and not call.is_body_replaced:
        raise too_large(str(len(body)), max_allowed_file_size)
    return body


request = Request()
