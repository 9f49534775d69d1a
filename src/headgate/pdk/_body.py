"""Bodies as plugins see them: limits of raw reads, decoding by content type, encoding for `set_body`.

Owns PDK reference 24. Whether the request body has been read, and reading it, is the engine's; the texts are here.
"""

import json
import re
import secrets
import zlib
from collections.abc import Mapping
from typing import Any

import orjson

from headgate.errors import GatewayError
from headgate.pdk._check import need_limit, number_text, type_name
from headgate.pdk._query import encode_arguments, parse_arguments

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
MULTIPART = "multipart/form-data"

UNLIMITED_BYTES = 2**63 - 1

NOT_IN_BUFFER = "request body did not fit into client body buffer, consider raising 'client_body_buffer_size'"
UNREAD_IN_ASYNC = (
    "request body was not read yet and cannot be read here without blocking: "
    "use `await kong.request.read_raw_body()` in an async handler"
)
ABORTED = "the client closed the connection before the request body was complete"
GONE = "request body was already sent to the upstream"

_BOUNDARY = re.compile(r";\s*boundary=(?:\"([^\"]*)\"|([^;]*))", re.IGNORECASE)
_PART_NAME = re.compile(rb"(?:^|[;\s])name=(\"(?:[^\"\\]|\\.)*\"|[^;\r\n]*)", re.IGNORECASE)


class BodyError(GatewayError):
    """A body cannot be given to the plugin; the text is Kong's second return value, `mime` its third."""

    def __init__(self, message: str, mime: str | None = None) -> None:
        super().__init__(message)
        self.mime = mime


class RequestAbortedError(BodyError):
    """The client went away before its request body was complete; nobody is left to answer."""


def read_limit(max_allowed_file_size: float | None, buffer_bytes: int) -> int:
    """Return how many bytes may be read: the buffer's size, or more when the plugin allows it (0: without limit)."""
    if max_allowed_file_size is None or max_allowed_file_size < 0:
        return buffer_bytes
    if max_allowed_file_size == 0:
        return UNLIMITED_BYTES
    return max(buffer_bytes, int(max_allowed_file_size))


def too_large(size_text: str, max_allowed_file_size: float | None) -> BodyError:
    """Return the error for a body beyond the limit of `read_limit`."""
    if max_allowed_file_size is None or max_allowed_file_size < 0:
        return BodyError(NOT_IN_BUFFER)
    return BodyError(f"request body file too big: {size_text} > {number_text(max_allowed_file_size)}")


def media_type(content_type: str) -> str:
    """Return the lower-case type without parameters."""
    return content_type.partition(";")[0].strip().lower()


def decode_body(
    body: bytes, content_type: str | None, max_args: Any, default_args: int, *, with_part_headers: bool = False
) -> Any:
    """Decode by content type: form -> Arguments, JSON -> dict or list, multipart -> dict of values.

    Args: with_part_headers, a multipart result has the headers of its parts under `__extra`, by name.

    Raises: BodyError with the reference's texts; for `max_args` (form only) TypeError or ValueError.
    """
    if content_type is None:
        raise BodyError("missing content type")
    kind = media_type(content_type)
    if kind.startswith(FORM):
        limit = need_limit(max_args, "max_args", default_args)
        return parse_arguments(body.decode("utf-8", "surrogateescape"), limit)
    if kind.startswith(JSON):
        return _decode_json(body)
    if kind.startswith(MULTIPART):
        return _decode_multipart(body, content_type, with_part_headers)
    raise BodyError(f"unsupported content type '{content_type}'", kind)


def is_form(content_type: str | None) -> bool:
    """Say whether `decode_body` would read the body as a form."""
    return content_type is not None and media_type(content_type).startswith(FORM)


