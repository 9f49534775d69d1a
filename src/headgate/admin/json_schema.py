"""JSON Schema of entities, as answers have them and as bodies give them (JSON Schema 2020-12, for OpenAPI 3.1).

What clients give may be less than what is stored, so bodies need less here than answers promise; the checks that only
code can do are not in it.
"""

from collections.abc import Mapping
from typing import Any

from headgate.entities.entity_type import EntityType
from headgate.schema import record_definition
from headgate.schema.definition import Definition
from headgate.schema.record import RecordDefinition
from headgate.schema.spec import UNSET

JsonSchema = dict[str, Any]
_TYPES = {"string": "string", "integer": "integer", "number": "number", "boolean": "boolean"}
REFERENCE: JsonSchema = {
    "type": ["object", "null"],
    "properties": {"id": {"type": "string", "format": "uuid"}},
    "required": ["id"],
}


def answer_schema(kind: EntityType, kinds: Mapping[str, EntityType]) -> JsonSchema:
    """Return the schema of an entity in an answer: all fields are there, unset ones are null.

    Args: kinds, the types that it may refer to: what has another primary key is referred to by that.
    """
    schema = _record(record_definition(kind.model), is_answer=True)
    for name, foreign in kind.foreign.items():
        parent = kinds.get(foreign.reference)
        if parent is not None and parent.own_key is not None:
            key = list(parent.primary_key)
            members = _record(record_definition(parent.model), is_answer=True)["properties"]
            shown = {field: members[field] for field in key}
            schema["properties"][name] = {"type": ["object", "null"], "properties": shown, "required": key}
    if kind.has_ttl:
        schema["properties"]["ttl"] = {"type": "integer", "minimum": 0, "description": "Seconds left."}
    return schema


def body_schema(kind: EntityType, *, is_partial: bool = False) -> JsonSchema:
    """Return the schema of an entity in a body; `is_partial` for changes, which need no field."""
    schema = _record(record_definition(kind.model), is_answer=False)
    if kind.has_ttl:
        schema["properties"]["ttl"] = {"type": ["integer", "null"], "minimum": 0, "maximum": 100_000_000}
    if kind.name == "services":
        schema["properties"]["url"] = {
            "type": ["string", "null"],
            "description": "Instead of protocol, host, port, path.",
        }
        schema.pop("required", None)
    if is_partial:
        schema.pop("required", None)
    return schema


def _record(definition: RecordDefinition, *, is_answer: bool) -> JsonSchema:
    properties: dict[str, Any] = {}
    required = []
    for member in definition:
        inner = member.definition
        is_nullable = inner.is_nullable or not member.is_required or inner.spec.auto is True
        properties[member.name] = _schema(inner, is_nullable=is_nullable, is_answer=is_answer)
        if is_answer or (member.is_required and not member.has_default and inner.spec.auto is not True):
            required.append(member.name)
    if not is_answer:
        for item, inner in definition.shorthands:
            properties[item.name] = _schema(inner, is_nullable=True, is_answer=False)
    schema: JsonSchema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    return schema


def _schema(definition: Definition, *, is_nullable: bool, is_answer: bool) -> JsonSchema:
    kind, spec = definition.kind, definition.spec
    if kind == "foreign":
        if is_answer:
            return dict(REFERENCE)
        return {
            "type": ["object", "null"],
            "description": f"Names one of `{spec.reference}` by its id or a unique field.",
        }
    schema: JsonSchema = {}
    if kind in _TYPES:
        schema |= {"type": _TYPES[kind]} | _limits(definition)
    elif kind in ("array", "set"):
        schema["type"] = "array"
        if definition.elements is not None:
            schema["items"] = _schema(definition.elements, is_nullable=False, is_answer=is_answer)
    elif kind == "map":
        schema["type"] = "object"
        if definition.values is not None:
            schema["additionalProperties"] = _schema(definition.values, is_nullable=False, is_answer=is_answer)
    elif kind == "record" and definition.record is not None:
        schema = _record(record_definition(definition.record), is_answer=is_answer)
    else:
        return {}
    if spec.schema_extra is not UNSET and isinstance(spec.schema_extra, dict) and spec.schema_extra.get("abstract"):
        schema = {"type": "object"}
    if is_nullable:
        schema["type"] = [schema["type"], "null"]
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
    return schema


def _limits(definition: Definition) -> JsonSchema:
    spec = definition.spec
    # A reference to a vault may stand in the place of a value.
    if spec.referenceable is True:
        return {}
    limits: JsonSchema = {}
    if spec.between is not UNSET:
        limits["minimum"], limits["maximum"] = spec.between
    if spec.one_of is not UNSET:
        limits["enum"] = list(spec.one_of)
    if spec.uuid is True:
        limits["format"] = "uuid"
    if definition.kind == "string" and spec.len_min is not UNSET:
        limits["minLength"] = spec.len_min
    if definition.kind == "string" and spec.len_max is not UNSET:
        limits["maxLength"] = spec.len_max
    return limits
