"""Reading request bodies: JSON, forms, multipart, plain text; within a bound (reference: admin-api 1, 10)."""

from dataclasses import dataclass
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.requests import Request

from headgate.admin.answers import AnswerError
from headgate.admin.arguments import decode

_MOST_ARGUMENTS = 1000
_DEEPEST_JSON = 100
_TEXT_TYPES = ("application/yaml", "text/yaml", "application/x-yaml", "text/x-yaml", "text/plain")


@dataclass(frozen=True)
class Body:
    """A request body: the raw bytes, and the values of a JSON object or form (None for plain text)."""

    raw: bytes
    values: dict[str, Any] | None
    is_json: bool


async def read_raw(request: Request, limit_bytes: int) -> bytes:
    """Return the whole body; 413 when it is larger than the limit (0: none)."""
    too_large = AnswerError(413, {"message": "Payload too large"})
    declared = request.headers.get("content-length", "")
    if limit_bytes and declared.isdigit() and int(declared) > limit_bytes:
        raise too_large
    chunks = []
    size_bytes = 0
    async for chunk in request.stream():
        size_bytes += len(chunk)
        if limit_bytes and size_bytes > limit_bytes:
            raise too_large
        chunks.append(chunk)
    return b"".join(chunks)


async def read_body(
    request: Request, limit_bytes: int, *, is_text_allowed: bool = False, is_json_decoded: bool = True
) -> Body:
    """Read and decode a body by its Content-Type.

    Args: is_json_decoded, False to leave JSON to the caller (`values` is None then).
    Raises: AnswerError for what the reference refuses.
    """
    types = request.headers.getlist("content-type")
    if len(types) > 1:
        raise AnswerError(400, {"message": "Multiple Content-Type headers not allowed"})
    raw = await read_raw(request, limit_bytes)
    kind = types[0].strip().lower() if types else ""
    if not kind:
        if raw:
            raise AnswerError(415, None)
        return Body(raw, {}, is_json=False)
    if kind.startswith("application/json"):
        return Body(raw, decoded_json(raw) if is_json_decoded else None, is_json=True)
    if kind.startswith("application/x-www-form-urlencoded"):
        return Body(raw, _form(raw), is_json=False)
    if kind.startswith("multipart/form-data"):
        return Body(raw, _multipart(raw, types[0]), is_json=False)
    if is_text_allowed and kind.startswith(_TEXT_TYPES):
        return Body(raw, None, is_json=False)
    raise AnswerError(415, None)


def decoded_json(raw: bytes) -> dict[str, Any]:
    """Return the object in a JSON body; empty without a body. Raises: AnswerError."""
    if not raw:
        return {}
    try:
        values = orjson.loads(raw)
    except orjson.JSONDecodeError:
        values = None
    if not isinstance(values, dict) or not _is_shallow(values):
        raise AnswerError(400, {"message": "Cannot parse JSON body"})
    return values


def _is_shallow(values: Any) -> bool:
    """Tell whether a document nests no deeper than anything that is looked through by recursion may."""
    level = [values]
    for _ in range(_DEEPEST_JSON):
        inner: list[Any] = []
        for value in level:
            inner.extend(value.values() if isinstance(value, dict) else value)
        level = [value for value in inner if isinstance(value, (dict, list))]
        if not level:
            return True
    return False


def _form(raw: bytes) -> dict[str, Any]:
    try:
        pairs = parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=_MOST_ARGUMENTS)
    except UnicodeDecodeError:
        raise AnswerError(400, {"message": "Cannot parse form body"}) from None
    except ValueError:
        raise AnswerError(400, {"message": "Too many arguments"}) from None
    return decode(pairs)


def _multipart(raw: bytes, content_type: str) -> dict[str, Any]:
    parsed = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + content_type.encode("latin-1") + b"\r\n\r\n" + raw)
    if not parsed.is_multipart():
        raise AnswerError(400, {"message": "Cannot parse multipart body"})
    pairs: list[tuple[str, Any]] = []
    documents: dict[str, Any] = {}
    for part in parsed.iter_parts():
        content = part.get_payload(decode=True)
        text = content.decode(errors="surrogateescape") if isinstance(content, bytes) else ""
        if part.get_content_type() == "application/json":
            documents.update(decoded_json(text.encode(errors="surrogateescape")))
            continue
        name = part.get_param("name", header="content-disposition")
        if isinstance(name, str):
            pairs.append((name, text))
    if len(pairs) > _MOST_ARGUMENTS:
        raise AnswerError(400, {"message": "Too many arguments"})
    return decode(pairs) | documents
