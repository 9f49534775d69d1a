"""Query strings and form bodies: parsing and writing (PDK reference 3.3, 6.2, the `clear_query_arg` rule).

Pure functions over text.
"""

import string
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias
from urllib.parse import quote, unquote

from headgate.pdk._check import number_text, type_name

ArgumentValue: TypeAlias = str | bool | list[str | bool]

_FORM_SAFE = frozenset(string.ascii_letters + string.digits + "*-._")


class Arguments(dict[str, ArgumentValue]):
    """Arguments by name: a string, True for a bare name, a list for a repeated one. `truncated`: the limit cut some
    off.
    """

    truncated: bool = False


def unescape(text: str) -> str:
    """Decode `%XX` and `+`; a malformed triplet stays. Bytes that are not UTF-8 become surrogate escapes."""
    if "+" in text:
        text = text.replace("+", " ")
    return unquote(text, errors="surrogateescape") if "%" in text else text


def parse_arguments(query: str, limit: int) -> Arguments:
    """Parse `a=1&b`; arguments beyond the limit are dropped, those without a name ignored."""
    arguments = Arguments()
    for count, (name, value) in enumerate(_pairs(query)):
        if count == limit:
            arguments.truncated = True
            break
        if name not in arguments:
            arguments[name] = value
            continue
        earlier = arguments[name]
        if isinstance(earlier, list):
            earlier.append(value)
        else:
            arguments[name] = [earlier, value]
    return arguments


def first_argument(query: str, wanted: str, limit: int) -> str | bool | None:
    """Return the first value of one argument among the first `limit`; True for a bare name, None when absent."""
    if wanted not in query and "%" not in query and "+" not in query:
        return None
    # Not over `_pairs`: most calls need no decoding, and a generator would cost more than the search.
    count = 0
    for piece in query.split("&"):
        name, equals, value = piece.partition("=")
        if not name:
            continue
        if count == limit:
            return None
        count += 1
        if unescape(name) == wanted:
            return unescape(value) if equals else True
    return None


def encode_arguments(arguments: Mapping[str, Any]) -> str:
    """Write arguments as `set_query` does: one piece per key, pieces sorted bytewise.

    Raises: TypeError `arg keys must be strings`, `attempt to use <type> as query arg value`.
    """
    pieces: list[str] = []
    for name, value in arguments.items():
        if not isinstance(name, str):
            raise TypeError("arg keys must be strings")
        encoded = _escape(name)
        if isinstance(value, list | tuple):
            if value:
                pieces.append("&".join(_piece(encoded, element) for element in value))
        else:
            pieces.append(_piece(encoded, value))
    return "&".join(sorted(pieces, key=lambda piece: piece.encode("utf-8", "surrogateescape")))


def without_argument(query: str, unwanted: str) -> str:
    """Write the query anew as form data (RFC: WHATWG urlencoded, spaces as `%20`) without one argument."""
    kept: list[str] = []
    for piece in query.split("&"):
        if not piece:
            continue
        name, _, value = piece.partition("=")
        name = unescape(name)
        if name != unwanted:
            kept.append(f"{_form_escape(name)}={_form_escape(unescape(value))}")
    return "&".join(kept)


def _pairs(query: str) -> Iterator[tuple[str, str | bool]]:
    for piece in query.split("&"):
        name, equals, value = piece.partition("=")
        if name:
            yield unescape(name), unescape(value) if equals else True


def _piece(name: str, value: object) -> str:
    if value is True:
        return name
    if value is False:
        return ""
    if isinstance(value, str):
        return f"{name}={_escape(value)}"
    if isinstance(value, int | float):
        return f"{name}={number_text(value)}"
    raise TypeError(f"attempt to use {type_name(value)} as query arg value")


def _escape(text: str) -> str:
    return quote(text, safe="-._~!*'()", errors="surrogateescape")


def _form_escape(text: str) -> str:
    return "".join(
        chr(byte) if chr(byte) in _FORM_SAFE else f"%{byte:02X}" for byte in text.encode("utf-8", "surrogateescape")
    )
