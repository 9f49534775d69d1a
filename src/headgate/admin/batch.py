"""POST /batch: several writes of entities as one transaction.

Owns the form of a batch. Its operations are those of the entity endpoints, with the same bodies and outcomes; the first
that fails ends the batch and nothing of it is stored.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response

from headgate.admin.answers import AnswerError, Json
from headgate.admin.bodies import read_body
from headgate.admin.entities import Endpoint
from headgate.admin.node import Node
from headgate.admin.preconditions import preconditions
from headgate.admin.serving import prefers_not_to_wait, progress_headers
from headgate.admin.writes import Given, Outcome, Write
from headgate.errors import DATABASE_ERROR, NOT_FOUND, EntityError, unsupported_write
from headgate.store.base import Operations

MOST_OPERATIONS = 1000
"""Operations in one batch: what a transaction may hold up other writers for. Own choice, that of a page."""
_MEMBERS = frozenset(("method", "path", "body", "if_match", "if_none_match"))
_PARAMETER = re.compile(r"{(\w+)}")


@dataclass(frozen=True)
class _Operation:
    write: Write
    keys: Mapping[str, str]
    given: Given


class BatchEndpoint:
    """The writes of some endpoints, as one."""

    def __init__(self, node: Node, endpoints: Sequence[Endpoint]) -> None:
        self._node = node
        self._writes = [
            (re.compile(_PARAMETER.sub(r"(?P<\1>[^/]+)", endpoint.path)), endpoint.writes) for endpoint in endpoints
        ]

    async def post(self, request: Request) -> Response:
        """Do several writes as one transaction: all of them or none."""
        node = self._node
        if not node.has_database:
            raise unsupported_write("upsert", "batch")
        body = await read_body(request, node.settings.http.admin_max_body_bytes)
        operations = self._operations(body.values or {})

        def work(store: Operations) -> list[Outcome]:
            outcomes = []
            for position, operation in enumerate(operations):
                try:
                    outcomes.append(operation.write.run(store, operation.keys, operation.given))
                except AnswerError as error:
                    fault = error.body if isinstance(error.body, dict) else {}
                    raise AnswerError(error.status, {**fault, "operation": position}) from error
                except EntityError as error:
                    if error.code == DATABASE_ERROR:
                        raise
                    fault = {"message": "Not found"} if error.code == NOT_FOUND else error.body()
                    raise AnswerError(error.status, {**fault, "operation": position}) from error
            return outcomes

        written = await node.write(work, is_waiting=not prefers_not_to_wait(request))
        return Json({"data": [self._shown(outcome) for outcome in written.result]}, headers=progress_headers(written))

    def _shown(self, outcome: Outcome) -> dict[str, Any]:
        body = outcome.body
        if outcome.entity is not None and outcome.kind is not None:
            body = self._node.show(outcome.kind, outcome.entity)
        return {"status": outcome.status, "body": body}

    def _operations(self, values: Mapping[str, Any]) -> list[_Operation]:
        """Read a batch.

        Raises: AnswerError 400, with the faults of all operations.
        """
        given = values.get("operations")
        if not isinstance(given, list) or not 0 < len(given) <= MOST_OPERATIONS:
            raise AnswerError(400, {"message": f"operations must be a list of 1 to {MOST_OPERATIONS} operations"})
        found: list[_Operation] = []
        faults: list[dict[str, Any]] = []
        for position, item in enumerate(given):
            operation = self._operation(item)
            if isinstance(operation, str):
                faults.append({"operation": position, "message": operation})
            else:
                found.append(operation)
        if faults:
            raise AnswerError(400, {"message": f"{len(faults)} operations cannot be read", "faults": faults})
        return found

    def _operation(self, item: Any) -> _Operation | str:
        if not isinstance(item, Mapping):
            return "expected a record"
        method, path, body = item.get("method"), item.get("path"), item.get("body")
        if unknown := sorted(str(name) for name in item if name not in _MEMBERS):
            return f"unknown field: {unknown[0]}"
        if not isinstance(method, str) or not isinstance(path, str):
            return "method and path must be strings"
        if body is not None and not isinstance(body, Mapping):
            return "body must be an object"
        conditions = {
            header: item[name]
            for name, header in (("if_match", "if-match"), ("if_none_match", "if-none-match"))
            if isinstance(item.get(name), str)
        }
        for pattern, writes in self._writes:
            match = pattern.fullmatch(path.rstrip("/"))
            if match is None:
                continue
            if method not in writes:
                return f"{method} is not a write of {path}"
            keys = {name: unquote(value) for name, value in match.groupdict().items()}
            is_needed = self._node.settings.general.admin_if_match_required
            given = Given(body or {}, False, preconditions(conditions, is_needed=is_needed), self._node.catalog)
            return _Operation(writes[method], keys, given)
        return f"there are no entities at {path}"
