"""`ngx.req`: the request as it came and as it will go upstream."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headgate.lua.ngx.variables import exchange
from headgate.lua.values import bytes_from_lua, text_from_lua, text_to_lua
from headgate.pdk._headers import header_map
from headgate.pdk._node import node
from headgate.pdk._query import encode_arguments, parse_arguments

if TYPE_CHECKING:
    from headgate.lua.vm import Vm

METHODS = {
    2: "GET",
    4: "HEAD",
    8: "POST",
    16: "PUT",
    32: "DELETE",
    64: "MKCOL",
    128: "COPY",
    256: "MOVE",
    512: "OPTIONS",
    1024: "PROPFIND",
    2048: "PROPPATCH",
    4096: "LOCK",
    8192: "UNLOCK",
    16384: "PATCH",
    32768: "TRACE",
}
"""OpenResty's numbers of methods (ngx.HTTP_GET and so on)."""

_NO_LIMIT = 10**6


def functions(vm: "Vm") -> dict[str, Any]:
    """Return the functions by name."""
    parts = _Request(vm)
    plain: dict[str, Callable[..., Any]] = {
        "req_method": lambda: exchange().method,
        "req_set_method": parts.set_method,
        "req_headers": parts.headers,
        "req_set_header": parts.set_header,
        "req_clear_header": lambda name: exchange().clear_request_header(text_from_lua(str(name))),
        "req_uri_args": lambda most: parts.arguments(exchange().query or "", most),
        "req_set_uri_args": parts.set_arguments,
        "req_post_args": parts.post_arguments,
        "req_body": parts.body,
        "req_set_body": lambda body: exchange().set_request_body(bytes_from_lua(str(body))),
        "req_set_uri": lambda path: exchange().set_upstream_path(text_from_lua(path)),
        "req_version": lambda: exchange().http_version,
        "req_start_time": lambda: exchange().start_time_ms / 1000,
        "req_raw_header": parts.raw_header,
        "latencies": lambda: exchange().latencies_ms()[:2],
        "decode_args": lambda text, most=None: parts.arguments(text_from_lua(str(text)), most),
        "encode_args": lambda table: text_to_lua(encode_arguments(vm.values.from_lua(table))),
    }
    return {name: vm.bridge.raw(function) for name, function in plain.items()}


class _Request:
    def __init__(self, vm: "Vm") -> None:
        self._values = vm.values
        self._mark_headers = vm.host["mark_headers"]

    def headers(self, most: Any = None, is_raw: Any = None) -> Any:
        """Return the headers by lower-case name, and `truncated` when there are more."""
        limit = node.max_request_headers if most is None else int(most) or _NO_LIMIT
        found = header_map(exchange().request_headers(), limit)
        table = self._mark_headers(self._values.to_lua(dict(found)))
        return (table, "truncated") if found.truncated else table

    def set_method(self, method: Any) -> None:
        """Change the method, given as OpenResty's number."""
        if method not in METHODS:
            raise ValueError("unsupported HTTP method")
        exchange().set_method(METHODS[method])

    def set_header(self, name: Any, value: Any) -> None:
        """Replace a header, or remove it for nil."""
        plain = self._values.from_lua(value)
        text = text_from_lua(str(name))
        if plain is None or plain == [] or plain == {}:
            exchange().clear_request_header(text)
        else:
            exchange().set_request_header(text, [str(one) for one in (plain if isinstance(plain, list) else [plain])])

    def arguments(self, text: str, most: Any = None) -> Any:
        """Return arguments by name."""
        found = parse_arguments(text, node.max_uri_args if most is None else int(most) or _NO_LIMIT)
        table = self._values.to_lua(dict(found))
        return (table, "truncated") if found.truncated else table

    def set_arguments(self, arguments: Any) -> None:
        """Replace the query: a text or a table."""
        plain = self._values.from_lua(arguments)
        exchange().set_query(encode_arguments(plain) if isinstance(plain, dict) else str(plain) if plain else None)

    def body(self) -> Any:
        """Return the body that was read; nil for none."""
        return exchange().request_body() or None

    def post_arguments(self, most: Any = None) -> Any:
        """Return the arguments of a form that was read."""
        body = exchange().request_body()
        if body is None:
            return (None, "request body in temp file not supported")
        return self.arguments(body.decode("utf-8", "surrogateescape"), most)

    def raw_header(self, without_request_line: Any = None) -> str:
        """Return the head as text."""
        request = exchange()
        lines = [f"{name}: {value}\r\n" for name, value in request.request_headers()]
        if not without_request_line:
            lines.insert(0, f"{request.method} {request.request_target} HTTP/{request.http_version}\r\n")
        return text_to_lua("".join(lines) + "\r\n")
