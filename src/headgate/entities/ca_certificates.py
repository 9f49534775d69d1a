"""Certificates of authorities that the gateway trusts where a service or plugin says so."""

from collections.abc import Mapping
from typing import Any

from headgate.entities.entity_type import Entity, EntityType
from headgate.schema import Record, checks, field, pem, types


def _check_authority(entity: Mapping[str, Any]) -> str | None:
    return pem.authority_fault(entity["cert"])


class CaCertificate(Record):
    """One authority."""

    entity_checks = (checks.custom(("cert",), _check_authority),)

    id: types.Id
    created_at: types.TimestampSeconds
    updated_at: types.TimestampSeconds
    cert: types.Certificate
    cert_digest: str | None = field(None, unique=True)
    tags: types.Tags | None = None


def _add_digest(entity: Entity, given: Mapping[str, Any]) -> Entity:
    return {"cert_digest": pem.digest(entity["cert"])}


ENTITY = EntityType("ca_certificates", CaCertificate, "ca_certificates", transform=_add_digest)
