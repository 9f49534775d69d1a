"""Configurations of plugins with vault references in them: where they are, and the secrets put in their place.

`bind_references` is called once for a configuration when it is built; `resolve_bound` whenever vaults or secrets may
have changed. Values are replaced inside the (otherwise frozen) object that handlers get: a request pays nothing.
"""

import logging
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from headgate.pdk._reference import VaultError, is_reference
from headgate.pdk._secrets import Secrets, secrets

_log = logging.getLogger("headgate.plugin")


@dataclass(frozen=True, slots=True)
class Slot:
    """One place: `container[key]` holds the secret that `reference` stands for; `path` says where that is."""

    container: Any
    key: Any
    reference: str
    path: tuple[str | int, ...]


_bound: dict[int, tuple[weakref.ref[Any], list[Slot]]] = {}


def bind_references(config: Any) -> dict[str, str]:
    """Remember the references in a configuration, as long as it lives.

    Returns: them by dotted path (Kong's `$refs`); until `resolve_bound` the fields hold the references themselves.
    """
    slots = list(_slots(config, ()))
    if not slots:
        return {}
    key = id(config)
    _bound[key] = (weakref.ref(config, lambda _: _bound.pop(key, None)), slots)
    return {".".join(map(str, slot.path)): slot.reference for slot in slots}


def references_of(config: Any) -> list[Slot]:
    """Return the places of a bound configuration; empty for any other object."""
    entry = _bound.get(id(config))
    return entry[1] if entry is not None and entry[0]() is config else []


def resolve_bound(source: Secrets = secrets) -> None:
    """Put the secrets of now into all bound configurations; what cannot be resolved becomes empty, with a warning."""
    for _, slots in list(_bound.values()):
        fill(slots, source)


def fill(slots: list[Slot], source: Secrets, *, cached_only: bool = False) -> None:
    """Put the secrets of now into some places."""
    for slot in slots:
        slot.container[slot.key] = secret_or_empty(slot.reference, source, cached_only=cached_only)


def secret_or_empty(reference: str, source: Secrets, snapshot: Any = None, *, cached_only: bool = False) -> str:
    """Return a secret; empty with a warning when it cannot be had."""
    try:
        value = source.get(reference, snapshot, cached_only=cached_only)
        fault = "could not get value from external vault (no value found)"
    except VaultError as error:
        value, fault = None, str(error)
    if value is None:
        _log.warning("error updating secret reference %s: %s", reference, fault)
        return ""
    return value


def _slots(record: Any, path: tuple[str | int, ...]) -> Iterator[Slot]:
    """Yield the places in a record and what it holds; only fields declared referenceable count."""
    # Imported on use: tools that only read a request need no schemas.
    from headgate.schema.record import Record, record_definition

    if not isinstance(record, Record):
        return
    # The model is frozen for everybody else; its own dict is the one place where a secret can be put.
    members = record.__dict__
    for item in record_definition(type(record)):
        yield from _in_field(members, item.attribute, item.definition, (*path, item.name))


def _in_field(container: Any, key: Any, definition: Any, path: tuple[str | int, ...]) -> Iterator[Slot]:
    value = container[key]
    if definition.kind == "string":
        if definition.spec.referenceable is True and is_reference(value):
            yield Slot(container, key, value, path)
    elif definition.kind == "record":
        yield from _slots(value, path)
    elif isinstance(value, list) and definition.elements is not None:
        for position in range(len(value)):
            yield from _in_field(value, position, definition.elements, (*path, position))
    elif isinstance(value, dict) and definition.values is not None:
        for name in value:
            yield from _in_field(value, name, definition.values, (*path, name))
