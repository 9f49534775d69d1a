"""What is stored of a record and what is read: transformations, and fields that are not kept."""

import base64
from typing import Any

import pytest

from headgate.errors import TRANSFORMATION_ERROR, EntityError
from headgate.schema import PluginConfig, Record, field, record_definition, transformation, types
from headgate.schema.stored import incomplete, read, without_transient, written


def _encoded(secret: str, salt: str) -> dict[str, Any]:
    if secret == "bad":
        raise ValueError("no secret")
    return {"token": base64.b64encode(f"{salt}{secret}".encode()).decode()}


class Account(Record):
    transformations = (
        transformation(input=("secret",), needs=("salt",), on_write=_encoded),
        transformation(on_read=lambda entity: {"shown": f"<{entity['token']}>"}),
    )
    id: types.Id
    secret: str | None = field(None, transient=True)
    salt: str | None = None
    token: str | None = None
    shown: str | None = None


BASE = {"id": "1", "secret": "s", "salt": "x", "token": None, "shown": None}


def test_function_gets_inputs_and_needs_in_order_and_its_result_is_merged() -> None:
    assert written(Account, BASE, {"secret": "s"})["token"] == "eHM="


def test_function_runs_only_when_its_inputs_are_given() -> None:
    assert written(Account, BASE, {"salt": "x"})["token"] is None
    assert written(Account, {**BASE, "salt": None}, {"secret": "s"})["token"] is None


def test_function_without_input_gets_the_entity() -> None:
    assert read(Account, {**BASE, "token": "t"})["shown"] == "<t>"


def test_refusal_has_the_documented_text() -> None:
    with pytest.raises(EntityError, match="transformation failed: no secret") as caught:
        written(Account, {**BASE, "secret": "bad"}, {"secret": "bad"})
    assert caught.value.code == TRANSFORMATION_ERROR


TEXT = "all or none of these fields must be set: 'secret', 'salt'"


@pytest.mark.parametrize(
    ("given", "stored", "texts"),
    [
        ({"secret": "s", "salt": "x"}, None, []),
        ({}, None, []),
        ({"salt": "x"}, None, []),
        ({"secret": "s"}, None, [TEXT]),
        ({"secret": "s"}, BASE, [TEXT]),
        ({"salt": "y"}, BASE, [TEXT]),
        ({"salt": "x"}, BASE, []),
        ({"salt": "y", "secret": "s"}, BASE, []),
    ],
)
def test_inputs_and_needs_come_together(given: dict[str, Any], stored: dict[str, Any] | None, texts: list[str]) -> None:
    assert list(incomplete(Account, given, stored)) == texts


def test_transient_fields_are_left_out_at_every_depth() -> None:
    class Inner(Record):
        kept: int = 1
        gone: int = field(2, transient=True)

    class Config(PluginConfig):
        one: Inner = field(default_factory=Inner)
        many: list[Inner] = field(default_factory=list)
        named: dict[str, Inner] = field(default_factory=dict)
        gone: str = field("x", transient=True)

    both = {"kept": 1, "gone": 2}
    kept = without_transient(Config, {"one": both, "many": [both], "named": {"a": both}, "gone": "y"})
    assert kept == {"one": {"kept": 1}, "many": [{"kept": 1}], "named": {"a": {"kept": 1}}}


def test_declarations_that_contradict_themselves_are_told_together() -> None:
    class Nested(Record):
        transformations = (transformation(on_read=lambda entity: {}),)
        name: str = "a"

    class Config(PluginConfig):
        transformations = (transformation(input=("config.nothing",), on_write=lambda value: {}),)
        a: str = field("x", between=(1, 2))
        b: str = field(transient=True)
        c: dict[str, str] = field(default_factory=dict, transient=True, values=field(timestamp=True))
        nested: Nested = field(default_factory=Nested)

    with pytest.raises(TypeError) as caught:
        record_definition(Config)
    assert str(caught.value).split("; ") == [
        "Config: a: field of type 'string' cannot have attribute 'between'",
        "b: a transient field needs a default: it is not there when the entity is read",
        "c: field of type 'map' cannot have attribute 'transient'",
        "c: field of type 'string' cannot have attribute 'timestamp'",
        "nested: transformations of a nested record are not run: declare them for the whole",
        "transformations: invalid field name: config.nothing",
    ]


def test_transformation_needs_a_function() -> None:
    with pytest.raises(TypeError, match="needs on_write or on_read"):
        transformation(input=("a",))
