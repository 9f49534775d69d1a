"""What a field is: its type, read from the annotation, with its attributes; and the pydantic schema made of both.

Owns the reading of annotations and the type faults. One `Definition` per field drives validation, published schemas and
documents alike, so that they cannot disagree.
"""

import sys
import types as python_types
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from headgate.schema.json_fields import NamedJsonSchema, json_fault, json_validator
from headgate.schema.spec import EMPTY_SPEC, UNSET, FieldSpec
from headgate.schema.validators import REQUIRED, compile_checks, is_uuid, is_vault_reference, null_fault

EXPECTED: Final = {
    "string": "expected a string",
    "number": "expected a number",
    "integer": "expected an integer",
    "boolean": "expected a boolean",
    "array": "expected an array",
    "set": "expected a set",
    "map": "expected a map",
    "record": "expected a record",
    "foreign": "expected a record",
    "any": "invalid value",
}
ONLY_ON: Final = {
    "between": ("integer", "number"),
    "len_eq": ("array", "set", "string", "map"),
    "match": ("string",),
    "one_of": ("string", "number", "integer"),
    "contains": ("array", "set"),
    "is_regex": ("string",),
    "uuid": ("string",),
    "timestamp": ("number", "integer"),
    "transient": ("string", "number", "integer", "array", "set", "boolean"),
}
"""Attributes that only some types can have (custom-plugin reference, section 5)."""
_SCALARS: Final[dict[Any, str]] = {str: "string", int: "integer", float: "number", bool: "boolean"}
_EXACT: Final = 2**63 - 1
_LARGEST: Final = int(sys.float_info.max)
FAULT: Final = "headgate_fault"
FAULT_TREE: Final = "headgate_fault_tree"


@dataclass(frozen=True, slots=True)
class Definition:
    """One field's type and attributes. `elements`, `keys`, `values` and `record` according to `kind`."""

    kind: str
    spec: FieldSpec
    is_nullable: bool
    elements: "Definition | None" = None
    keys: "Definition | None" = None
    values: "Definition | None" = None
    record: type[BaseModel] | None = None
    annotation: Any = None


def fault(text: str) -> PydanticCustomError:
    """Return the exception a core validator raises for one text."""
    return PydanticCustomError(FAULT, "{text}", {"text": text})


def fault_tree(tree: Any) -> PydanticCustomError:
    """Return the exception a core validator raises for faults deeper inside the value."""
    return PydanticCustomError(FAULT_TREE, "invalid value", {"tree": tree})


def define(annotation: Any, spec: FieldSpec = EMPTY_SPEC) -> Definition:
    """Read an annotation; `spec` is what the field itself says on top of the annotation's own attributes.

    Raises: TypeError, for an annotation that documents cannot express.
    """
    annotation, inner = unwrap(annotation)
    is_nullable = False
    origin = get_origin(annotation)
    if origin in (Union, python_types.UnionType):
        members = [item for item in get_args(annotation) if item is not type(None)]
        is_nullable = len(members) < len(get_args(annotation))
        if len(members) == 1:
            annotation, deeper = unwrap(members[0])
            inner = deeper.merged(inner)
            origin = get_origin(annotation)
        else:
            return Definition("any", inner.merged(spec), is_nullable, annotation=annotation)
    merged = inner.merged(spec)
    if merged.reference is not UNSET:
        return Definition("foreign", merged, is_nullable, annotation=annotation)
    if merged.json_schema is not UNSET:
        return Definition("json", merged, is_nullable or annotation is Any, annotation=annotation)
    if isinstance(annotation, type) and annotation in _SCALARS:
        return Definition(_SCALARS[annotation], merged, is_nullable, annotation=annotation)
    if origin is Literal:
        choices = get_args(annotation)
        is_nullable = is_nullable or None in choices
        choices = tuple(item for item in choices if item is not None)
        kind = _SCALARS.get(type(choices[0]), "any")
        if merged.one_of is UNSET:
            merged = merged.merged(FieldSpec(one_of=choices))
        return Definition(kind, merged, is_nullable, annotation=annotation)
    if origin in (list, set, frozenset) or annotation in (list, set, frozenset):
        arguments = get_args(annotation) or (Any,)
        element_spec = merged.elements if isinstance(merged.elements, FieldSpec) else EMPTY_SPEC
        is_set = merged.set_ is True or (origin or annotation) in (set, frozenset)
        elements = define(arguments[0], element_spec)
        return Definition("set" if is_set else "array", merged, is_nullable, elements=elements, annotation=annotation)
    if origin is dict or annotation is dict:
        key_type, value_type = get_args(annotation) or (str, Any)
        return Definition(
            "map",
            merged,
            is_nullable,
            keys=define(key_type, merged.keys if isinstance(merged.keys, FieldSpec) else EMPTY_SPEC),
            values=define(value_type, merged.values if isinstance(merged.values, FieldSpec) else EMPTY_SPEC),
            annotation=annotation,
        )
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return Definition("record", merged, is_nullable, record=annotation, annotation=annotation)
    return Definition("any", merged, is_nullable or annotation is Any, annotation=annotation)


