"""The five operations on named values, in their order: remove, rename, replace, add, append."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headgate.plugins.request_transformer.template import RequestEnvironment, Template


@dataclass(frozen=True, slots=True)
class Rendered:
    """The operations of one target with their values for one request."""

    remove: Sequence[str]
    rename: Sequence[tuple[str, str]]
    replace: Sequence[tuple[str, str]]
    add: Sequence[tuple[str, str]]
    append: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Operations:
    """The operations of one target (headers, query string or body) as configured."""

    remove: tuple[str, ...]
    rename: tuple[tuple[str, Template], ...]
    replace: tuple[tuple[str, Template], ...]
    add: tuple[tuple[str, Template], ...]
    append: tuple[tuple[str, Template], ...]

    def __bool__(self) -> bool:
        return bool(self.remove or self.rename or self.replace or self.add or self.append)

    @property
    def has_expressions(self) -> bool:
        """Whether any value depends on the request."""
        pairs = (*self.rename, *self.replace, *self.add, *self.append)
        return any(not template.is_constant for _, template in pairs)

    def render(self, environment: RequestEnvironment) -> Rendered:
        """Return the operations with their values.

        Raises: ExpressionError.
        """
        return Rendered(
            self.remove,
            [(name, template.render(environment)) for name, template in self.rename],
            [(name, template.render(environment)) for name, template in self.replace],
            [(name, template.render(environment)) for name, template in self.add],
            [(name, template.render(environment)) for name, template in self.append],
        )


def split_entry(entry: str) -> tuple[str, str]:
    """Split `name:value` at the first colon or run of colons; the value is empty when there is none."""
    name, _, value = entry.partition(":")
    return name, value.lstrip(":")


def edit_fields(fields: dict[str, Any], rendered: Rendered) -> dict[str, Any]:
    """Return query arguments, form fields or top-level JSON keys after the operations; `fields` stays as it is."""
    edited = dict(fields)
    for name in rendered.remove:
        edited.pop(name, None)
    for old, new in rendered.rename:
        if old in edited:
            edited[new] = edited.pop(old)
    for name, value in rendered.replace:
        if name in edited:
            edited[name] = value
    for name, value in rendered.add:
        if name not in edited:
            edited[name] = value
    for name, value in rendered.append:
        present = edited.get(name)
        if present is None:
            edited[name] = [value]
        else:
            edited[name] = [*present, value] if isinstance(present, list) else [present, value]
    return edited
