"""Arguments of forms: names as `a.b`, `a[]`, `a[1]`, `a[x.y]` become records, lists and maps of texts.

Owns the names (reference: admin-api 6). What the texts mean is decided by the schema of the entity (`conversion`).
"""

import re
from collections.abc import Iterable
from typing import Any

from headgate.admin.answers import AnswerError

_PART = re.compile(r"([^.\[\]]+)|\[([^\]]*)\]|\.")
# Deeper than any entity; it bounds what one name can make us build.
_DEEPEST = 32


class _Items(dict[int | str, Any]):
    """A container that is filled by position or name; it becomes a list when it has positions only."""

    def plain(self) -> Any:
        if self and all(isinstance(key, int) for key in self):
            return [_plain(self[key]) for key in sorted(self, key=int)]
        return {str(key): _plain(value) for key, value in self.items()}


def _plain(value: Any) -> Any:
    return value.plain() if isinstance(value, _Items) else value


def decode(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return the values of a form; a name that comes several times is a list.

    Raises: AnswerError 400 for a name that nests too deep.
    """
    root = _Items()
    for name, value in pairs:
        keys = _keys(name)
        holder = root
        for at, key in enumerate(keys):
            if key == "":
                key = 1 + max((known for known in holder if isinstance(known, int)), default=0)
            if at == len(keys) - 1:
                _put(holder, key, value)
                break
            inner = holder.get(key)
            if not isinstance(inner, _Items):
                inner = holder[key] = _Items()
            holder = inner
    return {str(key): _plain(value) for key, value in root.items()}


def _put(holder: _Items, key: int | str, value: Any) -> None:
    known = holder.get(key)
    if key not in holder or isinstance(known, _Items):
        holder[key] = value
    elif isinstance(known, list):
        known.append(value)
    else:
        holder[key] = [known, value]


def _keys(name: str) -> list[int | str]:
    """Return the steps of a name: names, positions, and "" for the next position."""
    keys: list[int | str] = []
    position = 0
    for match in _PART.finditer(name):
        if match.start() != position:
            return [name]
        position = match.end()
        if match[1] is not None:
            keys.append(match[1])
        elif match[2] is not None:
            keys.append(int(match[2]) if match[2].isascii() and match[2].isdigit() else match[2])
    if position != len(name) or not keys or keys[0] == "" or isinstance(keys[0], int):
        return [name]
    if len(keys) > _DEEPEST:
        raise AnswerError(400, {"message": "Arguments nest too deep"})
    return keys
