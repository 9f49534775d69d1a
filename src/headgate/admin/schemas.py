"""/schemas: what fields entities and plugins have, and validation without storing (reference: admin-api 8)."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from headgate.admin.answers import AnswerError, Json, message
from headgate.admin.bodies import read_body
from headgate.control import Node
from headgate.entities.registry import ENTITY_TYPES
from headgate.errors import SCHEMA_VIOLATION, EntityError, SchemaViolation
from headgate.schema import schema_json, validate


class SchemaEndpoints:
    """Schemas of entities and plugins."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def entity(self, request: Request) -> Response:
        """Answer the schema of an entity type."""
        return Json(schema_json(self._entity_model(request)))

    async def plugin(self, request: Request) -> Response:
        """Answer the schema of a plugin, with its configuration."""
        return Json(schema_json(self._plugin_model(request.path_params["name"])))

    async def plugin_fields(self, request: Request) -> Response:
        """Answer the configuration fields of a plugin (the older path)."""
        schema = schema_json(self._plugin_model(request.path_params["name"]))
        config = next((field["config"] for field in schema["fields"] if "config" in field), schema)
        return Json(config)

    async def vault(self, request: Request) -> Response:
        """Answer the schema of a vault type; there is none yet."""
        raise AnswerError(404, {"message": f"No vault named '{request.path_params['name']}'"})

    async def filter(self, request: Request) -> Response:
        """Answer the schema of a Wasm filter; there is none."""
        raise AnswerError(404, {"message": f"Filter '{request.path_params['name']}' not found"})

    async def validate_entity(self, request: Request) -> Response:
        """Validate an entity without storing it."""
        model = self._entity_model(request)
        return self._validated(model, await self._values(request))

    async def validate_plugin(self, request: Request) -> Response:
        """Validate a plugin instance with its configuration without storing it."""
        return self._validated(ENTITY_TYPES["plugins"].model, await self._values(request))

    async def _values(self, request: Request) -> dict[str, Any]:
        body = await read_body(request, self._node.settings.http.admin_max_body_bytes)
        return body.values or {}

    def _validated(self, model: Any, values: dict[str, Any]) -> Response:
        try:
            validate(model, values)
        except SchemaViolation as violation:
            error = EntityError(SCHEMA_VIOLATION, message=violation.message, fields=violation.fields)
            return Json(error.body(), error.status)
        return message(200, "schema validation successful")

    def _entity_model(self, request: Request) -> Any:
        name = request.path_params["name"]
        if name not in ENTITY_TYPES:
            raise AnswerError(404, {"message": f"No entity named '{name}'"})
        return ENTITY_TYPES[name].model

    def _plugin_model(self, name: str) -> Any:
        if name not in self._node.catalog:
            raise AnswerError(404, {"message": f"No plugin named '{name}'"})
        return self._node.catalog[name].config_model
