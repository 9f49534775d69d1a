"""Encodings and digests of `ngx`: escapes, arguments, Base64, MD5, SHA-1, CRC-32. Texts are bytes in Latin-1."""

import base64
import binascii
import hashlib
import hmac
import re
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from headgate.lua.values import bytes_from_lua

if TYPE_CHECKING:
    from headgate.lua.vm import Vm

_KEPT = "-._~"
_KEPT_IN_URI = "-._~!#$&'()*+,/:;=?@[]%"
_BASE64 = re.compile(rb"\A[A-Za-z0-9+/]*={0,2}\Z")
_PIECE_BYTES = 64 * 1024
_DIGESTS = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")


def functions(vm: "Vm") -> dict[str, Any]:
    """Return the functions by name."""
    charge = vm.charge

    def in_pieces(function: Callable[[bytes], Any], data: bytes) -> Any:
        """Apply a function to a text piece by piece; between them a bounded call may end."""
        if len(data) <= _PIECE_BYTES:
            return function(data)
        done = [function(data[:0])]
        start = 0
        while start < len(data):
            charge()
            end = start + _PIECE_BYTES
            # An escape is not taken apart.
            end -= 2 - data[end - 2 : end].find(b"%") if b"%" in data[end - 2 : end] else 0
            done.append(function(data[start:end]))
            start = end
        return done[0][:0].join(done)

    plain: dict[str, Callable[..., Any]] = {
        "escape_uri": lambda text, kind=None: in_pieces(lambda piece: _escaped(piece, kind), _bytes(text)),
        "unescape_uri": lambda text: in_pieces(_unescaped, _bytes(text)),
        "encode_base64": encode_base64,
        "decode_base64": decode_base64,
        "decode_base64url": decode_base64url,
        "encode_base64url": lambda text: base64.urlsafe_b64encode(_bytes(text)).rstrip(b"="),
        "md5": lambda text: hashlib.md5(_bytes(text), usedforsecurity=False).hexdigest(),
        "digest": digest,
        "hmac": keyed_digest,
        "crc32": lambda text: zlib.crc32(_bytes(text)),
        "quote_sql_str": quote_sql_str,
    }
    return {name: vm.bridge.heavy(function) for name, function in plain.items()}


def _bytes(value: Any) -> bytes:
    """Return the bytes of a text or number.

    Raises: TypeError for anything else.
    """
    if isinstance(value, str):
        return bytes_from_lua(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("string argument expected")
    return str(value).encode("ascii")


def _escaped(text: bytes, kind: Any = None) -> str:
    """Percent-encode; kind 2 (the default) is for a component, 0 for a whole URI."""
    return quote_from_bytes(text, safe=_KEPT_IN_URI if kind == 0 else _KEPT)


def _unescaped(text: bytes) -> bytes:
    """Decode percent escapes and `+`."""
    return unquote_to_bytes(text.replace(b"+", b" "))


def encode_base64(text: Any, without_padding: Any = False) -> bytes:
    """Encode; the second argument leaves the padding out."""
    encoded = base64.b64encode(_bytes(text))
    return encoded.rstrip(b"=") if without_padding else encoded


def decode_base64(text: Any) -> bytes | None:
    """Decode, with or without padding; None for what is no Base64."""
    return _decoded(_bytes(text))


def decode_base64url(text: Any) -> Any:
    """Decode the URL form; None and a text for what is none."""
    decoded = _decoded(_bytes(text).translate(bytes.maketrans(b"-_", b"+/")))
    return (None, "invalid input") if decoded is None else decoded


def _decoded(raw: bytes) -> bytes | None:
    raw = raw.rstrip(b"=")
    if _BASE64.match(raw) is None or len(raw) % 4 == 1:
        return None
    try:
        return base64.b64decode(raw + b"=" * (-len(raw) % 4))
    except binascii.Error:
        return None


def digest(name: str, text: Any) -> bytes:
    """Return the raw digest of a text.

    Raises: ValueError for an algorithm that is not offered.
    """
    if name not in _DIGESTS:
        raise ValueError(f"unknown digest {name}")
    return hashlib.new(name, _bytes(text), usedforsecurity=False).digest()


def keyed_digest(name: str, key: Any, text: Any) -> bytes:
    """Return the raw HMAC of a text."""
    if name not in _DIGESTS:
        raise ValueError(f"unknown digest {name}")
    return hmac.new(_bytes(key), _bytes(text), name).digest()


_SQL = (
    *((b"\\", b"\\\\"), (b"\0", b"\\0"), (b"\b", b"\\b"), (b"\t", b"\\t"), (b"\n", b"\\n"), (b"\r", b"\\r")),
    *((b"\x1a", b"\\Z"), (b'"', b'\\"'), (b"'", b"\\'")),
)
"""What MySQL has escaped, the backslash first."""


def quote_sql_str(text: Any) -> bytes:
    """Quote a text for MySQL."""
    quoted = _bytes(text)
    for plain, escaped in _SQL:
        quoted = quoted.replace(plain, escaped)
    return b"'" + quoted + b"'"
