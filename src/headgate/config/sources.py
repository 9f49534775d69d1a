"""Where settings come from: command line, environment, file; and which of them wins.

Owns the file syntax, the environment names and the order of precedence. Values stay text here; `load` parses them.
"""

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headgate.config.setting import Setting
from headgate.errors import SettingsError

DEFAULT_PATHS = (
    "/etc/headgate/headgate.conf",
    "/etc/headgate.conf",
    "/etc/kong/kong.conf",
    "/etc/kong.conf",
)
# Read by the processes themselves; not settings.
RESERVED_ENVIRONMENT = frozenset({"HEADGATE_READY_FD", "HEADGATE_DETACHED_FD"})
_COMMENT = re.compile(r"(?<!\\)#.*")


@dataclass
class Given:
    """The text of every name that some source gives; None is "explicitly unset"."""

    texts: dict[str, str | None] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def find_file(conf_path: str | None) -> Path | None:
    """Return the settings file to read: the given one, else the first default path that exists, else None.

    Raises: SettingsError when a given path does not exist.
    """
    if conf_path is not None:
        path = Path(conf_path).expanduser()
        if not path.is_file():
            raise SettingsError([f"no file at: {conf_path}"])
        return path.absolute()
    return next((Path(path) for path in DEFAULT_PATHS if os.path.isfile(path)), None)


def read_file(path: Path) -> tuple[dict[str, str], list[str]]:
    """Return the names and texts of a settings file, and warnings about lines that are no settings.

    Raises: SettingsError when the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"cannot read {path}: {error}"]) from None
    texts: dict[str, str] = {}
    warnings = []
    for number, line in enumerate(lines, start=1):
        stripped = _COMMENT.sub("", line).replace("\\#", "#").strip()
        if not stripped:
            continue
        name, equals, value = stripped.partition("=")
        if not equals:
            warnings.append(f"{path}:{number}: not a setting (name = value): {stripped}")
            continue
        texts[name.strip()] = value.strip()
    return texts, warnings


def gather(
    settings: list[Setting],
    file: Path | None,
    environment: Mapping[str, str],
    overrides: Mapping[str, str],
    is_known: "NameCheck",
) -> Given:
    """Merge all sources by precedence: command line, `HEADGATE_*`, `KONG_*`, file.

    An empty environment variable or file value unsets. An alias is read when the same source does not give the name
    itself.
    """
    given = Given()
    file_texts: Mapping[str, str] = {}
    if file is not None:
        file_texts, warnings = read_file(file)
        given.warnings += warnings
        given.warnings += [f"{file}: {text}" for text in _unknown(file_texts, settings, is_known)]
    own = {
        name.removeprefix("HEADGATE_").lower(): value
        for name, value in environment.items()
        if name.startswith("HEADGATE_") and name not in RESERVED_ENVIRONMENT
    }
    given.warnings += [
        text.replace("unknown setting ", "unknown environment variable HEADGATE_", 1)
        for text in _unknown(own, settings, is_known, for_environment=True)
    ]
    kong = {
        name.removeprefix("KONG_").lower(): value for name, value in environment.items() if name.startswith("KONG_")
    }
    sources = (("file", file_texts), ("KONG_", kong), ("HEADGATE_", own), ("command line", overrides))
    for origin, texts in sources:
        for declared in settings:
            for name in (*reversed(declared.aliases), declared.name):
                if name in texts:
                    given.texts[declared.name] = texts[name] or None
                    given.origins[declared.name] = origin
        known_names = {name for declared in settings for name in (declared.name, *declared.aliases)}
        for name, text in texts.items():
            if name not in known_names and text:
                given.texts.setdefault(name, text)
                given.origins[name] = origin
    return given


class NameCheck:
    """Tells names that mean something (settings, aliases, inert names) from unknown ones."""

    def __init__(self, settings: list[Setting], inert_reason: "dict[str, str]", prefixes: tuple[str, ...]) -> None:
        self.names = {name for declared in settings for name in (declared.name, *declared.aliases)} | set(inert_reason)
        self._prefixes = prefixes

    def __call__(self, name: str) -> bool:
        return name in self.names or name.startswith(self._prefixes)


def _unknown(
    texts: Mapping[str, str], settings: list[Setting], is_known: NameCheck, for_environment: bool = False
) -> list[str]:
    warnings = []
    for name in texts:
        if is_known(name):
            continue
        nearest = difflib.get_close_matches(name, sorted(is_known.names), n=1, cutoff=0.6)
        shown = name.upper() if for_environment else name
        hint = ""
        if nearest:
            hint = f" (did you mean {'HEADGATE_' + nearest[0].upper() if for_environment else nearest[0]}?)"
        warnings.append(f"unknown setting {shown}{hint}")
    return warnings
