"""Secrets in a database: which cipher the connections of an engine have, and what a fault of it is there.

Sealing itself is `headgate.store.cipher`'s, where rows are made `rows`'.
"""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from headgate.store.cipher import WITHOUT_KEYS, Cipher, SealedError
from headgate.store.sql.connect import DatabaseError

_OPTION: Final = "headgate_cipher"


def opened(cipher: Cipher, body: dict[str, Any], identifier: str, names: Sequence[str]) -> dict[str, Any]:
    """Return a row's body with the named fields readable.

    Raises: DatabaseError for a value that none of the keys opens.
    """
    try:
        return cipher.open(body, identifier, names)
    except SealedError as error:
        raise DatabaseError(str(error)) from None


def use_cipher(engine: sa.Engine, cipher: Cipher) -> None:
    """Have all connections of an engine seal and open with `cipher`."""
    engine.update_execution_options(**{_OPTION: cipher})


def cipher_of(connection: sa.Connection) -> Cipher:
    """Return the cipher of a connection's engine; one without keys when nobody gave any."""
    cipher = connection.get_execution_options().get(_OPTION)
    return cipher if isinstance(cipher, Cipher) else WITHOUT_KEYS
