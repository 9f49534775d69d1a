"""Check data against a model: all faults at once, as the contract's error tree, or an instance.

Owns the order (shorthands, defaults, types and field checks, record validators, entity checks) and the translation of
pydantic's error list into the tree. `validate` is for callers that want an instance or an exception; `examine` is for
those that collect faults of many entities.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined

from headgate.errors import SchemaViolation, lua_style
from headgate.schema.automatic import automatic_value
from headgate.schema.checks import ABSENT, EntityCheck
from headgate.schema.definition import EXPECTED, FAULT, FAULT_TREE, Definition
from headgate.schema.record import PluginConfig, RecordDefinition, plain, record_definition
from headgate.schema.spec import Deprecation, Shorthand
from headgate.schema.validators import REQUIRED, UNKNOWN, compile_checks, is_vault_reference

_log = logging.getLogger("headgate.schema")
M = TypeVar("M", bound=BaseModel)
Tree = dict[str, Any]
CONFIG_FAULTS: Final = "@config"
"""Where the texts of `config_checks` are until it is known where the configuration stands."""

_TYPE_FAULTS: Final = {
    "list_type": "array",
    "dict_type": "map",
    "bool_type": "boolean",
    "string_type": "string",
    "model_type": "record",
    "model_attributes_type": "record",
}


@dataclass(slots=True)
class Examination:
    """The outcome of a check: an instance and its plain data, or an error tree."""

    instance: Any = None
    data: dict[str, Any] = field(default_factory=dict)
    errors: Tree = field(default_factory=dict)


def validate(model: type[M], data: Mapping[str, Any], *, prefix: str | None = None, is_stored: bool = False) -> M:
    """Return an instance of `model` for `data`.

    Args: prefix, the name under which the faults of the fields are put (`config` for a plugin's configuration); texts
    that concern several fields of a `PluginConfig` stay outside it, in `@entity`; is_stored: the data was checked
    before, and nobody is warned of deprecated fields again.
    Raises: SchemaViolation, with the error tree of all faults.
    """
    outcome = examine(model, data, is_stored=is_stored)
    if outcome.errors:
        errors = outcome.errors
        if prefix is not None:
            entity_faults = errors.pop("@entity", None) if issubclass(model, PluginConfig) else None
            if CONFIG_FAULTS in errors:
                errors["@entity"] = errors.pop(CONFIG_FAULTS)
            whole = errors.pop("@record", None)
            errors = {prefix: whole if whole is not None else errors} if errors or whole else {}
            if entity_faults:
                errors["@entity"] = entity_faults
        elif "@record" in errors:
            errors.setdefault("@entity", []).append(errors.pop("@record"))
        raise SchemaViolation(errors)
    instance: M = outcome.instance
    return instance


def examine(model: type[BaseModel], data: Any, *, is_update: bool = False, is_stored: bool = False) -> Examination:
    """Check `data` and report, without raising.

    A text about the record as a whole (`record_validator`) is under the key `@record` of the errors.
    """
    definition = record_definition(model)
    if not isinstance(data, Mapping):
        return Examination(errors={"@record": EXPECTED["record"] if data is not None else REQUIRED})
    errors: Tree = {}
    prepared: Any = data if isinstance(data, dict) else dict(data)
    if definition.needs_preparation:
        prepared = _prepare(definition, prepared, errors, is_stored)
    instance: Any = None
    try:
        instance = model.__pydantic_validator__.validate_python(prepared, by_name=False, by_alias=True)
    except ValidationError as error:
        _translate(definition, error, errors)
    values: dict[str, Any] | None = None
    if instance is not None and not errors:
        values = plain(instance)
    if (
        definition.checked_members
        or definition.named_json
        or definition.model.entity_checks
        or _config_checks(definition)
        or definition.model.record_validator is not None
    ):
        _run_checks(definition, values if values is not None else _filled(definition, prepared), errors, is_update)
    if errors:
        return Examination(errors=errors)
    return Examination(instance=instance, data=values if values is not None else {})


def _prepare(definition: RecordDefinition, data: dict[str, Any], errors: Tree, is_stored: bool) -> dict[str, Any]:
    """Expand shorthands, warn of deprecated fields, give required records something to put their defaults into."""
    prepared = dict(data)
    for member in definition.automatic:
        if member.name not in prepared and (value := automatic_value(member.definition.spec, member.definition.kind)):
            prepared[member.name] = value
    for item, item_definition in definition.shorthands:
        if item.name in prepared:
            _expand_shorthand(definition, item, item_definition, prepared, errors)
    for member in definition:
        inner = member.definition
        if inner.spec.deprecation is not ABSENT and not is_stored:
            _warn(inner.spec.deprecation, prepared.get(member.name))
        if inner.kind == "record" and inner.record is not None:
            value = prepared.get(member.name, ABSENT)
            if value is ABSENT and not inner.is_nullable:
                value = member.default()
                value = {} if value is PydanticUndefined else value
            if isinstance(value, dict):
                nested: Tree = {}
                prepared[member.name] = _prepare(record_definition(inner.record), value, nested, is_stored)
                if nested:
                    errors[member.name] = nested
        elif inner.elements is not None and inner.elements.record is not None:
            value = prepared.get(member.name)
            element = record_definition(inner.elements.record)
            if isinstance(value, list) and (element.needs_preparation or element.automatic):
                faults: list[Any] = []
                items = []
                for entry in value:
                    nested = {}
                    items.append(_prepare(element, entry, nested, is_stored) if isinstance(entry, dict) else entry)
                    faults.append(nested or None)
                prepared[member.name] = items
                if any(faults):
                    errors[member.name] = _trimmed(faults)
        elif inner.values is not None and inner.values.record is not None:
            value = prepared.get(member.name)
            element = record_definition(inner.values.record)
            if isinstance(value, dict) and (element.needs_preparation or element.automatic):
                nested = {}
                prepared[member.name] = {
                    key: _prepare(element, entry, nested, is_stored)
                    if isinstance(entry, dict) and not nested
                    else entry
                    for key, entry in value.items()
                }
                if nested:
                    errors[member.name] = nested
    return prepared


def _warn(deprecation: Deprecation, value: Any) -> None:
    text = deprecation.warning(value)
    if text is not None:
        _log.warning("%s", text)


def _expand_shorthand(
    definition: RecordDefinition, item: Shorthand, item_definition: Definition, prepared: dict[str, Any], errors: Tree
) -> None:
    value = prepared.pop(item.name)
    if value is not None:
        text = _shorthand_fault(item_definition, value)
        if text is not None:
            errors[item.name] = text
            return
        if item.deprecation is not None:
            _warn(item.deprecation, value)
    if item.is_shown and item.new_path and _at(prepared, item.new_path) is not ABSENT:
        current = item.shown_in(prepared)
        if current is not None and value is not None and current != value:
            errors[item.name] = (
                "both deprecated and new field are used but their values mismatch: "
                f"{item.name} = {_bare(value)} vs {'.'.join(item.new_path)} = {_bare(current)}"
            )
            return
        if item.is_deprecated:
            return
    try:
        members = item.members(value)
    except (TypeError, ValueError) as error:
        errors[item.name] = str(error)
        return
    _merge(prepared, members, is_new_winning=not item.is_deprecated)


def _shorthand_fault(definition: Definition, value: Any) -> str | None:
    accepted: dict[str, Any] = {
        "string": lambda: isinstance(value, str),
        "boolean": lambda: isinstance(value, bool),
        "integer": lambda: (
            not isinstance(value, bool)
            and (isinstance(value, int) or (isinstance(value, float) and value.is_integer()))
        ),
        "number": lambda: isinstance(value, (int, float)) and not isinstance(value, bool),
        "array": lambda: isinstance(value, list),
        "set": lambda: isinstance(value, list),
        "map": lambda: isinstance(value, dict),
    }
    if definition.kind in accepted and not accepted[definition.kind]():
        return EXPECTED[definition.kind]
    if definition.spec.referenceable is True and is_vault_reference(value):
        return None
    check = compile_checks(definition.spec, definition.kind)
    return check(value) if check is not None else None


def _bare(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, str) else lua_style(value)


def _at(data: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        if not isinstance(data, Mapping) or key not in data:
            return ABSENT
        data = data[key]
    return data


def _merge(target: dict[str, Any], members: Mapping[str, Any], *, is_new_winning: bool) -> None:
    for key, value in members.items():
        current = target.get(key)
        if isinstance(value, Mapping) and isinstance(current, Mapping):
            inner = dict(current)
            _merge(inner, value, is_new_winning=is_new_winning)
            target[key] = inner
        elif key not in target or is_new_winning:
            target[key] = dict(value) if isinstance(value, Mapping) else value


def _translate(definition: RecordDefinition, error: ValidationError, errors: Tree) -> None:
    first_entries: dict[tuple[int | str, ...], Any] = {}
    for item in error.errors(include_url=False):
        _place(definition, item["loc"], {**item, "first_entries": first_entries}, errors)


def _place(definition: RecordDefinition, loc: tuple[int | str, ...], item: Any, tree: Tree) -> None:
    """Put one of pydantic's errors where the contract shows it, following the definitions along its location."""
    if not loc:
        tree.setdefault("@record", _text(item, None))
        return
    name = str(loc[0])
    member = definition.fields.get(name)
    if member is None:
        tree.setdefault(name, _text(item, None))
        return
    _place_value(member.definition, loc[1:], item, tree, name)


def _place_value(definition: Definition, loc: tuple[int | str, ...], item: Any, tree: Any, key: Any) -> None:
    if not loc:
        _put(tree, key, _text(item, definition))
    elif definition.kind == "record" and definition.record is not None:
        nested = _child(tree, key, {})
        if isinstance(nested, dict):
            _place(record_definition(definition.record), loc, item, nested)
    elif definition.elements is not None and isinstance(loc[0], int):
        items = _child(tree, key, [])
        if isinstance(items, list):
            items.extend([None] * (loc[0] + 1 - len(items)))
            _place_value(definition.elements, loc[1:], item, items, loc[0])
    elif definition.kind == "map" and definition.values is not None and definition.keys is not None:
        # Of a map only the first faulty key or value is told, without naming it; deeper faults of that value join in.
        is_key = len(loc) > 1 and loc[1] == "[key]"
        rest = loc[2:] if is_key else loc[1:]
        owner = item["loc"][: len(item["loc"]) - len(loc)]
        holder = _map_holder(tree, key)
        if holder is not None and item["first_entries"].setdefault(owner, loc[0]) == loc[0]:
            _place_value(definition.keys if is_key else definition.values, rest, item, holder, "fault")
            _put(tree, key, holder["fault"], is_replacing=True)
    else:
        _put(tree, key, _text(item, definition))


def _map_holder(tree: Any, key: Any) -> dict[str, Any] | None:
    current = tree[key] if isinstance(tree, list) else tree.get(key)
    if current is None:
        return {}
    return {"fault": current} if isinstance(current, (list, dict)) else None


def _child(tree: Any, key: Any, empty: Any) -> Any:
    current = tree[key] if isinstance(tree, list) else tree.get(key)
    if current is None:
        tree[key] = empty
        return empty
    return current


def _put(tree: Any, key: Any, text: Any, *, is_replacing: bool = False) -> None:
    current = tree[key] if isinstance(tree, list) else tree.get(key)
    if current is None or is_replacing:
        tree[key] = text


def _text(item: Any, definition: Definition | None) -> Any:
    kind = item["type"]
    if kind == FAULT:
        return item["ctx"]["text"]
    if kind == FAULT_TREE:
        return item["ctx"]["tree"]
    if kind in ("extra_forbidden", "invalid_key"):
        return UNKNOWN
    if kind == "missing" or item.get("input", ABSENT) is None:
        return REQUIRED
    if kind in ("value_error", "assertion_error"):
        return str(item["ctx"]["error"])
    if kind in _TYPE_FAULTS:
        return EXPECTED[definition.kind if definition is not None else _TYPE_FAULTS[kind]]
    return item["msg"]


def _trimmed(items: list[Any]) -> list[Any]:
    while items and items[-1] is None:
        items.pop()
    return items


def _filled(definition: RecordDefinition, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data with defaults for what is missing, unchecked: what entity checks see of a faulty record."""
    filled = dict(data)
    for member in definition:
        if member.name not in filled:
            default = member.default()
            if default is PydanticUndefined:
                continue
            filled[member.name] = default
        value = filled[member.name]
        if member.definition.kind == "record" and member.definition.record is not None and isinstance(value, Mapping):
            filled[member.name] = _filled(record_definition(member.definition.record), value)
    return filled


@dataclass(slots=True)
class _RecordScope:
    """The view that the checks of one record get; plugin configurations appear under `config`."""

    record: RecordDefinition
    data: Mapping[str, Any]
    errors: Tree
    is_update: bool
    place: str = "@entity"

    def _path(self, path: str) -> tuple[str, ...]:
        parts = self.record.paths.get(path)
        if parts is None:
            parts = tuple(path.split("."))
            if issubclass(self.record.model, PluginConfig) and parts[0] == "config":
                parts = parts[1:]
            self.record.paths[path] = parts
        return parts

    def value(self, path: str) -> Any:
        # The commonest call by far.
        parts = self.record.paths.get(path) or self._path(path)
        return self.data.get(parts[0], ABSENT) if len(parts) == 1 else _at(self.data, parts)

    def holds_reference(self, paths: tuple[str, ...]) -> bool:
        candidates = self.record.referenceable.get(paths)
        if candidates is None:
            candidates = tuple(
                path
                for path in paths
                if (definition := self.definition(path)) is not None and definition.spec.referenceable is True
            )
            self.record.referenceable[paths] = candidates
        return any(is_vault_reference(self.value(path)) for path in candidates)

    def definition(self, path: str) -> Definition | None:
        if path not in self.record.definitions:
            self.record.definitions[path] = self._find_definition(path)
        return self.record.definitions[path]

    def _find_definition(self, path: str) -> Definition | None:
        record = self.record
        found: Definition | None = None
        for name in self._path(path):
            member = record.fields.get(name)
            if member is None:
                return found if found is not None and found.kind == "foreign" else None
            found = member.definition
            if found.record is not None and found.kind == "record":
                record = record_definition(found.record)
        return found

    def has_fault(self, path: str) -> bool:
        tree: Any = self.errors
        if not tree:
            return False
        for name in self._path(path):
            if not isinstance(tree, Mapping) or name not in tree:
                return isinstance(tree, str)
            tree = tree[name]
        return True

    def add_field_fault(self, path: str, text: Any) -> None:
        *parents, last = self._path(path)
        tree = self.errors
        for name in parents:
            inner = tree.setdefault(name, {})
            if not isinstance(inner, dict):
                return
            tree = inner
        tree.setdefault(last, text)

    def add_entity_fault(self, text: str) -> None:
        self.errors.setdefault(self.place, []).append(text)


def _run_checks(definition: RecordDefinition, data: Mapping[str, Any], errors: Tree, is_update: bool) -> None:
    for member in definition.named_json:
        value, schema = data.get(member.name), member.definition.spec.json_schema
        if value is not None and member.name not in errors:
            text = schema.fault(member.name, data.get(schema.parent_subschema_key), value)
            if text is not None:
                errors[member.name] = text
    for member in definition.checked_members:
        value = data.get(member.name)
        if value is not None:
            _run_nested(member.definition, value, errors, member.name, is_update)
    validator = definition.model.record_validator
    if validator is not None and not errors:
        text = validator(data)
        if text is not None:
            errors["@record"] = text
    if definition.model.entity_checks:
        scope = _RecordScope(definition, data, errors, is_update)
        for check in definition.model.entity_checks:
            check.check(scope)
    if config_checks := _config_checks(definition):
        scope = _RecordScope(definition, data, errors, is_update, CONFIG_FAULTS)
        for check in config_checks:
            check.check(scope)


def _config_checks(definition: RecordDefinition) -> tuple[EntityCheck, ...]:
    model = definition.model
    return model.config_checks if issubclass(model, PluginConfig) else ()


def _run_nested(definition: Definition, value: Any, tree: Any, key: Any, is_update: bool) -> None:
    current = tree[key] if isinstance(tree, list) else tree.get(key)
    if definition.kind == "record" and definition.record is not None:
        if isinstance(value, Mapping) and (current is None or isinstance(current, dict)):
            nested: Tree = current if current is not None else {}
            _run_checks(record_definition(definition.record), value, nested, is_update)
            whole = nested.pop("@record", None)
            if whole is not None and not nested:
                tree[key] = whole
            elif nested:
                tree[key] = nested
    elif definition.elements is not None and isinstance(value, list):
        faults: list[Any] = current if isinstance(current, list) else []
        faults.extend([None] * (len(value) - len(faults)))
        for position, entry in enumerate(value):
            _run_nested(definition.elements, entry, faults, position, is_update)
        if _trimmed(faults):
            tree[key] = faults
    elif definition.values is not None and isinstance(value, Mapping) and current is None:
        for entry in value.values():
            faulty: Tree = {}
            _run_nested(definition.values, entry, faulty, "fault", is_update)
            if faulty:
                tree[key] = faulty["fault"]
                return
