"""How the Admin API answers: JSON bodies, error bodies, and the headers on every answer.

Owns the one place where an exception becomes a status and a body. Endpoints return answers or raise; they never build
headers of their own.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import orjson
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headgate.errors import DATABASE_ERROR, NOT_FOUND, EntityError, GatewayError
from headgate.node.logs import NOTICE
from headgate.version import SERVER_TOKEN

_log = logging.getLogger("headgate.admin")
CONTENT_TYPE = "application/json; charset=utf-8"
_RETRY_AFTER_S = 5

Handler = Callable[[Request], Awaitable[Response]]


class Json(Response):
    """A JSON answer."""

    def __init__(self, content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        body = b"" if content is None else orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS)
        super().__init__(body, status_code=status, headers={"Content-Type": CONTENT_TYPE, **(headers or {})})


class JsonText(Response):
    """A JSON answer whose text is there already."""

    def __init__(self, text: bytes, status: int = 200) -> None:
        super().__init__(text, status_code=status, headers={"Content-Type": CONTENT_TYPE})


class AnswerError(GatewayError):
    """An endpoint ends with this status and body."""

    def __init__(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(str(body))
        self.status = status
        self.body = body
        self.headers = headers


def message(status: int, text: str, headers: Mapping[str, str] | None = None) -> Json:
    """Return `{"message": text}`."""
    return Json({"message": text}, status, headers)


def not_found() -> AnswerError:
    """Return the error for what does not exist."""
    return AnswerError(404, {"message": "Not found"})


def _refusal(request: Request, error: EntityError) -> Response:
    """Return the answer for a refused operation."""
    if error.code == NOT_FOUND:
        return message(404, "Not found")
    if error.code != DATABASE_ERROR:
        return Json(error.body(), error.status)
    _log.error("%s %s: %s", request.method, request.url.path, error)
    if error.status == 503:
        return message(503, "the database is not available", {"Retry-After": str(_RETRY_AFTER_S)})
    return message(500, "An unexpected error occurred")


class Resource:
    """One path with its methods: GET serves HEAD too, OPTIONS is answered from the list, others are refused."""

    def __init__(self, methods: Mapping[str, Handler]) -> None:
        self._methods = dict(methods)
        if "GET" in self._methods:
            self._methods["HEAD"] = self._methods["GET"]
        self._allow = ", ".join(sorted({*self._methods, "OPTIONS"}))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI)."""
        response = await self.answer(Request(scope, receive))
        await response(scope, receive, send)

    async def answer(self, request: Request) -> Response:
        """Return the answer to one request."""
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": self._allow})
        handler = self._methods.get(request.method)
        if handler is None:
            return message(405, "Method not allowed", {"Allow": self._allow})
        try:
            return await handler(request)
        except AnswerError as error:
            return Json(error.body, error.status, error.headers)
        except EntityError as error:
            return _refusal(request, error)
        except Exception:
            _log.exception("%s %s failed", request.method, request.url.path)
            return message(500, "An unexpected error occurred")


def _encoded_path(raw: bytes) -> str:
    """Return a path with each segment percent-encoded in one way, without slashes at its end.

    It stays encoded, so that a key with a slash is one segment; whoever needs a key decodes it.
    """
    segments = raw.decode("latin-1").split("/")
    return "/".join(quote(unquote_to_bytes(segment), safe="") for segment in segments).rstrip("/") or "/"


class CommonHeaders:
    """ASGI layer: server and latency headers, a path without its last slash, the access log.

    Args: `added` are the lower-case names of the setting `headers`; `access_log` gets one line per request.
    """

    def __init__(self, app: ASGIApp, added: frozenset[str], access_log: logging.Logger | None) -> None:
        self._app = app
        self._added = added
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = time.monotonic()
        path = _encoded_path(scope["raw_path"])
        scope = {**scope, "path": path, "raw_path": path.encode("latin-1")}
        status = 500

        async def send_with_headers(event: Message) -> None:
            nonlocal status
            if event["type"] == "http.response.start":
                status = event["status"]
                headers = MutableHeaders(scope=event)
                if "server" in self._added:
                    headers["Server"] = SERVER_TOKEN
                if "x-kong-admin-latency" in self._added:
                    headers["X-Kong-Admin-Latency"] = str(int((time.monotonic() - started_s) * 1000))
            await send(event)

        await self._app(scope, receive, send_with_headers)
        if self._access_log is not None:
            client = (scope.get("client") or ("-",))[0]
            query = scope["query_string"].decode("latin-1")
            target = f"{path}?{query}" if query else path
            self._access_log.log(NOTICE, '%s "%s %s" %d', client, scope["method"], target, status)
