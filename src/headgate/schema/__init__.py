"""Schemas: pydantic models that keep the contract's rules, texts and published form.

`Record` and `PluginConfig` are written like any pydantic model; `field`, `types` and `checks` add the contract's
vocabulary; `validate` checks data and `schema_json` publishes the model. Imports `errors` only; entities, plugins
and the Admin API are built on it.
"""

from headgate.errors import violation_message
from headgate.schema import checks, types
from headgate.schema.describe import config_json, schema_json, with_deprecated_fields
from headgate.schema.entity import EntityDeclaration
from headgate.schema.json_fields import NamedJsonSchema, add_json_schema
from headgate.schema.record import (
    ALL_PROTOCOLS,
    HTTP_PROTOCOLS,
    STREAM_PROTOCOLS,
    WEBSOCKET_PROTOCOLS,
    PluginConfig,
    Record,
    plain,
    record_definition,
)
from headgate.schema.spec import Deprecation, Pattern, Shorthand, field, shorthand
from headgate.schema.transformations import Transformation, transformation
from headgate.schema.validate import Examination, examine, validate
from headgate.schema.validators import is_uuid, is_vault_reference

__all__ = [
    "ALL_PROTOCOLS",
    "HTTP_PROTOCOLS",
    "STREAM_PROTOCOLS",
    "WEBSOCKET_PROTOCOLS",
    "Deprecation",
    "EntityDeclaration",
    "Examination",
    "NamedJsonSchema",
    "Pattern",
    "PluginConfig",
    "Record",
    "Shorthand",
    "Transformation",
    "add_json_schema",
    "checks",
    "config_json",
    "examine",
    "field",
    "is_uuid",
    "is_vault_reference",
    "plain",
    "record_definition",
    "schema_json",
    "shorthand",
    "transformation",
    "types",
    "validate",
    "violation_message",
    "with_deprecated_fields",
]
