"""Transformed and transient fields on their way: what is given, what a store holds, what is read."""

from collections.abc import Callable
from typing import Any

import pytest

from headgate.entities.declared import declared_type
from headgate.entities.registry import ENTITY_TYPES
from headgate.errors import DeclarativeError, EntityError
from headgate.pdk import Plugin, kong
from headgate.policy.catalog import Catalog, PluginType
from headgate.policy.compile import compile_plan
from headgate.schema import EntityDeclaration, PluginConfig, Record, field, transformation, types
from headgate.store.declarative import export_declarative, load_declarative
from headgate.store.sql.store import SqlStore
from headgate.testing import run_phase
from tests.pdk.calls import phase
from tests.store.conftest import PLUGINS


class Pin(Record):
    transformations = (
        transformation(input=("pin",), needs=("owner",), on_write=lambda pin, owner: {"mark": f"{owner}/{pin[::-1]}"}),
        transformation(input=("mark",), on_read=lambda mark: {"mark": mark.upper()}),
    )
    id: types.Id
    owner: str = field(unique=True)
    pin: str | None = field(None, transient=True)
    mark: str | None = None
    note: str | None = None


PINS = declared_type(EntityDeclaration(name="pins", model=Pin, endpoint_key="owner"))
REGISTRY = ENTITY_TYPES.with_type(PINS)


def _scaled(entity: dict[str, Any]) -> dict[str, Any]:
    if entity["config"]["seconds"] < 0:
        raise ValueError("time runs forwards")
    return {"config": {"milliseconds": entity["config"]["seconds"] * 1000}}


class Config(PluginConfig):
    transformations = (
        transformation(on_write=_scaled),
        transformation(input=("config.milliseconds",), on_read=lambda value: {"config": {"shown": f"{value:.0f} ms"}}),
    )
    seconds: float = field(1, transient=True)
    milliseconds: float = 0
    shown: str = "never"


class Handler(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 1

    def access(self, conf: Config) -> None:
        kong.response.exit(200, f"{conf.seconds} {conf.shown}")


PLUGIN = PluginType("timed", "1.0.0", 1, Handler, Config, frozenset(("access",)), "test", entities=(PINS,))
CATALOG = Catalog([PLUGIN])


def test_store_holds_what_is_written_and_no_transient_field(make_store: Callable[..., SqlStore]) -> None:
    store = make_store(REGISTRY)
    made = store.insert("pins", {"owner": "anna", "pin": "1234"})
    assert (made["mark"], made["pin"]) == ("anna/4321", None)
    changed = store.update("pins", made["id"], {"note": "kept"})
    assert (changed["mark"], changed["note"]) == ("anna/4321", "kept")
    changed = store.update("pins", made["id"], {"owner": "anna", "pin": "99"})
    assert changed["mark"] == "anna/99"
    for changes in ({"pin": "1"}, {"owner": "bert"}):
        with pytest.raises(EntityError) as caught:
            store.update("pins", made["id"], changes)
        text = "all or none of these fields must be set: 'pin', 'owner'"
        assert (caught.value.fields, caught.value.code) == ({"@entity": [text]}, 2)


def test_database_holds_the_configuration_as_written(
    make_store: Callable[..., SqlStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PLUGINS, "timed", PLUGIN)
    store = make_store()
    made = store.insert("plugins", {"name": "timed", "config": {"seconds": 2}})
    assert made["config"] == {"milliseconds": 2000, "shown": "never"}
    assert store.update("plugins", made["id"], {"enabled": False})["config"] == made["config"]
    with pytest.raises(EntityError, match="transformation failed: time runs forwards") as caught:
        store.insert("plugins", {"name": "timed", "config": {"seconds": -1}, "protocols": ["http"]})
    assert caught.value.code == 15


DOCUMENT = """
_format_version: "3.0"
routes: [{name: all, paths: [/]}]
pins: [{owner: anna, pin: "1234"}]
plugins: [{name: timed, config: {seconds: 3}}]
"""


def load(text: str) -> Any:
    return load_declarative(text, plugin_types=CATALOG, entity_types=CATALOG.entity_types)


def test_document_is_stored_and_read_as_a_database_does() -> None:
    snapshot = load(DOCUMENT)
    [pin] = snapshot.all("pins")
    assert (pin["mark"], pin["pin"]) == ("anna/4321", None)
    plan = compile_plan(snapshot, CATALOG)
    [instance] = plan.instances("timed")
    assert (instance.config.shown, instance.config.seconds) == ("3000 ms", 1)
    again = load(export_declarative(snapshot, CATALOG.entity_types))
    assert [one["mark"] for one in again.all("pins")] == ["anna/4321"]
    assert [one["config"] for one in again.all("plugins")] == [one["config"] for one in snapshot.all("plugins")]


def test_faults_of_transformations_stand_at_their_entity() -> None:
    with pytest.raises(DeclarativeError) as caught:
        load(DOCUMENT.replace("seconds: 3", "seconds: -3"))
    assert caught.value.fields == {"plugins": [{"@entity": ["transformation failed: time runs forwards"]}]}


def test_plugins_read_entities_in_the_form_for_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate.pdk._node.node.read_forms", CATALOG.read_forms())
    stored = [{"id": "1", "owner": "anna", "mark": "anna/4321", "tags": None}]
    with phase("access", entities={"pins": stored}):
        assert kong.db.pins.select("1")["mark"] == "ANNA/4321"
        assert kong.db.pins.select_by_owner("anna")["mark"] == "ANNA/4321"
        assert [one["mark"] for one in kong.db.pins.each()] == ["ANNA/4321"]
        assert [one["mark"] for one in kong.db.pins.page()[0]] == ["ANNA/4321"]
        config = {"milliseconds": 5, "shown": "never"}
        assert CATALOG.read_forms()["plugins"]({"name": "timed", "config": config})["config"]["shown"] == "5 ms"
        assert CATALOG.read_forms()["plugins"]({"name": "other", "config": config})["config"] is config


def test_testing_kit_gives_a_handler_what_a_gateway_would() -> None:
    assert run_phase(Handler, "access", config={"seconds": 4}).body == b"1 4000 ms"
