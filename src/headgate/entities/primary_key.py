"""Primary keys other than `id`: what stands for an entity whose key is made of its own fields.

Owns the rule that such an entity has an `id` all the same, derived from its key and shown to nobody: stores, snapshots
and references know entities by id alone, and a key that is taken is an id that is taken. Whoever addresses or shows an
entity translates here.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import quote, unquote
from uuid import UUID, uuid5

from headgate.errors import INVALID_PRIMARY_KEY, EntityError, lua_style
from headgate.schema.definition import EXPECTED
from headgate.schema.validators import REQUIRED, is_uuid

Entity = dict[str, Any]
Find: TypeAlias = Callable[[str, str], Mapping[str, Any] | None]

PLAIN_KEY: Final = ("id",)
_MISSING: Final = "missing primary key"
_NOT_A_KEY: Final = "not a primary key"
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


@dataclass(frozen=True)
class OwnKey:
    """The primary key of a type of entity that is not `id`.

    kinds: its fields with their types, in order; foreign ones hold `{"id": …}`. namespace: that of the type's ids.
    """

    namespace: UUID
    kinds: Mapping[str, str]

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields in their order."""
        return tuple(self.kinds)

    def faults(self, entity: Mapping[str, Any]) -> dict[str, str]:
        """Return the faults of a complete entity: no part of its key may be null."""
        return {name: REQUIRED for name in self.kinds if entity.get(name) is None}

    def id_of(self, values: Mapping[str, Any]) -> str:
        """Return the id of the entity with a key; more than the key may be given, foreign keys as `{"id": …}`."""
        parts = [_plain(values[name]) for name in self.kinds]
        return str(uuid5(self.namespace, json.dumps(parts, ensure_ascii=True)))

    def values_of(self, entity: Mapping[str, Any]) -> Entity:
        """Return the key of an entity."""
        return {name: entity[name] for name in self.kinds}

    def text(self, entity: Mapping[str, Any]) -> str:
        """Return the key as one text, as paths and documents have it: parts joined by commas, each percent-encoded
        when there are several.
        """
        parts = [_text(_plain(entity[name])) for name in self.kinds]
        return parts[0] if len(parts) == 1 else ",".join(quote(part, safe="") for part in parts)

    def parts(self, text: str) -> dict[str, Any]:
        """Return what `text` was made of, foreign parts as texts.

        Raises: EntityError of code 1.
        """
        parts = [text] if len(self.kinds) == 1 else [unquote(part) for part in text.split(",")]
        if len(parts) != len(self.kinds):
            needed = ", ".join(self.kinds)
            fault = f"expected {len(self.kinds)} values joined by commas: {needed}"
            raise EntityError(INVALID_PRIMARY_KEY, message=f"invalid primary key: '{text}' ({fault})")
        return {name: _converted(kind, part) for (name, kind), part in zip(self.kinds.items(), parts, strict=True)}