def unwrap(annotation: Any) -> tuple[Any, FieldSpec]:
    """Return the annotation without `Annotated`, and the attributes found there."""
    spec = EMPTY_SPEC
    while get_origin(annotation) is Annotated:
        annotation, *metadata = get_args(annotation)
        outer = spec
        spec = EMPTY_SPEC
        for item in metadata:
            if isinstance(item, FieldSpec):
                spec = spec.merged(item)
        spec = spec.merged(outer)
    return annotation, spec


def build_core_schema(definition: Definition, handler: GetCoreSchemaHandler) -> CoreSchema:
    """Return the pydantic schema that checks type and attributes of one field."""
    schema = _typed(definition, handler)
    if not definition.is_nullable:
        return schema
    text = None if definition.spec.ne is UNSET and definition.spec.eq is UNSET else null_fault(definition.spec)
    if text is None or text == REQUIRED:
        return core_schema.nullable_schema(schema)
    return core_schema.no_info_before_validator_function(_refusing_null(text), schema)


def _refusing_null(text: str) -> Any:
    def run(value: Any) -> Any:
        if value is None:
            raise fault(text)
        return value

    return run


def _typed(definition: Definition, handler: GetCoreSchemaHandler) -> CoreSchema:
    kind = definition.kind
    check = compile_checks(definition.spec, kind)
    if kind in ("string", "number", "integer", "boolean"):
        return _scalar(definition, check)
    if kind == "foreign":
        return core_schema.no_info_plain_validator_function(_foreign_validator(check))
    if kind == "json":
        return core_schema.no_info_plain_validator_function(_json_validator(definition.spec.json_schema, check))
    if kind in ("array", "set"):
        assert definition.elements is not None
        schema: CoreSchema = core_schema.list_schema(build_core_schema(definition.elements, handler), strict=True)
        schema = core_schema.no_info_before_validator_function(_empty_object_is_list, schema)
        if kind == "set":
            schema = core_schema.no_info_after_validator_function(_without_duplicates, schema)
    elif kind == "map":
        assert definition.keys is not None
        assert definition.values is not None
        schema = core_schema.dict_schema(
            build_core_schema(definition.keys, handler), build_core_schema(definition.values, handler), strict=True
        )
        schema = core_schema.no_info_before_validator_function(_empty_list_is_object, schema)
    elif kind == "record":
        assert definition.record is not None
        schema = handler.generate_schema(definition.record)
        schema = core_schema.no_info_before_validator_function(_empty_list_is_object, schema)
    elif definition.annotation is Any:
        schema = core_schema.any_schema()
    else:
        schema = handler.generate_schema(definition.annotation)
    if check is None:
        return schema
    return core_schema.no_info_after_validator_function(_after(check), schema)


