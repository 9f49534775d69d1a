"""Paths of routes: plain prefixes and regular expressions, checked with the contract's texts.

The engine has the last word on a regular expression; here it is compiled with Python's `re` after the spellings that
only the engine knows were replaced, which finds what is malformed in both.
"""

import re
from typing import Final

from headgate.schema.texts import escape_fault, normalized_path, path_fault

_ENGINE_ONLY: Final = (
    (re.compile(r"\(\?<(?![=!])"), "(?P<"),
    (re.compile(r"\\[pP](?:\{[^}]*\}|[A-Za-z])"), r"\\w"),
    (re.compile(r"\\x\{[0-9A-Fa-f]+\}"), "x"),
    (re.compile(r"\\z"), r"\\Z"),
    (re.compile(r"\\[hRKQE]"), r"\\s"),
    (re.compile(r"\[\[:\^?[a-z]+:\]\]"), r"\\w"),
    (re.compile(r"\[:\^?[a-z]+:\]"), r"\\w"),
)
_LOOK_AROUND: Final = re.compile(r"\(\?(?:=|!|<=|<!)")
_BACK_REFERENCE: Final = re.compile(r"\\[1-9]|\\k[<{']|\(\?P=")
_ATOMIC: Final = re.compile(r"\(\?>")
_ESCAPED_PAIR: Final = re.compile(r"\\\\")
_PLAIN: Final = re.compile(r"/[A-Za-z0-9_~!$&'()*+,;=:@-]*(?:/[A-Za-z0-9_~!$&'()*+,;=:@-]+)*/?")


def route_path_fault(path: str) -> str | None:
    """Check a path that starts with `/` or `~/` and has no empty segments."""
    if _PLAIN.fullmatch(path):
        return None
    if path.startswith("~"):
        return _regex_fault(path[1:])
    fault = escape_fault(path)
    if fault is not None:
        return fault
    normal = normalized_path(path)
    if normal != path:
        return f"non-normalized path, consider use '{normal}' instead"
    return path_fault(path)


def _regex_fault(pattern: str) -> str | None:
    fault = escape_fault(pattern)
    if fault is not None:
        return fault
    text = pattern
    for engine_spelling, replacement in _ENGINE_ONLY:
        text = engine_spelling.sub(replacement, text)
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        return f"invalid regex: '{pattern}' (PCRE returned: {error})"
    return None


def unsupported_feature(path: str) -> str | None:
    """Return what a regex path uses that the engine's linear-time matching cannot do; None when there is nothing."""
    if not path.startswith("~"):
        return None
    pattern = _ESCAPED_PAIR.sub("", path[1:])
    if _LOOK_AROUND.search(pattern):
        return "look-around, including look-ahead and look-behind, is not supported"
    if _BACK_REFERENCE.search(pattern):
        return "backreferences are not supported"
    if _ATOMIC.search(pattern):
        return "atomic groups are not supported"
    return None
