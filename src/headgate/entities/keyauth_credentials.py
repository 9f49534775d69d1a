"""Keys of consumers, for key-auth."""

from headgate.entities.entity_type import EntityType
from headgate.schema import Record, field, types


class KeyauthCredential(Record):
    """One key; made up when none is given."""

    id: types.Id
    created_at: types.TimestampSeconds
    consumer: types.foreign("consumers", on_delete="cascade")  # type: ignore[valid-type]
    key: str | None = field(None, unique=True, auto=True, len_min=1, required=False, schema_extra={"len_min": 1})
    tags: types.Tags | None = None


ENTITY = EntityType(
    "keyauth_credentials",
    KeyauthCredential,
    "key-auths",
    endpoint_key="key",
    nested_under={"consumer": "key-auth"},
    has_ttl=True,
    cache_key=("key",),
)
