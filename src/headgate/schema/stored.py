"""The form in which a record is stored, and the one in which it is read.

Owns when transformations run, with their texts, and that transient fields are left out (custom-plugin reference,
section 8.4). A store, snapshots and exports hold the stored form; whoever shows an entity or runs a plugin with it asks
for the form that is read. Only entities and the configuration of plugins have transformations, whose paths start at the
entity (`config.password`).
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

from pydantic import BaseModel

from headgate.errors import TRANSFORMATION_ERROR, EntityError
from headgate.schema.checks import ABSENT, is_empty, quoted
from headgate.schema.definition import Definition
from headgate.schema.describe import with_deprecated_fields
from headgate.schema.record import PluginConfig, Record, record_definition
from headgate.schema.transformations import Function, Transformation

FAILED: Final = "transformation failed: "


def written(model: type[Record], entity: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entity as its transformations want it stored.

    Args: given, what the client wrote: a change does not have what stays as it is.
    Raises: EntityError of code 15.
    """
    result = dict(entity)
    for one in model.transformations:
        if one.on_write is not None and not any(is_empty(value_at(given, path)) for path in one.input):
            _run(one.on_write, one, result)
    return result


def read(model: type[Record], entity: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored entity as it is shown and used: an entity's own older names are there again.

    Raises: EntityError of code 15.
    """
    result = dict(entity)
    for one in model.transformations:
        if one.on_read is not None:
            _run(one.on_read, one, result)
    return with_deprecated_fields(model, result) if _has_shown_names(model) else result


@cache
def has_read_form(model: type[Record]) -> bool:
    """Tell whether what is read differs from what is stored."""
    return any(one.on_read is not None for one in model.transformations) or _has_shown_names(model)


@cache
def _has_shown_names(model: type[Record]) -> bool:
    """Tell whether entities of a model are shown with older names; the configuration of a plugin is on its own."""
    return not issubclass(model, PluginConfig) and _shows_shorthands(model)


def _shows_shorthands(model: type[BaseModel]) -> bool:
    definition = record_definition(model)
    if any(item.is_shown for item, _ in definition.shorthands):
        return True
    inner = (one.definition.record for one in definition if one.definition.kind == "record")
    return any(_shows_shorthands(record) for record in inner if record is not None)


def incomplete(model: type[Record], given: Mapping[str, Any], stored: Mapping[str, Any] | None = None) -> Iterator[str]:
    """Yield the texts for transformations that got some of their fields and not all.

    Args: stored, the entity that `given` changes; None for a new one.
    """
    for one in model.transformations:
        if one.on_write is None or not one.input:
            continue
        text = f"all or none of these fields must be set: {quoted((*one.input, *one.needs))}"
        given_inputs = [not is_empty(value_at(given, path)) for path in one.input]
        if any(given_inputs):
            if not all(given_inputs) or any(is_empty(value_at(given, path)) for path in one.needs):
                yield text
        elif stored is not None and any(_is_changed(given, stored, path) for path in one.needs):
            yield text


def without_transient(model: type[BaseModel], data: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain data of a model without its transient fields."""
    definition = record_definition(model)
    kept = dict(data)
    for member in definition if definition.has_transient else ():
        inner = member.definition
        if inner.spec.transient is True:
            kept.pop(member.name, None)
        elif member.name in kept:
            kept[member.name] = _kept(inner, kept[member.name])
    return kept


def _kept(definition: Definition, value: Any) -> Any:
    if definition.record is not None and isinstance(value, Mapping):
        return without_transient(definition.record, value)
    if definition.elements is not None and isinstance(value, list):
        return [_kept(definition.elements, item) for item in value]
    if definition.values is not None and isinstance(value, Mapping):
        return {key: _kept(definition.values, item) for key, item in value.items()}
    return value


def _is_changed(given: Mapping[str, Any], stored: Mapping[str, Any], path: str) -> bool:
    value = value_at(given, path)
    return value is not ABSENT and value != value_at(stored, path)


def _run(function: Function, one: Transformation, entity: dict[str, Any]) -> None:
    """Put what a function returns into the entity."""
    paths = (*one.input, *one.needs)
    values = [value_at(entity, path) for path in paths]
    if any(map(is_empty, values)):
        return
    try:
        changes = function(*values) if paths else function(entity)
    except ValueError as error:
        raise EntityError(TRANSFORMATION_ERROR, message=f"{FAILED}{error}") from error
    _merge(entity, changes or {})


def value_at(data: Any, path: str) -> Any:
    """Return the value at a dotted path, `ABSENT` when there is none."""
    for key in path.split("."):
        if not isinstance(data, Mapping) or key not in data:
            return ABSENT
        data = data[key]
    return data


def _merge(target: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        before = target.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            inner = dict(before)
            _merge(inner, value)
            value = inner
        target[key] = value
