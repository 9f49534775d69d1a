"""/schemas: what fields entities and plugins have, and validation without storing (reference: admin-api 8)."""

import time
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response

from headgate.admin.answers import AnswerError, Json, message
from headgate.admin.bodies import read_body
from headgate.admin.conversion import converted
from headgate.admin.node import Node
from headgate.entities.entity_type import EntityType
from headgate.entities.plugins import check_plugin
from headgate.entities.vaults import VAULT_CONFIGS
from headgate.errors import SCHEMA_VIOLATION, EntityError, violation_message
from headgate.schema import config_json, schema_json


class SchemaEndpoints:
    """Schemas of entities and plugins."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def entity(self, request: Request) -> Response:
        """Answer the schema of an entity type."""
        return Json(self._entity_type(request).schema)

    async def plugin(self, request: Request) -> Response:
        """Answer the schema of a plugin, with its configuration."""
        return Json(schema_json(self._plugin_model(unquote(request.path_params["name"]))))

    async def plugin_fields(self, request: Request) -> Response:
        """Answer the configuration fields of a plugin (the older path)."""
        return Json(config_json(self._plugin_model(unquote(request.path_params["name"]))))

    async def vault(self, request: Request) -> Response:
        """Answer the schema of a vault type, with its configuration."""
        name = unquote(request.path_params["name"])
        if name not in VAULT_CONFIGS:
            raise AnswerError(404, {"message": f"No vault named '{name}'"})
        config = config_json(VAULT_CONFIGS[name])
        config["fields"] = [member for member in config["fields"] if member]
        return Json({"fields": [{"config": config}]})

    async def filter(self, request: Request) -> Response:
        """Answer the schema of a Wasm filter; there is none."""
        raise AnswerError(404, {"message": f"Filter '{request.path_params['name']}' not found"})

    async def validate_entity(self, request: Request) -> Response:
        """Validate an entity without storing it; uniqueness and the existence of references are not checked."""
        kind = self._entity_type(request)
        if kind.name == "plugins":
            return await self.validate_plugin(request)
        return await self._validate(request, kind)

    async def validate_vault(self, request: Request) -> Response:
        """Validate a vault with its configuration without storing it."""
        return await self._validate(request, self._node.entity_types["vaults"])

    async def validate_plugin(self, request: Request) -> Response:
        """Validate a plugin instance with its configuration without storing it."""
        kind = self._node.entity_types["plugins"]
        _, faults = check_plugin(await self._values(request, kind), self._node.catalog, now=time.time())
        return _verdict(faults)

    async def _validate(self, request: Request, kind: EntityType) -> Response:
        values, faults = self._with_ids(kind, await self._values(request, kind))
        _, found = kind.examine(values, now=time.time())
        return _verdict({**found, **faults})

    def _with_ids(self, kind: EntityType, values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return values with ids in the place of other primary keys in references, and the faults of these keys."""
        forms = self._node.entity_types.key_forms
        faults: dict[str, Any] = {}
        for name, foreign in kind.foreign.items():
            value = values.get(name)
            if forms is None or foreign.reference not in forms or not isinstance(value, dict) or "id" in value:
                continue
            try:
                values = {**values, name: {"id": forms.id_of(foreign.reference, value)}}
            except EntityError as error:
                faults[name] = error.fields
        return values, faults

    async def _values(self, request: Request, kind: EntityType) -> dict[str, Any]:
        body = await read_body(request, self._node.settings.http.admin_max_body_bytes)
        values = body.values or {}
        return values if body.is_json else converted(kind, values, self._node.catalog)

    def _entity_type(self, request: Request) -> EntityType:
        name = unquote(request.path_params["name"])
        if name not in self._node.entity_types:
            raise AnswerError(404, {"message": f"No entity named '{name}'"})
        return self._node.entity_types[name]

    def _plugin_model(self, name: str) -> Any:
        if name not in self._node.catalog:
            raise AnswerError(404, {"message": f"No plugin named '{name}'"})
        return self._node.catalog[name].config_model


def _verdict(faults: dict[str, Any]) -> Response:
    if not faults:
        return message(200, "schema validation successful")
    error = EntityError(SCHEMA_VIOLATION, message=violation_message(faults), fields=faults)
    return Json(error.body(), error.status)
