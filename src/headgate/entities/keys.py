"""Keys: asymmetric keys as JWK or PEM, addressed by their key id."""

import json
from collections.abc import Mapping
from typing import Any, Final

from headgate.entities.entity_type import EntityType
from headgate.schema import Record, checks, field, is_vault_reference, pem, types

_KEY_MEMBERS: Final = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x"), "oct": ("k",)}


class PemPair(Record):
    """A key in PEM; one half is enough."""

    entity_checks = (checks.at_least_one_of("private_key", "public_key"),)

    private_key: str | None = field(None, referenceable=True, encrypted=True, required=False)
    public_key: str | None = field(None, referenceable=True, required=False)


def _check_key(entity: Mapping[str, Any]) -> str | None:
    jwk, pair = entity["jwk"], entity["pem"]
    if jwk is not None:
        return _jwk_fault(jwk, entity["kid"])
    return _pem_fault(pair) if pair is not None else None


def _jwk_fault(text: str, kid: str) -> str | None:
    try:
        jwk = json.loads(text)
    except (ValueError, RecursionError):
        return "could not json decode jwk string"
    if not isinstance(jwk, dict):
        return "could not json decode jwk string"
    if jwk.get("kid") != kid:
        return "kid in jwk.kid must be equal to keys.kid"
    members = _KEY_MEMBERS.get(str(jwk.get("kty")))
    if members is None or any(not isinstance(jwk.get(name), str) for name in members):
        return "could not load JWK, likely not a valid key"
    return None


def _pem_fault(pair: Mapping[str, Any]) -> str | None:
    public_key, private_key = pair.get("public_key"), pair.get("private_key")
    if is_vault_reference(public_key) or is_vault_reference(private_key):
        return None
    if not public_key and not private_key:
        return "need to supply a PEM formatted public and/or private key."
    if public_key:
        try:
            pem.load_public_key(public_key)
        except ValueError:
            return "could not load public key"
    if private_key:
        try:
            pem.load_private_key(private_key)
        except ValueError:
            return "could not load private key"
    if public_key and private_key and not pem.is_key_pair(public_key, private_key):
        return "public key does not match private key"
    return None


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
