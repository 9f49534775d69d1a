"""`ngx.shared`, called from Lua: values, flags, lists and keys, with OpenResty's return values."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.lua.vm import vm
from headgate.pdk import shared_dict


@pytest.fixture(autouse=True)
def _memory(tmp_path: Path) -> Iterator[None]:
    shared_dict.close()
    shared_dict.configure(tmp_path / "shared", 1024 * 1024)
    yield
    shared_dict.close()


def run(source: str) -> list[Any]:
    """Run Lua with `d`, a dictionary, and `told(…)`, which keeps its arguments; return what was told."""
    function = vm().compile(f"local d, told = ngx.shared.things, ...\n{source}", "=test")
    kept: list[Any] = []
    function(lambda *values: kept.append(values if len(values) > 1 else values[0] if values else None))
    return kept


def test_values_of_all_kinds_come_back() -> None:
    assert run("""
        d:set("text", "a\\255\\0b"); told(d:get("text") == "a\\255\\0b")
        d:set("mark", "\\0true"); told(d:get("mark") == "\\0true")
        d:set("number", 1.5); told(d:get("number"))
        d:set("yes", true); told(d:get("yes"))
        d:set("no", false); told(d:get("no"))
        d:set("no", nil); told(d:get("no"))
        told(pcall(d.set, d, "table", {}))
    """) == [True, True, 1.5, True, False, None, (False, "bad value type")]


def test_flags_are_kept_and_zero_is_none() -> None:
    assert run("""
        d:set("a", "x", 0, 7); told(d:get("a"))
        d:set("b", 5, 0, 3); told(d:get("b")); told(d:incr("b", 2)); told(d:get("b"))
        d:set("c", "x", 0, 0); told(select("#", d:get("c")))
        told(d:get_stale("a"))
    """) == [("x", 7), (5, 3), 7, (7, 3), 1, ("x", 7, False)]


def test_lists_are_pushed_and_popped_at_both_ends() -> None:
    assert run("""
        told(d:rpush("l", "b")); told(d:rpush("l", 3)); told(d:lpush("l", "\\255a"))
        told(d:llen("l")); told(d:get("l"))
        told(d:lpop("l") == "\\255a"); told(d:rpop("l")); told(d:rpop("l")); told(d:rpop("l")); told(d:llen("l"))
        told(d:get("l"))
        told(pcall(d.lpush, d, "l", true))
    """) == [1, 2, 3, 3, (None, "value is a list"), True, 3, "b", None, 0, None, (False, "bad value type")]


def test_what_is_no_list_is_not_taken_for_one() -> None:
    assert run("""
        d:set("a", "x")
        told(d:lpush("a", 1)); told(d:rpop("a")); told(d:llen("a")); told(d:get("a"))
        d:lpush("l", 1)
        told(d:incr("l", 1)); told(d:set("l", 5)); told(d:incr("l", 1))
    """) == [*[(None, "value not a list")] * 3, "x", (None, "not a number"), True, 6]


def test_replacing_and_expiring_want_a_value_that_is_there() -> None:
    assert run("""
        told(d:replace("a", 1)); told(d:expire("a", 5)); told(d:ttl("a")); told(d:incr("a", 1))
        d:set("a", "x")
        told(d:replace("a", "y")); told(d:get("a")); told(d:incr("a", 1))
        told(d:expire("a", 50)); local left = d:ttl("a"); told(left > 40 and left <= 50)
        d:rpush("l", 1); d:expire("l", 50); d:rpush("l", 2); told(d:ttl("l") > 40)
    """) == [
        (False, "not found"),
        *[(None, "not found")] * 3,
        *(True, "y", (None, "not a number")),
        *(True, True, True),
    ]


def test_keys_are_listed_1024_at_most_unless_told() -> None:
    assert run("""
        told(#d:get_keys())
        for i = 1, 1030 do d:set("key" .. i, i) end
        told(#d:get_keys()); told(#d:get_keys(0)); told(#d:get_keys(10))
        d:flush_all(); d:set("\\195\\188", 1); told(d:get_keys()[1] == "\\195\\188")
    """) == [0, 1024, 1030, 10, True]


def test_a_list_that_fills_the_memory_is_refused_and_stays() -> None:
    assert run("""
        local part = ("v"):rep(50000)
        local count, err
        repeat
          local more
          more, err = d:rpush("l", part)
          count = more or count
        until err
        told(err); told(d:llen("l") == count)
        told(d:set("large", ("v"):rep(1000000)))
    """) == ["no memory", True, (False, "no memory", False)]
