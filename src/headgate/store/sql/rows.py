"""Entities as rows and back.

Owns the JSON of `body` and the texts of key columns. References are kept in their columns only, so that what the
database does to them on delete is what is read.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import orjson
from sqlalchemy import RowMapping

from headgate.entities.entity_type import Entity, EntityType
from headgate.store.cipher import Cipher
from headgate.store.input import violation
from headgate.store.sql.encryption import opened
from headgate.store.sql.tables import key_name, reference_name

Row: TypeAlias = RowMapping | Mapping[str, Any]

# What fits into an index page of both databases with room to spare; longer texts are kept as their hash.
_LONGEST_KEY_BYTES: Final = 512


def row_of(
    entity_type: EntityType, entity: Mapping[str, Any], expires_at: float | None, cipher: Cipher
) -> dict[str, Any]:
    """Return the row of an entity.

    Raises: EntityError of code 2 for what cannot be sent to workers and clients.
    """
    body = {name: value for name, value in entity.items() if name not in entity_type.foreign}
    if entity_type.name == "certificates":
        body.pop("snis", None)
    try:
        text = orjson.dumps(cipher.seal(body, entity["id"], entity_type.sealed_fields)).decode()
    except TypeError:
        raise violation({"@entity": ["texts must be valid UTF-8"]}) from None
    row: dict[str, Any] = {"id": entity["id"], "body": text}
    for name in entity_type.foreign:
        reference = entity.get(name)
        row[reference_name(name)] = None if reference is None else reference["id"]
    for name in entity_type.lookup_fields:
        row[key_name((name,))] = key_text(entity.get(name))
    for names in entity_type.composite_unique:
        row[key_name(names)] = together_text(entity_type, entity, names)
    if entity_type.has_ttl:
        row["expires_at"] = expires_at
    return row


def entity_of(entity_type: EntityType, row: Row, cipher: Cipher) -> Entity:
    """Return the entity of a row, its fields in published order; fields newer than the row are null.

    Raises: DatabaseError for a field that the keys do not open.
    """
    body = opened(cipher, orjson.loads(row["body"]), row["id"], entity_type.sealed_fields)
    entity: Entity = {} if entity_type.own_key is None else {"id": row["id"]}
    for name in entity_type.fields:
        if name in entity_type.foreign:
            identifier = row[reference_name(name)]
            entity[name] = None if identifier is None else {"id": identifier}
        elif name != "snis" or entity_type.name != "certificates":
            entity[name] = body.get(name)
    return entity


def with_ttl(entity_type: EntityType, entity: Entity, row: Row) -> Entity:
    """Return the entity as clients see it: with the whole seconds it still lives, when its time is limited."""
    expires_at = row["expires_at"] if entity_type.has_ttl else None
    return entity if expires_at is None else {**entity, "ttl": max(0, int(expires_at - time.time()))}


def key_text(value: Any) -> str | None:
    """Return the text of a key column for a value; None for null, which is never equal to anything."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        value = value.get("id")
    text = value if isinstance(value, str) else json.dumps(value)
    data = text.encode("utf-8", "surrogatepass")
    is_plain = b"\0" not in data and not text.startswith("sha256:") and data == text.encode("utf-8", "replace")
    return text if is_plain and len(data) <= _LONGEST_KEY_BYTES else _hash(data)


def together_text(entity_type: EntityType, entity: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """Return the key text of fields that are unique together: nulls are equal there, but the first must be set.

    Where one of them is encrypted, it is a hash.
    """
    values = [entity.get(name) for name in names]
    if values[0] is None:
        return None
    text = json.dumps([value.get("id") if isinstance(value, Mapping) else value for value in values])
    return key_text(text) if set(names).isdisjoint(entity_type.sealed_fields) else _hash(text.encode())


def _hash(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
