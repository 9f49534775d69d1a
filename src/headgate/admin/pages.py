"""Pages of collections: size, offset, tags, and the link to the next page (reference: admin-api 3, 4)."""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import orjson

from headgate.errors import INVALID_OFFSET, INVALID_OPTIONS, INVALID_SIZE, EntityError

DEFAULT_SIZE = 100
LARGEST_SIZE = 1000
_MOST_TAGS = 5
_TAG = re.compile(r"[^\s,/]+")

Row = dict[str, Any]


@dataclass(frozen=True)
class TagFilter:
    """Rows that have all, or any, of some tags."""

    tags: tuple[str, ...]
    needs_all: bool

    def accepts(self, row: Row) -> bool:
        """Say whether a row passes."""
        own = row.get("tags") or ()
        return all(tag in own for tag in self.tags) if self.needs_all else any(tag in own for tag in self.tags)


@dataclass(frozen=True)
class PageQuery:
    """What a client asks of a collection."""

    size: int
    offset: list[Any] | None
    tag_filter: TagFilter | None
    given: dict[str, str]


def _invalid_tags(text: str) -> EntityError:
    return EntityError(INVALID_OPTIONS, message=f"invalid option (tags: {text})", fields={"tags": text})


def parse_query(query: dict[str, str]) -> PageQuery:
    """Read the query arguments of a collection; unknown ones are ignored.

    Raises: EntityError of code 7, 9 or 11.
    """
    size = DEFAULT_SIZE
    if "size" in query:
        try:
            number = float(query["size"])
        except ValueError:
            raise EntityError(INVALID_SIZE, message="size must be a number") from None
        if not number.is_integer() or not 1 <= number <= LARGEST_SIZE:
            text = f"size must be an integer between 1 and {LARGEST_SIZE}"
            raise EntityError(INVALID_SIZE, message=text)
        size = int(number)
    offset = _decode_offset(query["offset"]) if query.get("offset") else None
    tag_filter = _parse_tags(query["tags"]) if "tags" in query else None
    return PageQuery(size, offset, tag_filter, {name: query[name] for name in ("size", "tags") if name in query})


def _parse_tags(text: str) -> TagFilter:
    if not text:
        raise _invalid_tags("cannot be null")
    if "," in text and "/" in text:
        raise _invalid_tags("invalid filter syntax")
    tags = tuple(text.split("/" if "/" in text else ","))
    if not all(_TAG.fullmatch(tag) for tag in tags):
        raise _invalid_tags("invalid filter syntax")
    if len(tags) > _MOST_TAGS:
        raise _invalid_tags(f"cannot query more than {_MOST_TAGS} tags")
    return TagFilter(tags, needs_all="/" not in text)


def _decode_offset(text: str) -> list[Any]:
    def invalid(why: str) -> EntityError:
        return EntityError(INVALID_OFFSET, message=f"'{text}' is not a valid offset: {why}")

    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise invalid("bad base64 encoding") from None
    try:
        key = orjson.loads(decoded)
    except orjson.JSONDecodeError:
        raise invalid("bad json encoding") from None
    if not isinstance(key, list):
        raise invalid("bad json encoding")
    return key


def page(
    rows: Iterable[Row],
    query: PageQuery,
    path: str,
    *,
    is_nested: bool = False,
    key: Callable[[Row], Sequence[Any]] = lambda row: [row["id"]],
    show: Callable[[Row], Row] = lambda row: row,
) -> dict[str, Any]:
    """Return the page of rows that a query asks for, ordered by `key` (its values are what an offset holds).

    Args: `is_nested` leaves size and tags out of the link to the next page.
    """
    tag_filter = query.tag_filter
    kept = [(list(key(row)), row) for row in rows if tag_filter is None or tag_filter.accepts(row)]
    kept.sort(key=lambda pair: pair[0])
    if query.offset is not None:
        first = query.offset
        kept = [pair for pair in kept if _is_from(pair[0], first)]
    answer: dict[str, Any] = {"data": [show(row) for _, row in kept[: query.size]], "next": None}
    if len(kept) > query.size:
        offset = base64.b64encode(orjson.dumps(kept[query.size][0])).decode()
        arguments = {"offset": offset, **({} if is_nested else query.given)}
        answer["offset"] = offset
        answer["next"] = f"{path}?{urlencode(arguments)}"
    return answer


def _is_from(key: list[Any], first: list[Any]) -> bool:
    try:
        return key >= first
    except TypeError:
        return False
