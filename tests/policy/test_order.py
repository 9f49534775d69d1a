"""The two ordering algorithms: the reference's examples, circles, and a slow obvious model."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.policy.order import CYCLE, CycleError, Rules, rules_of, sort_names

FIRST = ["pre-function", "request-callout", "opentelemetry"]
SECOND = ["key-auth-enc", "key-auth", "acl"]
THIRD = ["key-auth", "ldap-auth", "header-cert-auth", "response-transformer", "ai-proxy"]


@pytest.mark.parametrize(
    ("names", "rules", "expected"),
    [
        (FIRST, {"pre-function": Rules(after=("opentelemetry",))}, [FIRST[2], FIRST[0], FIRST[1]]),
        (SECOND, {"acl": Rules(before=("key-auth",))}, ["key-auth-enc", "acl", "key-auth"]),
        (
            THIRD,
            {"response-transformer": Rules(before=("ldap-auth",))},
            ["key-auth", "response-transformer", "ldap-auth", "header-cert-auth", "ai-proxy"],
        ),
        (
            THIRD,
            {"ldap-auth": Rules(after=("response-transformer",))},
            ["key-auth", "response-transformer", "ldap-auth", "header-cert-auth", "ai-proxy"],
        ),
    ],
)
def test_legacy_places_what_a_plugin_needs_right_before_it(
    names: list[str], rules: dict[str, Rules], expected: list[str]
) -> None:
    assert sort_names(names, rules) == expected


@pytest.mark.parametrize(
    ("names", "rules", "expected"),
    [
        (FIRST, {"pre-function": Rules(after=("opentelemetry",))}, [FIRST[1], FIRST[2], FIRST[0]]),
        (
            THIRD,
            {"ldap-auth": Rules(after=("response-transformer",))},
            ["key-auth", "header-cert-auth", "response-transformer", "ldap-auth", "ai-proxy"],
        ),
    ],
)
def test_priority_preserving_takes_the_highest_that_may_run(
    names: list[str], rules: dict[str, Rules], expected: list[str]
) -> None:
    assert sort_names(names, rules, "priority_preserving") == expected


def test_names_that_are_not_there_count_for_nothing() -> None:
    assert sort_names(["b", "a"], {"b": Rules(after=("z",), before=("y",))}) == ["b", "a"]


@pytest.mark.parametrize("algorithm", ["legacy", "priority_preserving"])
def test_a_circle_is_told_with_its_names_in_the_order_they_ask_for(algorithm: str) -> None:
    rules = {"a": Rules(before=("b",)), "b": Rules(before=("c",)), "a2": Rules(), "c": Rules(before=("a",))}
    with pytest.raises(CycleError) as caught:
        sort_names(["a", "a2", "b", "c"], rules, algorithm)
    assert str(caught.value).startswith(CYCLE)
    assert caught.value.names[0] == caught.value.names[-1]
    pairs = set(zip(caught.value.names, caught.value.names[1:], strict=False))
    assert pairs == {("a", "b"), ("b", "c"), ("c", "a")}


def test_a_plugin_that_names_itself_is_a_circle() -> None:
    with pytest.raises(CycleError, match=r"\(a before a\)"):
        sort_names(["a"], {"a": Rules(after=("a",))})


def test_rules_are_read_from_the_entity() -> None:
    assert rules_of({"ordering": {"before": {"access": ["a"]}, "after": None}}) == Rules(before=("a",))
    assert rules_of({"ordering": {"before": {"access": []}}}) is None
    assert rules_of({"ordering": None}) is None


NAMES = ["e", "d", "c", "b", "a"]


@given(
    st.dictionaries(
        st.sampled_from(NAMES),
        st.builds(
            Rules,
            before=st.lists(st.sampled_from([*NAMES, "z"]), max_size=2).map(tuple),
            after=st.lists(st.sampled_from([*NAMES, "z"]), max_size=2).map(tuple),
        ),
        max_size=4,
    ),
    st.sampled_from(["legacy", "priority_preserving"]),
)
def test_an_order_is_found_exactly_when_some_permutation_keeps_all_rules(rules: dict[str, Rules], kind: str) -> None:
    pairs = [(owner, other) for owner, own in rules.items() for other in own.before if other in NAMES]
    pairs += [(other, owner) for owner, own in rules.items() for other in own.after if other in NAMES]

    def keeps(order: list[str] | tuple[str, ...]) -> bool:
        return all(order.index(earlier) < order.index(later) for earlier, later in pairs)

    possible = [order for order in permutations(NAMES) if keeps(order)]
    try:
        order = sort_names(NAMES, rules, kind)
    except CycleError:
        assert possible == []
        return
    assert keeps(order)
    if kind == "priority_preserving":
        # Of all orders that keep the rules, the one that is first by priority at the first place where two differ.
        assert tuple(order) == min(possible, key=lambda one: [NAMES.index(name) for name in one])
