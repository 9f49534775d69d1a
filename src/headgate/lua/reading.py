"""Which names a Lua source uses of `kong`, `ngx` and of modules: read from its tokens, with the scopes of its locals.

Owns the reading only: a local that stands for a part (`local request = kong.request`) or for a module is followed, one
of another value hides the global of its name. What the names mean is the caller's.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
    (?P<skipped> --\[(?P<c>=*)\[.*?(?:\](?P=c)\]|\Z) | --[^\n]* | \s+ )
    | (?P<text> \[(?P<l>=*)\[.*?\](?P=l)\] | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' )
    | (?P<name> [A-Za-z_]\w* )
    | (?P<number> \.?\d[\w.]* )
    | (?P<mark> \.\.\.|\.\.|[=~<>]=|::|. )
    """,
    re.DOTALL | re.VERBOSE,
)
_KEYWORDS = frozenset(
    (
        *("and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in", "local"),
        *("nil", "not", "or", "repeat", "return", "then", "true", "until", "while"),
    )
)
_ROOTS = frozenset(("kong", "ngx"))
_HIDDEN = ("",)
"""Of a local with a value that is not followed."""

Path = tuple[str, ...]


@dataclass(frozen=True)
class Use:
    """A name that a source uses: `path` is of `kong`, `ngx`, or of the module `module` when that is given."""

    line: int
    path: Path
    module: str | None = None
    is_written: bool = False


@dataclass(frozen=True)
class Requirement:
    """A module that a source requires by a plain text."""

    line: int
    module: str


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    line: int


def _tokens(source: str) -> list[_Token]:
    tokens: list[_Token] = []
    line = 1
    for found in _TOKEN.finditer(source):
        text = found.group()
        kind = "name" if found["name"] else "text" if found["text"] else "" if found["skipped"] else "mark"
        if kind:
            tokens.append(_Token("word" if kind == "name" and text in _KEYWORDS else kind, text, line))
        line += text.count("\n")
    # What is looked at beyond the end is nothing.
    return [*tokens, *(_Token("mark", "", line),) * 4]


def uses(source: str) -> Iterator[Use | Requirement]:
    """Yield what a source uses, in its order."""
    return _Reader(source).read()


class _Reader:
    def __init__(self, source: str) -> None:
        self._tokens = _tokens(source)
        self._scopes: list[dict[str, Path]] = [{}]
        self._awaits_do: list[bool] = [False]

    def read(self) -> Iterator[Use | Requirement]:
        at = 0
        while at < len(self._tokens) - 4:
            token = self._tokens[at]
            if token.kind == "word":
                at = self._word(at)
            elif token.kind == "name":
                required = self._required(at)
                if required is not None:
                    yield Requirement(token.line, required)
                path, after = self._path(at)
                module, *rest = self._meaning(path)
                if module:
                    is_written = self._text(after) == "="
                    yield (
                        Use(token.line, (module, *rest), None, is_written)
                        if module in _ROOTS
                        else Use(token.line, tuple(rest), module.partition(" ")[2], is_written)
                    )
                at = after
            else:
                at += 1

    def _text(self, at: int) -> str:
        return self._tokens[at].text

    def _word(self, at: int) -> int:
        """Follow blocks and declarations; returns where to go on."""
        word = self._text(at)
        if word == "local" and self._text(at + 1) == "function":
            self._scopes[-1][self._text(at + 2)] = _HIDDEN
            return self._function(at + 3)
        if word == "local":
            return self._local(at + 1)
        if word == "function":
            at += 1
            while self._tokens[at].kind == "name" or self._text(at) in (".", ":"):
                at += 1
            return self._function(at)
        if word in ("for", "while"):
            self._open(awaits_do=True)
            at += 1
            while word == "for" and self._text(at) not in ("=", "in", ""):
                self._scopes[-1][self._text(at)] = _HIDDEN
                at += 1
            return at
        if word == "do" and self._awaits_do[-1]:
            self._awaits_do[-1] = False
        elif word in ("do", "repeat", "if"):
            self._open()
        elif word in ("else", "elseif"):
            self._scopes[-1] = {}
        elif word in ("end", "until") and len(self._scopes) > 1:
            self._scopes.pop()
            self._awaits_do.pop()
        return at + 1

    def _open(self, *, awaits_do: bool = False) -> None:
        self._scopes.append({})
        self._awaits_do.append(awaits_do)

    def _function(self, at: int) -> int:
        """Open the scope of a function whose parameters start here."""
        self._open()
        self._scopes[-1]["self"] = _HIDDEN
        while self._text(at) not in (")", ""):
            if self._tokens[at].kind == "name":
                self._scopes[-1][self._text(at)] = _HIDDEN
            at += 1
        return at + 1

    def _local(self, at: int) -> int:
        """Declare locals; those that stand for a part of something are followed."""
        names = [self._text(at)]
        while self._text(at + 1) == ",":
            at += 2
            names.append(self._text(at))
        at += 1
        meanings: list[Path] = []
        value = at + 1
        while self._text(at) == "=" and len(meanings) < len(names):
            meaning, after = self._value(value)
            is_last = self._text(after) != ","
            if is_last and not self._ends(after):
                break
            meanings.append(meaning)
            if is_last:
                break
            value = after + 1
        meanings += [_HIDDEN] * (len(names) - len(meanings))
        self._scopes[-1].update(zip(names, meanings, strict=True))
        return at

    def _value(self, at: int) -> tuple[Path, int]:
        """Return what a value stands for, if it is a plain one, and where it ends."""
        if self._tokens[at].kind != "name":
            return _HIDDEN, at + 1
        module = self._required(at)
        if module is None:
            path, after = self._path(at)
            return self._meaning(path), after
        after = at + 2 if self._tokens[at + 1].kind == "text" else at + 4
        rest: list[str] = []
        while self._text(after) == "." and self._tokens[after + 1].kind == "name":
            rest.append(self._text(after + 1))
            after += 2
        return (f"require {module}", *rest), after

    def _ends(self, at: int) -> bool:
        """Say whether a statement ends before a token: what follows is neither an operator nor a call."""
        token = self._tokens[at]
        if token.kind == "word":
            return token.text not in ("and", "or")
        return token.kind == "name" or token.text in (";", "", "::")

    def _path(self, at: int) -> tuple[Path, int]:
        """Return a name with the members behind it, and where it ends."""
        path = [self._text(at)]
        at += 1
        while self._text(at) in (".", ":") and self._tokens[at + 1].kind in ("name", "word"):
            path.append(self._text(at + 1))
            at += 2
        return tuple(path), at

    def _meaning(self, path: Path) -> Path:
        """Return what a path stands for: of `kong`, `ngx` or a module; hidden otherwise."""
        if path[0] == "_G" and len(path) > 1:
            path = path[1:]
        else:
            for scope in reversed(self._scopes):
                if path[0] in scope:
                    own = scope[path[0]]
                    return own if own == _HIDDEN else (*own, *path[1:])
        return path if path[0] in _ROOTS else _HIDDEN

    def _required(self, at: int) -> str | None:
        """Return the module of a call of `require` with a plain text."""
        if self._text(at) != "require" or (at and self._text(at - 1) in (".", ":")):
            return None
        argument = self._tokens[at + 1]
        if argument.text == "(" and self._text(at + 3) == ")":
            argument = self._tokens[at + 2]
        if argument.kind != "text":
            return None
        text = argument.text
        return text[1:-1] if text[0] in "\"'" else text[text.index("[", 1) + 1 : text.rindex("]", 0, -1)]
