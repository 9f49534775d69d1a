"""Targets: addresses behind an upstream, with a weight."""

from headgate.entities.entity_type import Entity, EntityType
from headgate.schema import Record, addresses, field, types


class Target(Record):
    """One target; weight 0 takes it out of use."""

    id: types.Id
    created_at: types.TimestampMilliseconds
    updated_at: types.TimestampMilliseconds
    upstream: types.foreign("upstreams", on_delete="cascade")  # type: ignore[valid-type]
    target: str = field(validator=addresses.target_fault)
    weight: int | None = field(100, between=(0, 65535))
    tags: types.Tags | None = None


def _normalize(entity: Entity) -> Entity:
    return {"target": addresses.normalized_target(entity["target"]) or entity["target"]}


ENTITY = EntityType(
    "targets",
    Target,
    "targets",
    endpoint_key="target",
    nested_under={"upstream": "targets"},
    nested_key="target",
    composite_unique=(("upstream", "target"),),
    id_fields=("upstream", "target"),
    is_id_prefixed=True,
    finish=_normalize,
)
