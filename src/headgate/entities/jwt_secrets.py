"""Keys and secrets of consumers' tokens, for jwt."""

from typing import Final

from headgate.entities.entity_type import EntityType
from headgate.schema import Record, checks, field, pem, types

ALGORITHMS: Final = (
    *(f"{family}{bits}" for family in ("HS", "RS", "ES", "PS") for bits in (256, 384, 512)),
    "EdDSA",
)
_WITH_PUBLIC_KEY: Final = tuple(f"^{name}$" for name in ALGORITHMS if name[:2] in ("RS", "PS", "Ed"))


def _public_key_fault(value: str) -> str | None:
    try:
        pem.load_public_key(value)
    except ValueError:
        return "invalid key"
    return None


class JwtSecret(Record):
    """One issuer; key and secret are made up when none are given."""

    entity_checks = (
        checks.conditional(
            "algorithm",
            if_match={"match_any": {"patterns": list(_WITH_PUBLIC_KEY)}},
            then_field="rsa_public_key",
            then_match={"required": True},
        ),
    )

    id: types.Id
    created_at: types.TimestampSeconds
    consumer: types.foreign("consumers", on_delete="cascade")  # type: ignore[valid-type]
    key: str | None = field(None, unique=True, auto=True, required=False)
    secret: str | None = field(None, auto=True)
    rsa_public_key: str | None = field(None, validator=_public_key_fault)
    algorithm: str | None = field("HS256", one_of=ALGORITHMS)
    tags: types.Tags | None = None


ENTITY = EntityType(
    "jwt_secrets",
    JwtSecret,
    "jwts",
    endpoint_key="key",
    nested_under={"consumer": "jwt"},
    secrets=("secret",),
    cache_key=("key",),
)
