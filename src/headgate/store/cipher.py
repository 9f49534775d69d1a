"""Secrets at rest: what is declared `encrypted` is unreadable without the keys of this node.

Owns the form of sealed values and the use of the keys, for rows of a database, exported documents and files that the
node keeps. Which fields of an entity are sealed is its type's (`EntityType.sealed_fields`).

A sealed value is `{"$encrypted": "<key>:<data>"}` in the field's place: AES-256-GCM (NIST SP 800-38D) with a random
nonce over the value's JSON, bound to the entity's id and the field, so that it is worth nothing in another entity.
`<key>` is the beginning of the key's hash. Sealed bytes begin with `$encrypted:<key>:` and are bound to what their
owner says. The first key seals, all of them open; what is not sealed is read as it is.
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeGuard

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from headgate.config.datastore import Datastore, encryption_key
from headgate.errors import GatewayError

MARK: Final = "$encrypted"
_NONCE_BYTES: Final = 12


class SealedError(GatewayError):
    """A sealed value that none of the keys opens; the text says which and why."""


class Cipher:
    """Seals and opens fields of entities, and bytes; without keys it seals nothing."""

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        self._keys = {hashlib.sha256(key).hexdigest()[:8]: AESGCM(key) for key in keys}
        self._first = next(iter(self._keys), None)

    def seal(self, body: dict[str, Any], identifier: str, names: Sequence[str]) -> dict[str, Any]:
        """Return an entity with the named fields sealed; nulls stay."""
        if self._first is None:
            return body
        sealed = dict(body)
        for name in names:
            value = body.get(name)
            if value is not None:
                data = self._encrypted(self._first, orjson.dumps(value), _place(identifier, name))
                sealed[name] = {MARK: f"{self._first}:{base64.b64encode(data).decode()}"}
        return sealed

    def open(self, body: dict[str, Any], identifier: str, names: Sequence[str]) -> dict[str, Any]:
        """Return an entity with the named fields readable.

        Raises: SealedError for a value that none of the keys opens.
        """
        opened = body
        for name in names:
            if is_sealed(value := body.get(name)):
                opened = dict(body) if opened is body else opened
                opened[name] = self.open_field(value, identifier, name)
        return opened

    def open_field(self, value: Mapping[str, str], identifier: str, name: str) -> Any:
        """Return what is sealed in a field. Raises: SealedError."""
        what = f"field '{name}' of entity {identifier}"
        key, _, data = value[MARK].partition(":")
        try:
            sealed = base64.b64decode(data, validate=True)
        except binascii.Error:
            sealed = b""
        return orjson.loads(self._decrypted(key, sealed, _place(identifier, name), what))

    def seal_bytes(self, data: bytes, place: bytes) -> bytes:
        """Return data sealed for a place; as it is without keys."""
        if self._first is None:
            return data
        return f"{MARK}:{self._first}:".encode() + self._encrypted(self._first, data, place)

    def open_bytes(self, data: bytes, place: bytes, what: str) -> bytes:
        """Return what `seal_bytes` was given; data that is not sealed as it is.

        Args: what, its name in the text of a fault. Raises: SealedError.
        """
        mark, _, rest = data.partition(b":")
        if mark != MARK.encode():
            return data
        key, _, sealed = rest.partition(b":")
        return self._decrypted(key.decode(errors="replace"), sealed, place, what)

    def _encrypted(self, key: str, data: bytes, place: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._keys[key].encrypt(nonce, data, place)

    def _decrypted(self, key: str, sealed: bytes, place: bytes, what: str) -> bytes:
        if key not in self._keys:
            raise SealedError(f"{what} is encrypted with key {key}, which encryption_keys does not have")
        try:
            return self._keys[key].decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place)
        except (InvalidTag, ValueError):
            raise SealedError(f"{what} was changed after its encryption") from None


def is_sealed(value: Any) -> TypeGuard[Mapping[str, str]]:
    """Tell whether a value in an entity is a sealed one."""
    return isinstance(value, Mapping) and value.keys() == {MARK} and isinstance(value[MARK], str)


def cipher_of_node(settings: Datastore) -> Cipher:
    """Return the cipher of the keys that the settings name."""
    return Cipher([key for text in settings.encryption_keys if (key := encryption_key(text)) is not None])


def _place(identifier: str, name: str) -> bytes:
    return f"{identifier.lower()}:{name}".encode()


WITHOUT_KEYS: Final = Cipher()
"""Seals nothing, opens nothing."""
