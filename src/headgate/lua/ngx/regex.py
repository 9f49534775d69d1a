"""`ngx.re`: Perl-like regular expressions on bytes, with the `regex` library, which can be told when to give up.

Owns the options, the captures and the limits. Positions are bytes, counted from 1, as in Lua.
"""

import time
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import regex

if TYPE_CHECKING:
    from headgate.lua.vm import Vm

MOST_SECONDS = 1.0
"""After which one call is given up (own choice): a pattern that backtracks without end must not hold the engine."""

MOST_BYTES = 128 * 1024 * 1024
"""Of one result (own choice)."""

MOST_UNITS = 65_535
"""Of an expression, counted repetitions written out: PCRE2 takes no larger ones either."""

_FLAGS = {"i": regex.I, "m": regex.M, "s": regex.S, "x": regex.X}
_IGNORED = frozenset("joDJ")
_KEPT_PATTERNS = 1024


class _Compiled:
    __slots__ = ("is_anchored", "is_unicode", "names", "pattern")

    def __init__(self, source: str, options: str) -> None:
        flags = regex.V0
        self.is_anchored = "a" in options
        self.is_unicode = "u" in options or "U" in options
        for option in options:
            if option in _FLAGS:
                flags |= _FLAGS[option]
            elif option not in _IGNORED and option not in "auUd":
                raise ValueError(f'unknown flag "{option}" (flags "{options}")')
        if _units(source) > MOST_UNITS:
            raise ValueError("pcre2_compile() failed: regular expression is too large")
        if self.is_unicode:
            source = source.encode("latin-1").decode("utf-8", "surrogateescape")
        else:
            flags |= regex.ASCII
        self.pattern = regex.compile(source, flags)
        self.names: dict[str, int] = dict(self.pattern.groupindex)

    def search(self, subject: str, start: int, seconds: float) -> Any:
        function = self.pattern.match if self.is_anchored else self.pattern.search
        return function(subject, start, timeout=seconds)


_UNIT = regex.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|(\()|(\))|\{(\d*)(?:,(\d*))?\}|.", regex.S)


def _units(source: str) -> int:
    """Return how large an expression is with its counted repetitions written out."""
    sizes, last = [0], 0
    for unit in _UNIT.finditer(source):
        opening, closing, least, most = unit.groups()
        if opening:
            sizes.append(1)
            last = 0
        elif closing and len(sizes) > 1:
            last = sizes.pop()
            sizes[-1] += last
        elif least is not None:
            # One is counted already.
            sizes[-1] += last * (min(max(int(least or 0), int(most or 0)), MOST_UNITS + 1) - 1)
        else:
            last = 1
            sizes[-1] += 1
        if sizes[-1] > MOST_UNITS:
            return sizes[-1]
    return sum(sizes)


@lru_cache(maxsize=_KEPT_PATTERNS)
def _compiled(source: str, options: str) -> _Compiled:
    return _Compiled(source, options)


def functions(vm: "Vm") -> dict[str, Any]:
    """Return the functions by name."""
    matcher = _Matcher(vm)
    plain: dict[str, Callable[..., Any]] = {
        "re_match": matcher.match,
        "re_find": matcher.find,
        "re_sub": matcher.substitute,
        "re_split": matcher.split,
    }
    return {name: vm.bridge.heavy(_told(function)) for name, function in plain.items()}


