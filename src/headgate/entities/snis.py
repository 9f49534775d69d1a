"""SNIs: the server names a certificate is used for."""

from headgate.entities.entity_type import EntityType
from headgate.schema import Record, field, types


class Sni(Record):
    """One server name, exact or with a wildcard."""

    id: types.Id
    name: types.WildcardHost = field(unique=True, unique_across_workspaces=True, len_min=1, schema_extra={"len_min": 1})
    created_at: types.TimestampSeconds
    updated_at: types.TimestampSeconds
    tags: types.Tags | None = None
    certificate: types.foreign("certificates")  # type: ignore[valid-type]


ENTITY = EntityType(
    "snis",
    Sni,
    "snis",
    endpoint_key="name",
    nested_under={"certificate": "snis"},
    id_fields=("name",),
    cascades=("certificate",),
)
