"""`kong.service.request`: what is sent upstream.

PDK reference 6. `kong.request` getters see the changes of method, query, headers and body.
"""

from collections.abc import Mapping
from typing import Any, Literal

from headgate.pdk._body import BodyError, encode_body
from headgate.pdk._call import Call
from headgate.pdk._check import need_string
from headgate.pdk._headers import Headers, HeaderValue, header_table, header_values
from headgate.pdk._phase import (
    BODY_REWRITE_ACCESS,
    BODY_REWRITE_ACCESS_BALANCER,
    REWRITE_ACCESS,
    REWRITE_ACCESS_BALANCER,
    phases,
)
from headgate.pdk._query import encode_arguments, without_argument
from headgate.phases import Phase

METHODS = frozenset(
    (
        "GET",
        "HEAD",
        "PUT",
        "POST",
        "DELETE",
        "OPTIONS",
        "MKCOL",
        "COPY",
        "MOVE",
        "PROPFIND",
        "PROPPATCH",
        "LOCK",
        "UNLOCK",
        "PATCH",
        "TRACE",
    )
)


class ServiceRequest:
    """`kong.service.request`."""

    __slots__ = ()

    @phases(BODY_REWRITE_ACCESS_BALANCER)
    def enable_buffering(self, call: Call) -> None:
        """Hold the whole upstream response in memory, so that `kong.service.response.get_raw_body` works."""
        call.exchange.enable_buffering()

    @phases(REWRITE_ACCESS_BALANCER)
    def set_scheme(self, call: Call, scheme: str) -> None:
        """Use `http` or `https` towards the upstream, `ws` or `wss` of a WebSocket service. Set in rewrite, routing
        overwrites it.

        Raises: TypeError `scheme must be a string`; ValueError `invalid scheme: <s>`.
        """
        need_string(scheme, "scheme")
        if scheme not in ("http", "https", "ws", "wss"):
            raise ValueError(f"invalid scheme: {scheme}")
        call.exchange.set_upstream_scheme(scheme)

    @phases(Phase.PREREAD | Phase.BALANCER)
    def disable_tls(self, call: Call) -> Literal[True]:
        """Speak plainly with the upstream of this stream although its service's protocol is `tls`."""
        call.exchange.set_upstream_scheme("http")
        return True

    @phases(REWRITE_ACCESS_BALANCER)
    def set_path(self, call: Call, path: str) -> None:
        """Replace the path sent upstream (service path and stripped request path); the query stays.

        Bytes that a path cannot have are escaped; triplets already there are kept. Set in rewrite, routing overwrites
        it.

        Raises: TypeError `path must be a string`; ValueError `path must start with /`.
        """
        need_string(path, "path")
        if not path.startswith("/"):
            raise ValueError("path must start with /")
        call.exchange.set_upstream_path(path)

    @phases(REWRITE_ACCESS)
    def set_raw_query(self, call: Call, query: str) -> None:
        """Replace the query string, given without `?` and sent as it is; an empty one removes it.

        Raises: TypeError `query must be a string`.
        """
        need_string(query, "query")
        call.exchange.set_query(query or None)

    @phases(REWRITE_ACCESS)
    def set_query(self, call: Call, args: Mapping[str, Any]) -> None:
        """Replace the query by arguments: text, number, True for a bare name, or a list of these; sorted by name.

        Raises: TypeError `args must be a table`, `arg keys must be strings`, `attempt to use <type> as query arg
            value`.
        """
        if not isinstance(args, Mapping):
            raise TypeError("args must be a table")
        call.exchange.set_query(encode_arguments(args) or None)

    @phases(REWRITE_ACCESS)
    def clear_query_arg(self, call: Call, name: str) -> None:
        """Remove every occurrence of an argument. What remains is written anew as form data, in its order.

        Raises: TypeError `query argument name must be a string`.
        """
        need_string(name, "query argument name")
        query = call.exchange.query
        if query:
            call.exchange.set_query(without_argument(query, name) or None)

    @phases(BODY_REWRITE_ACCESS)
    def set_method(self, call: Call, method: str) -> None:
        """Replace the method.

        Raises: TypeError `method must be a string`; ValueError `invalid method: <m>` for others than the known ones.
        """
        need_string(method, "method")
        if method not in METHODS:
            raise ValueError(f"invalid method: {method}")
        call.exchange.set_method(method)

    @phases(REWRITE_ACCESS_BALANCER)
    def set_header(self, call: Call, header: str, value: HeaderValue) -> None:
        """Replace a request header; a list sends one line per element. `Host` also sets the upstream's Host and SNI.

        Raises: TypeError with the text that names header and type; ValueError for `:authority`.
        """
        values = header_values(header, value)
        if header.startswith(":"):
            _refuse_pseudo_header(header)
        call.exchange.set_request_header(header, values)

    @phases(REWRITE_ACCESS)
    def add_header(self, call: Call, header: str, value: HeaderValue) -> None:
        """Add a request header after those of the same name. `Host` replaces the upstream's Host.

        Raises: TypeError with the text that names header and type.
        """
        values = header_values(header, value)
        if header.lower() == "host":
            call.exchange.set_request_header(header, values)
            return
        for text in values:
            call.exchange.add_request_header(header, text)

    @phases(REWRITE_ACCESS)
    def clear_header(self, call: Call, header: str) -> None:
        """Remove a request header; an absent one is fine.

        Raises: TypeError `header must be a string`.
        """
        need_string(header, "header")
        call.exchange.clear_request_header(header)

    @phases(REWRITE_ACCESS)
    def set_headers(self, call: Call, headers: Headers) -> None:
        """Replace each of the given request headers, others stay. All are checked before the first is set.

        Raises: TypeError `headers must be a table`, or the text that names header and type; ValueError for
            `:authority`.
        """
        checked = header_table(headers)
        for name, _ in checked:
            if name.startswith(":"):
                _refuse_pseudo_header(name)
        for name, values in checked:
            call.exchange.set_request_header(name, values)

    @phases(BODY_REWRITE_ACCESS_BALANCER)
    def set_raw_body(self, call: Call, body: str | bytes) -> None:
        """Replace the request body and its Content-Length; the client's body is read and dropped.

        Raises: TypeError `body must be a string`.
        """
        if isinstance(body, str):
            body = body.encode("utf-8", "surrogateescape")
        elif not isinstance(body, bytes):
            raise TypeError("body must be a string")
        call.is_body_replaced = True
        call.exchange.set_request_body(body)

    @phases(BODY_REWRITE_ACCESS)
    def set_body(self, call: Call, args: Mapping[str, Any], mimetype: str | None = None) -> Literal[True]:
        """Replace the request body by arguments, encoded as `mimetype` or as the request's Content-Type says.

        Forms, JSON and multipart are known. Sets Content-Length and Content-Type.

        Raises: TypeError `args must be a table`, `mime must be a string`; ValueError `unsupported content type <mime>`;
            BodyError without any content type (Kong returns nil and this text).
        """
        if not isinstance(args, Mapping | list | tuple):
            raise TypeError("args must be a table")
        if mimetype is not None:
            need_string(mimetype, "mime")
        else:
            mimetype = call.exchange.get_request_header("content-type")
            if mimetype is None:
                raise BodyError("content type was neither explicitly given as an argument or received as a header")
        body, content_type = encode_body(args, mimetype)
        call.is_body_replaced = True
        call.exchange.set_request_body(body)
        call.exchange.set_request_header("Content-Type", [content_type])
        return True

    @phases(REWRITE_ACCESS)
    def set_authentication_headers(
        self,
        call: Call,
        consumer: Mapping[str, Any] | None = None,
        credential_id: str | None = None,
        group_names: list[str] | None = None,
        opts: Mapping[str, Any] | None = None,
    ) -> None:
        """Tell the upstream who the client is; what is not given is cleared.

        Sets X-Consumer-ID, -Custom-ID, -Username, X-Credential-Identifier, X-Consumer-Groups (comma list) and, with
        `opts["anonymous"]`, X-Anonymous-Consumer. `opts["mode"]` `append` adds groups to those already in the header.
        """
        options = opts or {}
        who = consumer or {}
        groups = list(group_names or ())
        if options.get("mode") == "append":
            earlier = call.exchange.get_request_header("x-consumer-groups")
            if earlier:
                known = [name.strip() for name in earlier.split(",")]
                groups = known + [name for name in groups if name not in known]
        values = {
            "X-Consumer-ID": who.get("id"),
            "X-Consumer-Custom-ID": who.get("custom_id"),
            "X-Consumer-Username": who.get("username"),
            "X-Credential-Identifier": credential_id,
            "X-Consumer-Groups": ", ".join(groups) or None,
            "X-Anonymous-Consumer": "true" if options.get("anonymous") else None,
        }
        for name, value in values.items():
            if value is None:
                call.exchange.clear_request_header(name)
            else:
                call.exchange.set_request_header(name, [value])


def _refuse_pseudo_header(name: str) -> None:
    """Raise for `:authority`, the pseudo-header Kong allows for gRPC services only (those come with their protocol)."""
    if name.lower() == ":authority":
        raise ValueError("cannot set :authority pseudo-header on non-grpc requests")


service_request = ServiceRequest()
