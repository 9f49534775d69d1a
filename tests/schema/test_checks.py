"""Entity checks: when they run, what they say, how they are published."""

from typing import Any

import pytest

from headgate.schema import Record, checks, examine, field


def entity_faults(*entity_checks: checks.EntityCheck, is_update: bool = False, **data: Any) -> dict[str, Any]:
    declared = entity_checks

    class Model(Record):
        entity_checks = declared
        a: str | None = field(None, referenceable=True)
        b: str | None = None
        c: int | None = None

    return examine(Model, data, is_update=is_update).errors


@pytest.mark.parametrize(
    ("check", "data", "text"),
    [
        (checks.at_least_one_of("a", "b"), {}, "at least one of these fields must be non-empty: 'a', 'b'"),
        (checks.only_one_of("a", "b"), {"a": "x", "b": "y"}, "exactly one of these fields must be non-empty: 'a', 'b'"),
        (checks.only_one_of("a", "b"), {}, "exactly one of these fields must be non-empty: 'a', 'b'"),
        (checks.mutually_required("a", "b"), {"a": "x"}, "all or none of these fields must be set: 'a', 'b'"),
        (
            checks.mutually_exclusive("a", "b"),
            {"a": "x", "b": "y"},
            "only one or none of these fields must be set: 'a', 'b'",
        ),
        (checks.distinct("a", "b"), {"a": "x", "b": "x"}, "values of these fields must be distinct: 'a', 'b'"),
        (
            checks.mutually_exclusive_sets(["a"], ["b"]),
            {"a": "x", "b": "y"},
            "these sets are mutually exclusive: ('a'), ('b')",
        ),
        (checks.custom(["a"], lambda entity: f"no {entity['a']}"), {"a": "x"}, "no x"),
    ],
)
def test_failing_check_adds_its_text(check: checks.EntityCheck, data: dict[str, Any], text: str) -> None:
    assert entity_faults(check, **data) == {"@entity": [text]}


@pytest.mark.parametrize(
    ("check", "data"),
    [
        (checks.at_least_one_of("a", "c"), {"c": 0}),
        (checks.only_one_of("a", "b"), {"a": "x"}),
        (checks.mutually_required("a", "b"), {}),
        (checks.mutually_exclusive("a", "b"), {"b": "y"}),
        (checks.distinct("a", "b"), {}),
        (checks.mutually_required("a", "b"), {"a": "{vault://env/x}"}),
    ],
)
def test_passing_or_skipped_check_says_nothing(check: checks.EntityCheck, data: dict[str, Any]) -> None:
    assert entity_faults(check, **data) == {}


def test_conditional_puts_a_text_on_the_field_and_one_on_the_entity() -> None:
    check = checks.conditional("a", if_match={"eq": "x"}, then_field="b", then_match={"required": True})
    assert entity_faults(check, a="x") == {
        "b": "required field missing",
        "@entity": ["failed conditional validation given value of field 'a'"],
    }
    assert entity_faults(check, a="y") == {}
    assert entity_faults(check, a="x", b="z") == {}


def test_conditional_uses_its_own_text_unless_the_field_is_missing() -> None:
    check = checks.conditional(
        "a", if_match={"eq": "x"}, then_field="b", then_match={"one_of": ["k"]}, then_err="wrong for %s"
    )
    assert entity_faults(check, a="x", b="z") == {"b": "expected one of: k", "@entity": ["wrong for a"]}


def test_at_least_one_of_is_prefixed_on_update_and_skipped_when_nothing_was_given() -> None:
    check = checks.conditional_at_least_one_of("a", if_match={"eq": "x"}, then_at_least_one_of=["b"])
    assert entity_faults(check, is_update=True, a="x") == {
        "@entity": ["when updating, at least one of these fields must be non-empty: 'b'"]
    }


def test_custom_check_does_not_run_on_faulty_fields() -> None:
    assert entity_faults(checks.custom(["c"], lambda entity: "ran"), c="x") == {"c": "expected an integer"}
    check = checks.custom(["c"], lambda entity: "ran", run_with_invalid_fields=True)
    assert entity_faults(check, c="x") == {"c": "expected an integer", "@entity": ["ran"]}


def test_custom_check_may_answer_with_a_truth_value() -> None:
    assert entity_faults(checks.custom(["a"], lambda entity: True), a="x") == {}
    assert entity_faults(checks.custom(["a"], lambda entity: False), a="x") == {
        "@entity": ['failed entity check: custom_entity_check({field_sources={"a"}})']
    }


def test_needed_field_that_is_absent_is_told() -> None:
    class Model(Record):
        entity_checks = (checks.distinct("a", "b"),)
        a: str
        b: str | None = None

    assert examine(Model, {}).errors == {"a": "required field missing"}


def test_published_form_has_the_arguments() -> None:
    assert checks.custom(["a"], lambda entity: None, run_with_missing_fields=True).describe() == {
        "custom_entity_check": {"field_sources": ["a"], "run_with_missing_fields": True}
    }
    assert checks.custom(["a"], lambda entity: None, is_published=False).describe() is None
