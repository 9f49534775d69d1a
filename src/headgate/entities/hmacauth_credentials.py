"""User names and secrets of consumers, for hmac-auth."""

from headgate.entities.entity_type import EntityType
from headgate.schema import Record, field, types


class HmacauthCredential(Record):
    """One user name; the secret is made up when none is given."""

    id: types.Id
    created_at: types.TimestampSeconds
    consumer: types.foreign("consumers", on_delete="cascade")  # type: ignore[valid-type]
    username: str = field(unique=True)
    secret: str | None = field(None, auto=True)
    tags: types.Tags | None = None


ENTITY = EntityType(
    "hmacauth_credentials",
    HmacauthCredential,
    "hmac-auths",
    endpoint_key="username",
    nested_under={"consumer": "hmac-auth"},
    id_fields=("username",),
    is_id_prefixed=True,
    secrets=("secret",),
    cache_key=("username",),
)
