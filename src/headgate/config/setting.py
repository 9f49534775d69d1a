"""A setting's declaration: name, kind, default and documentation in one place, as metadata of a dataclass field.

Owns `setting(...)`, used by the sections of this package, and `declared(section)`, from which the registry, the
environment names, the documentation page and `kong.configuration` are derived. No setting is described anywhere else.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from headgate.config.kinds import Kind

_KEY = "headgate.setting"


@dataclass(frozen=True)
class Setting:
    """One setting as declared: `attribute` is its field in the section, `default` its text (None: unset)."""

    name: str
    kind: Kind
    default: str | None
    doc: str
    aliases: tuple[str, ...]
    is_secret: bool
    attribute: str
    section: str

    @property
    def environment_name(self) -> str:
        """The environment variable that sets it."""
        return "HEADGATE_" + self.name.upper()


def setting(
    kind: Kind,
    default: str | None,
    doc: str,
    *,
    name: str | None = None,
    aliases: tuple[str, ...] = (),
    is_secret: bool = False,
) -> Any:
    """Declare a dataclass field as a setting.

    Args: `name` when the setting's public name differs from the field's (fields carry units); `aliases` are other
    public names, read when `name` itself is not given by the same source.
    """
    described = {"kind": kind, "default": default, "doc": doc, "name": name, "aliases": aliases, "is_secret": is_secret}
    return dataclasses.field(metadata={_KEY: described})


def declared(section: type) -> list[Setting]:
    """Return the settings of a section class in the order of their declaration."""
    found = []
    for field in dataclasses.fields(section):
        described = dict(field.metadata[_KEY])
        name = described.pop("name") or field.name
        found.append(Setting(name=name, attribute=field.name, section=section.__name__, **described))
    return found
