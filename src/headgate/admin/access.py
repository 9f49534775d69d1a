"""Who may use the Admin API: tokens, client certificates, roles, origins of browsers, and the audit log.

Owns the decision on each call before any endpoint sees it. Tokens are compared by digest in constant time; addresses
that fail often are refused before their token is looked at, in a table of bounded size. Without tokens and client
authorities everybody who reaches the listener may do everything, and the audit log says `anonymous`.
"""

import asyncio
import hashlib
import hmac
import logging
import logging.handlers
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from headgate.admin.answers import message
from headgate.config.access import READ_ONLY, READ_WRITE, Access
from headgate.config.load import Settings

PEER_NAME: Final = "headgate.peer_name"
"""Where the scope has the common name of the client's verified certificate."""
MOST_ADDRESSES: Final = 4096
"""Addresses with failures that are remembered; beyond, the oldest is forgotten (own choice: less than a megabyte)."""

_MINUTE_S: Final = 60.0
_READS: Final = frozenset(("GET", "HEAD", "OPTIONS"))
_HARMLESS: Final = re.compile(r"/schemas/(?:[^/]+/)+validate/?")
# The keys of these in a path are credentials, or made of them.
_SECRET_KEYS: Final = re.compile(r"((?:/key-auths?|^/cache)/)(?![0-9a-f]{8}-[0-9a-f]{4}-)[^/]+")
_MOST_LOGGED_BODY_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and as what."""

    name: str
    role: str


class Failures:
    """Failed authentications by address, in windows of a minute. `clock` gives seconds."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._by_address: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_address)

    def wait_s(self, address: str) -> float:
        """Return for how long an address is refused; 0 when it is not."""
        started_s, count = self._by_address.get(address, (0.0, 0))
        left_s = started_s + _MINUTE_S - self._clock()
        return left_s if count >= self._limit and left_s > 0 else 0.0

    def add(self, address: str) -> None:
        """Count a failure."""
        now_s = self._clock()
        started_s, count = self._by_address.pop(address, (now_s, 0))
        if now_s - started_s >= _MINUTE_S:
            started_s, count = now_s, 0
        self._by_address[address] = (started_s, count + 1)
        while len(self._by_address) > MOST_ADDRESSES:
            self._by_address.popitem(last=False)


class AdminAccess:
    """ASGI layer around the Admin API. `audit` gets one line for each write and each refusal; None is off."""

    def __init__(self, app: ASGIApp, access: Access, audit: logging.Logger | None) -> None:
        self._app = app
        self._is_required = access.is_required
        self._tokens = access.tokens()
        self._roles = access.client_roles()
        self._origins = frozenset(access.admin_cors_origins)
        self._audit = audit
        self.failures = Failures(access.admin_failures_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one call on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        address = (scope.get("client") or ("-", 0))[0]
        is_write = scope["method"] not in _READS and _HARMLESS.fullmatch(scope["path"]) is None
        caller: Caller | None = None
        refusal = None
        if (wait_s := self.failures.wait_s(address)) > 0:
            refusal = message(429, "Too many failed authentications", {"Retry-After": str(int(wait_s) + 1)})
        elif (caller := self._caller(scope, headers)) is None:
            self.failures.add(address)
            refusal = message(401, "Unauthorized", {"WWW-Authenticate": 'Bearer realm="headgate-admin"'})
        elif is_write and caller.role != READ_WRITE:
            refusal = message(403, f"'{caller.name}' has the role {READ_ONLY}, which allows no writes")
        elif is_write and not self._is_own_origin(headers):
            refusal = message(403, "writes from pages of other origins are refused; see admin_cors_origins")
        if refusal is None and not is_write:
            await self._app(scope, receive, send)
            return
        status = 500
        body = _Body(receive)

        async def watched(event: Message) -> None:
            nonlocal status
            if event["type"] == "http.response.start":
                status = event["status"]
            await send(event)

        try:
            if refusal is None:
                await self._app(scope, body.receive, watched)
            else:
                await refusal(scope, receive, watched)
        finally:
            self._note(scope, caller, status, body.field_names(headers.get("content-type", "")))

    def _caller(self, scope: Scope, headers: Headers) -> Caller | None:
        if not self._is_required:
            return Caller("anonymous", READ_WRITE)
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        token = credentials.strip() if scheme.lower() == "bearer" else headers.get("kong-admin-token", "")
        if token:
            digest = hashlib.sha256(token.encode("latin-1", "replace")).digest()
            found = None
            # All of them, so that the time does not tell which one came near.
            for known in self._tokens:
                if hmac.compare_digest(known.digest, digest):
                    found = known
            return None if found is None else Caller(found.name, found.role)
        name = scope.get(PEER_NAME)
        role = None if name is None else self._roles.get(name, self._roles.get("*"))
        return None if name is None or role is None else Caller(name, role)

    def _is_own_origin(self, headers: Headers) -> bool:
        """Say whether a browser sends this from a page of the API itself, or no browser at all.

        Source: own choice; forms are accepted here, and any page can post a form to an address that a browser reaches.
        """
        origin = headers.get("origin")
        if origin is None or "*" in self._origins or origin in self._origins:
            return True
        return origin.partition("://")[2].lower() == headers.get("host", "").lower()

    def _note(self, scope: Scope, caller: Caller | None, status: int, fields: list[str] | None) -> None:
        if self._audit is None:
            return
        client = scope.get("client") or ("-", 0)
        entry: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "who": None if caller is None else caller.name,
            "role": None if caller is None else caller.role,
            "from": f"{client[0]}:{client[1]}",
            "method": scope["method"],
            "path": _SECRET_KEYS.sub(r"\1***", scope["path"]),
            "status": status,
        }
        if fields is not None:
            entry["fields"] = fields
        self._audit.info("%s", orjson.dumps(entry).decode())