def _told(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return faults of patterns as `nil, text`."""

    def called(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except regex.error as error:
            return (None, f"pcre2_compile() failed: {error}")
        except ValueError as error:
            return (None, str(error))
        except TimeoutError:
            return (None, "pcre2_match() failed: match limit exceeded")

    return called


class _Matcher:
    def __init__(self, vm: "Vm") -> None:
        self._new_table = vm.runtime.table
        self._call = vm.call_now

    def match(self, subject: Any, source: Any, options: Any, start: Any, left_s: Any = None) -> Any:
        """Return (captures, position behind the match). Args: left_s, what a bounded call has left."""
        text, compiled = _text(subject), _compiled(_text(source), options or "")
        found, shift = _found(compiled, text, start, left_s or MOST_SECONDS)
        if found is None:
            return None
        captures = self._captures(compiled, found)
        return (captures, shift(found.end()) + 1)

    def find(self, subject: Any, source: Any, options: Any, start: Any, left_s: Any = None, group: Any = 0) -> Any:
        """Return (first byte, last byte, None, position behind the match)."""
        text, compiled = _text(subject), _compiled(_text(source), options or "")
        found, shift = _found(compiled, text, start, left_s or MOST_SECONDS)
        if found is None:
            return None
        group = int(group or 0)
        if group > compiled.pattern.groups:
            return (None, None, "nth out of bound")
        first, behind = found.span(group)
        if first < 0:
            return (None, None, None, shift(found.end()) + 1)
        return (shift(first) + 1, shift(behind), None, shift(found.end()) + 1)

    def substitute(
        self, subject: Any, source: Any, replacement: Any, options: Any, is_global: Any, left_s: Any = None
    ) -> Any:
        """Return (text, number of substitutions)."""
        text, compiled = _text(subject), _compiled(_text(source), options or "")
        if compiled.is_unicode:
            text = text.encode("latin-1").decode("utf-8", "surrogateescape")
        if isinstance(replacement, str | int | float) and not isinstance(replacement, bool):
            make = _template(str(replacement))
        else:

            def make(found: Any) -> str:
                returned = self._call(replacement, self._captures(compiled, found))
                if returned is None or isinstance(returned, bool):
                    raise ValueError(
                        f"string or number expected to be returned by the replace function, got "
                        f"{'nil' if returned is None else 'boolean'}"
                    )
                return str(returned)

        pieces: list[str] = []
        position, last, count, size = 0, 0, 0, len(text)
        deadline_s = time.monotonic() + (left_s or MOST_SECONDS)
        while position <= len(text):
            rest_s = deadline_s - time.monotonic()
            if rest_s <= 0:
                raise TimeoutError
            found = compiled.search(text, position, rest_s)
            if found is None:
                break
            count += 1
            replaced = make(found)
            size += len(replaced)
            if size > MOST_BYTES:
                raise ValueError("the result is too large")
            pieces += (text[last : found.start()], replaced)
            last = found.end()
            position = last if last > found.start() else last + 1
            if not is_global:
                break
        changed = "".join((*pieces, text[last:]))
        return (_raw(changed) if compiled.is_unicode else changed, count)

    def split(self, subject: Any, source: Any, options: Any, most: Any, left_s: Any = None) -> Any:
        """Return the pieces between matches, as ngx.re.split does."""
        text, compiled = _text(subject), _compiled(_text(source), options or "")
        pieces = compiled.pattern.split(text, max(0, int(most or 0) - 1), timeout=left_s or MOST_SECONDS)
        table = self._new_table()
        for position, piece in enumerate(pieces, 1):
            table[position] = piece or ""
        return table

    def _captures(self, compiled: _Compiled, found: Any) -> Any:
        captures = self._new_table()
        encode = _raw if compiled.is_unicode else _same
        captures[0] = encode(found.group())
        for position, piece in enumerate(found.groups(), 1):
            captures[position] = False if piece is None else encode(piece)
        for name, group in compiled.names.items():
            piece = found.group(group)
            captures[name] = False if piece is None else encode(piece)
        return captures


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise TypeError("string argument expected")


def _same(text: str) -> str:
    return text


def _raw(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


def _found(compiled: _Compiled, text: str, start: Any, seconds: float) -> tuple[Any, Callable[[int], int]]:
    """Return the match from byte position `start`, and what turns its positions into bytes."""
    begin = max(0, int(start or 1) - 1)
    if begin > len(text):
        return None, int
    if not compiled.is_unicode:
        return compiled.search(text, begin, seconds), int
    decoded = text.encode("latin-1").decode("utf-8", "surrogateescape")
    first = len(text[:begin].encode("latin-1").decode("utf-8", "surrogateescape"))
    return compiled.search(decoded, first, seconds), lambda position: len(
        decoded[:position].encode("utf-8", "surrogateescape")
    )


def _template(replacement: str) -> Callable[[Any], str]:
    """Return the function of a replacement with `$1`, `${1}`, `$0`, `$$` in it."""
    if "$" not in replacement:
        return lambda found: replacement
    pieces: list[str | int] = []
    position = 0
    for mark in regex.finditer(r"\$(?:(\$)|(\d+)|\{(\d+)\})", replacement):
        pieces.append(replacement[position : mark.start()])
        pieces.append("$" if mark.group(1) else int(mark.group(2) or mark.group(3)))
        position = mark.end()
    rest = replacement[position:]
    if "$" in rest or any(isinstance(piece, str) and "$" in piece and piece != "$" for piece in pieces):
        raise ValueError(f'failed to compile the replacement template: "{replacement}"')
    pieces.append(rest)

    def make(found: Any) -> str:
        return "".join(
            piece if isinstance(piece, str) else (found.group(piece) or "" if piece <= found.re.groups else "")
            for piece in pieces
        )

    return make
