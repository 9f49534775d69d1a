"""Finding entities by what stands in a path: an id, an endpoint key, a key below the parent, the name of an SNI.

Works the same on the configuration that the node has read and inside a transaction of its store.
"""

from typing import Any

from headgate.admin.answers import AnswerError, not_found
from headgate.entities.entity_type import Entity, EntityType
from headgate.errors import INVALID_PRIMARY_KEY, EntityError, lua_style
from headgate.store.base import Operations, is_id


def find(operations: Operations, kind: EntityType, key: str) -> Entity | None:
    """Return an entity by id or endpoint key; certificates also by the name of an SNI.

    A type with another primary key is found by its endpoint key, else by the text of that key.

    Raises: EntityError of code 1 for a name where the type has no endpoint key, and for what is no key.
    """
    if kind.own_key is not None:
        found = None if kind.endpoint_key is None else operations.select(kind.name, key, by=kind.endpoint_key)
        if found is None:
            values = key_values(operations, kind, key)
            found = None if values is None else operations.select(kind.name, kind.own_key.id_of(values))
        return found
    if is_id(key):
        return operations.select(kind.name, key)
    if kind.name == "certificates":
        sni = operations.select("snis", key, by="name")
        return None if sni is None else operations.select(kind.name, sni["certificate"]["id"])
    if kind.endpoint_key is None:
        raise invalid_key(key)
    return operations.select(kind.name, key, by=kind.endpoint_key)


def key_values(operations: Operations, kind: EntityType, key: str) -> Entity | None:
    """Return the primary key that a text in a path stands for; None when it names something that is not there.

    Raises: EntityError of code 1.
    """
    forms = operations.entity_types.key_forms
    if kind.own_key is None or forms is None:
        return {"id": key}
    if kind.endpoint_key is not None and len(kind.primary_key) > 1 and "," not in key:
        # What could only be the endpoint key is no key with a fault.
        return None
    values = kind.own_key.parts(key)
    for name, foreign in kind.foreign.items():
        if name in values:
            parent = operations.entity_types[foreign.reference]
            owner = find(operations, parent, values[name])
            if owner is None:
                return None
            values[name] = {"id": owner["id"]}
    return forms.values(kind.name, values)


def invalid_key(key: str) -> EntityError:
    """Return the error for a name where only ids are possible."""
    shown = lua_style({"id": key})
    fields = {"id": "expected a valid UUID"}
    return EntityError(INVALID_PRIMARY_KEY, message=f"invalid primary key: '{shown}'", fields=fields)


def required(operations: Operations, kind: EntityType, key: str) -> Entity:
    """Return an entity by the key in a path.

    Raises: AnswerError 404 when there is none.
    """
    found = find(operations, kind, key)
    if found is None:
        raise AnswerError(404, {"message": "SNI not found"}) if is_server_name(kind, key) else not_found()
    return found


def is_server_name(kind: EntityType, key: str) -> bool:
    """Tell whether a key addresses a certificate by the name of an SNI."""
    return kind.name == "certificates" and not is_id(key)


def find_child(operations: Operations, kind: EntityType, field: str, parent_id: str, key: str) -> Entity | None:
    """Return an entity below its parent, by id, endpoint key or the key that holds below a parent."""
    nested_key = kind.nested_key
    if nested_key is not None and not is_id(key):
        children = operations.children(kind.name, field, parent_id)
        return next((child for child in children if child[nested_key] == key), None)
    found = find(operations, kind, key)
    return found if found is not None and reference_id(found, field) == parent_id else None


def reference_id(entity: Entity, field: str) -> str | None:
    """Return the id that a foreign field holds."""
    reference: dict[str, Any] | None = entity.get(field)
    return None if reference is None else str(reference["id"])
