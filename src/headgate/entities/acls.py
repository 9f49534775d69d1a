"""Groups that consumers belong to, for acl."""

from headgate.entities.entity_type import EntityType
from headgate.schema import Record, types


class Acl(Record):
    """One consumer in one group."""

    id: types.Id
    created_at: types.TimestampSeconds
    consumer: types.foreign("consumers", on_delete="cascade")  # type: ignore[valid-type]
    group: str
    tags: types.Tags | None = None


ENTITY = EntityType(
    "acls",
    Acl,
    "acls",
    nested_under={"consumer": "acls"},
    nested_key="group",
    composite_unique=(("consumer", "group"),),
    id_fields=("consumer", "group"),
    is_id_prefixed=True,
    cache_key=("consumer", "group"),
)
