"""The twelve levels: each beats the next, and the table agrees with an obvious model."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.policy.precedence import LEVELS, Level, Scope, choose

REFERENCE_ORDER = [
    {"consumer", "route", "service"},
    {"consumer_group", "service", "route"},
    {"consumer", "route"},
    {"consumer", "service"},
    {"consumer_group", "route"},
    {"consumer_group", "service"},
    {"route", "service"},
    {"consumer"},
    {"consumer_group"},
    {"route"},
    {"service"},
    set(),
]

REQUEST = Scope(consumer="c", consumer_group="g", route="r", service="s")


def parts(level: Level) -> set[str]:
    return {name for name, is_set in level._asdict().items() if is_set}


def scope_of(level: Level) -> Scope:
    return Scope(**{name: getattr(REQUEST, name) for name in parts(level)})


def applying(candidates: dict[Scope, str]) -> str | None:
    return choose(candidates, "r", "s", "c", ("g",))


def test_the_table_is_the_documented_order() -> None:
    assert [parts(level) for level in LEVELS] == REFERENCE_ORDER


@pytest.mark.parametrize(
    ("stronger", "weaker"), list(pairwise(LEVELS)), ids=lambda level: "+".join(sorted(parts(level))) or "global"
)
def test_each_level_beats_the_next_and_falls_back_to_it(stronger: Level, weaker: Level) -> None:
    both = {scope_of(weaker): "weaker", scope_of(stronger): "stronger"}
    assert applying(both) == "stronger"
    assert applying({scope_of(weaker): "weaker"}) == "weaker"


def test_of_several_groups_the_first_one_with_an_instance_wins() -> None:
    candidates = {Scope(consumer_group="b"): "b", Scope(consumer_group="c"): "c"}
    assert choose(candidates, "r", "s", "x", ("a", "b", "c")) == "b"


def test_a_stronger_level_of_a_later_group_beats_a_weaker_level_of_the_first_group() -> None:
    candidates = {Scope(consumer_group="a"): "a", Scope(consumer_group="b", route="r"): "b"}
    assert choose(candidates, "r", "s", None, ("a", "b")) == "b"


def test_without_a_consumer_only_unscoped_levels_apply() -> None:
    assert choose({Scope(consumer="c"): "consumer"}, "r", "s") is None


IDS = st.sampled_from([None, "1", "2"])
SCOPES = st.builds(Scope, IDS, IDS, IDS, IDS)


def model(
    candidates: set[Scope], route: str | None, service: str | None, consumer: str | None, groups: list[str]
) -> Scope | None:
    """Sort all candidates that match by the rank of their set of parts, then by the group's position."""

    def matches(scope: Scope) -> bool:
        return (
            scope.consumer in (None, consumer)
            and scope.route in (None, route)
            and scope.service in (None, service)
            and (scope.consumer_group is None or scope.consumer_group in groups)
        )

    def rank(scope: Scope) -> tuple[int, int]:
        set_parts = {name for name, value in scope._asdict().items() if value is not None}
        group = groups.index(scope.consumer_group) if scope.consumer_group is not None else 0
        return REFERENCE_ORDER.index(set_parts), group

    # An instance for a consumer and a group at once is on no level.
    fitting = [scope for scope in candidates if matches(scope) and not (scope.consumer and scope.consumer_group)]
    return min(fitting, key=rank, default=None)


@given(
    candidates=st.sets(SCOPES),
    route=IDS,
    service=IDS,
    consumer=IDS,
    groups=st.lists(st.sampled_from(["1", "2"]), unique=True),
)
def test_the_lookup_agrees_with_sorting_all_matching_candidates(
    candidates: set[Scope], route: str | None, service: str | None, consumer: str | None, groups: list[str]
) -> None:
    found = choose({scope: scope for scope in candidates}, route, service, consumer, groups)
    assert found == model(candidates, route, service, consumer, groups)
