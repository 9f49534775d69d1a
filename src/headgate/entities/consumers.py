"""Consumers: who uses the gateway."""

from headgate.entities.entity_type import EntityType
from headgate.schema import Record, checks, field, types


class Consumer(Record):
    """One consumer; it has a username, a custom id, or both."""

    entity_checks = (checks.at_least_one_of("custom_id", "username"),)

    id: types.Id = field(schema_extra={"len_min": 1})
    created_at: types.TimestampSeconds
    updated_at: types.TimestampSeconds
    username: str | None = field(None, len_min=1, unique=True)
    custom_id: str | None = field(None, unique=True)
    tags: types.Tags | None = None


ENTITY = EntityType("consumers", Consumer, "consumers", endpoint_key="username", id_fields=("username",))
