"""The OpenAPI 3.1 document of the Admin API, made of what is served: the table of paths and the entities.

Owns the document. A path that is served is in it, with its methods; a test runs requests made from it against the API.
"""

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

from headgate.admin.answers import Handler
from headgate.admin.entities import Endpoint
from headgate.admin.explain import WORDS as EXPLAIN_WORDS
from headgate.admin.json_schema import answer_schema, body_schema
from headgate.admin.serving import NOT_IN_FORCE_HEADER, REVISION_HEADER
from headgate.admin.writes import Write
from headgate.version import VERSION

PATH = "/openapi.json"
_PARAMETER = re.compile(r"{(\w+)}")
_SUCCESS = {"POST": "201", "PUT": "200", "PATCH": "200", "DELETE": "204"}
_ERROR = {"$ref": "#/components/schemas/error"}
_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"
_ARGUMENTS: Mapping[str, Mapping[str, dict[str, Any]]] = {
    "/status": {"unit": {"enum": ["b", "k", "m", "g"]}, "scale": {"type": "integer", "minimum": 0}},
    "/config": {"check_hash": {"type": "string"}, "flatten_errors": {"type": "string"}},
    "/explain": {name: {"type": "string"} for name in (*EXPLAIN_WORDS, "header")},
    "/debug/node/log-level/{level}": {"timeout": {"type": "number", "minimum": 0}},
    "/debug/cluster/log-level/{level}": {"timeout": {"type": "number", "minimum": 0}},
}
_PAGED: Mapping[str, dict[str, Any]] = {
    "size": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
    "offset": {"type": "string", "description": "`offset` of the page before."},
    "tags": {"type": "string", "description": "`a,b`: all of them; `a/b`: any."},
}


def document(
    endpoints: Sequence[Endpoint], others: Sequence[tuple[str, Mapping[str, Handler]]], *, has_database: bool
) -> dict[str, Any]:
    """Return the document. Args: others, the paths that are no endpoints of entities, with their handlers."""
    kinds = {endpoint.kind.name: endpoint.kind for endpoint in endpoints}
    kinds |= {write.kind.name: write.kind for endpoint in endpoints for write in endpoint.writes.values()}
    paths: dict[str, Any] = {}
    for path, handlers in others:
        paths[path] = _parameters(path) | {
            method.lower(): _other(path, method, handler) for method, handler in handlers.items()
        }
    for endpoint in endpoints:
        item = _parameters(endpoint.shown) | {"get": _reading(endpoint)}
        for method, write in endpoint.writes.items():
            item[method.lower()] = _writing(endpoint, method, write, has_database)
        paths[endpoint.shown] = item
    schemas: dict[str, Any] = {
        "error": {
            "type": "object",
            "properties": {
                "code": {"type": "integer"},
                "name": {"type": "string"},
                "message": {"type": "string"},
                "fields": {"type": "object"},
                "options": {"type": "object"},
            },
        }
    }
    for name, kind in sorted(kinds.items()):
        schemas[name] = answer_schema(kind, kinds)
        schemas[f"{name}.body"] = body_schema(kind)
        schemas[f"{name}.change"] = body_schema(kind, is_partial=True)
        schemas[f"{name}.page"] = {
            "type": "object",
            "properties": {
                "data": {"type": "array", "items": {"$ref": f"#/components/schemas/{name}"}},
                "next": {"type": ["string", "null"]},
                "offset": {"type": "string"},
            },
            "required": ["data", "next"],
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Headgate Admin API", "version": VERSION},
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": schemas},
    }


def _parameters(path: str) -> dict[str, Any]:
    names = _PARAMETER.findall(path)
    if not names:
        return {}
    schema = {"type": "string", "minLength": 1}
    return {"parameters": [{"name": name, "in": "path", "required": True, "schema": schema} for name in names]}


def _query(arguments: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"name": name, "in": "query", "schema": schema} for name, schema in arguments.items()]


def _refusals() -> dict[str, Any]:
    refusal = {"description": "Refused; the body says why.", "content": {_JSON: {"schema": _ERROR}}}
    return {
        "4XX": refusal,
        "503": {
            "description": "The database, or what was asked for, is not there now.",
            "content": {_JSON: {"schema": _ERROR}},
        },
    }


def _other(path: str, method: str, handler: Handler) -> dict[str, Any]:
    summary = (inspect.getdoc(handler) or "").partition("\n")[0]
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {
            "2XX": {"description": "Done.", "content": {_JSON: {"schema": {"type": "object"}}}},
            "204": {"description": "Done; there is nothing to say."},
            "304": {"description": "Nothing has changed."},
            **_refusals(),
        },
    }
    arguments = _ARGUMENTS.get(path, {})
    if path in ("/tags", "/tags/{tag}"):
        arguments = {name: schema for name, schema in _PAGED.items() if name != "tags"}
    if arguments:
        operation["parameters"] = _query(arguments)
    if method == "POST":
        operation["requestBody"] = {"content": {_JSON: {"schema": {"type": "object"}}}}
    if path.startswith("/status"):
        operation["responses"]["501"] = {"description": "Not there.", "content": {_JSON: {"schema": _ERROR}}}
    return operation


def _reading(endpoint: Endpoint) -> dict[str, Any]:
    name = endpoint.kind.name
    schema = {
        "entity": {"$ref": f"#/components/schemas/{name}"},
        "page": {"$ref": f"#/components/schemas/{name}.page"},
    }.get(endpoint.shape, {"type": "object"})
    operation: dict[str, Any] = {
        "summary": f"Read {name}" if endpoint.shape == "page" else f"Read one of {name}",
        "responses": {
            "200": {"description": "Found.", "content": {_JSON: {"schema": schema}}},
            "304": {"description": "It is the one that If-None-Match names."},
            **_refusals(),
        },
    }
    if endpoint.shape == "page":
        operation["parameters"] = _query(_PAGED)
    else:
        operation["parameters"] = [{"name": "If-None-Match", "in": "header", "schema": {"type": "string"}}]
    return operation


def _writing(endpoint: Endpoint, method: str, write: Write, has_database: bool) -> dict[str, Any]:
    name = write.kind.name
    refusals = _refusals()
    if not has_database:
        return {"summary": f"Refused: no database holds {name}", "responses": refusals}
    is_own = endpoint.shape == "own" or name == "consumer_group_consumers"
    success: dict[str, Any] = {
        "description": "Stored.",
        "headers": {
            REVISION_HEADER: {"description": "The revision that the workers run.", "schema": {"type": "string"}},
            NOT_IN_FORCE_HEADER: {"description": "Why that is not the written one.", "schema": {"type": "string"}},
        },
    }
    if method != "DELETE":
        answered = {"type": "object"} if is_own else {"$ref": f"#/components/schemas/{name}"}
        success["content"] = {_JSON: {"schema": answered}}
    operation: dict[str, Any] = {
        "summary": f"{method} {name}",
        "responses": {str(write.status or _SUCCESS[method]): success, **refusals},
    }
    if method != "POST":
        operation["parameters"] = [{"name": "If-Match", "in": "header", "schema": {"type": "string"}}]
    if method != "DELETE":
        body = {"$ref": f"#/components/schemas/{name}.{'change' if method == 'PATCH' else 'body'}"}
        is_loose = name == "consumer_group_consumers" or write.status is not None
        schema = {"type": "object"} if is_loose else body
        form = {"type": "object", "additionalProperties": {"type": "string"}}
        operation["requestBody"] = {
            "content": {_JSON: {"schema": schema}, _FORM: {"schema": form}, "multipart/form-data": {"schema": form}}
        }
    return operation
