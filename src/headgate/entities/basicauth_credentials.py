"""User names and passwords of consumers, for basic-auth."""

import hashlib
from collections.abc import Mapping
from typing import Any

from headgate.entities.entity_type import Entity, EntityType
from headgate.schema import Record, field, types


class BasicauthCredential(Record):
    """One user name; the password is kept as a salted hash."""

    id: types.Id
    created_at: types.TimestampSeconds
    consumer: types.foreign("consumers", on_delete="cascade")  # type: ignore[valid-type]
    username: str = field(unique=True)
    password: str = field(encrypted=True)
    tags: types.Tags | None = None


def password_hash(consumer_id: str, password: str) -> str:
    """Return what is stored for a password: the hexadecimal SHA-1 of the password followed by the consumer's id.

    Source: entity reference, section 5; the form is fixed by existing exports.
    """
    return hashlib.sha1((password + consumer_id).encode("utf-8", "surrogatepass")).hexdigest()


def _hash_password(entity: Entity, given: Mapping[str, Any]) -> Entity:
    if given.get("password") is None:
        return {}
    return {"password": password_hash(entity["consumer"]["id"], entity["password"])}


ENTITY = EntityType(
    "basicauth_credentials",
    BasicauthCredential,
    "basic-auths",
    endpoint_key="username",
    nested_under={"consumer": "basic-auth"},
    id_fields=("username",),
    is_id_prefixed=True,
    given_together=(("password", "consumer"),),
    transform=_hash_password,
    cache_key=("username",),
)
