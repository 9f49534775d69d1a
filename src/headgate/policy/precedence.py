"""Which instance of a plugin applies to a request: the twelve levels, as one table.

Of the instances of one plugin name exactly one runs, the one with the first matching scope. Reference: phases 4.2.
Called by `chain` when a plan is compiled, and at request time for plugins with consumer- or group-scoped instances.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Scope(NamedTuple):
    """What an instance is attached to, as ids; all None is a global instance."""

    consumer: str | None = None
    consumer_group: str | None = None
    route: str | None = None
    service: str | None = None


class Level(NamedTuple):
    """Which parts of a scope are set on one level."""

    consumer: bool = False
    consumer_group: bool = False
    route: bool = False
    service: bool = False


LEVELS: tuple[Level, ...] = (
    Level(consumer=True, route=True, service=True),
    Level(consumer_group=True, service=True, route=True),
    Level(consumer=True, route=True),
    Level(consumer=True, service=True),
    Level(consumer_group=True, route=True),
    Level(consumer_group=True, service=True),
    Level(route=True, service=True),
    Level(consumer=True),
    Level(consumer_group=True),
    Level(route=True),
    Level(service=True),
    Level(),
)
"""First match wins."""

_WITHOUT_CLIENT = tuple(level for level in LEVELS if not level.consumer and not level.consumer_group)


def choose(
    candidates: Mapping[Scope, T],
    route: str | None,
    service: str | None,
    consumer: str | None = None,
    consumer_groups: Sequence[str] = (),
) -> T | None:
    """Return the candidate of the first level that matches; None when none does.

    Args: ids, None for what the request does not have; the groups in the order of their names: on one level the first
        group with a candidate wins.
    """
    for level in LEVELS if consumer is not None or consumer_groups else _WITHOUT_CLIENT:
        if (
            (level.consumer and consumer is None)
            or (level.route and route is None)
            or (level.service and service is None)
        ):
            continue
        for group in consumer_groups if level.consumer_group else (None,):
            found = candidates.get(
                Scope(
                    consumer if level.consumer else None,
                    group,
                    route if level.route else None,
                    service if level.service else None,
                )
            )
            if found is not None:
                return found
    return None
