"""Client applications of consumers, for oauth2."""

import base64
import hashlib
import secrets
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from headgate.entities.entity_type import Entity, EntityType
from headgate.schema import Record, field, types

_ITERATIONS: Final = 10_000
_SALT_BYTES: Final = 16


def _redirect_fault(value: str) -> str | None:
    try:
        parts = urlsplit(value)
    except ValueError:
        return f"cannot parse '{value}'"
    if not parts.scheme or not (parts.netloc or parts.path):
        return f"cannot parse '{value}'"
    return f"fragment not allowed in '{value}'" if parts.fragment else None


class Oauth2Credential(Record):
    """One client application; id and secret are made up when none are given."""

    id: types.Id
    created_at: types.TimestampSeconds
    consumer: types.foreign("consumers", on_delete="cascade")  # type: ignore[valid-type]
    name: str
    client_id: str | None = field(None, unique=True, auto=True, required=False)
    client_secret: str | None = field(None, auto=True, encrypted=True, required=False)
    hash_secret: bool = False
    redirect_uris: list[str] | None = field(None, required=False, elements=field(validator=_redirect_fault))
    tags: types.Tags | None = None
    client_type: str = field("confidential", one_of=("confidential", "public"))


def _hash_secret(entity: Entity, given: Mapping[str, Any]) -> Entity:
    secret = entity["client_secret"]
    if not entity["hash_secret"] or not secret or secret.startswith("$pbkdf2-sha512$"):
        return {}
    return {"client_secret": secret_hash(secret)}


def secret_hash(secret: str) -> str:
    """Return PBKDF2 with SHA-512 and a fresh salt, as a PHC string."""
    salt = secrets.token_bytes(_SALT_BYTES)
    digest = hashlib.pbkdf2_hmac("sha512", secret.encode("utf-8", "surrogatepass"), salt, _ITERATIONS)
    return f"$pbkdf2-sha512$i={_ITERATIONS},l={len(digest)}${_text(salt)}${_text(digest)}"


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


ENTITY = EntityType(
    "oauth2_credentials",
    Oauth2Credential,
    "oauth2",
    endpoint_key="client_id",
    nested_under={"consumer": "oauth2"},
    given_together=(("hash_secret", "client_secret"),),
    transform=_hash_secret,
    cache_key=("client_id",),
)