class _Body:
    """The body of a call as it passes by, for the names of its fields; values are never logged."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._data = bytearray()
        self._is_whole = True

    async def receive(self) -> Message:
        event = await self._receive()
        if event["type"] == "http.request" and (part := event.get("body")):
            if len(self._data) + len(part) <= _MOST_LOGGED_BODY_BYTES:
                self._data += part
            else:
                self._is_whole = False
        return event

    def field_names(self, content_type: str) -> list[str] | None:
        """Return the names at the top of a JSON body; None when it is something else."""
        if not self._is_whole or not self._data or "json" not in content_type:
            return None
        try:
            document = orjson.loads(bytes(self._data))
        except ValueError:
            return None
        return sorted(document) if isinstance(document, dict) else None


class PeerProtocol(H11Protocol):
    """HTTP/1.1 that tells the application whose verified certificate the client has shown."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection whose handshake is over."""
        super().connection_made(transport)
        connection = transport.get_extra_info("ssl_object")
        certificate = None if connection is None else connection.getpeercert()
        name = _common_name(certificate) if certificate else None
        if name is None:
            return
        app = self.app

        async def with_peer(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, PEER_NAME: name}, receive, send)

        self.app = with_peer


def _common_name(certificate: dict[str, Any]) -> str | None:
    for part in certificate.get("subject", ()):
        for name, value in part:
            if name == "commonName":
                return str(value)
    return None


def guarded(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Return the Admin API behind the access rules of the settings."""
    access = settings.access
    within: ASGIApp = AdminAccess(app, access, audit_log(settings.prefix, access))
    if access.admin_cors_origins:
        within = CORSMiddleware(
            within,
            allow_origins=list(access.admin_cors_origins),
            allow_methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "If-Match", "Kong-Admin-Token"],
            expose_headers=["ETag", "X-Headgate-Revision"],
        )
    return within


def audit_log(prefix: Path, access: Access) -> logging.Logger | None:
    """Return the logger that writes the audit log, readable by its owner only; None when it is off."""
    if access.admin_audit_log == "off":
        return None
    path = prefix / access.admin_audit_log
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(0o600, exist_ok=True)
    handler = logging.handlers.WatchedFileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("headgate.audit")
    logger.propagate = False
    for old in logger.handlers:
        old.close()
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    return logger