def _after(check: Any) -> Any:
    def run(value: Any) -> Any:
        text = check(value)
        if text is not None:
            raise fault_tree(text) if isinstance(text, (dict, list)) else fault(text)
        return value

    return run


def _scalar(definition: Definition, check: Any) -> CoreSchema:
    kind = definition.kind
    if kind == "boolean" and check is None:
        return core_schema.bool_schema(strict=True)
    is_referenceable = definition.spec.referenceable is True
    expected = EXPECTED[kind]

    def validate_string(value: Any) -> Any:
        if type(value) is not str:
            raise fault(REQUIRED if value is None else expected)
        if is_referenceable and is_vault_reference(value):
            return value
        text = check(value) if check is not None else None
        if text is not None:
            raise fault_tree(text) if isinstance(text, (dict, list)) else fault(text)
        return value

    def validate_number(value: Any) -> Any:
        if type(value) is float:
            if value.is_integer():
                value = int(value)
            elif kind == "integer" or value != value or value in (float("inf"), float("-inf")):
                raise fault(expected)
        elif type(value) is not int:
            raise fault(REQUIRED if value is None else expected)
        if not -_EXACT <= value <= _EXACT:
            # What 64 bits cannot hold is a floating-point number in the contract, and could not be sent to the workers.
            if abs(value) > _LARGEST:
                raise fault(expected)
            value = float(value)
        text = check(value) if check is not None else None
        if text is not None:
            raise fault(text)
        return value

    def validate_boolean(value: Any) -> Any:
        if type(value) is not bool:
            raise fault(REQUIRED if value is None else expected)
        text = check(value)
        if text is not None:
            raise fault(text)
        return value

    function = {"string": validate_string, "boolean": validate_boolean}.get(kind, validate_number)
    return core_schema.no_info_plain_validator_function(function)


def _foreign_validator(check: Any) -> Any:
    def validate(value: Any) -> Any:
        if value is None:
            raise fault(REQUIRED)
        text = check(value) if check is not None else None
        if text is not None:
            raise fault(text)
        identifier = value.get("id") if isinstance(value, dict) else None
        if identifier is None:
            raise fault_tree({"id": "missing primary key"})
        if not is_uuid(identifier):
            raise fault_tree({"id": "expected a valid UUID" if isinstance(identifier, str) else EXPECTED["string"]})
        return {"id": identifier}

    return validate


def _json_validator(schema: Any, check: Any) -> Any:
    # What a named schema says depends on another field, so that is asked where the record is known.
    is_named = isinstance(schema, NamedJsonSchema)

    def validate(value: Any) -> Any:
        text = None if is_named else json_fault(json_validator(schema), value)
        if text is None and check is not None:
            text = check(value)
        if text is not None:
            raise fault(text)
        return value

    return validate


def attribute_faults(definition: Definition) -> list[str]:
    """Return every attribute that the type of a field, or of what it holds, cannot have."""
    faults = [
        f"field of type '{definition.kind}' cannot have attribute '{name}'"
        for name, kinds in ONLY_ON.items()
        if definition.kind not in ("any", *kinds) and getattr(definition.spec, name) not in (UNSET, False)
    ]
    schema = definition.spec.json_schema
    if definition.kind == "json" and not isinstance(schema, NamedJsonSchema):
        try:
            json_validator(schema)
        except ValueError as error:
            faults.append(str(error))
    for inner in (definition.elements, definition.keys, definition.values):
        if inner is not None:
            faults += attribute_faults(inner)
    return faults


def _empty_object_is_list(value: Any) -> Any:
    return [] if isinstance(value, dict) and not value else value


def _empty_list_is_object(value: Any) -> Any:
    return {} if isinstance(value, list) and not value else value


def _without_duplicates(value: list[Any]) -> list[Any]:
    if len(value) < 2:
        return value
    try:
        return list(dict.fromkeys(value))
    except TypeError:
        kept: list[Any] = []
        for item in value:
            if item not in kept:
                kept.append(item)
        return kept
