"""response-transformer: change headers and top-level JSON keys of a response on its way to the client.

Owns the order remove, rename, replace, add, append for both. The body is collected only when a JSON operation is
configured and the response is JSON; every other response streams through untouched.
"""

import json
from functools import cached_property
from typing import Any, Literal

from headgate import Plugin, PluginConfig, kong
from headgate.schema import Record, field

_ENTRY = r"^[^:]+:.*$"
JsonType = Literal["boolean", "number", "string"]


class Removals(Record):
    json_keys: list[str] = field(default_factory=list, name="json")
    headers: list[str] = field(default_factory=list)


class Renames(Record):
    json_keys: list[str] = field(default_factory=list, name="json", elements=field(match=_ENTRY))
    headers: list[str] = field(default_factory=list, elements=field(match=_ENTRY))


class Entries(Record):
    json_keys: list[str] = field(default_factory=list, name="json", elements=field(match=_ENTRY))
    json_types: list[JsonType] = field(default_factory=list)
    headers: list[str] = field(default_factory=list, elements=field(match=_ENTRY))

    @cached_property
    def values(self) -> tuple[tuple[str, Any], ...]:
        """JSON keys with their values in the configured types."""
        typed = [*self.json_types, *["string"] * len(self.json_keys)]
        return tuple(
            (name, _typed(value, json_type))
            for (name, value), json_type in zip(map(_pair, self.json_keys), typed, strict=False)
        )


class Config(PluginConfig):
    remove: Removals = field(default_factory=Removals)
    rename: Renames = field(default_factory=Renames)
    replace: Entries = field(default_factory=Entries)
    add: Entries = field(default_factory=Entries)
    append: Entries = field(default_factory=Entries)

    @cached_property
    def changes_json(self) -> bool:
        """Whether any operation is about the body."""
        return any(record.json_keys for record in (self.remove, self.rename, self.replace, self.add, self.append))


class Handler(Plugin[Config]):
    VERSION = "3.9.1"
    PRIORITY = 800

    def header_filter(self, conf: Config) -> None:
        """Change the headers; a JSON body that will change loses its length."""
        _change_headers(conf)
        if conf.changes_json and _is_json(kong.response.get_header("Content-Type")):
            kong.ctx.plugin.changes_json = True
            kong.response.clear_header("Content-Length")

    def body_filter(self, conf: Config) -> None:
        """Collect a JSON body and change it when it is complete."""
        if not conf.changes_json or not kong.ctx.plugin.changes_json:
            return
        body = kong.response.get_raw_body()
        if not body:
            return
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            kong.log.warn("response body is not JSON, left unchanged")
            return
        if not isinstance(document, dict):
            return
        _change_document(conf, document)
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        kong.response.set_raw_body(text.encode("utf-8", "surrogatepass"))


def _change_headers(conf: Config) -> None:
    response = kong.response
    for name in conf.remove.headers:
        response.clear_header(name.partition(":")[0])
    for old, new in map(_pair, conf.rename.headers):
        present = response.get_headers(1000).get(old.lower())
        if present is not None:
            response.clear_header(old)
            response.set_header(new, present)
    for name, value in map(_pair, conf.replace.headers):
        if response.get_header(name) is not None:
            response.set_header(name, value)
    for name, value in map(_pair, conf.add.headers):
        if response.get_header(name) is None:
            response.set_header(name, value)
    for name, value in map(_pair, conf.append.headers):
        response.add_header(name, value)


def _change_document(conf: Config, document: dict[str, Any]) -> None:
    for name in conf.remove.json_keys:
        document.pop(name, None)
    for old, new in map(_pair, conf.rename.json_keys):
        if old in document:
            document[new] = document.pop(old)
    for name, value in conf.replace.values:
        if name in document:
            document[name] = value
    for name, value in conf.add.values:
        if name not in document:
            document[name] = value
    for name, value in conf.append.values:
        present = document.get(name)
        if isinstance(present, list):
            document[name] = [*present, value]
        else:
            document[name] = [value] if present is None else [present, value]


def _pair(entry: str) -> tuple[str, str]:
    name, _, value = entry.partition(":")
    return name, value


def _typed(value: str, json_type: str) -> Any:
    if json_type == "boolean":
        return value == "true"
    if json_type == "number":
        try:
            number = float(value)
        except ValueError:
            return value
        return int(number) if number.is_integer() and abs(number) < 2**53 else number
    return value


def _is_json(content_type: str | None) -> bool:
    types = (content_type or "").lower().split(",")
    return any(entry.partition(";")[0].strip() == "application/json" for entry in types)
