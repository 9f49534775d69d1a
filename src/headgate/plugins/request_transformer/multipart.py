"""Editing a `multipart/form-data` body: parts that are not edited keep every byte, with file names and part headers."""

import re
from dataclasses import dataclass

from headgate.plugins.request_transformer.operations import Rendered

_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]+)"|([^\s;"]+))', re.IGNORECASE)
_NAME = re.compile(rb'^(content-disposition:[^\r\n]*?[;\s]name=)(?:"((?:[^"\\\r\n]|\\.)*)"|([^\s;"]+))', re.I | re.M)


class MultipartError(ValueError):
    """A body that is not well-formed, or a value that cannot be put into it."""


@dataclass(slots=True)
class _Part:
    head: bytes
    content: bytes

    @property
    def name(self) -> str | None:
        match = _NAME.search(self.head)
        if match is None:
            return None
        return (match.group(2) if match.group(2) is not None else match.group(3)).decode("utf-8", "surrogateescape")

    def rename(self, name: str) -> None:
        quoted = _quoted(name)
        self.head = _NAME.sub(lambda match: match.group(1) + quoted, self.head, count=1)


def edit_multipart(body: bytes, content_type: str, rendered: Rendered) -> bytes:
    """Return `body` after rename, remove, replace and add; append has no meaning here.

    Raises: MultipartError.
    """
    boundary = _BOUNDARY.search(content_type)
    if boundary is None:
        raise MultipartError("the content type has no boundary")
    delimiter = b"--" + (boundary.group(1) or boundary.group(2)).encode("utf-8", "surrogateescape")
    preamble, parts, epilogue = _split(body, delimiter)
    for old, new in rendered.rename:
        for part in parts:
            if part.name == old:
                part.rename(new)
    removed = set(rendered.remove)
    parts = [part for part in parts if part.name not in removed]
    for name, value in rendered.replace:
        for part in parts:
            if part.name == name:
                part.content = _content(value, delimiter)
    for name, value in rendered.add:
        if all(part.name != name for part in parts):
            head = b"Content-Disposition: form-data; name=" + _quoted(name)
            parts.append(_Part(head, _content(value, delimiter)))
    pieces = [preamble]
    pieces += [delimiter + b"\r\n" + part.head + b"\r\n\r\n" + part.content + b"\r\n" for part in parts]
    pieces += [delimiter, b"--", epilogue]
    return b"".join(pieces)


def _split(body: bytes, delimiter: bytes) -> tuple[bytes, list[_Part], bytes]:
    preamble, *segments = (b"\r\n" + body).split(b"\r\n" + delimiter)
    parts: list[_Part] = []
    for position, segment in enumerate(segments):
        if segment.startswith(b"--"):
            if position != len(segments) - 1:
                raise MultipartError("there are parts after the closing boundary")
            leading = preamble[2:] + b"\r\n" if preamble else b""
            return leading, parts, segment[2:]
        padding, line_end, rest = segment.partition(b"\r\n")
        # A part without headers has its empty line at once.
        head, separator, content = (b"\r\n" + rest).partition(b"\r\n\r\n")
        if padding.strip(b" \t") or not line_end or not separator:
            raise MultipartError("a part has no end of its headers")
        parts.append(_Part(head[2:], content))
    raise MultipartError("the closing boundary is missing")


def _content(value: str, delimiter: bytes) -> bytes:
    content = value.encode("utf-8", "surrogateescape")
    # Values come from the request too: none may end its part and begin another.
    if delimiter in content:
        raise MultipartError("a value contains the boundary")
    return content


def _quoted(name: str) -> bytes:
    escaped = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    return b'"' + escaped.encode("utf-8", "surrogateescape") + b'"'
