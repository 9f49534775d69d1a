"""GET and POST /config: the whole configuration as one declarative document (reference: admin-api 10).

Owns the input forms and the mapping of a failed load to status and body; loading itself is
`headgate.admin.node.Node.load`.
"""

import asyncio
import hashlib
import threading
from dataclasses import replace
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from headgate.admin.answers import AnswerError, Json, JsonText, message
from headgate.admin.bodies import Body, decoded_json, read_body
from headgate.admin.node import BusyError, ExitingError, Node
from headgate.cluster.publisher import PublicationRefusedError, PublicationTimeoutError
from headgate.entities.entity_type import Entity
from headgate.errors import DECLARATIVE_CONFIG, ENTITY_ERRORS, DeclarativeError, lua_style
from headgate.store.declarative import export_declarative
from headgate.store.document import parse_json
from headgate.store.encoded import EncodedEntities
from headgate.store.snapshot import Snapshot

_RETRY_AFTER_S = 5
_WITH_DATABASE = "this endpoint is only available when Kong is configured to not use a database"


class ConfigurationEndpoint:
    """The two methods of /config."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._texts = EncodedEntities(_member)
        self._answering = threading.Lock()

    async def get(self, request: Request) -> Response:
        """Answer the configuration in force as YAML text."""
        if self._node.has_database:
            return message(400, _WITH_DATABASE)
        return Json({"config": export_declarative(self._node.snapshot, self._node.entity_types)})

    async def post(self, request: Request) -> Response:
        """Replace the configuration; answers when all workers run it."""
        if self._node.has_database:
            return message(400, _WITH_DATABASE)
        limit_bytes = self._node.settings.http.admin_max_body_bytes
        body = await read_body(request, limit_bytes, is_text_allowed=True, is_json_decoded=False)
        parsed = None
        if body.is_json:
            # Once, beside the loop, and as a document; what cannot be one is refused as any body.
            parsed = await asyncio.to_thread(parse_json, body.raw)
            body = replace(body, values=decoded_json(body.raw) if parsed is None else parsed)
        text = document_text(body)
        arguments = request.query_params
        if _is_true(arguments.get("check_hash")) and _hash(text) == self._node.snapshot.configuration_hash:
            return Response(status_code=304)
        try:
            snapshot = await self._node.load(text, parsed if text is body.raw else None)
        except DeclarativeError as error:
            return Json(_faults(error, _is_true(arguments.get("flatten_errors"))), 400)
        except PublicationRefusedError as error:
            return Json(_body({"@entity": error.faults}), 400)
        except PublicationTimeoutError as error:
            return message(504, str(error))
        except BusyError as error:
            return message(429, str(error), {"Retry-After": str(_RETRY_AFTER_S)})
        except ExitingError as error:
            return message(503, str(error))
        return JsonText(await asyncio.to_thread(self._answer, snapshot), 201)

    def _answer(self, snapshot: Snapshot) -> bytes:
        """Return all entities by type and id, as JSON."""
        with self._answering:
            texts = self._texts.of(snapshot.entities)
        sections = (b'"%s":{%s}' % (name.encode(), b",".join(members)) for name, members in texts.items() if members)
        return b"{%s}" % b",".join(sections)


def document_text(body: Body) -> bytes:
    """Return the declarative document of a body: itself, or the text in its field `config`.

    Raises: AnswerError when there is none.
    """
    text = body.raw
    if body.values is not None and "_format_version" not in body.values and "config" in body.values:
        config = body.values["config"]
        text = config.encode(errors="surrogateescape") if isinstance(config, str) else b""
    elif (body.values is not None and not body.is_json) or (body.is_json and not body.values):
        text = b""
    if not text.strip():
        raise AnswerError(400, {"message": "expected a declarative configuration"})
    return text


def _member(identifier: str, entity: Entity) -> bytes:
    """Return an entity as a member of a JSON object."""
    return orjson.dumps(identifier) + b":" + orjson.dumps(entity, option=orjson.OPT_NON_STR_KEYS)


def _hash(text: bytes) -> str:
    return hashlib.md5(text, usedforsecurity=False).hexdigest()


def _is_true(text: str | None) -> bool:
    return text is not None and text.lower() in ("1", "true", "on", "yes")


def _body(fields: dict[str, Any]) -> dict[str, Any]:
    name, _ = ENTITY_ERRORS[DECLARATIVE_CONFIG]
    text = f"declarative config is invalid: {lua_style(fields)}"
    return {"code": DECLARATIVE_CONFIG, "name": name, "message": text, "fields": fields}


def _faults(error: DeclarativeError, is_flattened: bool) -> dict[str, Any]:
    if error.is_parse_failure:
        return {"error": error.message}
    body = _body(error.fields)
    if is_flattened:
        flattened, rest = error.flattened_errors()
        body["flattened_errors"] = flattened
        body["fields"] = rest
    return body
