"""Documents one after the other: what the next says alike is the same object, and the rest is as if loaded alone."""

import copy
import json
import random
from dataclasses import dataclass
from typing import Any

import pytest

from headgate.errors import DeclarativeError
from headgate.schema import PluginConfig
from headgate.store.declarative import load_declarative
from headgate.store.known import KnownEntities
from headgate.store.snapshot import Snapshot
from tests.support.entities import CERTIFICATE, KEY


class Config(PluginConfig):
    limit: int = 1


@dataclass(frozen=True)
class Kind:
    name: str
    config_model: type[PluginConfig]


PLUGINS = {"limit": Kind("limit", Config)}
DOCUMENT: dict[str, Any] = {
    "_format_version": "3.0",
    "services": [
        {
            "name": "s",
            "url": "http://h:80/",
            "routes": [{"name": f"r{number}", "paths": [f"/{number}"]} for number in range(6)],
            "plugins": [{"name": "limit", "config": {"limit": 3}, "id": "00000000-0000-4000-8000-000000000001"}],
        },
        {"name": "t", "url": "http://h:81/"},
    ],
    "consumers": [
        {
            "username": "u",
            "basicauth_credentials": [{"username": "b", "password": "secret"}],
            "keyauth_credentials": [{"key": "k", "ttl": 100}],
        }
    ],
    "certificates": [
        {"cert": CERTIFICATE, "key": KEY, "snis": [{"name": "a.com"}], "id": "00000000-0000-4000-8000-000000000002"}
    ],
}


def load(document: dict[str, Any], now: float, known: KnownEntities | None = None) -> Snapshot:
    return load_declarative(json.dumps(document), plugin_types=PLUGINS, now=now, known=known)


def timeless(snapshot: Snapshot) -> dict[str, Any]:
    """Return what a snapshot holds without the times of loading."""
    times = ("created_at", "updated_at")
    found: dict[str, Any] = copy.deepcopy(dict(snapshot.entities))
    for rows in found.values():
        for entity in rows.values():
            for name in times:
                entity.pop(name, None)
    # These have ids of their own at each load.
    found["keyauth_credentials"] = [{**one, "id": None} for one in found["keyauth_credentials"].values()]
    return found


def test_what_is_said_again_is_the_same_object_and_the_rest_is_new() -> None:
    known = KnownEntities()
    first = load(DOCUMENT, 1000, known)
    changed = copy.deepcopy(DOCUMENT)
    changed["services"][0]["routes"][2]["paths"] = ["/new"]
    second = load(changed, 2000, known)
    before, after = ({one["name"]: one for one in each.entities["routes"].values()} for each in (first, second))
    assert after["r2"]["paths"] == ["/new"]
    assert after["r2"]["updated_at"] == 2000
    assert all(after[name] is before[name] for name in before if name != "r2")
    [plugin], [known_plugin] = second.entities["plugins"].values(), first.entities["plugins"].values()
    assert plugin is known_plugin
    delta = first.delta_to(second, 100)
    assert delta is not None
    # What lives for a time, and certificates, are always made anew.
    assert [one["name"] for one in delta.changed["routes"]] == ["r2"]
    assert delta.types == {"routes", "keyauth_credentials", "certificates"}


def test_an_entity_whose_reference_means_something_else_is_not_the_same() -> None:
    known = KnownEntities()
    document = {"_format_version": "3.0", "services": [{"name": "s", "url": "http://h/"}]}
    document["routes"] = [{"name": "r", "paths": ["/r"], "service": "s"}]
    load(document, 1000, known)
    document["services"] = [{"name": "s", "url": "http://h/", "id": "00000000-0000-4000-8000-00000000000a"}]
    [route] = load(document, 2000, known).entities["routes"].values()
    assert route["service"] == {"id": "00000000-0000-4000-8000-00000000000a"}


def test_items_that_are_alike_stay_entities_of_their_own_and_those_without_a_name_keep_their_ids() -> None:
    known = KnownEntities()
    document = {"_format_version": "3.0", "routes": [{"paths": ["/same"]}, {"paths": ["/same"]}, {"paths": ["/b"]}]}
    first, second = (set(load(document, 1000, known).entities["routes"]) for _ in range(2))
    assert len(first) == len(second) == 3
    # Of those that are alike one is the one that was read before.
    assert len(first & second) == 2


