"""`Record` and `PluginConfig`: pydantic models whose fields follow the contract's rules and texts.

Owns how a class body becomes a model: each annotation is completed with the attributes of its field, so that a plain
`str` already refuses an empty text. Instances are frozen. Values are checked by `headgate.schema.validate`.
"""

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, get_origin

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticUndefined

from headgate.schema.checks import EntityCheck
from headgate.schema.definition import Definition, attribute_faults, build_core_schema, define, unwrap
from headgate.schema.json_fields import NamedJsonSchema
from headgate.schema.spec import EMPTY_SPEC, UNSET, FieldSpec, Shorthand
from headgate.schema.transformations import Transformation

HTTP_PROTOCOLS: Final = ("grpc", "grpcs", "http", "https")
STREAM_PROTOCOLS: Final = ("tcp", "tls", "tls_passthrough", "udp")
WEBSOCKET_PROTOCOLS: Final = ("ws", "wss")
ALL_PROTOCOLS: Final = HTTP_PROTOCOLS + STREAM_PROTOCOLS

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)


_ATOMS: Final = frozenset((str, int, bool, float, type(None)))


class BoundSpec:
    """The attributes of a field in the place where pydantic asks for its schema."""

    __slots__ = ("spec",)

    def __init__(self, spec: FieldSpec) -> None:
        self.spec = spec

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return build_core_schema(define(source, self.spec), handler)


class _RecordMetaclass(ModelMetaclass):
    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> Any:
        annotations: dict[str, Any] = namespace.get("__annotations__", {})
        for attribute, annotation in list(annotations.items()):
            if attribute.startswith("_") or _is_class_variable(annotation):
                continue
            spec = EMPTY_SPEC
            default = namespace.get(attribute)
            if isinstance(default, FieldInfo):
                for item in [item for item in default.metadata if isinstance(item, FieldSpec)]:
                    spec = spec.merged(item)
                    default.metadata.remove(item)
            annotations[attribute] = _annotated(annotation, spec, namespace)
        with warnings.catch_warnings():
            # The contract has fields called `json` and `copy`; the methods pydantic has under those names are not used.
            warnings.filterwarnings("ignore", message=r'Field name "\w+" in "\w+" shadows an attribute in parent')
            return super().__new__(mcs, name, bases, namespace, **kwargs)


def _annotated(annotation: Any, spec: FieldSpec, namespace: dict[str, Any]) -> Any:
    """Return the annotation with all its attributes in one place, innermost, so that pydantic's own ones come after."""
    if isinstance(annotation, str):
        module = sys.modules.get(namespace.get("__module__", ""))
        try:
            annotation = eval(annotation, dict(vars(module)) if module else {}, dict(namespace))
        except NameError:
            return Annotated[annotation, BoundSpec(spec)]
    base, inner = unwrap(annotation)
    others = [item for item in getattr(annotation, "__metadata__", ()) if not isinstance(item, FieldSpec)]
    return Annotated[(base, BoundSpec(inner.merged(spec)), *others)]


