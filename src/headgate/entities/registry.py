"""The list of entity types, in dependency order: what is referred to comes before what refers to it.

Documents, stores, Admin API, published schemas and lookups derive from this list; a new type is one file and one line
here. Entities of plugins are added per process, by `Registry.with_type`.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
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
from headgate.entities.primary_key import KeyForms, key_forms

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


class Registry(Mapping[str, EntityType]):
    """Entity types by name, in dependency order. Immutable: a process with plugin entities makes its own of them."""

    def __init__(self, entity_types: Iterable[EntityType]) -> None:
        self._types = {entity_type.name: entity_type for entity_type in entity_types}
        children: dict[str, list[tuple[EntityType, str]]] = {}
        for entity_type in self._types.values():
            for name, key in entity_type.foreign.items():
                children.setdefault(key.reference, []).append((entity_type, name))
        self._children = {name: tuple(items) for name, items in children.items()}

    def __getitem__(self, name: str) -> EntityType:
        return self._types[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __len__(self) -> int:
        return len(self._types)

    def children_of(self, parent: str) -> tuple[tuple[EntityType, str], ...]:
        """Return the types that refer to a type, each with the field that does."""
        return self._children.get(parent, ())

    @cached_property
    def key_forms(self) -> KeyForms | None:
        """How entities are addressed and shown; None where all of them are by their `id`."""
        return key_forms(
            (kind.name, kind.own_key, {name: key.reference for name, key in kind.foreign.items()})
            for kind in self._types.values()
        )

    def with_changed(self, entity_type: EntityType) -> "Registry":
        """Return a registry in which a type has another form; the order stays."""
        return Registry({**self._types, entity_type.name: entity_type}.values())

    def with_type(self, entity_type: EntityType) -> "Registry":
        """Return a registry with one more type.

        Raises: ValueError, with a text for a person, for a name that is taken or a reference to an unknown type.
        """
        if entity_type.name in self._types:
            raise ValueError(f"entity '{entity_type.name}' is there already")
        for name, key in entity_type.foreign.items():
            if key.reference not in self._types and key.reference != entity_type.name:
                raise ValueError(
                    f"entity '{entity_type.name}': {name}: schema refers to an invalid foreign entity: "
                    f"{key.reference} (of a plugin's own entities, the one referred to comes first)"
                )
        return Registry((*self._types.values(), entity_type))


ENTITY_TYPES: Final = Registry(module.ENTITY for module in _IN_ORDER)
"""The types of the gateway itself, without those of plugins."""
