"""Entity tags and the conditions that a client puts on a request (RFC 9110, sections 8.8.3 and 13.1).

A tag is that of an entity's content, so it is the same on every node and for every kind of store.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from headgate.admin.answers import AnswerError
from headgate.entities.entity_type import Entity

_TAG_DIGITS = 32


def entity_tag(entity: Entity) -> str:
    """Return the strong tag of an entity; what is left of its time to live is no content."""
    content = {name: value for name, value in entity.items() if name != "ttl"}
    data = orjson.dumps(content, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    return f'"{hashlib.sha256(data).hexdigest()[:_TAG_DIGITS]}"'


@dataclass(frozen=True)
class Preconditions:
    """What a write asks of the entity as it is now; `is_needed` refuses changes without `If-Match`."""

    if_match: tuple[str, ...] | None = None
    if_none_match: tuple[str, ...] | None = None
    is_needed: bool = False

    def check(self, current: Entity | None) -> None:
        """Look at the entity that a write would change.

        Raises: AnswerError 412, a condition does not hold; 428, there is none where one is needed.
        """
        tag = None if current is None else entity_tag(current)
        if self.if_match is not None and not _holds(self.if_match, tag):
            raise AnswerError(412, {"message": "the entity is not the one that If-Match names"})
        if self.if_none_match is not None and _holds(self.if_none_match, tag):
            raise AnswerError(412, {"message": "the entity is one that If-None-Match excludes"})
        if self.is_needed and tag is not None and self.if_match is None:
            raise AnswerError(428, {"message": "changes of an entity need If-Match with its ETag"})


NO_PRECONDITIONS = Preconditions()


def preconditions(headers: Mapping[str, str], *, is_needed: bool = False) -> Preconditions:
    """Read the conditions of a request; `headers` has lower-case names."""
    return Preconditions(_tags(headers.get("if-match")), _tags(headers.get("if-none-match")), is_needed)


def _tags(text: str | None) -> tuple[str, ...] | None:
    # A weak tag never equals a strong one where changes are concerned (RFC 9110, 13.1.1); it is kept as it is.
    return None if text is None else tuple(part.strip() for part in text.split(","))


def _holds(tags: tuple[str, ...], tag: str | None) -> bool:
    return tag is not None and ("*" in tags or tag in tags)
