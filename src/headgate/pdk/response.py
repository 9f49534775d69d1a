"""`kong.response`: the answer to the client; reading it, changing it, giving it instead of proxying.

PDK reference 8. `exit` and `error` never return: they record the answer and raise `Exit`, which only the runner
catches.
"""

from collections.abc import Mapping
from typing import Any, NoReturn

from headgate.pdk._body import encode_json
from headgate.pdk._call import Call
from headgate.pdk._check import is_number, is_table, need_limit, need_string
from headgate.pdk._exit import Exit
from headgate.pdk._headers import HeaderMap, Headers, HeaderValue, header_map, header_table, header_values
from headgate.pdk._node import node
from headgate.pdk._phase import RESPONSE_GETTERS, RESPONSE_SETTERS, phases
from headgate.pdk.log import log
from headgate.phases import Phase

LEAST_STATUS = 100
LEAST_ERROR_STATUS = 400
LARGEST_STATUS = 599

STREAM_STATUSES = frozenset((200, 400, 403, 500, 502, 503))

RESPONSE_BODY = Phase.BODY_FILTER | Phase.RESPONSE


class Response:
    """`kong.response`."""

    __slots__ = ()

    @phases(RESPONSE_GETTERS)
    def get_status(self, call: Call) -> int:
        """Return the current status."""
        return call.exchange.response_status

    @phases(RESPONSE_GETTERS)
    def get_header(self, call: Call, name: str) -> str | None:
        """Return the first value of a header of the current response, the gateway's own included; None when absent.

        Raises: TypeError `header name must be a string`.
        """
        need_string(name, "header name")
        return call.exchange.get_response_header(name)

    @phases(RESPONSE_GETTERS)
    def get_headers(self, call: Call, max_headers: int | None = None) -> HeaderMap:
        """Return all headers by lower-case name; a repeated one is a list. A copy.

        Args: at most `max_headers` values (1 to 1000, default setting `lua_max_resp_headers`); more set `.truncated`.
        Raises: TypeError `max_headers must be a number`; ValueError out of range.
        """
        limit = need_limit(max_headers, "max_headers", node.max_response_headers)
        headers = header_map(call.exchange.response_headers(), limit)
        if headers.truncated:
            log.notice("response headers truncated")
        return headers

    @phases(RESPONSE_GETTERS)
    def get_source(self, call: Call) -> str:
        """Return who made the response: `error` (something went wrong), `exit` (a plugin) or `service`."""
        return call.exchange.response_source

    @phases(RESPONSE_SETTERS)
    def set_status(self, call: Call, status: int) -> None:
        """Set the status of the response to the client.

        Raises: TypeError `code must be a number`; ValueError outside of 100 to 599.
        """
        _check_status(status, LEAST_STATUS)
        call.exchange.set_response_status(int(status))

    @phases(RESPONSE_SETTERS)
    def set_header(self, call: Call, name: str, value: HeaderValue) -> None:
        """Replace a header; a list sends one line per element. `Transfer-Encoding` is ignored with a warning.

        Raises: TypeError with the text that names header and type.
        """
        values = header_values(name, value)
        name = name.replace("_", "-")
        if not _is_transfer_encoding(name):
            call.exchange.set_response_header(name, values)

    @phases(RESPONSE_SETTERS)
    def add_header(self, call: Call, name: str, value: HeaderValue) -> None:
        """Add a header after those of the same name.

        Raises: TypeError with the text that names header and type.
        """
        values = header_values(name, value)
        name = name.replace("_", "-")
        for text in values:
            call.exchange.add_response_header(name, text)

    @phases(RESPONSE_SETTERS)
    def clear_header(self, call: Call, name: str) -> None:
        """Remove a header; an absent one is fine.

        Raises: TypeError `header name must be a string`.
        """
        need_string(name, "header name")
        call.exchange.clear_response_header(name)

    @phases(RESPONSE_SETTERS)
    def set_headers(self, call: Call, headers: Headers) -> None:
        """Replace each of the given headers, others stay. All are checked before the first is set.

        Raises: TypeError `headers must be a table`, or the text that names header and type.
        """
        for name, values in header_table(headers):
            dashed = name.replace("_", "-")
            if not _is_transfer_encoding(dashed):
                call.exchange.set_response_header(dashed, values)

    @phases(RESPONSE_BODY)
    def get_raw_body(self, call: Call) -> bytes | None:
        """Return the whole response body.

        In body_filter the chunks are held back until the last one: None before, then the body. In response: the
        buffered body.
        """
        exchange = call.exchange
        if call.phase == Phase.RESPONSE.value:
            return exchange.buffered_body()
        chunk, is_last = exchange.response_chunk()
        if not is_last:
            if call.body_chunks is None:
                call.body_chunks = []
            call.body_chunks.append(chunk)
            exchange.set_response_chunk(b"", False)
            return None
        if call.body_chunks is None:
            return chunk
        call.body_chunks.append(chunk)
        body = b"".join(call.body_chunks)
        call.body_chunks = None
        exchange.set_response_chunk(body, True)
        return body

    @phases(RESPONSE_BODY)
    def set_raw_body(self, call: Call, body: str | bytes) -> None:
        """Replace the response body.

        In body_filter the given text is sent for the current chunk and ends the body (later chunks of the upstream are
        dropped); an empty one is sent as a line feed. Clear Content-Length in header_filter. In response: replaces the
        buffered body.

        Raises: TypeError `body must be a string`.
        """
        raw = _raw(body)
        if call.phase == Phase.RESPONSE.value:
            call.exchange.set_buffered_body(raw)
            return
        call.body_chunks = None
        call.exchange.set_response_chunk(raw or b"\n", True)

    @phases(RESPONSE_SETTERS | Phase.PREREAD)
    def exit(
        self,
        call: Call,
        status: int,
        body: str | bytes | Mapping[Any, Any] | list[Any] | None = None,
        headers: Headers | None = None,
    ) -> NoReturn:
        """Answer the client now. Ends the handler; later plugins' handlers of this phase are skipped.

        In header_filter later plugins still run, and the body replaces the upstream's. In preread the stream is closed:
        with 200, after the body was sent to the client; with 400, 403, 500, 502 or 503 the body is only logged.

        Args: `body`: text or bytes as they are, a table as JSON (content type set unless given), None for no body;
            `headers` replace those of the same name. Of a table, a gRPC client gets the text under `message`.
        Raises: TypeError or ValueError with Kong's text for wrong arguments; otherwise Exit, not to be caught.
        """
        is_stream = call.phase == Phase.PREREAD.value
        if is_stream:
            _check_stream_status(status)
        else:
            _check_status(status, LEAST_STATUS)
        is_json = is_table(body)
        if not (is_json or body is None or isinstance(body, str | bytes)):
            raise TypeError("body must be a nil, string or table")
        lines = [] if is_stream else _answer_headers(headers)
        raw: bytes | None
        if is_json and not is_stream and _is_grpc(call, lines):
            is_json = False
            raw = _grpc_message(body)
        elif is_json:
            try:
                raw = encode_json(body)
            except (TypeError, ValueError) as error:
                what = "invalid body" if is_stream else "body encoding failed while flushing response"
                raise ValueError(f"{what}: {error}") from error
        elif isinstance(body, str):
            raw = body.encode("utf-8", "surrogateescape")
        else:
            raw = body  # type: ignore[assignment]
        call.exchange.respond(int(status), lines, raw, is_json)
        call.is_answered = True
        raise Exit

    @phases(RESPONSE_SETTERS)
    def error(
        self,
        call: Call,
        status: int,
        message: str | Mapping[Any, Any] | list[Any] | None = None,
        headers: Headers | None = None,
    ) -> NoReturn:
        """Answer with the gateway's error body, in the form that the client's `Accept` asks for. Ends the handler.

        Args: `status` 400 to 599; `message`: text, a table as JSON text, or None for the status's usual text.
        Raises: TypeError or ValueError with Kong's text for wrong arguments; otherwise Exit, not to be caught.
        """
        _check_status(status, LEAST_ERROR_STATUS)
        text: str | None
        if is_table(message):
            try:
                text = encode_json(message).decode("utf-8", "surrogateescape")
            except (TypeError, ValueError) as error:
                raise ValueError(f"could not JSON encode the error message: {error}") from error
        elif message is None or isinstance(message, str):
            text = message
        else:
            raise TypeError("message must be a nil, a string or a table")
        call.exchange.respond_error(int(status), text, _answer_headers(headers))
        call.is_answered = True
        raise Exit


