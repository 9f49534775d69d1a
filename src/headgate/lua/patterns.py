"""Lua patterns as Python expressions, for the checks of schemas. What has no equal (`%b`) is told."""

_CLASSES = {
    "a": "A-Za-z",
    "d": "0-9",
    "l": "a-z",
    "s": r"\t-\r ",
    "u": "A-Z",
    "w": "A-Za-z0-9",
    "x": "A-Fa-f0-9",
    "p": r"!-/:-@\[-`{-~",
    "c": r"\x00-\x1f\x7f",
    "g": "!-~",
    "z": r"\x00",
}
_QUANTIFIERS = {"*": "*", "+": "+", "-": "*?", "?": "?"}


class PatternError(ValueError):
    """A Lua pattern that is malformed or has no equal."""


def python_pattern(pattern: str) -> str:
    """Return the Python expression for a Lua pattern, to be searched for.

    Raises: PatternError.
    """
    result: list[str] = []
    position = 0
    if pattern.startswith("^"):
        result.append(r"\A")
        position = 1
    while position < len(pattern):
        character = pattern[position]
        if character == "$" and position == len(pattern) - 1:
            result.append(r"\Z")
            break
        if character in "()":
            result.append(character)
            position += 1
            continue
        if character == "%" and pattern[position + 1 : position + 2] == "b":
            raise PatternError("%b has no equal")
        if character == "%" and pattern[position + 1 : position + 2] == "f":
            body, position = _set(pattern, position + 2)
            result.append(
                f"(?<!{body})(?={body}|\\Z)" if not body.startswith("[^") else f"(?<!{body})(?:(?={body})|\\Z)"
            )
            continue
        if character == "%" and pattern[position + 1 : position + 2].isdigit():
            result.append(f"(?:\\{pattern[position + 1]})")
            position += 2
            continue
        single, position = _single(pattern, position)
        if pattern[position : position + 1] in _QUANTIFIERS:
            single += _QUANTIFIERS[pattern[position]]
            position += 1
        result.append(single)
    return "(?s:" + "".join(result) + ")"


def _single(pattern: str, position: int) -> tuple[str, int]:
    character = pattern[position]
    if character == ".":
        return ".", position + 1
    if character == "[":
        return _set(pattern, position)
    if character == "%":
        return _escaped(pattern, position)
    return _literal(character), position + 1


def _escaped(pattern: str, position: int) -> tuple[str, int]:
    letter = pattern[position + 1 : position + 2]
    if not letter:
        raise PatternError("malformed pattern (ends with '%')")
    members = _CLASSES.get(letter.lower())
    if members is None:
        return _literal(letter), position + 2
    return (f"[{members}]" if letter.islower() else f"[^{members}]"), position + 2


def _set(pattern: str, position: int) -> tuple[str, int]:
    position += 1
    members: list[str] = []
    is_negated = pattern[position : position + 1] == "^"
    if is_negated:
        position += 1
    is_first = True
    while True:
        if position >= len(pattern):
            raise PatternError("malformed pattern (missing ']')")
        character = pattern[position]
        if character == "]" and not is_first:
            break
        is_first = False
        if character == "%":
            letter = pattern[position + 1 : position + 2]
            if not letter:
                raise PatternError("malformed pattern (ends with '%')")
            known = _CLASSES.get(letter.lower())
            if known is None:
                members.append(_in_set(letter))
            elif letter.islower():
                members.append(known)
            else:
                members.append(_complement(known))
            position += 2
        elif pattern[position + 1 : position + 2] == "-" and pattern[position + 2 : position + 3] not in ("]", ""):
            members.append(f"{_in_set(character)}-{_in_set(pattern[position + 2])}")
            position += 3
        else:
            members.append(_in_set(character))
            position += 1
    return f"[{'^' if is_negated else ''}{''.join(members)}]", position + 1


def _complement(members: str) -> str:
    """Return the members of a class's complement, written out: sets cannot hold a negated set."""
    import re

    outside = re.compile(f"[^{members}]")
    return "".join(f"\\x{code:02x}" for code in range(256) if outside.fullmatch(chr(code)))


def _literal(character: str) -> str:
    import re

    return re.escape(character)


def _in_set(character: str) -> str:
    return "\\" + character if character in "\\]^-[&~|" else character
