"""Membership of consumers in consumer groups."""

from headgate.entities.entity_type import EntityType
from headgate.schema import Record, types


class ConsumerGroupConsumer(Record):
    """One membership; it goes away with the consumer or the group."""

    id: types.Id
    created_at: types.TimestampSeconds
    updated_at: types.TimestampSeconds
    consumer: types.foreign("consumers", on_delete="cascade")  # type: ignore[valid-type]
    consumer_group: types.foreign("consumer_groups", on_delete="cascade")  # type: ignore[valid-type]


ENTITY = EntityType(
    "consumer_group_consumers",
    ConsumerGroupConsumer,
    "consumer_group_consumers",
    composite_unique=(("consumer", "consumer_group"),),
    id_fields=("consumer", "consumer_group"),
    is_id_prefixed=True,
)
