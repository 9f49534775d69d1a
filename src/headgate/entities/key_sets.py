"""Key sets: keys by a common name."""

from headgate.entities.entity_type import EntityType
from headgate.schema import Record, field, types


class KeySet(Record):
    """One set."""

    id: types.Id
    name: types.Name | None = field(None, required=False)
    tags: types.Tags | None = None
    created_at: types.TimestampSeconds
    updated_at: types.TimestampSeconds


ENTITY = EntityType("key_sets", KeySet, "key-sets", endpoint_key="name", id_fields=("name",), cache_key=("name",))