def _is_class_variable(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return annotation.startswith(("ClassVar", "typing.ClassVar", "Final"))
    return annotation is ClassVar or get_origin(annotation) is ClassVar


class Record(BaseModel, metaclass=_RecordMetaclass):
    """A record with named fields: part of a plugin's configuration, or an entity.

    `entity_checks` concern several fields (paths start at this record); `shorthand_fields` are accepted on input only;
    `record_validator` gets the whole record as a mapping and returns the text of its fault or None; `transformations`
    say what fields become when an entity or a plugin's configuration is stored, and are read as.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True)

    entity_checks: ClassVar[tuple[EntityCheck, ...]] = ()
    shorthand_fields: ClassVar[tuple[Shorthand, ...]] = ()
    transformations: ClassVar[tuple[Transformation, ...]] = ()
    record_validator: ClassVar[Callable[[Mapping[str, Any]], str | None] | None] = None


class PluginConfig(Record):
    """The `config` of a plugin; paths of `entity_checks` and `transformations` start at the plugin entity
    (`config.minute`).

    `protocols` are those a configuration may list. The `no_…` flags forbid a scope. The paths of `config_checks` start
    at the configuration, and their texts are in its own list `@entity`.
    """

    config_checks: ClassVar[tuple[EntityCheck, ...]] = ()
    protocols: ClassVar[tuple[str, ...]] = HTTP_PROTOCOLS
    default_protocols: ClassVar[tuple[str, ...]] = HTTP_PROTOCOLS
    no_consumer: ClassVar[bool] = False
    no_consumer_group: ClassVar[bool] = False
    no_route: ClassVar[bool] = False
    no_service: ClassVar[bool] = False


@dataclass(frozen=True)
class FieldDefinition:
    """A field of a record: its published name, the attribute that holds it, its definition and its default."""

    name: str
    attribute: str
    definition: Definition
    info: FieldInfo

    @property
    def has_default(self) -> bool:
        """Tell whether the field may be left out because it has a value of its own."""
        return not self.info.is_required()

    @property
    def is_required(self) -> bool:
        """Tell whether null is refused."""
        required = self.definition.spec.required
        return bool(required) if isinstance(required, bool) else not self.definition.is_nullable

    def default(self) -> Any:
        """Return a fresh default as plain data; `PydanticUndefined` when there is none."""
        if self.info.is_required():
            return PydanticUndefined
        if self.definition.kind == "record" and _is_record_factory(self.info, self.definition):
            return {}
        return plain(self.info.get_default(call_default_factory=True))


def _is_record_factory(info: FieldInfo, definition: Definition) -> bool:
    return info.default_factory is definition.record


@dataclass(frozen=True)
class RecordDefinition:
    """All fields of a record by published name, in order, with what must be done before pydantic sees the data."""

    model: type[Record]
    fields: Mapping[str, FieldDefinition]
    shorthands: tuple[tuple[Shorthand, Definition], ...]
    needs_preparation: bool
    checked_members: tuple[FieldDefinition, ...]
    named_json: tuple[FieldDefinition, ...]
    has_transient: bool
    automatic: tuple[FieldDefinition, ...] = ()
    """The fields of a configuration, or of a record in something, that fill themselves; entities do it on their own."""
    # What entity checks ask for again and again: paths split, definitions at paths, fields of a check that may hold
    # references. Filled on demand; the answers never change.
    paths: dict[str, tuple[str, ...]] = field(default_factory=dict)
    definitions: dict[str, Definition | None] = field(default_factory=dict)
    referenceable: dict[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[FieldDefinition]:
        return iter(self.fields.values())


@cache
def record_definition(model: type[BaseModel]) -> RecordDefinition:
    """Return the compiled description of a model; made once per class.

    Raises: TypeError, for a model whose declarations contradict one another.
    """
    if not issubclass(model, Record):
        raise TypeError(f"{model.__name__} is not a headgate.schema.Record")
    fields: dict[str, FieldDefinition] = {}
    needs_preparation = bool(model.shorthand_fields)
    with_checks: list[str] = []
    has_transient = False
    faults: list[str] = []
    for attribute, info in model.model_fields.items():
        spec = EMPTY_SPEC
        annotation = info.annotation
        for item in info.metadata:
            if isinstance(item, BoundSpec):
                spec = spec.merged(item.spec)
            elif isinstance(item, FieldSpec):
                spec = item.merged(spec)
        name = info.alias or attribute
        definition = define(annotation, spec)
        fields[name] = FieldDefinition(name, attribute, definition, info)
        faults += [f"{name}: {text}" for text in _member_faults(fields[name])]
        has_transient |= definition.spec.transient is True
        for nested in nested_records(definition):
            inner = record_definition(nested)
            has_transient |= inner.has_transient
            if nested.transformations:
                faults.append(f"{name}: transformations of a nested record are not run: declare them for the whole")
            if nested.entity_checks or nested.record_validator or inner.checked_members or inner.named_json:
                with_checks.append(name)
            needs_preparation |= bool(inner.automatic)
            needs_preparation |= inner.needs_preparation or (definition.kind == "record" and not definition.is_nullable)
        needs_preparation |= definition.spec.deprecation is not UNSET
    automatic = tuple(one for one in fields.values() if one.definition.spec.auto is True)
    needs_preparation |= bool(automatic) and issubclass(model, PluginConfig)
    shorthands = tuple((item, define(item.type, item.spec)) for item in model.shorthand_fields)
    faults += _transformation_faults(model, fields)
    if faults:
        raise TypeError(f"{model.__name__}: {'; '.join(faults)}")
    return RecordDefinition(
        model,
        fields,
        shorthands,
        needs_preparation,
        tuple(fields[name] for name in with_checks),
        tuple(one for one in fields.values() if isinstance(one.definition.spec.json_schema, NamedJsonSchema)),
        has_transient,
        automatic,
    )


def _member_faults(member: FieldDefinition) -> list[str]:
    faults = attribute_faults(member.definition)
    if member.definition.spec.transient is True and not member.has_default:
        faults.append("a transient field needs a default: it is not there when the entity is read")
    return faults


def _transformation_faults(model: type[Record], fields: Mapping[str, FieldDefinition]) -> Iterator[str]:
    for one in model.transformations:
        for path in (*one.input, *one.needs):
            name, *rest = path.split(".")
            if issubclass(model, PluginConfig):
                # Of the plugin entity around it, whose fields are not known here, `config` alone can be told.
                if name != "config":
                    continue
                name = rest[0] if rest else ""
            if name not in fields:
                yield f"transformations: invalid field name: {path}"


def nested_records(definition: Definition) -> tuple[type[Record], ...]:
    """Return the record type inside a field, whether it holds one, a list or a map of them."""
    inner: Definition | None = definition
    while inner is not None:
        if inner.record is not None and issubclass(inner.record, Record):
            return (inner.record,)
        inner = inner.elements or inner.values
    return ()


def plain(value: Any) -> Any:
    """Return a value as plain JSON data: records become dicts under their published names."""
    if type(value) in _ATOMS:
        return value
    if isinstance(value, Record):
        data = value.__dict__
        # Most values are atoms: a call for each would be a tenth of what a large document costs.
        return {
            item.name: inner if type(inner := data[item.attribute]) in _ATOMS else plain(inner)
            for item in record_definition(type(value))
        }
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return value
