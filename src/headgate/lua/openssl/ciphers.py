"""Symmetric ciphers for Lua: AES in the modes that plugins use, and ChaCha20-Poly1305."""

from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, aead, algorithms, modes

from headgate.lua.values import bytes_from_lua

_BLOCK_BITS = 128
_TAG_BYTES = 16


class Running:
    """One encryption or decryption that goes on."""

    __slots__ = ("_context", "_pad", "is_encrypting")

    def __init__(self, context: Any, pad: Any, is_encrypting: bool) -> None:
        self._context = context
        self._pad = pad
        self.is_encrypting = is_encrypting

    def update(self, data: bytes) -> bytes:
        """Return what has become of more data."""
        if self._pad is not None and self.is_encrypting:
            data = self._pad.update(data)
        out = bytes(self._context.update(data))
        return bytes(self._pad.update(out)) if self._pad is not None and not self.is_encrypting else out

    def final(self) -> bytes:
        """Return the rest. Raises: ValueError for a wrong padding; InvalidTag."""
        if self._pad is None:
            return bytes(self._context.finalize())
        if self.is_encrypting:
            return bytes(self._context.update(self._pad.finalize()) + self._context.finalize())
        return bytes(self._pad.update(self._context.finalize()) + self._pad.finalize())

    def tag(self, length: int) -> bytes:
        """Return the tag of an authenticated mode."""
        return bytes(self._context.tag[:length])


def functions() -> dict[str, Callable[..., Any]]:
    """Return the functions by name."""
    return {
        "sizes": sizes,
        "begin": begin,
        "update": lambda running, data: running.update(bytes_from_lua(data)),
        "final": lambda running: running.final(),
        "tag": lambda running, length=None: running.tag(int(length or _TAG_BYTES)),
        "chacha": chacha,
    }


def _parts(name: Any) -> tuple[int, str]:
    parts = str(name).lower().split("-")
    if len(parts) != 3 or parts[0] != "aes" or parts[1] not in ("128", "192", "256"):
        raise ValueError(f'invalid cipher type "{name}"')
    if parts[2] not in ("cbc", "ctr", "gcm", "ecb"):
        raise ValueError(f'invalid cipher type "{name}"')
    return int(parts[1]) // 8, parts[2]


def sizes(name: Any) -> Any:
    """Return (bytes of the key, bytes of the initialisation vector). Raises: ValueError."""
    if str(name).lower() == "chacha20-poly1305":
        return (32, 12)
    length, mode = _parts(name)
    return (length, {"gcm": 12, "ecb": 0}.get(mode, 16))


def begin(
    name: Any, is_encrypting: Any, key: Any, vector: Any, is_unpadded: Any = False, more: Any = None, tag: Any = None
) -> Running:
    """Begin an encryption or decryption. Args: more, what is authenticated beside it; tag, for decryption.

    Raises: ValueError.
    """
    length, mode = _parts(name)
    secret, start = bytes_from_lua(key), bytes_from_lua(vector or "")
    if len(secret) != length:
        raise ValueError(f"expect key to be {length} bytes, got {len(secret)}")
    given = None if tag is None else bytes_from_lua(tag)
    if mode == "gcm":
        how: Any = modes.GCM(start) if is_encrypting else modes.GCM(start, given)
    elif mode == "ecb":
        how = modes.ECB()
    else:
        how = modes.CBC(start) if mode == "cbc" else modes.CTR(start)
    cipher = Cipher(algorithms.AES(secret), how)
    context: Any = cipher.encryptor() if is_encrypting else cipher.decryptor()
    if more is not None:
        if mode != "gcm":
            raise ValueError("only authenticated modes take further data")
        context.authenticate_additional_data(bytes_from_lua(more))
    pad = None
    if mode in ("cbc", "ecb") and not is_unpadded:
        scheme = padding.PKCS7(_BLOCK_BITS)
        pad = scheme.padder() if is_encrypting else scheme.unpadder()
    return Running(context, pad, bool(is_encrypting))


def chacha(is_encrypting: Any, key: Any, vector: Any, data: Any, more: Any = None, tag: Any = None) -> Any:
    """Return (text, tag) of ChaCha20-Poly1305, or the plain text."""
    cipher = aead.ChaCha20Poly1305(bytes_from_lua(key))
    beside = None if more is None else bytes_from_lua(more)
    if is_encrypting:
        sealed = cipher.encrypt(bytes_from_lua(vector), bytes_from_lua(data), beside)
        return (sealed[:-_TAG_BYTES], sealed[-_TAG_BYTES:])
    return cipher.decrypt(bytes_from_lua(vector), bytes_from_lua(data) + bytes_from_lua(tag or ""), beside)
