"""The two applications: Admin API and Status API; every path is listed here or derived from the entities."""

import logging
import logging.handlers
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from headgate.admin import openapi
from headgate.admin.access import guarded
from headgate.admin.answers import CommonHeaders, Handler, Resource, message
from headgate.admin.batch import BatchEndpoint
from headgate.admin.cache import CacheEndpoints
from headgate.admin.configuration import ConfigurationEndpoint
from headgate.admin.consumer_groups import ConsumerGroupEndpoints
from headgate.admin.debug import DebugEndpoints
from headgate.admin.entities import EntityEndpoints
from headgate.admin.explain import ExplainEndpoint
from headgate.admin.health import HealthEndpoints
from headgate.admin.information import InformationEndpoints
from headgate.admin.node import Node
from headgate.admin.plugin_paths import plugin_table
from headgate.admin.schemas import SchemaEndpoints
from headgate.admin.serving import handlers, unshadowed
from headgate.node.logs import LineFormatter

_NAME = re.compile(r"{\w+}")
_FILTERED = ("", "/services/{services}", "/routes/{routes}")
# Of WebAssembly filters, which there are none of: their clients read the refusal.
_FILTER_PATHS = {
    **{f"{over}/filter-chains": ("GET", "POST") for over in _FILTERED},
    **{f"{over}/filter-chains/{{filter_chains}}": ("GET", "PUT", "PATCH", "DELETE") for over in _FILTERED},
    **{f"/routes/{{routes}}/filters/{which}": ("GET",) for which in ("enabled", "disabled", "all")},
}


def admin_app(node: Node) -> ASGIApp:
    """Return the Admin API over a node."""
    entity_types = node.entity_types
    derived = unshadowed([*ConsumerGroupEndpoints(entity_types).all(), *EntityEndpoints(entity_types, node.show).all()])
    paths = [endpoint.shown for endpoint in derived]
    information = InformationEndpoints(node, paths)
    configuration = ConfigurationEndpoint(node)
    schemas = SchemaEndpoints(node)
    debug = DebugEndpoints(node)
    cache = CacheEndpoints(node)
    table: list[tuple[str, dict[str, Handler]]] = [
        ("/", {"GET": information.root}),
        ("/status", {"GET": information.status}),
        ("/status/dns", {"GET": debug.names}),
        ("/endpoints", {"GET": information.endpoints}),
        ("/config", {"GET": configuration.get, "POST": configuration.post}),
        ("/batch", {"POST": BatchEndpoint(node, derived).post}),
        ("/explain", {"GET": ExplainEndpoint(node).get}),
        ("/debug/node/log-level", {"GET": debug.level}),
        ("/debug/node/log-level/{level}", {"PUT": debug.set_level}),
        ("/debug/cluster/log-level/{level}", {"PUT": debug.set_cluster_level}),
        ("/cache", {"DELETE": cache.delete_all}),
        ("/cache/{key}", {"GET": cache.get, "DELETE": cache.delete}),
        ("/timers", {"GET": debug.timers}),
        ("/clustering/data-planes", {"GET": information.no_data_planes}),
        ("/clustering/status", {"GET": information.no_data_planes}),
        *_same(_FILTER_PATHS, information.no_filters),
        (openapi.PATH, {"GET": information.openapi}),
        ("/tags", {"GET": information.tags}),
        ("/tags/{tag}", {"GET": information.tags}),
        ("/plugins/enabled", {"GET": information.enabled_plugins}),
        ("/plugins/schema/{name}", {"GET": schemas.plugin_fields}),
        ("/schemas/plugins/validate", {"POST": schemas.validate_plugin}),
        ("/schemas/plugins/{name}", {"GET": schemas.plugin}),
        ("/schemas/vaults/validate", {"POST": schemas.validate_vault}),
        ("/schemas/vaults/{name}", {"GET": schemas.vault}),
        ("/schemas/filters/{name}", {"GET": schemas.filter}),
        ("/schemas/{name}/validate", {"POST": schemas.validate_entity}),
        ("/schemas/{name}", {"GET": schemas.entity}),
        *HealthEndpoints(node).all(),
    ]
    of_plugins = plugin_table(node)
    paths += [path for path, _ in (*table, *of_plugins)]
    information.document = openapi.document(derived, merged([*table, *of_plugins]), has_database=node.has_database)
    table += [(endpoint.path, handlers(node, endpoint)) for endpoint in derived]
    return _application(node, merged([*table, *of_plugins]), "admin")


def _same(paths: Mapping[str, Sequence[str]], handler: Handler) -> list[tuple[str, dict[str, Handler]]]:
    """Return a table in which one handler has all methods of some paths."""
    return [(path, dict.fromkeys(methods, handler)) for path, methods in paths.items()]


def merged(table: list[tuple[str, dict[str, Handler]]]) -> list[tuple[str, dict[str, Handler]]]:
    """Return a table in which each path is there once, with the methods of all its entries: the last ones win.

    Paths are the same whatever names stand in them; fixed segments come before keys.
    """
    together: dict[str, tuple[str, dict[str, Handler]]] = {}
    for path, methods in table:
        _, own = together.setdefault(_NAME.sub("{}", path), (path, {}))
        own.update(methods)
    return sorted(together.values(), key=lambda entry: [part.startswith("{") for part in entry[0].split("/")])


def status_app(node: Node) -> ASGIApp:
    """Return the Status API over a node."""
    information = InformationEndpoints(node, [])
    table: list[tuple[str, dict[str, Handler]]] = [
        ("/status", {"GET": information.status}),
        ("/status/ready", {"GET": information.ready, "POST": information.drain}),
        *HealthEndpoints(node).readable(),
    ]
    if not node.has_database:
        targets = (
            entry for entry in EntityEndpoints(node.entity_types, node.show).all() if entry.kind.name == "targets"
        )
        table += [(entry.path, handlers(node, replace(entry, writes={}))) for entry in targets]
    return _application(node, merged(table), "status")


def _application(node: Node, table: list[tuple[str, dict[str, Handler]]], name: str) -> ASGIApp:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    for path, methods in table:
        app.router.routes.append(Route(path, Resource(methods)))

    async def refuse(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        texts = {404: "Not found", 405: "Method not allowed"}
        return message(status, texts.get(status, "An unexpected error occurred"))

    app.add_exception_handler(HTTPException, refuse)
    within = guarded(app, node.settings) if name == "admin" else app
    return CommonHeaders(within, node.settings.http.response_headers, _access_log(node, name))


def _access_log(node: Node, name: str) -> logging.Logger | None:
    """Return the logger that writes an API's access log; None when it is off."""
    general = node.settings.general
    path = general.access_log_path(getattr(general, f"{name}_access_log"))
    if path is None:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.handlers.WatchedFileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(LineFormatter("control", is_coloured=False))
    logger = logging.getLogger(f"headgate.access.{name}")
    logger.propagate = False
    logger.handlers = [handler]
    logger.setLevel(logging.DEBUG)
    return logger