class KeyForms:
    """How the entities of a registry are addressed and shown, where ids are derived.

    Args: own, the keys by type; references, (type, foreign field) -> type that is referred to, for all types.
    """

    def __init__(self, own: Mapping[str, OwnKey], references: Mapping[tuple[str, str], str]) -> None:
        self._own = own
        self._references = references
        # What there is to translate when an entity is shown: its foreign fields that mean a type with a derived id.
        shown: dict[str, dict[str, str]] = {name: {} for name in own}
        for (name, field), reference in references.items():
            if reference in own:
                shown.setdefault(name, {})[field] = reference
        self._shown = shown

    def __contains__(self, name: str) -> bool:
        return name in self._own

    def is_shown_otherwise(self, name: str) -> bool:
        """Tell whether entities of a type are shown in another form than they are stored."""
        return name in self._shown

    def reference(self, name: str, field: str) -> str | None:
        """Return the type that a foreign field refers to."""
        return self._references.get((name, field))

    def values(self, name: str, primary_key: Any) -> Entity:
        """Return a key as a plugin or client gives it in the form in which entities have it: foreign keys as ids.

        Args: primary_key, a mapping with exactly the fields of the key, or the value of the only one.
        Raises: EntityError of code 1 with the faults of all its fields.
        """
        own = self._own[name]
        if not isinstance(primary_key, Mapping):
            given: Mapping[str, Any] = {own.fields[0]: primary_key} if len(own.kinds) == 1 else {}
        else:
            given = primary_key
        faults: dict[str, Any] = {field: _NOT_A_KEY for field in given if field not in own.kinds}
        values: Entity = {}
        for field, kind in own.kinds.items():
            try:
                values[field] = self._value(name, field, kind, given.get(field))
            except EntityError as error:
                faults[field] = error.fields or error.message
        if faults:
            shown = lua_style(primary_key)
            raise EntityError(INVALID_PRIMARY_KEY, message=f"invalid primary key: '{shown}'", fields=faults)
        return values

    def id_of(self, name: str, primary_key: Any) -> str:
        """Return the id that a key stands for. Raises: as `values`."""
        return self._own[name].id_of(self.values(name, primary_key))

    def _value(self, name: str, field: str, kind: str, value: Any) -> Any:
        """Return the value of one field of a key. Raises: EntityError of code 1."""
        if value is None:
            raise EntityError(INVALID_PRIMARY_KEY, message=_MISSING)
        if kind == "foreign":
            if isinstance(value, str) and is_uuid(value):
                return {"id": value.lower()}
            if isinstance(value, Mapping):
                return {"id": self._foreign_id(name, field, value)}
        elif kind == "integer" and isinstance(value, float):
            if value.is_integer():
                return int(value)
        elif isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool)):
            return value
        raise EntityError(INVALID_PRIMARY_KEY, message=EXPECTED[kind])

    def _foreign_id(self, name: str, field: str, value: Mapping[str, Any]) -> str:
        reference = self._references[name, field]
        identifier = value.get("id")
        if identifier is None and reference in self._own:
            return self.id_of(reference, value)
        if identifier is None:
            raise EntityError(INVALID_PRIMARY_KEY, fields={"id": _MISSING})
        if not isinstance(identifier, str) or not is_uuid(identifier):
            raise EntityError(INVALID_PRIMARY_KEY, fields={"id": "expected a valid UUID"})
        return identifier.lower()

    def shown(self, name: str, entity: Mapping[str, Any], find: Find) -> Entity:
        """Return an entity as it is shown: without a derived id, its references by the keys of what they mean.

        Args: find, (type, id) -> entity.
        """
        result = dict(entity)
        if name in self._own:
            result.pop("id", None)
        for field, reference in self._shown.get(name, {}).items():
            value = result.get(field)
            if isinstance(value, Mapping) and "id" in value:
                referred = find(reference, value["id"])
                if referred is not None:
                    result[field] = self._shown_key(reference, referred, find)
        return result

    def _shown_key(self, name: str, entity: Mapping[str, Any], find: Find) -> Entity:
        shown = self.shown(name, self._own[name].values_of(entity), find)
        return {field: shown[field] for field in self._own[name].fields}


def key_forms(keys: Iterable[tuple[str, OwnKey | None, Mapping[str, str]]]) -> KeyForms | None:
    """Return the forms of some types, given as name, key and foreign fields; None when all of them have plain ids."""
    own: dict[str, OwnKey] = {}
    references: dict[tuple[str, str], str] = {}
    for name, key, foreign in keys:
        if key is not None:
            own[name] = key
        references |= {(name, field): reference for field, reference in foreign.items()}
    return KeyForms(own, references) if own else None


def _plain(value: Any) -> Any:
    """Return a part of a key as JSON has it: references by their id, whole numbers without a fraction."""
    if isinstance(value, Mapping):
        return value["id"]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _converted(kind: str, text: str) -> Any:
    if kind in ("integer", "number"):
        try:
            return int(text) if kind == "integer" else float(text)
        except ValueError:
            return text
    return {"true": True, "false": False}.get(text, text) if kind == "boolean" else text
