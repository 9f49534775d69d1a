"""The published form of a model: what `GET /schemas/…` answers, made from the same definitions that validate."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from headgate.schema.definition import Definition
from headgate.schema.json_fields import NamedJsonSchema
from headgate.schema.record import (
    FieldDefinition,
    PluginConfig,
    RecordDefinition,
    plain,
    record_definition,
)
from headgate.schema.spec import UNSET, FieldSpec, Pattern, Shorthand

_COPIED: Final = (
    *(
        "eq",
        "ne",
        "not_one_of",
        "one_of",
        "gt",
        "timestamp",
        "uuid",
        "is_regex",
        "between",
        "len_eq",
        "len_min",
        "len_max",
    ),
    *("starts_with", "contains", "mutually_exclusive_subsets", "err", "unique", "auto", "immutable", "referenceable"),
    *("encrypted", "transient", "reference", "on_delete", "description", "examples"),
)


def schema_json(model: type[BaseModel]) -> dict[str, Any]:
    """Return `{"fields": […], "entity_checks": […]}`; for a plugin's configuration, of the entity around it."""
    definition = record_definition(model)
    checks = [text for check in definition.model.entity_checks if (text := check.describe()) is not None]
    if issubclass(model, PluginConfig):
        return {"fields": _plugin_fields(model, definition), "entity_checks": checks}
    return {"fields": _fields(definition), "entity_checks": checks}


def config_json(model: type[BaseModel]) -> dict[str, Any]:
    """Return the published form of a plugin's `config` record alone."""
    return _record_body(record_definition(model), is_required=True)


def _plugin_fields(model: type[PluginConfig], definition: RecordDefinition) -> list[dict[str, Any]]:
    fields: list[dict[str, Any]] = []
    for is_forbidden, name, reference in (
        (model.no_consumer, "consumer", "consumers"),
        (model.no_consumer_group, "consumer_group", "consumer_groups"),
        (model.no_route, "route", "routes"),
        (model.no_service, "service", "services"),
    ):
        if is_forbidden:
            fields.append({name: {"type": "foreign", "reference": reference, "eq": None}})
    fields.append(
        {
            "protocols": {
                "type": "set",
                "required": True,
                "default": [name for name in model.default_protocols if name in model.protocols],
                "elements": {"type": "string", "one_of": list(model.protocols)},
            }
        }
    )
    fields.append({"config": _record_body(definition, is_required=True)})
    return fields


def _record_body(definition: RecordDefinition, *, is_required: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"type": "record", "fields": _fields(definition)}
    if is_required:
        body["required"] = True
    if definition.shorthands:
        body["shorthand_fields"] = [_shorthand(item, inner) for item, inner in definition.shorthands]
    model = definition.model
    own_checks = model.config_checks if issubclass(model, PluginConfig) else model.entity_checks
    checks = [text for check in own_checks if (text := check.describe()) is not None]
    if checks:
        body["entity_checks"] = checks
    return body


def _fields(definition: RecordDefinition) -> list[dict[str, Any]]:
    return [
        {} if member.definition.spec.is_published is False else {member.name: _member(member)} for member in definition
    ]


def _member(member: FieldDefinition) -> dict[str, Any]:
    definition = member.definition
    spec = definition.spec
    body = describe_definition(definition)
    if isinstance(spec.required, bool):
        body["required"] = spec.required
    elif not definition.is_nullable and spec.auto is not True:
        body["required"] = True
    if spec.show_default is True:
        body["default"] = _expanded_default(member)
    elif spec.auto is not True and spec.show_default is not False:
        default = member.default()
        if default is not PydanticUndefined and default is not None and definition.kind != "record":
            body["default"] = default
    if isinstance(spec.schema_extra, Mapping):
        _extend(body, spec.schema_extra)
    return body


def _extend(body: dict[str, Any], extra: Mapping[str, Any]) -> None:
    """Add what the field itself publishes; `UNSET` takes a member away."""
    for name, value in extra.items():
        if value is UNSET:
            body.pop(name, None)
        else:
            body[name] = value


def _expanded_default(member: FieldDefinition) -> Any:
    """Return the default with those of nested records filled in and nulls left out."""
    if member.definition.kind == "record" and member.definition.record is not None:
        return without_nulls(plain(member.definition.record()))
    return member.default()


def without_nulls(value: Any) -> Any:
    """Return plain data without the members that are null."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return value


def describe_definition(definition: Definition) -> dict[str, Any]:
    """Return the published form of a field's type and checks, without default and `required`."""
    spec = definition.spec
    kind = definition.kind
    body: dict[str, Any] = {"type": "json" if kind == "any" else kind}
    body.update(_attributes(spec))
    if spec.json_schema is not UNSET:
        is_named = isinstance(spec.json_schema, NamedJsonSchema)
        body["json_schema"] = spec.json_schema.describe() if is_named else {"inline": spec.json_schema}
    if kind == "record" and definition.record is not None:
        inner = _record_body(record_definition(definition.record), is_required=False)
        body.update({key: value for key, value in inner.items() if key != "type"})
    for name in ("elements", "keys", "values"):
        nested = getattr(definition, name)
        if nested is not None:
            body[name] = describe_definition(nested)
            if isinstance(nested.spec.required, bool):
                body[name]["required"] = nested.spec.required
            if isinstance(nested.spec.schema_extra, Mapping):
                _extend(body[name], nested.spec.schema_extra)
    return body


def _attributes(spec: FieldSpec) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for name in _COPIED:
        value = getattr(spec, name)
        if value is UNSET or value is False:
            continue
        body[name] = _lists(value)
    if spec.deprecation is not UNSET:
        body["deprecation"] = spec.deprecation.describe()
    if spec.unique_across_workspaces is True:
        body["unique_across_ws"] = True
    for name in ("match", "not_match"):
        value = getattr(spec, name)
        if value is not UNSET:
            lua = spec.lua_pattern if name == "match" and spec.lua_pattern is not UNSET else None
            body[name] = lua or (value.published if isinstance(value, Pattern) else value)
    for name in ("match_all", "match_none"):
        value = getattr(spec, name)
        if value is not UNSET:
            body[name] = [{"pattern": item.published, "err": item.err} for item in value]
    if spec.match_any is not UNSET:
        patterns, err = spec.match_any
        body["match_any"] = {"patterns": [item.published for item in patterns], "err": err}
    return body


def _lists(value: Any) -> Any:
    return [_lists(item) for item in value] if isinstance(value, (tuple, list)) else value


def _shorthand(item: Shorthand, definition: Definition) -> dict[str, Any]:
    body = describe_definition(definition)
    if item.deprecation is not None:
        body["deprecation"] = item.deprecation.describe()
    if isinstance(item.backwards, tuple):
        body["translate_backwards"] = list(item.backwards)
    return {item.name: body}


def with_deprecated_fields(model: type[BaseModel], data: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain data of a model with its deprecated names shown again, as answers of the Admin API have them."""
    definition = record_definition(model)
    shown = dict(data)
    for member in definition:
        inner = member.definition
        value = shown.get(member.name)
        if inner.kind == "record" and inner.record is not None and isinstance(value, Mapping):
            shown[member.name] = with_deprecated_fields(inner.record, value)
    for item, _ in definition.shorthands:
        if item.is_shown:
            shown.setdefault(item.name, item.shown_in(data))
    return shown
