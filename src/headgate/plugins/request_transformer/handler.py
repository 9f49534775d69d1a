"""request-transformer: change method, URI, headers, body and query string of a request before it goes upstream.

Owns the order (URI, method, headers, body, query string) and what each target does with the five operations. The body
is read and every template rendered before anything is changed, so that no request goes on half-transformed.
"""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_plus

from headgate import Plugin, kong
from headgate.pdk import BodyError
from headgate.plugins.request_transformer.config import Compiled, Config
from headgate.plugins.request_transformer.multipart import MultipartError, edit_multipart
from headgate.plugins.request_transformer.operations import Operations, Rendered, edit_fields
from headgate.plugins.request_transformer.template import RequestEnvironment

FORM = "application/x-www-form-urlencoded"
METHODS_WITHOUT_BODY = frozenset({"GET", "HEAD", "TRACE"})

# Own choice: a body beyond this passes unchanged instead of filling the memory.
LARGEST_BODY_BYTES = 8 * 1024 * 1024
_MOST_ARGUMENTS = 1000


class Handler(Plugin[Config]):
    VERSION = "3.9.1"
    PRIORITY = 801

    def access(self, conf: Config) -> None:
        """Apply the configuration to the request that goes upstream."""
        compiled = conf.compiled
        moves_form = compiled.http_method in METHODS_WITHOUT_BODY and _content_type().startswith(FORM)
        body = _read_body() if compiled.body or moves_form else None
        fields = _change(compiled, compiled.body, lambda: _change_method(compiled, body if moves_form else None))
        if fields is not None and body is not None:
            _change_body(body, fields)

    def ws_handshake(self, conf: Config) -> None:
        """Apply what a WebSocket handshake has room for: it stays a GET without a body."""
        _change(conf.compiled, None, lambda: None)


def _change(compiled: Compiled, body: Operations | None, change_method: Callable[[], None]) -> Rendered | None:
    """Change path, method, headers and query; return what is to be done to the body."""
    environment = RequestEnvironment()
    if compiled.has_expressions:
        environment.capture()
    # Rendered first: a template that fails leaves the request as it was.
    headers = compiled.headers.render(environment) if compiled.headers else None
    fields = body.render(environment) if body else None
    arguments = compiled.query.render(environment) if compiled.query else None
    if compiled.uri is not None:
        kong.service.request.set_path(compiled.uri.render(environment))
    change_method()
    if headers is not None:
        _change_headers(headers)
    if arguments is not None:
        query = dict(kong.request.get_query(_MOST_ARGUMENTS))
        edited = edit_fields(query, arguments)
        # Writing the query string encodes it anew, so one that stays the same is left alone.
        if edited != query:
            kong.service.request.set_query(edited)
    return fields


def _change_method(compiled: Compiled, form: bytes | None) -> None:
    if compiled.http_method is None:
        return
    kong.service.request.set_method(compiled.http_method)
    if form:
        kong.service.request.set_query({**kong.request.get_query(_MOST_ARGUMENTS), **_decode_form(form)})


def _change_headers(rendered: Rendered) -> None:
    request = kong.service.request
    present: dict[str, str | list[str]] = dict(kong.request.get_headers(_MOST_ARGUMENTS))
    for name in rendered.remove:
        present.pop(name.lower(), None)
        request.clear_header(name)
    for old, new in rendered.rename:
        renamed = present.pop(old.lower(), None)
        if renamed is not None:
            request.clear_header(old)
            request.set_header(new, renamed)
            present[new.lower()] = renamed
    for name, value in rendered.replace:
        if name.lower() in present or name.lower() == "host":
            request.set_header(name, _one_line(value))
    for name, value in rendered.add:
        if name.lower() not in present and name.lower() != "host":
            request.set_header(name, _one_line(value))
            present[name.lower()] = value
    for name, value in rendered.append:
        request.add_header(name, _one_line(value))


def _change_body(body: bytes, rendered: Rendered) -> None:
    content_type = _content_type()
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type.startswith("multipart/form-data"):
        if body:
            try:
                kong.service.request.set_raw_body(edit_multipart(body, content_type, rendered))
            except MultipartError as error:
                kong.log.warn("multipart body left unchanged: ", error)
        return
    if not body:
        rendered = Rendered((), (), (), rendered.add, rendered.append)
    if media_type.startswith(FORM):
        form = _decode_form(body)
        edited = edit_fields(form, rendered)
        if edited != form:
            kong.service.request.set_body(edited, FORM)
    elif media_type.startswith("application/json"):
        _change_json(body, rendered)


def _change_json(body: bytes, rendered: Rendered) -> None:
    try:
        fields = json.loads(body) if body else {}
    except (ValueError, RecursionError):
        return
    if not isinstance(fields, dict):
        return
    edited = edit_fields(fields, rendered)
    if edited != fields:
        text = json.dumps(edited, ensure_ascii=False, separators=(",", ":"))
        kong.service.request.set_raw_body(text.encode("utf-8", "surrogateescape"))


def _read_body() -> bytes | None:
    try:
        return kong.request.get_raw_body(LARGEST_BODY_BYTES)
    except BodyError as error:
        kong.log.warn("request body left unchanged: ", error)
        return None


def _decode_form(body: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for pair in body.decode("utf-8", "surrogateescape").split("&"):
        name, equals, text = pair.partition("=")
        name = unquote_plus(name, errors="surrogateescape")
        if not name:
            continue
        value: str | bool = unquote_plus(text, errors="surrogateescape") if equals else True
        if name in fields:
            present = fields[name]
            fields[name] = [*present, value] if isinstance(present, list) else [present, value]
        else:
            fields[name] = value
    return fields


def _content_type() -> str:
    return kong.request.get_header("content-type") or ""


def _one_line(value: str) -> str:
    # Query arguments and captures are decoded: a line break in them must not begin another header.
    return value.replace("\r", "").replace("\n", "")
