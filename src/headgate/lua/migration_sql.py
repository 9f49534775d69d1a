"""SQL in migrations of Lua plugins: whether it only makes what `daos.lua` declares, and so need not be run.

Owns the reading of statements as far as that: which table a statement of data definition is about. SQL of plugins is
written for tables of another layout, so none is ever run; what does more than to make declared tables is a fault.
"""

import re
from collections.abc import Iterator
from typing import Final

_COMMENT: Final = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_TOKEN: Final = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|(\$\w*\$).*?\1|;|[^'\"$;]+|.", re.DOTALL)
_BLOCK: Final = re.compile(r"DO\s+(\$\w*\$)(?P<body>.*)\1(?:\s+LANGUAGE\s+\w+)?", re.DOTALL | re.IGNORECASE)
_WORDS: Final = re.compile(r"\A(?:BEGIN|END|EXCEPTION|WHEN\s+[\w\s]+?\s+THEN|NULL)\b\s*", re.IGNORECASE)
_NAME: Final = r'(?:"?\w+"?\s*\.\s*)?"?(?P<{}>\w+)"?'


def _compiled(text: str) -> re.Pattern[str]:
    pattern = text.replace("TABLE_NAME", _NAME.format("table")).replace("OTHER_NAME", _NAME.format("other"))
    return re.compile(pattern.replace(" ", r"\s+").replace("~", r"\s*"), re.IGNORECASE | re.DOTALL)


_OF_TABLE: Final = tuple(
    _compiled(text)
    for text in (
        r"CREATE TABLE (?:IF NOT EXISTS )?TABLE_NAME~\(.*",
        r"CREATE (?:UNIQUE )?INDEX (?:CONCURRENTLY )?(?:IF NOT EXISTS )?(?:OTHER_NAME )?ON (?:ONLY )?TABLE_NAME\b.*",
        r"ALTER TABLE (?:IF EXISTS )?(?:ONLY )?TABLE_NAME (?:ADD|ALTER|DROP|RENAME)\b.*",
        r"CREATE (?:OR REPLACE )?TRIGGER OTHER_NAME .*?\bON TABLE_NAME\b.*",
        r"DROP TRIGGER (?:IF EXISTS )?OTHER_NAME ON TABLE_NAME\b.*",
        r"COMMENT ON TABLE TABLE_NAME .*",
    )
)
_OF_INDEX: Final = tuple(
    _compiled(text) for text in (r"DROP INDEX (?:IF EXISTS )?OTHER_NAME", r"ALTER INDEX (?:IF EXISTS )?OTHER_NAME .*")
)


def needed_statements(sql: str, tables: frozenset[str]) -> list[str]:
    """Return the statements that do more than to make and change some tables with their indexes; one line of each."""
    return [" ".join(text.split()) for text in _statements(sql) if not _is_about(text, tables)]


def _is_about(statement: str, tables: frozenset[str]) -> bool:
    for pattern in _OF_TABLE:
        found = pattern.fullmatch(statement)
        if found is not None:
            return found["table"] in tables
    for pattern in _OF_INDEX:
        found = pattern.fullmatch(statement)
        if found is not None:
            return found["other"].startswith(tuple(tables))
    return False


def _statements(sql: str) -> Iterator[str]:
    """Yield the statements of a text, those inside of blocks one by one."""
    for text in _split(_COMMENT.sub(" ", sql)):
        block = _BLOCK.fullmatch(text)
        if block is None:
            yield text
            continue
        for inner in _split(block["body"]):
            rest = inner
            while (word := _WORDS.match(rest)) is not None:
                rest = rest[word.end() :]
            if rest:
                yield rest


def _split(sql: str) -> Iterator[str]:
    parts: list[str] = []
    for token in _TOKEN.finditer(sql):
        if token.group() == ";":
            yield from _whole(parts)
            parts = []
        else:
            parts.append(token.group())
    yield from _whole(parts)


def _whole(parts: list[str]) -> Iterator[str]:
    text = "".join(parts).strip()
    if text:
        yield text
