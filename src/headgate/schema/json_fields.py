"""Fields of any JSON, checked by a JSON Schema: one given with the field, or the one that another field names.

Owns the named schemas and the texts (custom-plugin reference, sections 4 to 6). Nothing is fetched: a schema that
refers to another document cannot be used. The validator is imported with the first such field; few nodes have one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import orjson

_FAILED: Final = "value failed JSON-schema validation: "


@dataclass(frozen=True, slots=True)
class NamedJsonSchema:
    """The schema `<namespace>/<value of parent_subschema_key>`, added with `add_json_schema`.

    parent_subschema_key: a text field of the same record. optional: without such a schema any value passes, or those
    that pass `default`.
    """

    namespace: str
    parent_subschema_key: str
    optional: bool = False
    default: Mapping[str, Any] | bool | None = None

    def fault(self, field: str, parent: Any, value: Any) -> str | None:
        """Return the fault of a value whose record has `parent` as its key."""
        if parent is None:
            return (
                f"validation of {field} depends on the parent attribute {self.parent_subschema_key}, but it is not set"
            )
        name = f"{self.namespace}/{parent}"
        validator = _named.get(name)
        if validator is None and self.default is not None:
            validator = json_validator(self.default)
        if validator is not None:
            return json_fault(validator, value)
        return None if self.optional else f"mandatory json schema for field ({name}) not found"

    def describe(self) -> dict[str, Any]:
        """Return the published form."""
        body: dict[str, Any] = {"namespace": self.namespace, "parent_subschema_key": self.parent_subschema_key}
        if self.optional:
            body["optional"] = True
        if self.default is not None:
            body["default"] = self.default
        return body


_named: dict[str, Any] = {}


def add_json_schema(name: str, schema: Mapping[str, Any] | bool) -> None:
    """Make a schema known as `<namespace>/<key>` in this process; one of that name is replaced.

    Called where plugins are loaded, so that every process has it. Raises: ValueError for what is no schema.
    """
    if "/" not in name:
        raise ValueError(f"the name of a JSON schema is <namespace>/<key>: given {name}")
    _named[name] = json_validator(schema)


def json_validator(schema: Mapping[str, Any] | bool) -> Any:
    """Return the validator of a schema. Raises: ValueError for what is no schema."""
    try:
        return _validator(orjson.dumps(schema))
    except TypeError as error:
        raise ValueError(f"json_schema: {error}") from None


@cache
def _validator(schema: bytes) -> Any:
    import jsonschema_rs

    try:
        return jsonschema_rs.validator_for(schema.decode(), offline=True)
    except ValueError as error:
        raise ValueError(f"json_schema: {getattr(error, 'message', error)}") from None


def json_fault(validator: Any, value: Any) -> str | None:
    """Return the text of the first fault of a value."""
    try:
        orjson.dumps(value)
    except TypeError as error:
        return f"value could not be JSON-encoded: {error}"
    for first in validator.iter_errors(value):
        path = ".".join(map(str, first.instance_path))
        return f"{_FAILED}{f'property {path}: ' if path else ''}{first.message}"
    return None
