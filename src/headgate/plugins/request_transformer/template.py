"""Values that may hold `$(expression)`: compiled when the configuration is loaded, rendered per request.

Owns splitting a value into text and expressions, and what expressions see of the request: headers and query as they
were when the plugin began, the captures of the matched path, and `kong.ctx.shared`.
"""

from collections.abc import Callable
from typing import Any

from headgate import kong
from headgate.plugins.request_transformer.expression import Evaluator, ExpressionError, is_true, parse, text_of

_LUA_IS_OFF = "loading of untrusted Lua code disabled because 'untrusted_lua' config option is set to 'off'"


class Template:
    """A compiled value."""

    __slots__ = ("_parts", "source")

    def __init__(self, source: str) -> None:
        """Raises: ExpressionError."""
        self.source = source
        self._parts = _split(source)

    @property
    def is_constant(self) -> bool:
        """Whether the value holds no expression."""
        return all(isinstance(part, str) for part in self._parts)

    def render(self, environment: "RequestEnvironment") -> str:
        """Return the text for this request; nil and false give an empty text.

        Raises: ExpressionError (the request ends with 500).
        """
        if self.is_constant:
            return self.source
        if kong.configuration.untrusted_lua == "off":
            raise ExpressionError(_LUA_IS_OFF)
        try:
            return "".join(part if isinstance(part, str) else _shown(part(environment)) for part in self._parts)
        except ExpressionError as error:
            raise ExpressionError(f"failed to render the template {self.source}: {error}") from error


class RequestEnvironment(dict[str, Any]):
    """What expressions see, read from the request when an expression first names it."""

    def __missing__(self, name: str) -> Any:
        value = self[name] = _SOURCES[name]()
        return value

    def capture(self) -> None:
        """Read headers and query now, before the plugin changes them."""
        self["headers"] = _headers()
        self["query_params"] = _query()


class _Headers:
    def __init__(self, headers: dict[str, str | list[str]]) -> None:
        self._headers = headers

    def get(self, name: Any) -> str | None:
        lower = str(name).lower()
        value = self._headers.get(lower)
        if value is None:
            value = self._headers.get(lower.replace("_", "-"))
        return value[0] if isinstance(value, list) else value


class _Query:
    def __init__(self, query: dict[str, Any]) -> None:
        self._query = query

    def get(self, name: Any) -> Any:
        value = self._query.get(name)
        return value[0] if isinstance(value, list) and value else value


class _Captures:
    def __init__(self, captures: Any) -> None:
        self._named: dict[str, str] = captures.named
        self._unnamed: list[str | None] = captures.unnamed

    def get(self, name: Any) -> str | None:
        if isinstance(name, (int, float)):
            # Position 0 holds the whole match, as in Lua.
            return self._unnamed[int(name)] if 0 <= name < len(self._unnamed) else None
        return self._named.get(name)


class _Shared:
    def get(self, name: Any) -> Any:
        return kong.ctx.shared[str(name)]


def _headers() -> _Headers:
    return _Headers(dict(kong.request.get_headers(1000)))


def _query() -> _Query:
    return _Query(dict(kong.request.get_query(1000)))


_SOURCES: dict[str, Callable[[], Any]] = {
    "headers": _headers,
    "query_params": _query,
    "uri_captures": lambda: _Captures(kong.request.get_uri_captures()),
    "shared": _Shared,
}


def _shown(value: Any) -> str:
    return text_of(value) if is_true(value) else ""


def _split(source: str) -> tuple[str | Evaluator, ...]:
    parts: list[str | Evaluator] = []
    position = 0
    while (start := source.find("$(", position)) != -1:
        end = _closing_parenthesis(source, start + 2)
        if start > position:
            parts.append(source[position:start])
        parts.append(parse(source[start + 2 : end]))
        position = end + 1
    if position < len(source) or not parts:
        parts.append(source[position:])
    return tuple(parts)


def _closing_parenthesis(source: str, position: int) -> int:
    depth = 1
    quote = ""
    while position < len(source):
        character = source[position]
        if quote:
            if character == "\\":
                position += 1
            elif character == quote:
                quote = ""
        elif character in "\"'":
            quote = character
        elif character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
            if depth == 0:
                return position
        position += 1
    raise ExpressionError("')' expected to close '$('")
