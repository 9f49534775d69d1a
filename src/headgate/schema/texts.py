"""Names, tags, paths, URLs, headers: checks of texts with the contract's wording.

Each `*_fault` function returns the text of the fault or None.
"""

import re
from typing import Final
from urllib.parse import urlsplit

_NAME: Final = re.compile(r"[A-Za-z0-9.\-_~\x80-\U0010ffff]*")
_ASCII_NAME: Final = re.compile(r"[A-Za-z0-9.\-_~]+")
_TAG: Final = re.compile(r"[\x20-\x2b\x2d\x2e\x30-\x7e\x80-\U0010ffff]+")
_PATH: Final = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]*")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2}).{0,2}", re.DOTALL)
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_COOKIE_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_RESERVED: Final = frozenset(b"!*'();:@&=+$,/?%#[]")
_COOKIE_FAULT: Final = (
    "contains one or more invalid characters. ASCII control characters (0-31;127), space, tab and the characters "
    '()<>@,;:\\"/?={}[] are not allowed.'
)


def utf8_fault(value: str) -> str | None:
    """Check that a text can be encoded (a lone surrogate cannot)."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        position = len(value[: error.start].encode()) + 1
        return f"invalid utf-8 character sequence detected at position {position}"
    return None


def utf8_name_fault(value: str) -> str | None:
    """Check a name: ASCII letters, digits, `. - _ ~` and anything beyond ASCII."""
    if _NAME.fullmatch(value):
        return None if value.isascii() else utf8_fault(value)
    return utf8_fault(value) or (
        f"invalid value '{value}': the only accepted ascii characters are alphanumerics or ., -, _, and ~"
    )


def ascii_name_fault(value: str) -> str | None:
    """Check a name of ASCII letters, digits and `. - _ ~`."""
    if _ASCII_NAME.fullmatch(value):
        return None
    return f"invalid value '{value}': it must only contain alphanumeric and '., -, _, ~' characters"


def tag_fault(value: str) -> str | None:
    """Check a tag: printable, without `,` and `/`."""
    if _TAG.fullmatch(value):
        return None if value.isascii() else utf8_fault(value)
    return utf8_fault(value) or (
        f"invalid tag '{value}': expected printable ascii (except `,` and `/`) or valid utf-8 sequences"
    )


def path_fault(value: str) -> str | None:
    """Check the characters and escapes of a path; its start and empty segments are checked by patterns."""
    if not _PATH.fullmatch(value):
        return f"invalid path: '{value}' (characters outside of the reserved list of RFC 3986 found)"
    return escape_fault(value)


def escape_fault(value: str) -> str | None:
    """Check that each `%` starts an escape of two hexadecimal digits."""
    if "%" not in value:
        return None
    bad = _BAD_ESCAPE.search(value)
    return f"invalid url-encoded value: '{bad.group()}'" if bad else None


def normalized_path(path: str) -> str:
    """Return the normal form of a path: escapes of reserved characters upper-case, other escapes decoded, dot segments
    and repeated slashes removed.
    """
    text = path
    if "%" in path:
        data = _ESCAPE.sub(_decoded_escape, path.encode("utf-8", "surrogatepass"))
        text = data.decode("utf-8", "replace")
    if "//" not in text and "/." not in text:
        return text
    segments: list[str] = []
    parts = re.sub(r"/{2,}", "/", text).split("/")
    for index, segment in enumerate(parts[1:], 1):
        is_last = index == len(parts) - 1
        if segment == "..":
            if segments:
                segments.pop()
            if is_last:
                segments.append("")
        elif segment == ".":
            if is_last:
                segments.append("")
        else:
            segments.append(segment)
    return "/" + "/".join(segments)


def _decoded_escape(found: re.Match[bytes]) -> bytes:
    code = int(found.group(1), 16)
    return found.group().upper() if code in _RESERVED else bytes((code,))


def header_name_fault(value: str) -> str | None:
    """Check the name of a header."""
    if _HEADER_NAME.fullmatch(value):
        return None
    return f"bad header name '{value}', allowed characters are A-Z, a-z, 0-9, '_', and '-'"


def cookie_name_fault(value: str) -> str | None:
    """Check the name of a cookie."""
    return None if _COOKIE_NAME.fullmatch(value) else _COOKIE_FAULT


def url_fault(value: str) -> str | None:
    """Check a URL with scheme and host."""
    try:
        parts = urlsplit(value)
        host = parts.hostname
        _ = parts.port
    except ValueError as error:
        return f"could not parse url. {error}"
    if not parts.scheme and not host:
        return "missing host in url"
    if not host:
        return "missing host in url"
    return None if parts.scheme else "missing scheme in url"
