"""How a record says what its fields become when it is written, and what they are read as.

Owns the declaration; running it is `stored`'s.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Function = Callable[..., Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Transformation:
    """One transformation; see `transformation`."""

    input: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    on_write: Function | None = None
    on_read: Function | None = None


def transformation(
    *,
    input: Sequence[str] = (),  # noqa: A002 - the word of the schema language
    needs: Sequence[str] = (),
    on_write: Function | None = None,
    on_read: Function | None = None,
) -> Transformation:
    """Declare what fields become.

    Args:
        on_write: runs when the entity is stored, on_read: when it is shown or used. Both return the fields that change,
            nested as the entity is; ValueError with a text refuses.
        input, needs: paths whose values the function gets, in this order. It runs only when none is empty; in a change
            only when the inputs are given, and then what it needs must be given too. Without both it always runs and
            gets the entity.
    Source: custom-plugin reference, section 8.4.
    """
    if on_write is None and on_read is None:
        raise TypeError("a transformation needs on_write or on_read")
    return Transformation(tuple(input), tuple(needs), on_write, on_read)
