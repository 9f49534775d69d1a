"""The text of a declarative document: JSON or YAML into plain data, with every reason why it cannot be one.

Owns parsing only. YAML is read with libyaml; dates stay text, and a key given twice is an error, since the first of the
two values would silently be lost.
"""

import json
from collections.abc import Hashable
from typing import Any, Final

import orjson
import yaml

from headgate.errors import DeclarativeError

_PREFIX: Final = "failed parsing declarative configuration: "
# Own choice: twenty times a document of 10,000 services with routes and plugins.
MAX_VALUES: Final = 10_000_000
_JSON_SUFFIXES: Final = ("json",)
_YAML_SUFFIXES: Final = ("yaml", "yml")

_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class DuplicateKeyError(ValueError):
    """An object has the same key twice."""


class _Loader(_SafeLoader):  # type: ignore[misc]
    """Safe YAML without dates, with duplicate keys refused."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        own = [pair for pair in node.value if pair[0].tag != "tag:yaml.org,2002:merge"]
        if len({key.value for key, _ in own if isinstance(key.value, str)}) < len(own):
            _refuse_duplicates(own)
        result: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        return result


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _SafeLoader.yaml_implicit_resolvers.items()
}


def _refuse_duplicates(pairs: list[Any]) -> None:
    seen: dict[tuple[str, Any], int] = {}
    for key, _ in pairs:
        if not isinstance(key.value, str):
            continue
        line = key.start_mark.line + 1
        name = (key.tag, key.value)
        if name in seen:
            raise DuplicateKeyError(f"duplicate key '{key.value}' at line {line}, first given at line {seen[name]}")
        seen[name] = line


def _json_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        raise DuplicateKeyError(f"duplicate key '{next(name for name in names if names.count(name) > 1)}'")
    return members


def parse_json(text: bytes) -> dict[str, Any] | None:
    """Return the object in a JSON text as `parse_document` would read it; None for anything else."""
    try:
        document = json.loads(text.decode("utf-8-sig"), object_pairs_hook=_json_object)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def parse_document(
    text: str | bytes, filename: str | None = None, parsed: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the document in `text`.

    Args: filename decides the format by its ending; without it JSON is tried, then YAML; parsed, what `parse_json` has
    made of the text.
    Raises: DeclarativeError, with a message that names the first reason; it has no error tree.
    """
    kind = _kind(filename)
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DeclarativeError(f"{_PREFIX}not UTF-8 at byte {error.start + 1}") from None
    try:
        document, is_json = (parsed, True) if parsed is not None else _parsed(text, kind)
        # Aliases can make a small text expand beyond any memory, or contain itself; without them the C encoder decides.
        if not is_json and "&" in text:
            _expanded_size(document, {}, set())
        else:
            orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS)
    except (ValueError, TypeError, yaml.YAMLError, RecursionError) as error:
        raise DeclarativeError(_PREFIX + _reason(error)) from None
    if not isinstance(document, dict):
        raise DeclarativeError(f"{_PREFIX}expected an object")
    return document


def _kind(filename: str | None) -> str | None:
    if filename is None:
        return None
    suffix = filename.rpartition(".")[2].lower()
    if suffix in _JSON_SUFFIXES:
        return "json"
    if suffix in _YAML_SUFFIXES:
        return "yaml"
    raise DeclarativeError(f"unknown file type: {filename}. (Accepted types: json, yaml)")


def _parsed(text: str, kind: str | None) -> tuple[Any, bool]:
    """Return the document, and whether it was JSON."""
    if kind == "json":
        return json.loads(text, object_pairs_hook=_json_object), True
    if kind is None and text.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(text, object_pairs_hook=_json_object), True
        except DuplicateKeyError:
            raise
        except ValueError:
            pass
    return yaml.load(text, _Loader), False


def _expanded_size(value: Any, known: dict[int, int], open_ids: set[int]) -> int:
    """Return how many values a document has, aliases expanded. Raises: ValueError, for what is no plain data."""
    if isinstance(value, (dict, list)):
        identity = id(value)
        if identity in known:
            return known[identity]
        if identity in open_ids:
            raise ValueError("an alias refers to the value it is part of")
        open_ids.add(identity)
        items = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        size = 1 + sum(_expanded_size(item, known, open_ids) for item in items)
        open_ids.discard(identity)
        if size > MAX_VALUES:
            raise ValueError(f"expands to more than {MAX_VALUES} values")
        known[identity] = size
        return size
    orjson.dumps(value)
    return 1


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{mark.line + 1}:{mark.column + 1}: {error.problem or error.context}"
    return str(error)
