"""Pages of a collection: every row once, errors in the reference's words."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.admin.pages import page, parse_query
from headgate.errors import EntityError

ROWS = [{"id": f"{number:04d}", "tags": ["even" if number % 2 == 0 else "odd", "all"]} for number in range(250)]


def walk(rows: list[dict[str, Any]], **query: str) -> list[str]:
    found: list[str] = []
    while True:
        answer = page(rows, parse_query(query), "/x")
        found += [row["id"] for row in answer["data"]]
        if "offset" not in answer:
            assert answer["next"] is None
            return found
        query["offset"] = answer["offset"]


@given(st.integers(1, 30), st.sets(st.integers(0, 60)))
def test_walking_the_pages_gives_every_row_once_in_order(size: int, numbers: set[int]) -> None:
    rows = [{"id": f"{number:03d}"} for number in numbers]
    assert walk(rows, size=str(size)) == sorted(row["id"] for row in rows)


def test_default_page_has_100_rows_and_a_link_with_the_arguments() -> None:
    answer = page(ROWS, parse_query({"tags": "all", "foo": "1"}), "/services")
    assert len(answer["data"]) == 100
    assert answer["next"].startswith("/services?offset=")
    assert answer["next"].endswith("&tags=all")


def test_link_of_a_nested_page_has_the_offset_only() -> None:
    answer = page(ROWS, parse_query({"size": "5"}), "/a/b/c", is_nested=True)
    assert "size" not in answer["next"]


@pytest.mark.parametrize(("tags", "count"), [("even", 125), ("even,all", 125), ("even/odd", 250), ("even,odd", 0)])
def test_tags_are_all_needed_with_commas_and_any_with_slashes(tags: str, count: int) -> None:
    assert len(walk(ROWS, tags=tags, size="1000")) == count


@pytest.mark.parametrize(
    ("query", "code", "text"),
    [
        ({"size": "x"}, 9, "size must be a number"),
        ({"size": "0"}, 9, "size must be an integer between 1 and 1000"),
        ({"size": "1001"}, 9, "size must be an integer between 1 and 1000"),
        ({"offset": "%%%"}, 7, "'%%%' is not a valid offset: bad base64 encoding"),
        ({"offset": "eA=="}, 7, "'eA==' is not a valid offset: bad json encoding"),
        ({"tags": "a,b/c"}, 11, "invalid option (tags: invalid filter syntax)"),
        ({"tags": ""}, 11, "invalid option (tags: cannot be null)"),
        ({"tags": "a,b,c,d,e,f"}, 11, "invalid option (tags: cannot query more than 5 tags)"),
    ],
)
def test_bad_query_is_refused(query: dict[str, str], code: int, text: str) -> None:
    with pytest.raises(EntityError) as caught:
        parse_query(query)
    assert (caught.value.code, caught.value.message) == (code, text)
