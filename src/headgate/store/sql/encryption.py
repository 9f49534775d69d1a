"""Secrets at rest: fields declared `encrypted` are unreadable in the database without the keys of this node.

Owns the form of a sealed value and the use of the keys. Which fields an entity type has sealed is the type's
(`EntityType.sealed_fields`), where rows are made `rows`'.

A sealed value is `{"$encrypted": "<key>:<data>"}` in the row's body: AES-256-GCM (NIST SP 800-38D) with a random nonce
over the value's JSON, bound to the entity's id and the field, so that it is worth nothing in another row. `<key>` is
the beginning of the key's hash. The first key seals, all of them open; what is not sealed is read as it is.
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeGuard

import orjson
import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from headgate.store.sql.connect import DatabaseError

MARK: Final = "$encrypted"
_NONCE_BYTES: Final = 12
_OPTION: Final = "headgate_cipher"


class Cipher:
    """Seals and opens the fields of rows; without keys it seals nothing."""

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        self._keys = {hashlib.sha256(key).hexdigest()[:8]: AESGCM(key) for key in keys}
        self._first = next(iter(self._keys), None)

    def seal(self, body: dict[str, Any], identifier: str, names: Sequence[str]) -> dict[str, Any]:
        """Return a row's body with the named fields sealed; nulls stay."""
        if self._first is None:
            return body
        sealed = dict(body)
        for name in names:
            value = body.get(name)
            if value is not None:
                nonce = os.urandom(_NONCE_BYTES)
                data = nonce + self._keys[self._first].encrypt(nonce, orjson.dumps(value), _place(identifier, name))
                sealed[name] = {MARK: f"{self._first}:{base64.b64encode(data).decode()}"}
        return sealed

    def open(self, body: dict[str, Any], identifier: str, names: Sequence[str]) -> dict[str, Any]:
        """Return a row's body with the named fields readable.

        Raises: DatabaseError for a value that none of the keys opens.
        """
        opened = body
        for name in names:
            if is_sealed(value := body.get(name)):
                opened = dict(body) if opened is body else opened
                opened[name] = self._open(value[MARK], identifier, name)
        return opened

    def _open(self, text: str, identifier: str, name: str) -> Any:
        key, _, data = text.partition(":")
        if key not in self._keys:
            raise DatabaseError(
                f"field '{name}' of entity {identifier} is encrypted with key {key}, "
                "which encryption_keys does not have"
            )
        try:
            sealed = base64.b64decode(data, validate=True)
            plain = self._keys[key].decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _place(identifier, name))
            return orjson.loads(plain)
        except (binascii.Error, InvalidTag, ValueError):
            raise DatabaseError(f"field '{name}' of entity {identifier} was changed after its encryption") from None


def is_sealed(value: Any) -> TypeGuard[Mapping[str, str]]:
    """Tell whether a value of a row's body is a sealed one."""
    return isinstance(value, Mapping) and value.keys() == {MARK} and isinstance(value[MARK], str)


def _place(identifier: str, name: str) -> bytes:
    return f"{identifier.lower()}:{name}".encode()


def use_cipher(engine: sa.Engine, cipher: Cipher) -> None:
    """Have all connections of an engine seal and open with `cipher`."""
    engine.update_execution_options(**{_OPTION: cipher})


def cipher_of(connection: sa.Connection) -> Cipher:
    """Return the cipher of a connection's engine; one without keys when nobody gave any."""
    cipher = connection.get_execution_options().get(_OPTION)
    return cipher if isinstance(cipher, Cipher) else _WITHOUT_KEYS


_WITHOUT_KEYS: Final = Cipher()
