"""`kong.service.response`: what the upstream answered.

PDK reference 7. Only headers that the upstream sent are visible; one that a plugin changed shows the changed value.
"""

from typing import Any

from headgate.pdk._body import decode_body
from headgate.pdk._body import decompressed as without_encoding
from headgate.pdk._call import Call
from headgate.pdk._check import need_limit, need_string
from headgate.pdk._headers import HeaderMap, header_map
from headgate.pdk._node import node
from headgate.pdk._phase import SERVICE_RESPONSE, phases
from headgate.pdk.log import log
from headgate.phases import Phase

NOT_BUFFERED = (
    "service body is only available with buffered proxying (see: kong.service.request.enable_buffering function)"
)

MOST_DECOMPRESSED_BYTES = 64 * 1024 * 1024


class ServiceResponse:
    """`kong.service.response`."""

    __slots__ = ()

    @phases(SERVICE_RESPONSE)
    def get_status(self, call: Call) -> int | None:
        """Return the status of the last attempt; None when nothing was proxied."""
        return call.exchange.upstream_status

    @phases(SERVICE_RESPONSE)
    def get_headers(self, call: Call, max_headers: int | None = None) -> HeaderMap:
        """Return the upstream's headers by lower-case name; a repeated one is a list. A copy.

        Args: at most `max_headers` values (1 to 1000, default setting `lua_max_resp_headers`); more set `.truncated`.
        Raises: TypeError `max_headers must be a number`; ValueError out of range.
        """
        limit = need_limit(max_headers, "max_headers", node.max_response_headers)
        headers = header_map(call.exchange.upstream_headers(), limit)
        if headers.truncated:
            log.notice("response headers truncated")
        return headers

    @phases(SERVICE_RESPONSE)
    def get_header(self, call: Call, name: str) -> str | None:
        """Return the first value of a header that the upstream sent; None when absent.

        Raises: TypeError `name must be a string`.
        """
        need_string(name, "name")
        return call.exchange.get_upstream_header(name)

    @phases(SERVICE_RESPONSE)
    def get_raw_body(self, call: Call) -> bytes:
        """Return the upstream's whole body; needs `kong.service.request.enable_buffering` (or a `response` handler).

        Raises: ValueError without buffered proxying.
        """
        if not call.exchange.is_buffered:
            raise ValueError(NOT_BUFFERED)
        return call.exchange.buffered_body()

    @phases(SERVICE_RESPONSE)
    def get_body(
        self,
        call: Call,
        mimetype: str | None = None,
        max_args: int | None = None,
        decompressed: bool = False,
    ) -> Any:
        """Return the upstream's body decoded as its Content-Type (or `mimetype`) says.

        Args: `max_args` (forms, 1 to 1000, default setting `lua_max_post_args`); `decompressed`: undo a
            Content-Encoding of gzip or deflate first, up to 64 MiB.
        Raises: ValueError without buffered proxying; BodyError with Kong's text, and its third value as `.mime`.
        """
        exchange = call.exchange
        if not exchange.is_buffered:
            raise ValueError(NOT_BUFFERED)
        content_type = exchange.get_upstream_header("content-type") if mimetype is None else mimetype
        body = exchange.buffered_body()
        if decompressed:
            body = without_encoding(body, exchange.get_upstream_header("content-encoding"), MOST_DECOMPRESSED_BYTES)
        return decode_body(body, content_type, max_args, node.max_post_args)

    @phases(Phase.RESPONSE)
    def set_body(self, call: Call, body: str | bytes) -> None:
        """Replace the buffered body; fixes Content-Length, removes Content-Encoding.

        Raises: TypeError `body must be a string`; ValueError without buffered proxying.
        """
        if isinstance(body, str):
            body = body.encode("utf-8", "surrogateescape")
        elif not isinstance(body, bytes):
            raise TypeError("body must be a string")
        if not call.exchange.is_buffered:
            raise ValueError(NOT_BUFFERED)
        call.exchange.set_buffered_body(body)
        call.exchange.clear_response_header("Content-Encoding")


service_response = ServiceResponse()
