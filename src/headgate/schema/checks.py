"""Checks that concern several fields of a record, with their texts and the form `/schemas` publishes.

A check sees the fields it names and nothing else. Its own text goes to the list `@entity` of the error tree; some also
put a text on a field. Which of them run when a field is absent or already faulty is part of the contract.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from headgate.errors import lua_style
from headgate.schema.spec import UNSET, FieldSpec, Pattern
from headgate.schema.validators import REQUIRED, compile_checks, null_fault

if TYPE_CHECKING:
    from headgate.schema.definition import Definition

ABSENT: Final[Any] = UNSET
NEEDED: Final = "field required for entity check"


class Scope(Protocol):
    """What a check may ask: values, definitions and faults of the record it belongs to."""

    is_update: bool

    def value(self, path: str) -> Any:
        """Return the value at a dotted path, `ABSENT` when it was not given."""

    def definition(self, path: str) -> "Definition | None":
        """Return the definition of the field at a dotted path."""

    def holds_reference(self, paths: tuple[str, ...]) -> bool:
        """Tell whether one of the fields is a vault reference in a field that may hold one."""

    def has_fault(self, path: str) -> bool:
        """Tell whether the field at a dotted path is already faulty."""

    def add_field_fault(self, path: str, text: Any) -> None:
        """Put a text on a field, unless it has one."""

    def add_entity_fault(self, text: str) -> None:
        """Add a text to the list `@entity`."""


class EntityCheck:
    """Base of all checks: decides whether to run, then runs."""

    paths: tuple[str, ...]
    runs_with_absent: bool
    runs_with_faulty: bool

    def check(self, scope: Scope) -> None:
        """Run on a record, unless a named field keeps it from running."""
        if scope.holds_reference(self.paths):
            return
        if scope.is_update and all(scope.value(path) is ABSENT for path in self.paths):
            return
        may_run = True
        if not self.runs_with_absent:
            for path in self.needed_paths():
                if scope.value(path) is ABSENT:
                    scope.add_field_fault(path, NEEDED + (" when updating" if scope.is_update else ""))
                    may_run = False
        if not self.runs_with_faulty and any(scope.has_fault(path) for path in self.paths):
            may_run = False
        if may_run:
            self.run(scope)

    def needed_paths(self) -> tuple[str, ...]:
        """Return the fields that must have been given for the check to run."""
        return self.paths

    def run(self, scope: Scope) -> None:
        """Check, and add the faults to `scope`."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any] | None:
        """Return the published form; None for what is not published."""
        raise NotImplementedError


def is_empty(value: Any) -> bool:
    """Tell whether a value counts as not given: absent, null, an empty text, list or object."""
    return value is ABSENT or value is None or value == "" or value == [] or value == {}


def quoted(names: Sequence[str]) -> str:
    """Return names as texts list them: `'a', 'b'`."""
    return ", ".join(f"'{name}'" for name in names)


@dataclass(frozen=True)
class _Counted(EntityCheck):
    """A check on how many of its fields are non-empty."""

    kind: str
    paths: tuple[str, ...]
    text: str
    accepts: Callable[[int, int], bool] = field(repr=False)
    runs_with_absent: bool = True
    runs_with_faulty: bool = True
    is_prefixed_on_update: bool = False

    def run(self, scope: Scope) -> None:
        given = sum(not is_empty(scope.value(path)) for path in self.paths)
        if not self.accepts(given, len(self.paths)):
            prefix = "when updating, " if scope.is_update and self.is_prefixed_on_update else ""
            scope.add_entity_fault(f"{prefix}{self.text}: {quoted(self.paths)}")

    def describe(self) -> dict[str, Any]:
        return {self.kind: list(self.paths)}


def at_least_one_of(*paths: str) -> EntityCheck:
    """Demand that one of the fields is non-empty."""
    return _Counted(
        "at_least_one_of",
        paths,
        "at least one of these fields must be non-empty",
        lambda given, total: given >= 1,
        is_prefixed_on_update=True,
    )


def only_one_of(*paths: str) -> EntityCheck:
    """Demand that exactly one of the fields is non-empty."""
    return _Counted(
        "only_one_of",
        paths,
        "exactly one of these fields must be non-empty",
        lambda given, total: given == 1,
        runs_with_absent=False,
    )


def mutually_required(*paths: str) -> EntityCheck:
    """Demand that all of the fields are non-empty or none."""
    return _Counted(
        "mutually_required",
        paths,
        "all or none of these fields must be set",
        lambda given, total: given in (0, total),
        runs_with_faulty=False,
    )


def mutually_exclusive(*paths: str) -> EntityCheck:
    """Demand that at most one of the fields is non-empty."""
    return _Counted(
        "mutually_exclusive",
        paths,
        "only one or none of these fields must be set",
        lambda given, total: given <= 1,
        runs_with_faulty=False,
    )


