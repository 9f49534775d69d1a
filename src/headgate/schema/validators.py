"""The checks of one value, in their fixed order, with the contract's texts.

Owns the order and the wording. Types are checked before (`definition`); what concerns several fields is in `checks`.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from headgate.schema.spec import UNSET, FieldSpec, Pattern

Check = Callable[[Any], str | None]

_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_REFERENCE: Final = re.compile(r"\{vault://[^}]+\}", re.DOTALL)

REQUIRED: Final = "required field missing"
UNKNOWN: Final = "unknown field"


def is_vault_reference(value: Any) -> bool:
    """Tell whether the whole of `value` is a `{vault://…}` reference."""
    return isinstance(value, str) and value.startswith("{vault://") and _REFERENCE.fullmatch(value) is not None


def is_uuid(value: Any) -> bool:
    """Tell whether `value` is a UUID in its 36-character form, of any version and case."""
    return isinstance(value, str) and _UUID.fullmatch(value) is not None


def shown(value: Any) -> str:
    """Return `value` as texts print it: null, true, numbers without a useless fraction."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def length(value: Any) -> int:
    """Return the length the contract counts: bytes of a text, items of a list or map."""
    return len(value.encode("utf-8", "surrogatepass")) if isinstance(value, str) else len(value)


def compile_checks(spec: FieldSpec, kind: str) -> Callable[[Any], str | None] | None:
    """Return one function that gives the text of the first check a value fails, or None when there is no check.

    `kind` is the contract's type name; texts of kind `string` get `len_min` 1 unless something else was said.
    """
    checks: list[Callable[[Any], str | None]] = []
    for name, build in _BUILDERS:
        argument = getattr(spec, name)
        if name == "len_min" and argument is UNSET and kind == "string":
            argument = 1
        is_off = argument is False and name not in ("eq", "ne")
        if argument is UNSET or is_off or (name == "len_min" and argument == 0):
            continue
        checks.append(build(argument))
    if not checks:
        return None
    override = None if spec.err is UNSET else str(spec.err)
    if len(checks) == 1 and override is None:
        return checks[0]

    def run(value: Any) -> str | None:
        for check in checks:
            text = check(value)
            if text is not None:
                return text if override is None else override
        return None

    return run


def null_fault(spec: FieldSpec) -> str | None:
    """Return the fault of a null in a field that may be null but says `eq` or `ne`."""
    if spec.ne is None:
        return "value must not be null" if spec.err is UNSET else str(spec.err)
    if spec.eq is not UNSET and spec.eq is not None:
        return f"value must be {shown(spec.eq)}"
    return REQUIRED if spec.required is True else None


def _same(value: Any, wanted: Any) -> bool:
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)


def _eq(wanted: Any) -> Check:
    return lambda value: None if _same(value, wanted) else f"value must be {shown(wanted)}"


def _ne(unwanted: Any) -> Check:
    return lambda value: f"value must not be {shown(unwanted)}" if _same(value, unwanted) else None


def _one_of(allowed: Sequence[Any]) -> Check:
    text = "expected one of: " + ", ".join(shown(item) for item in allowed)
    members = frozenset(allowed)
    return lambda value: None if value in members else text


def _not_one_of(refused: Sequence[Any]) -> Check:
    text = "must not be one of: " + ", ".join(shown(item) for item in refused)
    members = frozenset(refused)
    return lambda value: text if value in members else None


def _gt(limit: float) -> Check:
    text = f"value must be greater than {shown(limit)}"
    return lambda value: None if value > limit else text


def _timestamp(_: bool) -> Check:
    return lambda value: None if value > 0 else "expected a valid timestamp"


def _uuid(_: bool) -> Check:
    return lambda value: None if is_uuid(value) else "expected a valid UUID"


def _is_regex(_: bool) -> Check:
    def check(value: str) -> str | None:
        # The syntax of PCRE, as far as this library has it; imported with the first such field.
        import regex

        try:
            regex.compile(value)
        except (regex.error, OverflowError, RecursionError):
            return f"not a valid regex: {value}"
        return None

    return check


def _between(bounds: Sequence[float]) -> Check:
    low, high = bounds
    text = f"value should be between {int(low)} and {int(high)}"
    return lambda value: None if low <= value <= high else text


def _len_eq(wanted: int) -> Check:
    return lambda value: None if length(value) == wanted else f"length must be {wanted}"


def _len_min(wanted: int) -> Check:
    text = f"length must be at least {wanted}"
    if wanted == 1:
        return lambda value: None if value else text
    return lambda value: None if length(value) >= wanted else text


def _len_max(wanted: int) -> Check:
    return lambda value: None if length(value) <= wanted else f"length must be at most {wanted}"


def _starts_with(prefix: str) -> Check:
    return lambda value: None if value.startswith(prefix) else f"should start with: {prefix}"


def _match(pattern: str | Pattern) -> Check:
    search = re.compile(str(getattr(pattern, "python", pattern))).search
    return lambda value: None if search(value) else f"invalid value: {value}"


def _not_match(pattern: str | Pattern) -> Check:
    search = re.compile(str(getattr(pattern, "python", pattern))).search
    return lambda value: f"invalid value: {value}" if search(value) else None


def _match_list(patterns: Sequence[Pattern], *, is_wanted: bool) -> Check:
    compiled = [(re.compile(item.python).search, item.err) for item in patterns]

    def check(value: str) -> str | None:
        for search, err in compiled:
            if (search(value) is not None) != is_wanted:
                return err if err is not None else f"invalid value: {value}"
        return None

    return check


def _match_any(argument: tuple[Sequence[Pattern], str | None]) -> Check:
    patterns, err = argument
    searches = [re.compile(item.python).search for item in patterns]

    def check(value: str) -> str | None:
        if any(search(value) for search in searches):
            return None
        return err if err is not None else f"invalid value: {value}"

    return check


def _contains(wanted: Any) -> Check:
    return lambda value: None if wanted in value else f"expected to contain: {shown(wanted)}"


def _custom(function: Callable[[Any], Any]) -> Check:
    def check(value: Any) -> str | None:
        text = function(value)
        if text is None or text is True:
            return None
        return f"failed validating: {shown(value)}" if text is False else text

    return check


def _subsets(subsets: Sequence[Sequence[str]]) -> Check:
    def check(value: Sequence[str]) -> str | None:
        touched = [subset for subset in subsets if any(item in subset for item in value)]
        if len(touched) < 2:
            return None
        return "these sets are mutually exclusive: " + ", ".join(
            "(" + ", ".join(f"'{item}'" for item in subset) + ")" for subset in touched
        )

    return check


_BUILDERS: Final[tuple[tuple[str, Callable[[Any], Check]], ...]] = (
    ("eq", _eq),
    ("ne", _ne),
    ("not_one_of", _not_one_of),
    ("one_of", _one_of),
    ("gt", _gt),
    ("timestamp", _timestamp),
    ("uuid", _uuid),
    ("is_regex", _is_regex),
    ("between", _between),
    ("len_eq", _len_eq),
    ("len_min", _len_min),
    ("len_max", _len_max),
    ("starts_with", _starts_with),
    ("not_match", _not_match),
    ("match_none", lambda patterns: _match_list(patterns, is_wanted=False)),
    ("match", _match),
    ("match_all", lambda patterns: _match_list(patterns, is_wanted=True)),
    ("match_any", _match_any),
    ("contains", _contains),
    ("validator", _custom),
    ("mutually_exclusive_subsets", _subsets),
)
VALIDATOR_NAMES: Final = tuple(name for name, _ in _BUILDERS)
