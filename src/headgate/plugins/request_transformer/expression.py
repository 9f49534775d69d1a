"""The expressions inside `$(...)`: a small, safe part of Lua, parsed once when the configuration is loaded.

Owns names (`headers`, `query_params`, `uri_captures`, `shared`), indexing by `.name`, `["name"]` and `[1]`, string and
number literals, `true`, `false`, `nil`, `and`, `or`, `not`, `..` and comparisons, each with Lua's meaning. There are no
calls, loops or assignments: evaluating cannot run code, wait, or change anything.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Environment: TypeAlias = Mapping[str, Any]
Evaluator: TypeAlias = Callable[[Environment], Any]

NAMES = frozenset({"headers", "query_params", "uri_captures", "shared"})
_KEYWORDS = frozenset({"and", "or", "not", "true", "false", "nil"})
_DEEPEST_NESTING = 50

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<name>[A-Za-z_]\w*)
    | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    | (?P<symbol>\.\.|==|~=|<=|>=|[<>.\[\]()])
    )""",
    re.VERBOSE | re.ASCII,
)
_ESCAPE = re.compile(r"\\(\d{1,3}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


class ExpressionError(ValueError):
    """An expression that is not understood, or that cannot be evaluated for this request."""


def parse(text: str) -> Evaluator:
    """Return a function that evaluates `text` in an environment of `NAMES`.

    Raises: ExpressionError, with a reason a person can act on.
    """
    return _Parser(text).parse()


def is_true(value: Any) -> bool:
    """Tell whether Lua takes `value` for true: everything but nil and false."""
    return value is not None and value is not False


def text_of(value: Any) -> str:
    """Return `value` as Lua prints it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.14g}"
    return str(value)


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = _tokenize(text)
        self._position = 0
        self._depth = 0

    def parse(self) -> Evaluator:
        evaluator = self._or()
        kind, token = self._tokens[self._position]
        if kind != "end":
            raise ExpressionError(f"unexpected '{token}'")
        return evaluator

    def _accept(self, *symbols: str) -> str | None:
        kind, token = self._tokens[self._position]
        if kind in ("symbol", "keyword") and token in symbols:
            self._position += 1
            return token
        return None

    def _expect(self, symbol: str) -> None:
        if self._accept(symbol) is None:
            token = self._tokens[self._position][1]
            raise ExpressionError(f"'{symbol}' expected near '{token}'")

    def _or(self) -> Evaluator:
        self._depth += 1
        if self._depth > _DEEPEST_NESTING:
            raise ExpressionError("too deeply nested")
        left = self._and()
        while self._accept("or"):
            left = _either(left, self._and())
        self._depth -= 1
        return left

    def _and(self) -> Evaluator:
        left = self._comparison()
        while self._accept("and"):
            left = _both(left, self._comparison())
        return left

    def _comparison(self) -> Evaluator:
        left = self._concatenation()
        while operator := self._accept("==", "~=", "<", ">", "<=", ">="):
            left = _compared(operator, left, self._concatenation())
        return left

    def _concatenation(self) -> Evaluator:
        parts = [self._not()]
        while self._accept(".."):
            parts.append(self._not())
        return parts[0] if len(parts) == 1 else _concatenated(parts)

    def _not(self) -> Evaluator:
        negations = 0
        while self._accept("not"):
            negations += 1
        operand = self._indexed()
        if negations == 0:
            return operand
        is_odd = negations % 2 == 1
        return lambda environment: is_true(operand(environment)) is not is_odd

    def _indexed(self) -> Evaluator:
        value, description = self._operand()
        while opening := self._accept(".", "["):
            if opening == ".":
                kind, token = self._tokens[self._position]
                if kind != "name":
                    raise ExpressionError(f"name expected near '{token}'")
                self._position += 1
                key: Evaluator = _constant(token)
            else:
                key = self._or()
                self._expect("]")
            value = _index(value, key, description)
            description = "a field"
        return value

    def _operand(self) -> tuple[Evaluator, str]:
        kind, token = self._tokens[self._position]
        self._position += 1
        if kind == "string":
            return _constant(_unquoted(token)), "a string"
        if kind == "number":
            number = float(int(token, 16)) if token[:2] in ("0x", "0X") else float(token)
            return _constant(number), "a number"
        if kind == "keyword" and token in ("true", "false", "nil"):
            return _constant({"true": True, "false": False, "nil": None}[token]), token
        if kind == "name":
            if token not in NAMES:
                raise ExpressionError(f"unknown name '{token}' (only {', '.join(sorted(NAMES))})")
            return lambda environment: environment[token], f"'{token}'"
        if token == "(":
            inner = self._or()
            self._expect(")")
            return inner, "an expression"
        raise ExpressionError("unexpected end" if kind == "end" else f"unexpected '{token}'")


def _tokenize(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    position = 0
    end = len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            raise ExpressionError(f"unexpected '{text[position:].lstrip()[:1]}'")
        kind = str(match.lastgroup)
        token = match.group(kind)
        tokens.append(("keyword" if kind == "name" and token in _KEYWORDS else kind, token))
        position = match.end()
    tokens.append(("end", "<end>"))
    return tokens


def _unquoted(literal: str) -> str:
    def replace(match: re.Match[str]) -> str:
        escape = match.group(1)
        if escape.isdigit():
            if int(escape) > 255:
                raise ExpressionError(f"escape sequence '\\{escape}' is too large")
            return chr(int(escape))
        if escape[0] == "x" and len(escape) == 3:
            return chr(int(escape[1:], 16))
        return _ESCAPED.get(escape, escape)

    return _ESCAPE.sub(replace, literal[1:-1])


def _constant(value: Any) -> Evaluator:
    return lambda environment: value


def _either(left: Evaluator, right: Evaluator) -> Evaluator:
    def evaluate(environment: Environment) -> Any:
        value = left(environment)
        return value if is_true(value) else right(environment)

    return evaluate


def _both(left: Evaluator, right: Evaluator) -> Evaluator:
    def evaluate(environment: Environment) -> Any:
        value = left(environment)
        return right(environment) if is_true(value) else value

    return evaluate


def _concatenated(parts: list[Evaluator]) -> Evaluator:
    def evaluate(environment: Environment) -> str:
        texts = []
        for part in parts:
            value = part(environment)
            if isinstance(value, bool) or not isinstance(value, (str, int, float)):
                raise ExpressionError(f"attempt to concatenate a {_type_name(value)} value")
            texts.append(text_of(value))
        return "".join(texts)

    return evaluate


def _compared(operator: str, left: Evaluator, right: Evaluator) -> Evaluator:
    def evaluate(environment: Environment) -> bool:
        first, second = left(environment), right(environment)
        if operator in ("==", "~="):
            is_equal = _type_name(first) == _type_name(second) and first == second
            return is_equal is (operator == "==")
        types = {_type_name(first), _type_name(second)}
        if types not in ({"number"}, {"string"}):
            raise ExpressionError(f"attempt to compare {_type_name(first)} with {_type_name(second)}")
        if operator == "<":
            return bool(first < second)
        if operator == ">":
            return bool(first > second)
        return bool(first <= second) if operator == "<=" else bool(first >= second)

    return evaluate


def _index(value: Evaluator, key: Evaluator, description: str) -> Evaluator:
    def evaluate(environment: Environment) -> Any:
        table = value(environment)
        name = key(environment)
        if isinstance(table, str):
            return None
        if isinstance(table, list):
            is_position = isinstance(name, (int, float)) and float(name).is_integer() and 1 <= name <= len(table)
            return table[int(name) - 1] if is_position else None
        lookup = getattr(table, "get", None)
        if lookup is None:
            raise ExpressionError(f"attempt to index {description} (a {_type_name(table)} value)")
        return lookup(name)

    return evaluate


def _type_name(value: Any) -> str:
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return "string" if isinstance(value, str) else "table"