@dataclass(frozen=True)
class _Distinct(EntityCheck):
    paths: tuple[str, ...]
    runs_with_absent: bool = False
    runs_with_faulty: bool = True

    def run(self, scope: Scope) -> None:
        values = [value for path in self.paths if not is_empty(value := scope.value(path))]
        if any(value in values[:position] for position, value in enumerate(values)):
            scope.add_entity_fault(f"values of these fields must be distinct: {quoted(self.paths)}")

    def describe(self) -> dict[str, Any]:
        return {"distinct": list(self.paths)}


def distinct(*paths: str) -> EntityCheck:
    """Demand that the non-empty values of the fields differ."""
    return _Distinct(paths)


@dataclass(frozen=True)
class _ExclusiveSets(EntityCheck):
    first: tuple[str, ...]
    second: tuple[str, ...]
    runs_with_absent: bool = True
    runs_with_faulty: bool = False

    @property
    def paths(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.first + self.second

    def run(self, scope: Scope) -> None:
        touched = [[path for path in paths if not is_empty(scope.value(path))] for paths in (self.first, self.second)]
        if all(touched):
            scope.add_entity_fault(f"these sets are mutually exclusive: ({quoted(touched[0])}), ({quoted(touched[1])})")

    def describe(self) -> dict[str, Any]:
        return {"mutually_exclusive_sets": {"set1": list(self.first), "set2": list(self.second)}}


def mutually_exclusive_sets(first: Sequence[str], second: Sequence[str]) -> EntityCheck:
    """Demand that not both sets of fields have a non-empty member."""
    return _ExclusiveSets(tuple(first), tuple(second))


def _merged_spec(base: FieldSpec, match: Mapping[str, Any]) -> FieldSpec:
    given: dict[str, Any] = {}
    for key, value in match.items():
        if key in ("type", "elements", "keys", "values"):
            continue
        if key == "match_any":
            value = (tuple(Pattern(item) for item in value["patterns"]), value.get("err"))
        given[key] = value
    return base.merged(FieldSpec(**given))


_Matcher = Callable[[Any], Any]
_matchers: Final[dict[tuple[int, int], tuple[Any, Any, _Matcher]]] = {}


def _fault_of(definition: "Definition | None", match: Mapping[str, Any], value: Any) -> Any:
    """Return the fault of a value against its definition with the attributes of `match` on top."""
    key = (id(definition), id(match))
    known = _matchers.get(key)
    if known is None:
        # The two objects are kept with the function, so that their ids stay theirs.
        known = _matchers[key] = (definition, match, _compiled_matcher(definition, match))
    return known[2](value)


def _compiled_matcher(definition: "Definition | None", match: Mapping[str, Any]) -> _Matcher:
    spec = _merged_spec(definition.spec if definition is not None else FieldSpec(), match)
    check = compile_checks(spec, definition.kind if definition is not None else "any")
    null_text = null_fault(spec)
    element_check: Callable[[Any], str | None] | None = None
    if "elements" in match:
        is_list = definition is not None and definition.elements is not None
        element_spec = definition.elements.spec if is_list else FieldSpec()  # type: ignore[union-attr]
        element_check = compile_checks(_merged_spec(element_spec, match["elements"]), "any")

    def run(value: Any) -> Any:
        if value is None or value is ABSENT:
            return null_text
        try:
            if element_check is not None and isinstance(value, (list, tuple)):
                faults = [element_check(item) for item in value]
                if any(text is not None for text in faults):
                    return faults
            return check(value) if check is not None else None
        except TypeError:
            # A value of the wrong type has a fault of its own; it matches nothing.
            return REQUIRED

    return run


@dataclass(frozen=True)
class _Conditional(EntityCheck):
    if_field: str
    if_match: Mapping[str, Any]
    then_field: str
    then_match: Mapping[str, Any]
    then_err: str | None = None
    runs_with_absent: bool = False
    runs_with_faulty: bool = True

    @property
    def paths(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.if_field, self.then_field)

    def needed_paths(self) -> tuple[str, ...]:
        return (self.if_field,)

    def run(self, scope: Scope) -> None:
        if _fault_of(scope.definition(self.if_field), self.if_match, scope.value(self.if_field)) is not None:
            return
        then_value = scope.value(self.then_field)
        text = _fault_of(scope.definition(self.then_field), self.then_match, then_value)
        if text is None:
            return
        scope.add_field_fault(self.then_field, text)
        if text == REQUIRED or self.then_err is None:
            scope.add_entity_fault(f"failed conditional validation given value of field '{self.if_field}'")
        else:
            scope.add_entity_fault(self.then_err.replace("%s", self.if_field))

    def describe(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "if_field": self.if_field,
            "if_match": dict(self.if_match),
            "then_field": self.then_field,
            "then_match": dict(self.then_match),
        }
        if self.then_err is not None:
            body["then_err"] = self.then_err
        return {"conditional": body}


def conditional(
    if_field: str,
    *,
    if_match: Mapping[str, Any],
    then_field: str,
    then_match: Mapping[str, Any],
    then_err: str | None = None,
) -> EntityCheck:
    """Demand that `then_field` passes `then_match` whenever `if_field` passes `if_match`.

    Both matches are field attributes by name (`eq`, `one_of`, `match`, `required`, `elements` …). `then_err` replaces
    the text in `@entity`, its `%s` is `if_field`.
    """
    return _Conditional(if_field, if_match, then_field, then_match, then_err)


@dataclass(frozen=True)
class _ConditionalAtLeastOneOf(EntityCheck):
    if_field: str
    if_match: Mapping[str, Any]
    then_paths: tuple[str, ...]
    then_err: str | None
    else_match: Mapping[str, Any] | None
    else_paths: tuple[str, ...]
    else_err: str | None
    runs_with_absent: bool = True
    runs_with_faulty: bool = True

    @property
    def paths(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.if_field, *self.then_paths, *self.else_paths)

    def run(self, scope: Scope) -> None:
        value = scope.value(self.if_field)
        if value is ABSENT:
            return
        definition = scope.definition(self.if_field)
        if _fault_of(definition, self.if_match, value) is None:
            self._demand(scope, self.then_paths, self.then_err)
        elif self.else_match is not None and _fault_of(definition, self.else_match, value) is None:
            self._demand(scope, self.else_paths, self.else_err)

    @staticmethod
    def _demand(scope: Scope, paths: tuple[str, ...], err: str | None) -> None:
        if any(not is_empty(scope.value(path)) for path in paths):
            return
        prefix = "when updating, " if scope.is_update else ""
        text = (
            err.replace("%s", quoted(paths))
            if err
            else (f"at least one of these fields must be non-empty: {quoted(paths)}")
        )
        scope.add_entity_fault(prefix + text)

    def describe(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "if_field": self.if_field,
            "if_match": dict(self.if_match),
            "then_at_least_one_of": list(self.then_paths),
        }
        if self.then_err is not None:
            body["then_err"] = self.then_err
        if self.else_match is not None:
            body["else_match"] = dict(self.else_match)
            body["else_then_at_least_one_of"] = list(self.else_paths)
            if self.else_err is not None:
                body["else_then_err"] = self.else_err
        return {"conditional_at_least_one_of": body}


def conditional_at_least_one_of(
    if_field: str,
    *,
    if_match: Mapping[str, Any],
    then_at_least_one_of: Sequence[str],
    then_err: str | None = None,
    else_match: Mapping[str, Any] | None = None,
    else_then_at_least_one_of: Sequence[str] = (),
    else_then_err: str | None = None,
) -> EntityCheck:
    """Demand one of a list of fields by the value of `if_field`; `%s` in the texts is the quoted list."""
    return _ConditionalAtLeastOneOf(
        if_field,
        if_match,
        tuple(then_at_least_one_of),
        then_err,
        else_match,
        tuple(else_then_at_least_one_of),
        else_then_err,
    )


@dataclass(frozen=True)
class _Custom(EntityCheck):
    paths: tuple[str, ...]
    function: Callable[[dict[str, Any]], Any]
    runs_with_absent: bool
    runs_with_faulty: bool
    is_published: bool

    def run(self, scope: Scope) -> None:
        entity: dict[str, Any] = {}
        for path in self.paths:
            if "." not in path:
                entity[path] = None if (value := scope.value(path)) is ABSENT else value
                continue
            *parents, last = path.split(".")
            target = entity
            for parent in parents:
                target = target.setdefault(parent, {})
            value = scope.value(path)
            target[last] = None if value is ABSENT else value
        result = self.function(entity)
        if isinstance(result, Mapping):
            for path, text in result.items():
                if path == "@entity":
                    for item in [text] if isinstance(text, str) else text:
                        scope.add_entity_fault(item)
                else:
                    scope.add_field_fault(path, text)
        elif result is False:
            scope.add_entity_fault(f"failed entity check: custom_entity_check({lua_style(self._arguments())})")
        elif result is not None and result is not True:
            scope.add_entity_fault(str(result))

    def _arguments(self) -> dict[str, Any]:
        body: dict[str, Any] = {"field_sources": list(self.paths)}
        if self.runs_with_absent:
            body["run_with_missing_fields"] = True
        if self.runs_with_faulty:
            body["run_with_invalid_fields"] = True
        return body

    def describe(self) -> dict[str, Any] | None:
        return {"custom_entity_check": self._arguments()} if self.is_published else None


def custom(
    paths: Sequence[str],
    function: Callable[[dict[str, Any]], Any],
    *,
    run_with_missing_fields: bool = False,
    run_with_invalid_fields: bool = False,
    is_published: bool = True,
) -> EntityCheck:
    """Check with a function that gets only the named fields, with the nesting of their paths.

    The function returns None or True when all is well, the text of the fault, False for a general text, or a mapping of
    field paths (and `@entity`) to texts.
    """
    return _Custom(tuple(paths), function, run_with_missing_fields, run_with_invalid_fields, is_published)
