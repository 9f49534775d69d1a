"""Query strings: what is written is read back, and the short way agrees with the long one."""

from urllib.parse import parse_qsl

from hypothesis import given
from hypothesis import strategies as st

from headgate.pdk._query import encode_arguments, first_argument, parse_arguments, without_argument

QUERIES = st.text("aA%41b+&= é;", max_size=30)
NAMES = st.text(min_size=1, max_size=5).filter(lambda name: name.isprintable())


@given(QUERIES, st.sampled_from(["a", "A", "%41", "b", "", " ", "a+"]), st.integers(1, 5))
def test_the_first_value_is_that_of_all_arguments(query: str, name: str, limit: int) -> None:
    value = parse_arguments(query, limit).get(name)
    assert first_argument(query, name, limit) == (value[0] if isinstance(value, list) else value)


@given(st.dictionaries(NAMES, st.text(max_size=5) | st.just(True)))
def test_arguments_survive_writing_and_reading(arguments: dict[str, str | bool]) -> None:
    assert parse_arguments(encode_arguments(arguments), 1000) == arguments


@given(QUERIES)
def test_values_are_those_of_the_standard_library(query: str) -> None:
    expected: dict[str, list[str]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True, errors="surrogateescape"):
        if name:
            expected.setdefault(name, []).append(value)
    found = {
        name: ["" if one is True else one for one in (value if isinstance(value, list) else [value])]
        for name, value in parse_arguments(query, 1000).items()
    }
    assert found == expected


@given(QUERIES, st.sampled_from(["a", "A", "b"]))
def test_a_cleared_argument_is_gone_and_the_others_stay(query: str, name: str) -> None:
    before = {key: value for key, value in parse_arguments(query, 1000).items() if key != name}
    after = parse_arguments(without_argument(query, name), 1000)
    assert list(after) == list(before)