def _check_stream_status(status: object) -> None:
    if not is_number(status):
        raise TypeError("code must be a number")
    if status not in STREAM_STATUSES:
        raise ValueError("unacceptable code, only 200, 400, 403, 500, 502 and 503 are accepted")


def _check_status(status: object, least: int) -> None:
    if not is_number(status):
        raise TypeError("code must be a number")
    if not least <= status <= LARGEST_STATUS:  # type: ignore[operator]
        raise ValueError(f"code must be a number between {least} and {LARGEST_STATUS}")


def _answer_headers(headers: object) -> list[tuple[str, str]]:
    if headers is None:
        return []
    if not is_table(headers):
        raise TypeError("headers must be a nil or table")
    lines: list[tuple[str, str]] = []
    for name, values in header_table(headers):
        dashed = name.replace("_", "-")
        if not _is_transfer_encoding(dashed):
            lines.extend((dashed, value) for value in values)
    return lines


def _is_grpc(call: Call, headers: list[tuple[str, str]]) -> bool:
    """Say whether the client of this request speaks gRPC and nothing else was set as content type.

    Raises: ValueError when gRPC was set as content type: no table can be sent then.
    """
    exchange = call.exchange
    content_type = next((value for name, value in headers if name.lower() == "content-type"), None)
    if content_type is None:
        content_type = exchange.get_response_header("content-type")
    if content_type is not None:
        if content_type.startswith("application/grpc"):
            raise ValueError("table body encoding with gRPC is not supported")
        return False
    if exchange.http_version < 2:
        return False
    return (exchange.get_request_header("content-type") or "").startswith("application/grpc")


def _grpc_message(body: Any) -> bytes | None:
    message = body.get("message") if isinstance(body, Mapping) else None
    if isinstance(message, str):
        return message.encode("utf-8", "surrogateescape")
    log.warn("body was removed because table body encoding with gRPC is not supported")
    return None


def _is_transfer_encoding(name: str) -> bool:
    """Say whether it is the header that plugins cannot set; warns."""
    if len(name) != len("transfer-encoding") or name.lower() != "transfer-encoding":
        return False
    log.warn("manually setting Transfer-Encoding. Ignored.")
    return True


def _raw(body: object) -> bytes:
    if isinstance(body, str):
        return body.encode("utf-8", "surrogateescape")
    if isinstance(body, bytes):
        return body
    raise TypeError("body must be a string")


response = Response()
