"""Headers between plugins and the engine: the mapping that getters return, the checks of setters' arguments.

Owns PDK reference 3.4 (lookup rules, limits) and 23 (accepted values, texts). An empty text is sent as an empty value:
on the wire that is what Kong's single space is after trimming; in HTTP/2 a space would be malformed (RFC 9113 8.2.1).
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from headgate.pdk._check import scalar_text, type_name

HeaderValue: TypeAlias = str | int | float | bool | list[str] | tuple[str, ...]
Headers: TypeAlias = Mapping[str, HeaderValue]

_MISSING: Any = object()


class HeaderMap(dict[str, str | list[str]]):
    """Headers by lower-case name as sent; a repeated one is a list in order.

    Lookups (`map[name]`, `get`, `in`) ignore case; a name with `_` that is not found is tried again with `-`.
    `map[name]` of an absent header raises KeyError; `get` returns None. `truncated` says that the limit cut entries
    off.
    """

    truncated: bool = False

    def __missing__(self, name: str) -> str | list[str]:
        key = self._stored_name(name)
        if key is None:
            raise KeyError(name)
        return super().__getitem__(key)

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a header in any case and spelling, or the default."""
        value = super().get(name, _MISSING)
        if value is not _MISSING:
            return value
        key = self._stored_name(name)
        return default if key is None else super().__getitem__(key)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._stored_name(name) is not None

    def _stored_name(self, name: str) -> str | None:
        lower = name.lower()
        if super().__contains__(lower):
            return lower
        if "_" in lower:
            dashed = lower.replace("_", "-")
            if super().__contains__(dashed):
                return dashed
        return None


def header_map(pairs: Sequence[tuple[str, str]], limit: int) -> HeaderMap:
    """Collect up to `limit` values; the rest sets `truncated`."""
    # Nearly always no name is repeated: made at once, it takes half the time.
    headers = HeaderMap([(name.lower(), value) for name, value in pairs])
    if len(headers) == len(pairs) <= limit:
        return headers
    headers = HeaderMap()
    store = dict.__setitem__
    for count, (name, value) in enumerate(pairs):
        if count == limit:
            headers.truncated = True
            break
        key = name.lower()
        earlier = dict.get(headers, key)
        if earlier is None:
            store(headers, key, value)
        elif isinstance(earlier, list):
            earlier.append(value)
        else:
            store(headers, key, [earlier, value])
    return headers


def header_values(name: object, value: object) -> list[str]:
    """Check the arguments of a setter of one header; return the values to send.

    Raises: TypeError with the texts of the single setters.
    """
    if not isinstance(name, str):
        raise TypeError(f'invalid header name "{_printed(name)}": got {type_name(name)}, expected string')
    if isinstance(value, str):
        return [value]
    if isinstance(value, list | tuple):
        return _array(name, value)
    if isinstance(value, bool | int | float):
        return [scalar_text(value)]
    raise TypeError(
        f'invalid header value for "{name}": got {type_name(value)}, '
        "expected array of string, string, number or boolean"
    )


def header_table(headers: object) -> list[tuple[str, list[str]]]:
    """Check all entries of a bulk setter before any is applied; return (name, values to send) in order.

    Raises: TypeError with the texts of the bulk setters.
    """
    if not isinstance(headers, Mapping):
        # An empty array is a table without entries in Kong.
        if isinstance(headers, list | tuple) and not headers:
            return []
        if isinstance(headers, list | tuple):
            raise TypeError('invalid header name "1": got number, expected string')
        raise TypeError("headers must be a table")
    checked: list[tuple[str, list[str]]] = []
    for name, value in headers.items():
        if not isinstance(name, str):
            raise TypeError(f'invalid header name "{_printed(name)}": got {type_name(name)}, expected string')
        if isinstance(value, str):
            checked.append((name, [value]))
        elif isinstance(value, list | tuple):
            checked.append((name, _array(name, value)))
        elif isinstance(value, bool | int | float):
            checked.append((name, [scalar_text(value)]))
        else:
            raise TypeError(
                f'invalid header value for "{name}": got {type_name(value)}, '
                "expected string, number, boolean or array of strings"
            )
    return checked


def _array(name: str, values: list[Any] | tuple[Any, ...]) -> list[str]:
    for value in values:
        if not isinstance(value, str):
            raise TypeError(f'invalid header value in array "{name}": got {type_name(value)}, expected string')
    return list(values)


def _printed(name: object) -> str:
    if name is None:
        return "nil"
    return scalar_text(name) if isinstance(name, bool | int | float) else str(name)
