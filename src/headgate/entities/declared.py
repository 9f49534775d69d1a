"""Entity types of plugins: a declaration is checked and becomes an `EntityType` like those of the gateway.

Owns the rules of declarations. Loading the plugin's module is the catalog's, adding the type to a registry the
caller's.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from headgate.entities.entity_type import EntityType
from headgate.entities.primary_key import PLAIN_KEY
from headgate.schema import Record, record_definition
from headgate.schema.entity import EntityDeclaration
from headgate.schema.record import FieldDefinition

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
# Names of the store's own tables and of what databases keep for themselves.
_RESERVED_PREFIXES: Final = ("headgate_", "pg_", "sqlite_")
_KEYABLE_KINDS: Final = ("string", "integer", "number", "boolean", "foreign")
_MOST_CACHE_KEY_FIELDS: Final = 5
_LONGEST_REFERENCE_COLUMN: Final = 55


def declared_type(declaration: EntityDeclaration) -> EntityType:
    """Return the entity type of a declaration.

    Raises: ValueError, whose text lists every fault, one per line.
    """
    faults = list(_faults(declaration))
    if faults:
        raise ValueError("\n".join(f"entity '{declaration.name}': {fault}" for fault in faults))
    path = declaration.admin_api_name or declaration.name
    single_key = len(declaration.cache_key) == 1
    composite = list(declaration.unique_together)
    if declaration.cache_key and not single_key and declaration.cache_key not in composite:
        composite.append(declaration.cache_key)
    probe = EntityType(declaration.name, declaration.model, path)
    given = {name: declaration.admin_api_nested_names.get(name, path) for name in probe.foreign}
    nested = {name: text for name, text in given.items() if text is not None}
    return EntityType(
        declaration.name,
        declaration.model,
        path if declaration.generate_admin_api else "",
        primary_key=declaration.primary_key,
        endpoint_key=declaration.endpoint_key,
        nested_under=nested if declaration.generate_admin_api else {},
        composite_unique=tuple(composite),
        id_fields=(declaration.endpoint_key,)
        if declaration.endpoint_key is not None and declaration.primary_key == PLAIN_KEY
        else (),
        is_id_prefixed=True,
        has_ttl=declaration.ttl,
        cache_key=declaration.cache_key,
        is_exported=declaration.db_export,
    )


def _faults(declaration: EntityDeclaration) -> Iterator[str]:
    if _NAME.fullmatch(declaration.name) is None or declaration.name.startswith(_RESERVED_PREFIXES):
        yield (
            "the name must be lower-case letters, digits and underscores, start with a letter, have at most 63 "
            f"characters and not start with {', '.join(_RESERVED_PREFIXES)}"
        )
    model: Any = declaration.model
    if not (isinstance(model, type) and issubclass(model, Record)):
        yield "model is no headgate.schema.Record"
        return
    members = record_definition(model).fields
    yield from _key_faults(declaration.primary_key, members)
    if declaration.ttl and "ttl" in members:
        yield "a field named ttl cannot be declared where ttl = True"
    if len(declaration.cache_key) > _MOST_CACHE_KEY_FIELDS:
        yield f"cache_key: at most {_MOST_CACHE_KEY_FIELDS} fields"
    unique = {name for name, member in members.items() if member.definition.spec.unique is True}
    if len(declaration.primary_key) == 1:
        unique |= set(declaration.primary_key) & set(members)
    for title, names in (
        ("primary_key", declaration.primary_key if declaration.primary_key != PLAIN_KEY else ()),
        ("endpoint_key", () if declaration.endpoint_key is None else (declaration.endpoint_key,)),
        ("cache_key", declaration.cache_key),
        *(("unique_together", names) for names in declaration.unique_together),
    ):
        for name in names:
            if name not in members:
                yield f"{title}: there is no field '{name}'"
            elif members[name].definition.kind not in _KEYABLE_KINDS:
                yield f"{title}: '{name}' is of type {members[name].definition.kind} and cannot be a key"
        is_single = title in ("endpoint_key", "cache_key") and len(names) == 1
        if is_single and names[0] in members and names[0] not in unique:
            yield f"{title}: '{names[0]}' must be unique"
    for name in unique:
        if members[name].definition.kind not in _KEYABLE_KINDS:
            yield f"'{name}' is of type {members[name].definition.kind} and cannot be unique"
    for name, member in members.items():
        if member.definition.kind != "foreign":
            continue
        if len(name) > _LONGEST_REFERENCE_COLUMN:
            yield f"'{name}' is too long a name for a reference"
        if member.definition.spec.on_delete == "null" and member.is_required:
            yield f"'{name}' is required and cannot become null on delete"
    for name in declaration.admin_api_nested_names:
        if name not in members or members[name].definition.kind != "foreign":
            yield f"admin_api_nested_names: there is no foreign field '{name}'"


def _key_faults(primary_key: tuple[str, ...], members: Mapping[str, FieldDefinition]) -> Iterator[str]:
    """Yield what is wrong with a primary key, but for whether its fields are there."""
    identity = members.get("id")
    if primary_key == PLAIN_KEY:
        if identity is None or identity.definition.spec.uuid is not True or identity.definition.spec.auto is not True:
            yield "it needs the field id: types.Id"
        return
    if not primary_key:
        yield "primary_key: at least one field"
    if len(set(primary_key)) < len(primary_key):
        yield "primary_key: a field is in it twice"
    if identity is not None:
        yield "a field named id must be the primary key"
    for name in primary_key:
        if name in members and members[name].definition.spec.on_delete == "null":
            yield f"primary_key: '{name}' is part of the key and cannot become null on delete"
