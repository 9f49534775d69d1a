"""`kong.table`: small helpers for tables, kept for people who port Lua plugins."""

from collections.abc import Mapping
from typing import Any

from headgate.pdk._phase import any_phase


class Table:
    """`kong.table`."""

    __slots__ = ()

    @any_phase
    def new(self, narr: int = 0, nrec: int = 0) -> dict[Any, Any]:
        """Return an empty dict; the sizes are hints that Python does not need."""
        return {}

    @any_phase
    def clear(self, table: dict[Any, Any] | list[Any]) -> None:
        """Empty a dict or list in place."""
        table.clear()

    @any_phase
    def merge(
        self, t1: Mapping[Any, Any] | list[Any] | None = None, t2: Mapping[Any, Any] | list[Any] | None = None
    ) -> dict[Any, Any] | list[Any]:
        """Return a new shallow copy of both; `t2` wins. Lists are merged by position; of two kinds, positions become
        keys.
        """
        if isinstance(t1, list | None) and isinstance(t2, list | None) and (t1 is not None or t2 is not None):
            first, second = t1 or [], t2 or []
            return second + first[len(second) :]
        return {**_keyed(t1), **_keyed(t2)}


def _keyed(table: Mapping[Any, Any] | list[Any] | None) -> Mapping[Any, Any]:
    if table is None:
        return {}
    return dict(enumerate(table, 1)) if isinstance(table, list) else table


table = Table()
