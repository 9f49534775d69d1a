"""What can be said about a plugin from its code: origin, scopes, protocols, and its configuration as flat rows.

Owns the rows that `info` and `docs` print and the record that `--json` shows. The schema itself is `headgate.schema`'s.
"""

import dataclasses
import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from headgate.policy.catalog import (
    BUNDLED_PACKAGE,
    ENTRY_POINT_GROUP,
    HANDLER_PHASES,
    PATH_PACKAGE,
    PluginType,
)
from headgate.schema.describe import config_json, schema_json

_SCOPES = ("consumer", "consumer_group", "route", "service")
_STRUCTURE = frozenset(
    (
        *("type", "fields", "required", "default", "elements", "keys", "values"),
        *("description", "entity_checks", "shorthand_fields", "err"),
    )
)


@dataclass(frozen=True)
class OriginDetails:
    """Where a plugin comes from; `kind` is bundled, distribution, path or unknown."""

    kind: str
    distribution: str | None
    version: str | None
    file: str | None

    def __str__(self) -> str:
        if self.kind == "distribution":
            return f"{self.distribution} {self.version}"
        if self.kind == "path":
            return str(self.file)
        return self.kind


@dataclass(frozen=True)
class FieldRow:
    """One field of a configuration; `path` with dots, `type` readable, `rules` one text each."""

    path: str
    type: str
    is_required: bool
    default: Any
    has_default: bool
    rules: tuple[str, ...]
    description: str

    @property
    def default_text(self) -> str:
        """The default as JSON, empty without one."""
        return json.dumps(self.default, ensure_ascii=False) if self.has_default else ""


def origin_of(plugin: PluginType) -> OriginDetails:
    """Return where a plugin comes from."""
    module = plugin.handler.__module__
    try:
        file: str | None = inspect.getfile(plugin.handler)
    except (OSError, TypeError):
        file = None
    source_file = getattr(plugin.handler, "SOURCE_FILE", None)
    if source_file is not None:
        return OriginDetails("path", None, None, str(source_file))
    if module.startswith(f"{BUNDLED_PACKAGE}."):
        return OriginDetails("bundled", None, None, file)
    if module.startswith(f"{PATH_PACKAGE}."):
        return OriginDetails("path", None, None, file)
    for entry in metadata.entry_points(group=ENTRY_POINT_GROUP):
        if entry.name.replace("_", "-") == plugin.name and entry.dist is not None:
            return OriginDetails("distribution", entry.dist.name, entry.dist.version, file)
    return OriginDetails("unknown", None, None, file)


def phases_in_order(plugin: PluginType) -> list[str]:
    """Return a plugin's phases in the order of a request's way."""
    return [phase for phase in HANDLER_PHASES if phase in plugin.phases]


def allowed_scopes(plugin: PluginType) -> list[str]:
    """Return what an instance may be attached to, `global` first: every plugin may be that."""
    return ["global", *(kind for kind in _SCOPES if not getattr(plugin.config_model, f"no_{kind}"))]


def summary(plugin: PluginType) -> dict[str, Any]:
    """Return the `--json` form of what `list` shows."""
    return {
        "name": plugin.name,
        "version": plugin.version,
        "priority": plugin.priority,
        "phases": phases_in_order(plugin),
        "origin": dataclasses.asdict(origin_of(plugin)),
    }


def details(plugin: PluginType) -> dict[str, Any]:
    """Return the `--json` form of what `info` shows."""
    return summary(plugin) | {
        "protocols": list(plugin.config_model.protocols),
        "scopes": allowed_scopes(plugin),
        "schema": schema_json(plugin.config_model),
    }


def field_rows(plugin: PluginType) -> list[FieldRow]:
    """Return every field of the configuration, nested ones with their path."""
    return list(_rows(config_json(plugin.config_model), "config"))


def check_texts(plugin: PluginType) -> list[str]:
    """Return the checks over several fields, one text each."""
    of_config = config_json(plugin.config_model).get("entity_checks", ())
    return [_check_text(check) for check in (*schema_json(plugin.config_model)["entity_checks"], *of_config)]


def _rows(record: Mapping[str, Any], prefix: str) -> Iterator[FieldRow]:
    for entry in record["fields"]:
        for name, body in entry.items():
            path = f"{prefix}.{name}"
            yield FieldRow(
                path,
                type_text(body),
                bool(body.get("required")) and "default" not in body and body["type"] != "record",
                body.get("default"),
                "default" in body,
                tuple(_rules(body)),
                body.get("description", ""),
            )
            nested = body if body["type"] == "record" else _nested_record(body)
            if nested is not None:
                yield from _rows(nested, path if nested is body else f"{path}[]")


def _nested_record(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for inner in (body.get("elements"), body.get("values")):
        if inner is not None and inner["type"] == "record":
            return dict(inner)
    return None


def type_text(body: Mapping[str, Any]) -> str:
    """Return a field's type in words: `array of string`, `map of string to number`."""
    kind = str(body["type"])
    if kind in ("array", "set") and "elements" in body:
        return f"{kind} of {type_text(body['elements'])}"
    if kind == "map" and "keys" in body and "values" in body:
        return f"map of {type_text(body['keys'])} to {type_text(body['values'])}"
    return kind


def _rules(body: Mapping[str, Any]) -> Iterator[str]:
    for name, value in body.items():
        if name not in _STRUCTURE:
            yield _rule(name, value)
    for inner in ("elements", "keys", "values"):
        if inner in body:
            yield from (f"{inner}: {rule}" for rule in _rules(body[inner]))


def _rule(name: str, value: Any) -> str:
    if value is True:
        return name
    if name == "one_of" and isinstance(value, list):
        return "one of " + ", ".join(str(item) for item in value)
    if name == "between" and isinstance(value, list):
        return f"between {value[0]} and {value[1]}"
    return f"{name} {value if isinstance(value, str) else json.dumps(value)}"


def _check_text(check: Any) -> str:
    if not isinstance(check, Mapping):
        return str(check)
    parts = []
    for name, value in check.items():
        if name == "conditional":
            parts.append(
                f"if {value['if_field']} {_matches(value['if_match'])}, then {value['then_field']} "
                f"{_matches(value['then_match'])}"
            )
            continue
        text = ", ".join(map(str, value)) if isinstance(value, list) else json.dumps(value)
        parts.append(f"{name}: {text}")
    return "; ".join(parts)


def _matches(match: Mapping[str, Any]) -> str:
    words = {"eq": "is", "ne": "is not", "gt": "is greater than"}
    return " and ".join(
        "is required" if (name, value) == ("required", True) else f"{words.get(name, name)} {json.dumps(value)}"
        for name, value in match.items()
    )