def test_the_same_item_below_another_parent_or_in_another_format_is_another_entity() -> None:
    known = KnownEntities()
    upstreams = [{"name": "a", "targets": [{"target": "h:1"}]}, {"name": "b", "targets": []}]
    document: dict[str, Any] = {"_format_version": "3.0", "upstreams": upstreams}
    document["routes"] = [{"name": "r", "paths": ["/a(b)"]}]
    [before] = load(document, 1000, known).entities["targets"].values()
    upstreams[1]["targets"], upstreams[0]["targets"] = upstreams[0]["targets"], []
    moved = load(document | {"_format_version": "2.1"}, 2000, known)
    [after] = moved.entities["targets"].values()
    assert after["upstream"] != before["upstream"]
    assert after["id"] != before["id"]
    assert [one["paths"] for one in moved.entities["routes"].values()] == [["~/a(b)"]]


def test_a_fault_between_entities_that_were_read_before_is_told_at_its_place_and_over_when_it_is_gone() -> None:
    known = KnownEntities()
    one, other = {"name": "one", "url": "http://h/"}, {"name": "other", "url": "http://h/"}
    document = {"_format_version": "3.0", "services": [one, other]}
    first = load(document, 1000, known)
    with pytest.raises(DeclarativeError) as caught:
        load(document | {"services": [other, {"name": "new", "url": "http://h/"}, one, one]}, 2000, known)
    assert [position for position, fault in enumerate(caught.value.fields["services"]) if fault] == [3]
    dirty = document | {"services": [other, one], "plugins": [{"name": "limit", "service": "none"}]}
    with pytest.raises(DeclarativeError):
        load(dirty, 2000, known)
    again = load(document, 3000, known)
    assert all(again.entities["services"][each] is known_one for each, known_one in first.entities["services"].items())


def test_a_faulty_document_changes_nothing_that_is_known_and_faults_stay_faults() -> None:
    known = KnownEntities()
    first = load(DOCUMENT, 1000, known)
    faulty = copy.deepcopy(DOCUMENT)
    faulty["services"][0]["routes"][1]["paths"] = ["no-slash"]
    for _ in range(2):
        with pytest.raises(DeclarativeError, match="should start with"):
            load(faulty, 2000, known)
    again = load(DOCUMENT, 3000, known)
    assert all(again.entities["routes"][each] is one for each, one in first.entities["routes"].items())


def test_secrets_are_transformed_once() -> None:
    known = KnownEntities()
    [first] = load(DOCUMENT, 1000, known).entities["basicauth_credentials"].values()
    [second] = load(DOCUMENT, 2000, known).entities["basicauth_credentials"].values()
    assert first["password"] != "secret"
    assert second is first
    untransformed = {**DOCUMENT, "_transform": False}
    [third] = load(untransformed, 3000, known).entities["basicauth_credentials"].values()
    assert third["password"] == "secret"


@pytest.mark.parametrize("seed", range(5))
def test_any_document_after_others_is_what_it_is_alone(seed: int) -> None:
    rng, known, document = random.Random(seed), KnownEntities(), copy.deepcopy(DOCUMENT)
    current = load(document, 1000, known)
    for number in range(8):
        routes = document["services"][0]["routes"]
        kind = rng.randrange(5)
        if kind == 0 and routes:
            routes.pop(rng.randrange(len(routes)))
        elif kind == 1:
            routes.insert(rng.randrange(len(routes) + 1), {"name": f"n{number}", "paths": [f"/n{number}"]})
        elif kind == 2 and routes:
            rng.choice(routes)["strip_path"] = rng.choice((True, False))
        elif kind == 3:
            document["services"][0]["plugins"][0]["config"]["limit"] = rng.randrange(3)
        else:
            document["services"].reverse()
            document["services"].sort(key=lambda one: one["name"])
        following = load(document, 2000 + number, known)
        assert timeless(following) == timeless(load(document, 5000))
        delta = current.delta_to(following, 1000)
        assert delta is not None
        made = current.after(delta, 7)
        assert made.entities == following.entities
        assert (made.expires, made.configuration_hash) == (following.expires, following.configuration_hash)
        assert current.delta_to(following, len(delta) - 1) is None
        current = following
