"""The list of entity types, in dependency order: what is referred to comes before what refers to it.

Documents, Admin API, published schemas and lookups derive from this list; a new type is one file and one line here.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from headgate.entities import (
    acls,
    basicauth_credentials,
    ca_certificates,
    certificates,
    consumer_group_consumers,
    consumer_groups,
    consumers,
    hmacauth_credentials,
    jwt_secrets,
    key_sets,
    keyauth_credentials,
    keys,
    oauth2_credentials,
    plugins,
    routes,
    services,
    snis,
    targets,
    upstreams,
    vaults,
)
from headgate.entities.entity_type import EntityType

_IN_ORDER: Final = (
    certificates,
    ca_certificates,
    services,
    routes,
    consumers,
    consumer_groups,
    consumer_group_consumers,
    plugins,
    upstreams,
    targets,
    snis,
    keyauth_credentials,
    basicauth_credentials,
    hmacauth_credentials,
    jwt_secrets,
    acls,
    oauth2_credentials,
    key_sets,
    keys,
    vaults,
)

ENTITY_TYPES: Final[Mapping[str, EntityType]] = MappingProxyType(
    {module.ENTITY.name: module.ENTITY for module in _IN_ORDER}
)


def children_of(parent: str) -> tuple[tuple[EntityType, str], ...]:
    """Return the types that refer to a type, each with the field that does."""
    return _CHILDREN.get(parent, ())


def _children() -> dict[str, tuple[tuple[EntityType, str], ...]]:
    found: dict[str, list[tuple[EntityType, str]]] = {}
    for entity_type in ENTITY_TYPES.values():
        for name, key in entity_type.foreign.items():
            found.setdefault(key.reference, []).append((entity_type, name))
    return {name: tuple(items) for name, items in found.items()}


_CHILDREN: Final = _children()
