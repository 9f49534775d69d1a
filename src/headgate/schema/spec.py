"""What an author says about one field: `field(...)`, `shorthand(...)` and the frozen records behind them.

Owns the vocabulary of field attributes and how two declarations of one field merge (a shared type and the field that
uses it). It does not check values (`validators`) and does not know types (`definition`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from pydantic import Field
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined


class _Unset:
    def __repr__(self) -> str:
        return "UNSET"

    def __bool__(self) -> bool:
        return False


UNSET: Final[Any] = _Unset()


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern in both spellings: `python` decides, `lua` is what clients of `/schemas` read.

    Leave `lua` out when both spell it alike.
    """

    python: str
    lua: str | None = None
    err: str | None = None

    @property
    def published(self) -> str:
        """The spelling that `/schemas` shows."""
        return self.lua if self.lua is not None else self.python


@dataclass(frozen=True, slots=True)
class Deprecation:
    """Why a field should not be used any more: using it draws a warning, and nothing else.

    `old_default`: the value that draws none, because every stored configuration has it.
    """

    message: str
    removal_in_version: str | None = None
    old_default: Any = UNSET
    replaced_with: tuple[str, ...] = ()

    def warning(self, value: Any) -> str | None:
        """Return what to log when the field has this value."""
        if value is None or (self.old_default is not UNSET and value == self.old_default):
            return None
        return self.message + (f" (deprecated after {self.removal_in_version})" if self.removal_in_version else "")

    def describe(self) -> dict[str, Any]:
        """Return the published form."""
        body: dict[str, Any] = {"message": self.message}
        if self.removal_in_version is not None:
            body["removal_in_version"] = self.removal_in_version
        if self.old_default is not UNSET:
            body["old_default"] = self.old_default
        if self.replaced_with:
            body["replaced_with"] = [{"path": list(self.replaced_with)}]
        return body


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSpec:
    """All attributes of a field; `UNSET` where nothing was said."""

    eq: Any = UNSET
    ne: Any = UNSET
    not_one_of: Any = UNSET
    one_of: Any = UNSET
    gt: Any = UNSET
    timestamp: Any = UNSET
    uuid: Any = UNSET
    is_regex: Any = UNSET
    between: Any = UNSET
    len_eq: Any = UNSET
    len_min: Any = UNSET
    len_max: Any = UNSET
    starts_with: Any = UNSET
    not_match: Any = UNSET
    match_none: Any = UNSET
    match: Any = UNSET
    lua_pattern: Any = UNSET
    match_all: Any = UNSET
    match_any: Any = UNSET
    contains: Any = UNSET
    validator: Any = UNSET
    mutually_exclusive_subsets: Any = UNSET
    err: Any = UNSET
    required: Any = UNSET
    unique: Any = UNSET
    unique_across_workspaces: Any = UNSET
    auto: Any = UNSET
    immutable: Any = UNSET
    referenceable: Any = UNSET
    encrypted: Any = UNSET
    transient: Any = UNSET
    json_schema: Any = UNSET
    set_: Any = UNSET
    elements: Any = UNSET
    keys: Any = UNSET
    values: Any = UNSET
    reference: Any = UNSET
    on_delete: Any = UNSET
    kind: Any = UNSET
    show_default: Any = UNSET
    schema_extra: Any = UNSET
    is_published: Any = UNSET
    description: Any = UNSET
    examples: Any = UNSET
    deprecation: Any = UNSET

    def merged(self, other: "FieldSpec") -> "FieldSpec":
        """Return this declaration with what `other` says on top."""
        changes = {name: value for name in _NAMES if (value := getattr(other, name)) is not UNSET}
        return replace(self, **changes) if changes else self

    def is_set(self, name: str) -> bool:
        """Tell whether the attribute was given."""
        return getattr(self, name) is not UNSET


_NAMES: Final = tuple(item.name for item in fields(FieldSpec))
EMPTY_SPEC: Final = FieldSpec()


