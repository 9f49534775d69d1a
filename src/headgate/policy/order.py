"""The order of access handlers: the static one, changed by the rules that plugin instances carry in `ordering`.

Owns the two algorithms and the text about circles. It knows names only: which instances apply is `chain`'s, and
`ordering_check` looks over a whole configuration. Called when plans are compiled, never for a request whose client's
order is known already. Reference: phases 15.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from headgate.config.general import LEGACY, PRIORITY_PRESERVING
from headgate.errors import GatewayError

CYCLE = "There is a circular dependency in the graph. It is not possible to derive a topological sort."


class Rules(NamedTuple):
    """Names of plugins whose access handlers come after (`before`) and before (`after`) that of the rules' owner."""

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


class CycleError(GatewayError):
    """Rules that contradict each other; `names` is the circle, each running before the next, the first one repeated."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        super().__init__(f"{CYCLE} ({' before '.join(names)})")


def rules_of(entity: Mapping[str, Any]) -> Rules | None:
    """Return the rules of a plugin entity; None without any."""
    ordering = entity.get("ordering") or {}
    before, after = (tuple((ordering.get(side) or {}).get("access") or ()) for side in ("before", "after"))
    return Rules(before, after) if before or after else None


def requirements(rules: Mapping[str, Rules], present: Collection[str]) -> dict[str, set[str]]:
    """Return, per name, what must have run before it; names that are not `present` count for nothing."""
    needs: dict[str, set[str]] = {}
    for name, own in rules.items():
        for later in own.before:
            if later in present:
                needs.setdefault(later, set()).add(name)
        for earlier in own.after:
            if earlier in present:
                needs.setdefault(name, set()).add(earlier)
    return needs


def find_cycle(needs: Mapping[str, Collection[str]]) -> tuple[str, ...] | None:
    """Return a circle in the order of running, its first name repeated at the end; None when there is none."""
    finished: set[str] = set()
    path: list[str] = []

    def visit(name: str) -> tuple[str, ...] | None:
        if name in finished:
            return None
        if name in path:
            return tuple(reversed([*path[path.index(name) :], name]))
        path.append(name)
        for needed in sorted(needs.get(name, ())):
            found = visit(needed)
            if found is not None:
                return found
        path.pop()
        finished.add(name)
        return None

    return next((found for name in sorted(needs) if (found := visit(name)) is not None), None)


def sort_names(
    names: Sequence[str], rules: Mapping[str, Rules], algorithm: str = LEGACY, present: Collection[str] | None = None
) -> list[str]:
    """Return the names of a static order in the order that the rules make of it.

    Args: `present`: those of the names that count for rules; all by default.
    Raises: CycleError.
    """
    needs = requirements(rules, names if present is None else present)
    if not needs:
        return list(names)
    cycle = find_cycle(needs)
    if cycle is not None:
        raise CycleError(cycle)
    return _highest_ready_first(names, needs) if algorithm == PRIORITY_PRESERVING else _needs_first(names, needs)


def sort_for_unknown_client(
    names: Sequence[str], rules: Mapping[str, Rules], algorithm: str, present: Collection[str]
) -> list[str]:
    """Return the order for as long as nobody knows the client, whose own instances may still come.

    What must run after one that is not `present` yet waits for its turn. The latter is not moved: moved before the
    plugin that identifies the consumer, it would never come.
    Raises: CycleError, for what is present.
    """
    order = sort_names(names, rules, algorithm, present)
    try:
        return sort_names(order, rules, PRIORITY_PRESERVING)
    except CycleError:
        return order


def _needs_first(names: Sequence[str], needs: Mapping[str, set[str]]) -> list[str]:
    """Walk the static order, placing what a plugin needs right before it (`legacy`)."""
    position = {name: index for index, name in enumerate(names)}
    placed: dict[str, None] = {}

    def place(name: str) -> None:
        if name not in placed:
            for needed in sorted(needs.get(name, ()), key=position.__getitem__):
                place(needed)
            placed[name] = None

    for name in names:
        place(name)
    return list(placed)


def _highest_ready_first(names: Sequence[str], needs: Mapping[str, set[str]]) -> list[str]:
    """Take the first of the static order whose needs have run, again and again (`priority_preserving`)."""
    waiting = list(names)
    placed: list[str] = []
    done: set[str] = set()
    while waiting:
        name = next(name for name in waiting if needs.get(name, set()) <= done)
        waiting.remove(name)
        placed.append(name)
        done.add(name)
    return placed
