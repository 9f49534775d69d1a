"""/cache over the shared memory of a node, filled as its workers fill it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.pdk import cache as module
from headgate.pdk import shared_dict
from headgate.pdk.cache import Cache, caches_of
from tests.admin.conftest import Api


@pytest.fixture
def caches(tmp_path: Path) -> Iterator[tuple[Cache, Cache]]:
    """The two caches of a worker of the first generation."""
    shared_dict.configure(tmp_path / "memory", 16 * 1024**2)
    yield caches_of(1)
    shared_dict.close()


@pytest.mark.parametrize(
    ("value", "body"),
    [
        ({"id": "1", "raw": b"\xffa", "list": [b"x", 1]}, {"id": "1", "raw": "\ufffda", "list": ["x", 1]}),
        ("text", {"message": "text"}),
        ([1, 2], {"message": [1, 2]}),
        (None, {"message": None}),
    ],
)
def test_a_kept_value_is_shown(api: Api, caches: tuple[Cache, Cache], value: Any, body: Any) -> None:
    caches[0].get("kept:a/b", None, lambda: value)
    answer = api.call("GET", "/cache/kept:a%2Fb")
    assert (answer.status_code, answer.json()) == (200, body)


def test_what_is_not_kept_is_not_found(api: Api, caches: tuple[Cache, Cache]) -> None:
    answer = api.call("GET", "/cache/none")
    assert (answer.status_code, answer.json()) == (404, {"message": "Not found"})


def test_a_dropped_key_is_loaded_anew_by_whoever_has_it_in_memory(api: Api, caches: tuple[Cache, Cache]) -> None:
    for cache in caches:
        cache.get("k", None, lambda: "old")
    assert api.get("/cache/k") == {"message": "old"}
    assert api.call("DELETE", "/cache/k").status_code == 204
    assert api.call("GET", "/cache/k").status_code == 404
    assert [cache.get("k", None, lambda: "new") for cache in caches] == ["new", "new"]
    assert api.call("DELETE", "/cache/never-there").status_code == 204


def test_all_keys_can_be_dropped(api: Api, caches: tuple[Cache, Cache]) -> None:
    for number in range(20):
        caches[number % 2].get(f"k{number}", None, lambda: "old")
    assert api.call("DELETE", "/cache").status_code == 204
    assert api.call("GET", "/cache/k3").status_code == 404
    assert caches[1].get("k3", None, lambda: "new") == "new"
    assert api.call("GET", "/cache").status_code == 405


def test_processes_of_another_generation_have_caches_of_their_own(caches: tuple[Cache, Cache]) -> None:
    own = (module.cache, module.core_cache)
    try:
        module.use_generation(1)
        for mine, same, other in zip(own, caches, caches_of(2), strict=True):
            mine.get("k", None, lambda: "value")
            assert same.probe("k") is not None
            assert other.probe("k") is None
    finally:
        module.use_generation(0)
