"""Keys: asymmetric keys as JWK or PEM, addressed by their key id."""

import json
from collections.abc import Mapping
from typing import Any

from headgate.entities.entity_type import EntityType
from headgate.schema import Record, checks, field, pem, types


class PemPair(Record):
    """A key in PEM; one half is enough."""

    entity_checks = (checks.at_least_one_of("private_key", "public_key"),)

    private_key: str | None = field(None, referenceable=True, encrypted=True, required=False)
    public_key: str | None = field(None, referenceable=True, required=False)


def _check_key(entity: Mapping[str, Any]) -> str | None:
    jwk, pair = entity["jwk"], entity["pem"]
    if jwk is not None:
        return _jwk_fault(jwk, entity["kid"])
    return pem.pair_fault(pair) if pair is not None else None


def _jwk_fault(text: str, kid: str) -> str | None:
    try:
        jwk = json.loads(text)
    except (ValueError, RecursionError):
        return "could not json decode jwk string"
    if not isinstance(jwk, dict):
        return "could not json decode jwk string"
    if jwk.get("kid") != kid:
        return "kid in jwk.kid must be equal to keys.kid"
    return pem.jwk_fault(jwk)


class Key(Record):
    """One key."""

    entity_checks = (
        checks.mutually_exclusive("pem", "jwk"),
        checks.at_least_one_of("pem", "jwk"),
        checks.custom(("jwk", "pem", "kid"), _check_key),
    )

    id: types.Id
    set: types.foreign("key_sets", on_delete="cascade", required=False) | None = None  # type: ignore[valid-type]
    name: types.Name | None = field(None, required=False)
    kid: str = field(schema_extra={"unique": False})
    jwk: str | None = field(None, referenceable=True, encrypted=True)
    pem: PemPair | None = field(None, required=False)
    tags: types.Tags | None = None
    created_at: types.TimestampSeconds
    updated_at: types.TimestampSeconds


ENTITY = EntityType(
    "keys",
    Key,
    "keys",
    endpoint_key="name",
    nested_under={"set": "keys"},
    composite_unique=(("kid", "set"),),
    id_fields=("kid", "set"),
    is_id_prefixed=True,
    cache_key=("kid", "set"),
)