def encode_json(value: Any) -> bytes:
    """Encode a table as JSON; text that is not UTF-8 goes out as the bytes it came from.

    Raises: TypeError or ValueError with the encoder's text.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        # Integers beyond 64 bits and text with surrogate escapes are what the fast encoder refuses.
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogateescape")


def encode_body(arguments: Mapping[str, Any], mime: str) -> tuple[bytes, str]:
    """Encode for `service.request.set_body`; return (body, Content-Type to send).

    Raises: ValueError `unsupported content type <mime>`; TypeError for what cannot be encoded.
    """
    kind = mime.partition(";")[0].strip()
    if kind == FORM:
        return encode_arguments(arguments).encode("utf-8", "surrogateescape"), mime
    if kind == JSON:
        _check_json(arguments)
        return encode_json(arguments), mime
    if kind == MULTIPART:
        return _encode_multipart(arguments, mime)
    raise ValueError(f"unsupported content type {mime}")


def _decode_json(body: bytes) -> Any:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BodyError("invalid json body", JSON) from error
    if not isinstance(value, dict | list):
        raise BodyError("invalid json body", JSON)
    return value


def _check_json(value: Any) -> None:
    if isinstance(value, Mapping):
        for key, element in value.items():
            if isinstance(key, bool) or not isinstance(key, str | int | float):
                raise TypeError(f"Cannot serialise {type_name(key)}: table key must be a number or string")
            _check_json(element)
    elif isinstance(value, list | tuple):
        for element in value:
            _check_json(element)
    elif value is not None and not isinstance(value, str | int | float):
        raise TypeError(f"Cannot serialise {type_name(value)}: type not supported")


def _boundary(content_type: str) -> str | None:
    found = _BOUNDARY.search(content_type)
    if found is None:
        return None
    return found.group(1) if found.group(1) is not None else found.group(2).strip()


def _decode_multipart(body: bytes, content_type: str, with_part_headers: bool) -> dict[str, Any]:
    boundary = _boundary(content_type)
    values: dict[str, Any] = {}
    headers: dict[str, Any] = {}
    if not boundary:
        return values
    for part in _parts(body, boundary.encode("utf-8", "surrogateescape")):
        head, _, content = part.partition(b"\r\n\r\n") if b"\r\n\r\n" in part else part.partition(b"\n\n")
        found = next((_PART_NAME.search(line) for line in head.splitlines() if _is_disposition(line)), None)
        if found is None:
            continue
        name = _unquoted(found.group(1)).decode("utf-8", "surrogateescape")
        _collect(values, name, content.decode("utf-8", "surrogateescape"))
        if with_part_headers:
            _collect(headers, name, _part_headers(head))
    if with_part_headers:
        values["__extra"] = headers
    return values


def _collect(found: dict[str, Any], name: str, value: Any) -> None:
    """Add a value; several of one name become a list."""
    earlier = found.get(name)
    if earlier is None:
        found[name] = value
    elif isinstance(earlier, list):
        earlier.append(value)
    else:
        found[name] = [earlier, value]


def _part_headers(head: bytes) -> dict[str, str]:
    pairs = (line.decode("utf-8", "surrogateescape").partition(":") for line in head.splitlines() if b":" in line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def decompressed(body: bytes, encoding: str | None, limit_bytes: int) -> bytes:
    """Return a body without its Content-Encoding: gzip and deflate, several of them in turn.

    Raises: BodyError for another encoding, for what is broken, and for more than the limit.
    """
    for name in reversed([one.strip().lower() for one in (encoding or "").split(",") if one.strip()]):
        if name == "identity":
            continue
        if name not in ("gzip", "x-gzip", "deflate"):
            raise BodyError(f"unsupported content encoding '{name}'")
        # 47: gzip or zlib, as the first bytes say; deflate without its zlib head is seen in the wild.
        window = -15 if name == "deflate" and body[:1] and body[0] & 0x0F != 8 else 47
        reader = zlib.decompressobj(window)
        try:
            body = reader.decompress(body, limit_bytes)
        except zlib.error as error:
            raise BodyError(f"broken content encoding '{name}': {error}") from error
        if reader.unconsumed_tail or not reader.eof:
            too_large = f"decompressed body is larger than {limit_bytes} bytes"
            raise BodyError(too_large if reader.unconsumed_tail else f"broken content encoding '{name}': it is cut off")
    return body


def _parts(body: bytes, boundary: bytes) -> list[bytes]:
    """Split at boundary lines; what stands before the first and after the closing one is no part."""
    pieces = re.split(rb"(?:^|\r?\n)--" + re.escape(boundary) + rb"(?=--|[ \t]*\r?\n|[ \t]*$)", body)
    parts: list[bytes] = []
    for piece in pieces[1:]:
        if piece.startswith(b"--"):
            break
        parts.append(piece.lstrip(b" \t").removeprefix(b"\r").removeprefix(b"\n"))
    return parts


def _is_disposition(line: bytes) -> bool:
    return line.lower().startswith(b"content-disposition:")


def _unquoted(name: bytes) -> bytes:
    return name[1:-1] if len(name) >= 2 and name[:1] == name[-1:] == b'"' else name.strip()


def _encode_multipart(arguments: Mapping[str, Any], mime: str) -> tuple[bytes, str]:
    fields: list[tuple[bytes, bytes]] = []
    for name, value in arguments.items():
        if not isinstance(name, str):
            raise TypeError(f'invalid key "{name}": got {type_name(name)}, expected string')
        if not isinstance(value, str | int | float):
            raise TypeError(f'invalid value "{name}": got {type_name(value)}, expected string, number or boolean')
        text = (
            str(value).lower() if isinstance(value, bool) else value if isinstance(value, str) else number_text(value)
        )
        fields.append((name.encode("utf-8", "surrogateescape"), text.encode("utf-8", "surrogateescape")))
    fields.sort()
    boundary = _boundary(mime) or _random_boundary()
    while any(boundary.encode() in value for _, value in fields):
        boundary = _random_boundary()
    mark = boundary.encode("utf-8", "surrogateescape")
    parts = [
        b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (mark, name, value)
        for name, value in fields
    ]
    return b"".join(parts) + b"--" + mark + b"--\r\n", f"{MULTIPART}; boundary={boundary}"


def _random_boundary() -> str:
    return str(secrets.randbelow(10**16)).zfill(16)
