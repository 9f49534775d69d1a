"""The response as `ngx` sees it: status, `ngx.header`, `ngx.arg`, and the answers of `ngx.exit` and `ngx.say`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headgate.lua.ngx.variables import exchange
from headgate.lua.values import bytes_from_lua, text_from_lua, text_to_lua
from headgate.pdk._call import current_call
from headgate.pdk._headers import header_map
from headgate.pdk._node import node
from headgate.phases import Phase

if TYPE_CHECKING:
    from headgate.lua.vm import Vm

PHASES = {
    Phase.INIT_WORKER: "init_worker",
    Phase.CERTIFICATE: "ssl_cert",
    Phase.REWRITE: "rewrite",
    Phase.ACCESS: "access",
    Phase.WS_HANDSHAKE: "access",
    Phase.RESPONSE: "access",
    Phase.HEADER_FILTER: "header_filter",
    Phase.BODY_FILTER: "body_filter",
    Phase.LOG: "log",
    Phase.WS_CLOSE: "log",
    Phase.PREREAD: "preread",
    Phase.WS_CLIENT_FRAME: "content",
    Phase.WS_UPSTREAM_FRAME: "content",
}
"""What `ngx.get_phase` calls the phases of handlers."""

_LEAST_ERROR = 400
_NO_LIMIT = 10**6


def functions(vm: "Vm") -> dict[str, Any]:
    """Return the functions by name."""
    parts = _Response(vm)
    plain: dict[str, Callable[..., Any]] = {
        "phase": phase,
        "status": lambda: exchange().response_status,
        "set_status": lambda status: exchange().set_response_status(int(status)),
        "header_get": parts.get_header,
        "header_set": parts.set_header,
        "header_add": parts.add_header,
        "resp_headers": parts.headers,
        "chunk": lambda: exchange().response_chunk(),
        "set_chunk": parts.set_chunk,
        "answer": parts.answer,
        "is_answered": lambda: exchange().is_answered,
    }
    return {name: vm.bridge.raw(function) for name, function in plain.items()}


def phase() -> str:
    """Return the name of the phase; `timer` where there is none."""
    call = current_call.get()
    if call is None or not call.phase:
        return "timer"
    return PHASES.get(Phase(call.phase), "timer")


class _Response:
    def __init__(self, vm: "Vm") -> None:
        self._values = vm.values
        self._new_table = vm.runtime.table
        self._mark_headers = vm.host["mark_headers"]

    def get_header(self, name: Any) -> Any:
        """Return a header: its value, a table for several, nil for none."""
        wanted = text_from_lua(str(name)).replace("_", "-").lower()
        found = [value for own, value in exchange().response_headers() if own.lower() == wanted]
        if not found:
            return None
        return text_to_lua(found[0]) if len(found) == 1 else self._values.to_lua(found)

    def set_header(self, name: Any, value: Any) -> None:
        """Replace a header, or remove it for nil."""
        plain = self._values.from_lua(value)
        text = text_from_lua(str(name)).replace("_", "-")
        if plain is None or plain == [] or plain == {} or plain == "":
            exchange().clear_response_header(text)
        else:
            values = plain if isinstance(plain, list) else [plain]
            exchange().set_response_header(text, [str(one) for one in values])

    def add_header(self, name: Any, value: Any) -> None:
        """Add a header, or several for a table."""
        plain = self._values.from_lua(value)
        for one in plain if isinstance(plain, list) else [plain]:
            exchange().add_response_header(text_from_lua(str(name)).replace("_", "-"), str(one))

    def headers(self, most: Any = None, is_raw: Any = None) -> Any:
        """Return the headers by lower-case name."""
        limit = node.max_response_headers if most is None else int(most) or _NO_LIMIT
        found = header_map(exchange().response_headers(), limit)
        table = self._mark_headers(self._values.to_lua(dict(found)))
        return (table, "truncated") if found.truncated else table

    def set_chunk(self, chunk: Any, is_last: Any) -> None:
        """Replace the chunk of body_filter; nil is an empty one."""
        exchange().set_response_chunk(b"" if chunk is None else bytes_from_lua(str(chunk)), bool(is_last))

    def answer(self, status: Any, body: Any) -> None:
        """Answer the client with what was said, or with the gateway's page for an error without a body."""
        request = exchange()
        call = current_call.get()
        assert call is not None
        code = int(status)
        if body is None and code >= _LEAST_ERROR:
            request.respond_error(code, None, [])
        else:
            request.respond(code, [], None if body is None else bytes_from_lua(body), False)
        call.is_answered = True
