"""Vaults: where secrets come from, addressed by a prefix in `{vault://<prefix>/…}`."""

from collections.abc import Mapping
from typing import Any, Final

from headgate.entities.entity_type import ABSTRACT_RECORD, EntityType
from headgate.schema import Record, checks, examine, field, types

MOST_TTL_S = 100_000_000


class EnvironmentVault(Record):
    """Configuration of the vault that reads environment variables."""

    prefix: str | None = field(None, match=r"\A[A-Za-z_-][A-Za-z0-9_-]*\Z", lua_pattern="^[%a_-][%a%d_-]*$")
    ttl: float | None = field(None, between=(0, MOST_TTL_S), is_published=False)
    neg_ttl: float | None = field(None, between=(0, MOST_TTL_S), is_published=False)
    resurrect_ttl: float | None = field(None, between=(0, MOST_TTL_S), is_published=False)


VAULT_CONFIGS: Final[Mapping[str, type[Record]]] = {"env": EnvironmentVault}


def _name_fault(value: str) -> str | None:
    return None if value in VAULT_CONFIGS else f"vault '{value}' is not installed"


def _check_config(entity: Mapping[str, Any]) -> dict[str, Any] | None:
    model = VAULT_CONFIGS.get(entity["name"]) if isinstance(entity["name"], str) else None
    if model is None:
        return None
    errors = examine(model, entity["config"] if entity["config"] is not None else {}).errors
    if not errors:
        return None
    return {"config": errors.get("@record", errors)}


class Vault(Record):
    """One vault."""

    entity_checks = (checks.custom(("name", "config"), _check_config, is_published=False),)

    id: types.Id
    prefix: str = field(
        unique=True,
        unique_across_workspaces=True,
        not_one_of=tuple(VAULT_CONFIGS),
        match=r"\A[a-z][a-z0-9-]*?[a-z0-9]+\Z",
        lua_pattern="^[a-z][a-z%d-]-[a-z%d]+$",
    )
    name: str = field(validator=_name_fault)
    description: str | None = field(None, is_published=False)
    config: dict[str, Any] | None = field(default_factory=dict, show_default=False, schema_extra=ABSTRACT_RECORD)
    created_at: types.TimestampSeconds
    updated_at: types.TimestampSeconds
    tags: types.Tags | None = None


ENTITY = EntityType(
    "vaults", Vault, "vaults", endpoint_key="prefix", id_fields=("prefix",), is_id_prefixed=True, cache_key=("prefix",)
)
