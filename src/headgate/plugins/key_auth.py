"""key-auth: authenticate a request by a key in a header, the query string or the body.

Owns finding the key, hiding it from the upstream, and the answers when it is missing, given twice or unknown. The key
itself never goes into a log line. Lookups go to the snapshot's unique index: their cost is that of two dict reads.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from headgate import Plugin, PluginConfig, kong
from headgate.pdk import BodyError
from headgate.schema import WEBSOCKET_PROTOCOLS, field


class Config(PluginConfig):
    no_consumer = True

    key_names: list[str] = field(default_factory=lambda: ["apikey"])
    hide_credentials: bool = False
    anonymous: str | None = None
    key_in_header: bool = True
    key_in_query: bool = True
    key_in_body: bool = False
    run_on_preflight: bool = True
    realm: str | None = field(None, required=False)

    @cached_property
    def challenge(self) -> dict[str, str]:
        """The header that goes with every 401."""
        return {"WWW-Authenticate": f'Key realm="{self.realm}"' if self.realm else "Key"}


class _Refused(Exception):
    """No valid key; `args[0]` is the text for the client."""


class Handler(Plugin[Config]):
    VERSION = "3.9.1"
    PRIORITY = 1250
    IDENTIFIES_CONSUMER = True

    def access(self, conf: Config) -> None:
        """Set consumer and credential, or answer 401."""
        if not conf.run_on_preflight and kong.request.get_method() == "OPTIONS":
            return
        if conf.anonymous is not None and kong.client.get_credential() is not None:
            return
        try:
            credential = _authenticate(conf)
        except _Refused as refusal:
            if conf.anonymous is None:
                kong.response.error(401, str(refusal), conf.challenge)
            _continue_as(str(conf.anonymous))
            return
        consumer = kong.db.consumers.select(credential["consumer"]["id"])
        kong.client.authenticate(consumer, credential)
        kong.service.request.set_authentication_headers(consumer, credential["id"])

    ws_handshake = access


def _authenticate(conf: Config) -> dict[str, Any]:
    name, key = _find_key(conf)
    if not key:
        raise _Refused("No API key found in request")
    if conf.hide_credentials:
        _hide(conf, name)
    credential: dict[str, Any] | None = kong.db.keyauth_credentials.select_by_key(key)
    if credential is None:
        raise _Refused("Unauthorized")
    return credential


def _find_key(conf: Config) -> tuple[str, str | None]:
    body = _read_body() if conf.key_in_body else {}
    headers: Mapping[str, Any] = kong.request.get_headers(1000) if conf.key_in_header else {}
    query: Mapping[str, Any] | None = None
    for name in conf.key_names:
        value = headers.get(name)
        if value is None and conf.key_in_query:
            if query is None:
                query = kong.request.get_query()
            value = query.get(name)
        if value is None:
            value = body.get(name)
        if isinstance(value, str):
            return name, value
        if isinstance(value, list):
            raise _Refused("Duplicate API key found")
    return "", None


def _read_body() -> dict[str, Any]:
    service = kong.router.get_service()
    if service is not None and service["protocol"] in WEBSOCKET_PROTOCOLS:
        # A WebSocket handshake has no body.
        return {}
    try:
        body = kong.request.get_body()
    except BodyError:
        # A body that is absent, too large or of another type holds no key; the other places may.
        return {}
    return body if isinstance(body, dict) else {}


def _hide(conf: Config, name: str) -> None:
    if conf.key_in_body:
        body = _read_body()
        if name in body:
            kong.service.request.set_body({key: value for key, value in body.items() if key != name})
    # Clearing rewrites the whole query string, so it is left alone when the key is not in it.
    if name in kong.request.get_query():
        kong.service.request.clear_query_arg(name)
    kong.service.request.clear_header(name)


def _continue_as(anonymous: str) -> None:
    consumer = kong.db.consumers.select(anonymous) or kong.db.consumers.select_by_username(anonymous)
    if consumer is None:
        message = f"anonymous consumer {anonymous} is configured but doesn't exist"
        kong.log.err(message)
        kong.response.error(500, message)
    kong.client.authenticate(consumer, None)
    kong.service.request.set_authentication_headers(consumer, None, None, {"anonymous": True})
