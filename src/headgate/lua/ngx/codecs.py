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
_DIGESTS = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")


def functions(vm: "Vm") -> dict[str, Any]:
    """Return the functions by name."""
    plain: dict[str, Callable[..., Any]] = {
        "escape_uri": escape_uri,
        "unescape_uri": unescape_uri,
        "encode_base64": encode_base64,
        "decode_base64": decode_base64,
        "decode_base64url": decode_base64url,
        "encode_base64url": lambda text: base64.urlsafe_b64encode(_bytes(text)).rstrip(b"="),
        "md5": lambda text: hashlib.md5(_bytes(text), usedforsecurity=False).hexdigest(),
        "digest": digest,
        "hmac": keyed_digest,
        "crc32": lambda text: zlib.crc32(_bytes(text)),
        "quote_sql_str": quote_sql_str,
        "pbkdf2": pbkdf2,
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


def escape_uri(text: Any, kind: Any = None) -> str:
    """Percent-encode; kind 2 (the default) is for a component, 0 for a whole URI."""
    return quote_from_bytes(_bytes(text), safe=_KEPT_IN_URI if kind == 0 else _KEPT)


def unescape_uri(text: Any) -> bytes:
    """Decode percent escapes and `+`."""
    return unquote_to_bytes(_bytes(text).replace(b"+", b" "))


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


def pbkdf2(name: str, password: Any, salt: Any, iterations: int, length: int) -> bytes:
    """Return a derived key of `length` bytes."""
    if name not in _DIGESTS:
        raise ValueError(f"unknown digest {name}")
    return hashlib.pbkdf2_hmac(name, _bytes(password), _bytes(salt), int(iterations), int(length))


_SQL = {0: b"\\0", 8: b"\\b", 9: b"\\t", 10: b"\\n", 13: b"\\r", 26: b"\\Z", 34: b'\\"', 39: b"\\'", 92: b"\\\\"}


def quote_sql_str(text: Any) -> bytes:
    """Quote a text for MySQL."""
    return b"'" + b"".join(_SQL.get(byte, bytes((byte,))) for byte in _bytes(text)) + b"'"
