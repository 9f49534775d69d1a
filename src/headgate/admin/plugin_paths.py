"""Paths of plugins in the Admin API: their functions are called with what a client asked, and the store."""

import asyncio
import inspect
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response

from headgate.admin.answers import Handler, Json
from headgate.admin.bodies import read_body
from headgate.admin.conversion import converted
from headgate.admin.node import Node
from headgate.admin.serving import progress_headers
from headgate.pdk.admin_api import AdminAnswer, AdminFunction, AdminPath, AdminRequest

_COLON_NAME = re.compile(r":(\w+)")
_NAME = re.compile(r"{(\w+)}")


def plugin_table(node: Node) -> list[tuple[str, dict[str, Handler]]]:
    """Return the paths of all loaded plugins with their handlers."""
    table = []
    for path in node.plugin_paths:
        text = _COLON_NAME.sub(r"{\1}", path.path)
        names = _NAME.findall(text)
        table.append((text, {method: _handler(node, path, names, run) for method, run in path.methods.items()}))
    return table


def _handler(node: Node, path: AdminPath, names: list[str], run: AdminFunction) -> Handler:
    async def serve(request: Request) -> Response:
        asked = AdminRequest(
            method=request.method,
            path=request.url.path,
            # By position: the path may be one that has other names in the gateway's own table.
            params=dict(zip(names, map(unquote, request.path_params.values()), strict=True)),
            query=dict(request.query_params),
            body=await _body(node, path, request),
            headers=dict(request.headers),
            db=node.store,
        )
        written_before = node.store.written_revision
        answer: Any = None
        if path.before is not None:
            answer = await _call(path.before, asked)
        if answer is None:
            answer = await _call(run, asked)
        if not isinstance(answer, AdminAnswer):
            raise TypeError(f"{request.method} {path.path} returned a {type(answer).__name__}, not an AdminAnswer")
        headers = dict(answer.headers)
        if node.store.written_revision != written_before:
            headers |= progress_headers(await node.settled(answer))
        if answer.body is None:
            return Response(status_code=answer.status, headers=headers)
        if isinstance(answer.body, bytes):
            return Response(answer.body, status_code=answer.status, headers=headers)
        return Json(answer.body, answer.status, headers)

    serve.__doc__ = inspect.getdoc(run)
    return serve


async def _body(node: Node, path: AdminPath, request: Request) -> dict[str, Any]:
    if request.method not in ("POST", "PUT", "PATCH"):
        return {}
    body = await read_body(request, node.settings.http.admin_max_body_bytes)
    values = body.values or {}
    kind = node.entity_types.get(path.entity) if path.entity is not None else None
    return converted(kind, values, node.catalog) if kind is not None and not body.is_json else values


async def _call(function: Callable[..., Any], asked: AdminRequest) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(asked)
    return await asyncio.to_thread(function, asked)