def field(
    default: Any = PydanticUndefined,
    *,
    default_factory: Callable[[], Any] | None = None,
    name: str | None = None,
    one_of: Any = UNSET,
    not_one_of: Any = UNSET,
    between: Any = UNSET,
    gt: Any = UNSET,
    eq: Any = UNSET,
    ne: Any = UNSET,
    len_eq: Any = UNSET,
    len_min: Any = UNSET,
    len_max: Any = UNSET,
    match: Any = UNSET,
    lua_pattern: Any = UNSET,
    not_match: Any = UNSET,
    match_all: Any = UNSET,
    match_any: Any = UNSET,
    match_none: Any = UNSET,
    starts_with: Any = UNSET,
    contains: Any = UNSET,
    is_regex: Any = UNSET,
    uuid: Any = UNSET,
    timestamp: Any = UNSET,
    validator: Any = UNSET,
    mutually_exclusive_subsets: Any = UNSET,
    err: Any = UNSET,
    required: Any = UNSET,
    unique: Any = UNSET,
    unique_across_workspaces: Any = UNSET,
    auto: Any = UNSET,
    immutable: Any = UNSET,
    referenceable: Any = UNSET,
    encrypted: Any = UNSET,
    transient: Any = UNSET,
    json_schema: Any = UNSET,
    set_: Any = UNSET,
    elements: Any = UNSET,
    keys: Any = UNSET,
    values: Any = UNSET,
    reference: Any = UNSET,
    on_delete: Any = UNSET,
    show_default: Any = UNSET,
    schema_extra: Any = UNSET,
    is_published: Any = UNSET,
    description: Any = UNSET,
    examples: Any = UNSET,
    deprecation: Deprecation | Any = UNSET,
) -> Any:
    """Declare a field of a record: its default, its checks and what the platform should know about it.

    Args:
        default, default_factory: value when the field is missing; neither: the field must be given. An explicit null
            stays null and is refused unless the annotation has `| None`.
        name: the field's name in documents, when it cannot be the attribute's name (`x5t#S256`, a keyword).
        match: Python regular expression, searched for; `lua_pattern` is the text `/schemas` shows for it.
        match_all, match_none: sequence of `Pattern` with their own `err`; match_any: (sequence of `Pattern`, err).
        validator: function(value) that returns the text of the fault, or None.
        err: text that replaces that of every check (not of type and required faults).
        elements, keys, values: `field(...)` for what a list or map holds.
        transient: accepted and checked, for `transformations` to use, and not stored; needs a default.
        json_schema: the field holds any JSON that passes this JSON Schema, or the one a `NamedJsonSchema` finds.
        set_: the list drops duplicates and is published as a set.
        reference, on_delete: the field is a foreign key to that entity type.
        deprecation: a `Deprecation`: the field still works, and its use is logged.
        schema_extra: further members of the published schema; is_published: False shows an empty entry in its place.
    Source: custom-plugin reference, sections 4 to 8.
    """
    given = {key: value for key, value in locals().items() if key in _NAMES and value is not UNSET}
    for nested in ("elements", "keys", "values"):
        if nested in given:
            given[nested] = spec_of(given[nested])
    options: dict[str, Any] = {}
    if name is not None:
        options["alias"] = name
    if default_factory is not None:
        info: FieldInfo = Field(default_factory=default_factory, **options)
    else:
        info = Field(default, **options)
    info.metadata.append(FieldSpec(**given))
    return info


def spec_of(declaration: Any) -> FieldSpec:
    """Return the attributes that `field(...)` recorded; nothing for what it did not make."""
    if isinstance(declaration, FieldSpec):
        return declaration
    if isinstance(declaration, FieldInfo):
        for item in declaration.metadata:
            if isinstance(item, FieldSpec):
                return item
    return EMPTY_SPEC


@dataclass(frozen=True, slots=True)
class Shorthand:
    """A field that is accepted on input only and stored under another name.

    `function` turns the value into members of the same record; without it the value goes to the path `replaced_with`.
    With `deprecation` the real field wins, and both given with different values is a fault. `backwards` gives the value
    of the old name back from the record, for answers; without it that is what stands at `replaced_with`.
    """

    name: str
    type: Any
    spec: FieldSpec = EMPTY_SPEC
    replaced_with: tuple[str, ...] = ()
    deprecation: Deprecation | None = None
    function: Callable[[Any], Mapping[str, Any]] | None = None
    backwards: tuple[str, ...] | Callable[[Mapping[str, Any]], Any] | None = None

    @property
    def is_deprecated(self) -> bool:
        """Tell whether its use draws a warning."""
        return self.deprecation is not None

    @property
    def is_shown(self) -> bool:
        """Tell whether answers have the name again."""
        return self.backwards is not None or (self.is_deprecated and bool(self.replaced_with))

    @property
    def new_path(self) -> tuple[str, ...]:
        """The path of the field that takes its place; empty when there is none."""
        return self.replaced_with or (self.backwards if isinstance(self.backwards, tuple) else ())

    def members(self, value: Any) -> Mapping[str, Any]:
        """Return what `value` stands for, as members of the record."""
        if self.function is not None:
            return self.function(value)
        nested: Any = value
        for key in reversed(self.replaced_with):
            nested = {key: nested}
        return dict(nested)

    def shown_in(self, record: Mapping[str, Any]) -> Any:
        """Return the value of the old name that a stored record stands for."""
        if callable(self.backwards):
            return self.backwards(record)
        current: Any = record
        for key in self.backwards or self.replaced_with:
            current = current.get(key) if isinstance(current, Mapping) else None
        return current


def shorthand(
    name: str,
    type: Any,  # noqa: A002 - the word of the schema language
    *,
    replaced_with: tuple[str, ...] = (),
    message: str | None = None,
    removal_in_version: str | None = None,
    old_default: Any = UNSET,
    function: Callable[[Any], Mapping[str, Any]] | None = None,
    translate_backwards: tuple[str, ...] | Callable[[Mapping[str, Any]], Any] | None = None,
    **attributes: Any,
) -> Shorthand:
    """Declare an input-only field of a record; see `Shorthand`. `attributes` are those of `field`.

    With `message` it is deprecated; `old_default` is the value that draws no warning. `translate_backwards` (a path or
    a function of the record) is what answers show under the name.
    """
    if not replaced_with and function is None:
        raise TypeError(f"shorthand {name!r} needs replaced_with or function")
    deprecation = (
        None if message is None else Deprecation(message, removal_in_version, old_default, tuple(replaced_with))
    )
    spec = spec_of(field(None, **attributes))
    return Shorthand(name, type, spec, tuple(replaced_with), deprecation, function, translate_backwards)
