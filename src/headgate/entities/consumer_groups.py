"""Consumer groups: plugins can be configured for all members of a group at once."""

from headgate.entities.entity_type import EntityType
from headgate.schema import Record, field, types


class ConsumerGroup(Record):
    """One group."""

    id: types.Id
    created_at: types.TimestampSeconds
    updated_at: types.TimestampSeconds
    name: types.Name = field(len_min=1)
    tags: types.Tags | None = None


ENTITY = EntityType("consumer_groups", ConsumerGroup, "consumer_groups", endpoint_key="name", id_fields=("name",))
