"""Certificates with their keys, for TLS with clients and for the gateway's own identity towards services."""

from collections.abc import Mapping
from typing import Any

from headgate.entities.entity_type import EntityType
from headgate.schema import Record, checks, field, pem, types


def _check_pair(entity: Mapping[str, Any]) -> str | None:
    return _pair_fault(entity["cert"], entity["key"], "certificate does not match key")


def _check_alternative_pair(entity: Mapping[str, Any]) -> str | None:
    return _pair_fault(entity["cert_alt"], entity["key_alt"], "alternative certificate does not match key")


def _pair_fault(certificate: str | None, key: str | None, text: str) -> str | None:
    if certificate is None or key is None:
        return None
    return None if pem.is_pair(certificate, key) else text


def _check_types(entity: Mapping[str, Any]) -> str | None:
    certificate, alternative = entity["cert"], entity["cert_alt"]
    if certificate is None or alternative is None or pem.key_type(certificate) != pem.key_type(alternative):
        return None
    return (
        "certificate and alternative certificate need to have different type (e.g. RSA and ECDSA), "
        "the provided certificates were both of the same type"
    )


class Certificate(Record):
    """One certificate, with an alternative of another key type if wanted."""

    entity_checks = (
        checks.mutually_required("cert_alt", "key_alt"),
        checks.custom(("cert", "key"), _check_pair),
        checks.custom(("cert_alt", "key_alt"), _check_alternative_pair),
        checks.custom(("cert", "cert_alt"), _check_types),
    )

    id: types.Id = field(schema_extra={"len_min": 1})
    created_at: types.TimestampSeconds
    updated_at: types.TimestampSeconds
    cert: types.Certificate = field(referenceable=True)
    key: types.PrivateKey = field(referenceable=True, encrypted=True)
    cert_alt: types.Certificate | None = field(None, referenceable=True, required=False)
    key_alt: types.PrivateKey | None = field(None, referenceable=True, encrypted=True, required=False)
    tags: types.Tags | None = None
    # Stored as entities of their own.
    snis: list[types.WildcardHost] | None = field(None, required=False, schema_extra={"transient": True})


ENTITY = EntityType("certificates", Certificate, "certificates")
