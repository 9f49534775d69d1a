"""request-termination: answer with a fixed response instead of proxying.

Owns the answer's form: a given body, a message, the default message of the status, or an echo of the request for tests.
"""

import os
from collections.abc import Mapping
from typing import Any

from headgate import Plugin, PluginConfig, kong
from headgate.pdk import BodyError
from headgate.schema import field

DEFAULT_CONTENT_TYPE = "application/json; charset=utf-8"
DEFAULT_MESSAGES = {
    401: "Unauthorized",
    404: "Not found",
    405: "Method not allowed",
    500: "An unexpected error occurred",
    502: "Bad Gateway",
    503: "Service unavailable",
}


def _check_combination(config: Mapping[str, Any]) -> str | None:
    has_body = config.get("body") is not None
    has_content_type = config.get("content_type") is not None
    if config.get("message") is not None and (has_content_type or has_body):
        return "message cannot be used with content_type or body"
    if has_content_type and not has_body:
        return "content_type requires a body"
    if config.get("echo") and (has_content_type or has_body):
        return "echo cannot be used with content_type and body"
    return None


class Config(PluginConfig):
    record_validator = _check_combination

    status_code: int = field(503, between=(100, 599))
    message: str | None = None
    content_type: str | None = None
    body: str | None = None
    echo: bool = False
    trigger: str | None = None


class Handler(Plugin[Config]):
    VERSION = "3.9.1"
    PRIORITY = 2

    def access(self, conf: Config) -> None:
        """Answer, unless a trigger is configured and the request does not carry it."""
        trigger = conf.trigger
        if (
            trigger is not None
            and kong.request.get_header(trigger) is None
            and kong.request.get_query_arg(trigger) is None
        ):
            return
        message = conf.message or DEFAULT_MESSAGES.get(conf.status_code)
        if conf.echo:
            kong.response.exit(conf.status_code, _echo(message))
        if conf.body is not None:
            headers = {"Content-Type": conf.content_type or DEFAULT_CONTENT_TYPE}
            kong.response.exit(conf.status_code, conf.body, headers)
        kong.response.exit(conf.status_code, None if message is None else {"message": message})

    ws_handshake = access


def _echo(message: str | None) -> dict[str, Any]:
    body: Any
    raw_body: str | None
    try:
        body = kong.request.get_body()
    except BodyError:
        body = None
    try:
        raw_body = kong.request.get_raw_body().decode("utf-8", "replace")
    except BodyError:
        raw_body = None
    captures = kong.request.get_uri_captures()
    return {
        "message": message,
        "kong": {
            "node_id": kong.node.get_id(),
            "worker_pid": os.getpid(),
            "hostname": kong.node.get_hostname(),
        },
        "request": {
            "scheme": kong.request.get_scheme(),
            "host": kong.request.get_host(),
            "port": kong.request.get_port(),
            "headers": dict(kong.request.get_headers()),
            "query": dict(kong.request.get_query()),
            "body": body,
            "raw_body": raw_body,
            "method": kong.request.get_method(),
            "path": kong.request.get_path(),
            "uri_captures": {"unnamed": captures.unnamed[1:], "named": captures.named},
        },
        "matched_route": kong.router.get_route(),
        "matched_service": kong.router.get_service(),
    }
