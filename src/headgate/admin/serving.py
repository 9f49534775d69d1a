"""Entity endpoints over HTTP: a request becomes a question or a write, its outcome an answer.

Owns status, headers and bodies of entity endpoints, and the refusal of writes where no database holds the entities.
"""

from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response

from headgate.admin.answers import Handler, Json
from headgate.admin.bodies import read_body
from headgate.admin.entities import Endpoint, Question
from headgate.admin.node import Node, Written
from headgate.admin.preconditions import entity_tag, preconditions
from headgate.admin.writes import Given, Outcome, Write
from headgate.entities.entity_type import EntityType
from headgate.errors import unsupported_write
from headgate.store.base import is_id

REVISION_HEADER = "X-Headgate-Revision"
NOT_IN_FORCE_HEADER = "X-Headgate-Not-In-Force"
OPERATIONS = {"POST": "insert", "PUT": "upsert", "PATCH": "update", "DELETE": "delete"}
_LONGEST_REASON = 500


def handlers(node: Node, endpoint: Endpoint) -> dict[str, Handler]:
    """Return the handlers of an endpoint, by method."""
    made: dict[str, Handler] = {"GET": _reading(node, endpoint)}
    for method, write in endpoint.writes.items():
        made[method] = _writing(node, write) if node.has_database else refusing(write.kind, method)
    return made


def _keys(request: Request) -> dict[str, str]:
    return {name: unquote(value) for name, value in request.path_params.items()}


def _reading(node: Node, endpoint: Endpoint) -> Handler:
    async def get(request: Request) -> Response:
        question = Question(_keys(request), dict(request.query_params), request.url.path)
        found = endpoint.read(node.reading, question)
        if found.entity is None:
            return Json(found.body)
        tag = entity_tag(found.entity)
        known = request.headers.get("if-none-match", "")
        if known and tag in (part.strip().removeprefix("W/") for part in known.split(",")):
            return Response(status_code=304, headers={"ETag": tag})
        body = node.show(endpoint.kind, found.entity) if found.body is None else found.body
        return Json(body, headers={"ETag": tag})

    return get


def _writing(node: Node, write: Write) -> Handler:
    async def change(request: Request) -> Response:
        given = await read_given(node, request)
        keys = _keys(request)
        is_waiting = not prefers_not_to_wait(request)
        written = await node.write(lambda operations: write.run(operations, keys, given), is_waiting=is_waiting)
        return outcome_answer(node, written.result, progress_headers(written))

    return change


def prefers_not_to_wait(request: Request) -> bool:
    """Tell whether a client wants its answer before the workers run what it wrote (RFC 7240, section 4.1)."""
    wishes = ",".join(request.headers.getlist("prefer")).split(",")
    return any(wish.partition(";")[0].strip().lower() == "respond-async" for wish in wishes)


async def read_given(node: Node, request: Request) -> Given:
    """Read what a client gave with a write."""
    conditions = preconditions(request.headers, is_needed=node.settings.general.admin_if_match_required)
    if request.method == "DELETE":
        return Given(conditions=conditions)
    body = await read_body(request, node.settings.http.admin_max_body_bytes)
    return Given(body.values or {}, not body.is_json, conditions, node.catalog)


def progress_headers(written: Written[Any]) -> dict[str, str]:
    """Return the headers that tell which revision the workers run, and why that is not the written one."""
    headers = {REVISION_HEADER: str(written.revision)}
    if written.not_in_force is not None:
        text = " ".join(written.not_in_force.encode("ascii", "replace").decode().split())
        headers[NOT_IN_FORCE_HEADER] = text[:_LONGEST_REASON]
    return headers


def outcome_answer(node: Node, outcome: Outcome, headers: dict[str, str]) -> Response:
    """Return the answer for the outcome of a write."""
    if outcome.entity is not None and outcome.kind is not None:
        shown = node.show(outcome.kind, outcome.entity)
        return Json(shown, outcome.status, headers | {"ETag": entity_tag(outcome.entity)})
    if outcome.body is None:
        return Response(status_code=outcome.status, headers=headers)
    return Json(outcome.body, outcome.status, headers)


def refusing(kind: EntityType, method: str) -> Handler:
    """Return the handler that refuses a write to a type."""

    async def refuse(request: Request) -> Response:
        key = request.path_params.get("key")
        is_by_name = key is not None and not is_id(key) and kind.own_key is None
        raise unsupported_write(OPERATIONS[method], kind.name, kind.endpoint_key if is_by_name else None)

    return refuse


def unshadowed(endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """Return endpoints without those whose path an earlier one has, fixed segments before keys."""
    by_path: dict[str, Endpoint] = {}
    for endpoint in endpoints:
        by_path.setdefault(endpoint.shown, endpoint)
    return sorted(by_path.values(), key=lambda entry: [part.startswith("{") for part in entry.path.split("/")])
