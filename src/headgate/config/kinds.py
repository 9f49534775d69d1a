"""Kinds of setting values: how a text is parsed, what is wrong with it, and how `kong.configuration` shows it.

Owns the syntax of values (reference: configuration 1) and nothing about single settings; the sections of this package
say which setting is of which kind. `parse` raises `ValueError` whose text is the whole fault, with the setting's name.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

_SIZE = re.compile(r"(\d+)([kKmMgG]?)")
_SIZE_UNIT_BYTES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_TIME = re.compile(r"(\d+)(ms|s|m|h|d|w|)")
_TIME_UNIT_MS = {"ms": 1, "": 1000, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


class Kind(Protocol):
    """One syntax of values."""

    @property
    def label(self) -> str:
        """What the documentation calls this kind."""

    def parse(self, name: str, text: str) -> Any:
        """Return the value of `text`; ValueError with the whole fault."""

    def show(self, text: str) -> Any:
        """Return the JSON form that `kong.configuration` and the Admin API give."""


def split_list(text: str) -> list[str]:
    """Split a comma-separated list; parts are trimmed, empty ones dropped."""
    return [part for part in (part.strip() for part in text.split(",")) if part]


@dataclass(frozen=True)
class Text:
    """Any text."""

    label: str = "string"

    def parse(self, name: str, text: str) -> str:
        return text

    def show(self, text: str) -> str:
        return text


@dataclass(frozen=True)
class Boolean:
    """`on` and `true` are true, anything else is false."""

    label: str = "boolean"

    def parse(self, name: str, text: str) -> bool:
        return text.lower() in ("on", "true")

    def show(self, text: str) -> bool:
        return self.parse("", text)


@dataclass(frozen=True)
class Switch:
    """A boolean that is shown as `on` or `off`, as the nginx directives are."""

    label: str = "on or off"

    def parse(self, name: str, text: str) -> bool:
        return text.lower() in ("on", "true")

    def show(self, text: str) -> str:
        return "on" if self.parse("", text) else "off"


@dataclass(frozen=True)
class Number:
    """A number, by default a whole one, within bounds."""

    minimum: float | None = None
    maximum: float | None = None
    is_whole: bool = True
    label: str = "number"

    def parse(self, name: str, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"{name} is not a number: '{text}'") from None
        if self.is_whole:
            if not value.is_integer():
                raise ValueError(f"{name} is not a whole number: '{text}'")
            value = int(value)
        if self.minimum is not None and self.maximum is not None and not self.minimum <= value <= self.maximum:
            raise ValueError(f"{name} must be an integer between {self.minimum} and {self.maximum}")
        if self.minimum is not None and value < self.minimum:
            raise ValueError(f"{name} must be {self.minimum} or greater")
        return value

    def show(self, text: str) -> float:
        return self.parse("", text)


@dataclass(frozen=True)
class AutoNumber:
    """A whole number from 1, or `auto` (shown as such, parsed to 0)."""

    label: str = "number or auto"

    def parse(self, name: str, text: str) -> int:
        if text == "auto":
            return 0
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"{name} is not a number: '{text}' (give a number from 1, or auto)") from None
        if value < 1:
            raise ValueError(f"{name} must be 1 or greater, or auto")
        return value

    def show(self, text: str) -> str:
        return text


@dataclass(frozen=True)
class Choice:
    """One of a fixed set of words."""

    words: tuple[str, ...]
    label: str = "choice"

    def parse(self, name: str, text: str) -> str:
        if text not in self.words:
            raise ValueError(f"{name} has an invalid value: '{text}' ({', '.join(self.words)})")
        return text

    def show(self, text: str) -> str:
        return text


@dataclass(frozen=True)
class Array:
    """A comma-separated list."""

    label: str = "array"

    def parse(self, name: str, text: str) -> tuple[str, ...]:
        return tuple(split_list(text))

    def show(self, text: str) -> list[str]:
        return split_list(text)


@dataclass(frozen=True)
class ChoiceArray:
    """A comma-separated list of words out of a fixed set, compared without regard to case."""

    words: tuple[str, ...]
    label: str = "array"

    def parse(self, name: str, text: str) -> tuple[str, ...]:
        parts = split_list(text)
        for part in parts:
            if part.lower() not in self.words:
                raise ValueError(f"{name}: invalid entry '{part}'")
        return tuple(part.lower() for part in parts)

    def show(self, text: str) -> list[str]:
        return split_list(text)


@dataclass(frozen=True)
class Networks:
    """A list of IP addresses and CIDR ranges; `unix:` is refused, as there are no unix-socket listeners."""

    label: str = "array of IP or CIDR"

    def parse(self, name: str, text: str) -> tuple[str, ...]:
        networks = []
        for part in split_list(text):
            if part == "unix:":
                raise ValueError(f"{name}: 'unix:' cannot be used, there are no unix-socket listeners; remove it")
            try:
                networks.append(str(ipaddress.ip_network(part, strict=False)))
            except ValueError:
                raise ValueError(f"{name}: '{part}' is not a valid IP address or CIDR range") from None
        return tuple(networks)

    def show(self, text: str) -> list[str]:
        return split_list(text)


@dataclass(frozen=True)
class PortMaps:
    """A list of `outside:listening` port pairs."""

    label: str = "array of outside:inside"

    def parse(self, name: str, text: str) -> tuple[tuple[int, int], ...]:
        pairs = []
        for part in split_list(text):
            outside, colon, inside = part.partition(":")
            if not colon or not outside.isdigit() or not inside.isdigit():
                raise ValueError(f"invalid port mapping (`{name}`): {part}")
            if not all(1 <= int(port) <= 65535 for port in (outside, inside)):
                raise ValueError(f"{name}: port out of range in '{part}' (1 to 65535)")
            pairs.append((int(outside), int(inside)))
        return tuple(pairs)

    def show(self, text: str) -> list[str]:
        return split_list(text)


@dataclass(frozen=True)
class Size:
    """A number of bytes, with `k`, `m` or `g` for the binary multiples."""

    label: str = "size"

    def parse(self, name: str, text: str) -> int:
        match = _SIZE.fullmatch(text)
        if match is None:
            raise ValueError(f"{name} is not a size: '{text}' (a number of bytes, or one with k, m or g)")
        return int(match[1]) * _SIZE_UNIT_BYTES[match[2].lower()]

    def show(self, text: str) -> str:
        return text


@dataclass(frozen=True)
class Buffers:
    """`count size`: how many buffers of which size."""

    label: str = "count and size"

    def parse(self, name: str, text: str) -> tuple[int, int]:
        count, _, size = text.partition(" ")
        if not count.isdigit() or int(count) < 1 or _SIZE.fullmatch(size.strip()) is None:
            raise ValueError(f"{name} must be a number and a size: '{text}' (such as 4 8k)")
        return int(count), Size().parse(name, size.strip())

    def show(self, text: str) -> str:
        return text


@dataclass(frozen=True)
class Time:
    """A duration: `500ms`, `60s`, `5m`, `1h`, `1d`; a bare number is seconds. Parsed to milliseconds."""

    is_zero_allowed: bool = True
    label: str = "time"

    def parse(self, name: str, text: str) -> int:
        match = _TIME.fullmatch(text)
        if match is None:
            raise ValueError(f"{name} is not a time: '{text}' (a number of seconds, or one with ms, s, m, h or d)")
        value = int(match[1]) * _TIME_UNIT_MS[match[2]]
        if value == 0 and not self.is_zero_allowed:
            raise ValueError(f"{name} must be greater than 0")
        return value

    def show(self, text: str) -> str:
        return text


@dataclass(frozen=True)
class Seconds:
    """A number of seconds, fractions allowed, from 0. Parsed to milliseconds, shown as the number."""

    label: str = "seconds"

    def parse(self, name: str, text: str) -> int:
        return round(Number(minimum=0, is_whole=False).parse(name, text) * 1000)

    def show(self, text: str) -> float:
        value = float(text)
        return int(value) if value.is_integer() else value


@dataclass(frozen=True)
class Identifier:
    """A UUID."""

    label: str = "uuid"

    def parse(self, name: str, text: str) -> str:
        try:
            return str(UUID(text))
        except ValueError:
            raise ValueError(f"{name} must be a valid UUID") from None

    def show(self, text: str) -> str:
        return text
