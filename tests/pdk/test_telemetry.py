"""Log records for OpenTelemetry."""

from collections.abc import Iterator
from typing import Any

import pytest

from headgate import PluginConfig
from headgate.pdk import InstanceInfo, kong
from headgate.pdk.plugin import remember_instance


@pytest.fixture
def records() -> Iterator[list[Any]]:
    taken: list[Any] = []
    kong.telemetry.set_exporter(lambda message, attributes: taken.append((message, attributes)))
    yield taken
    kong.telemetry.set_exporter(None)


def test_a_record_says_which_plugin_wrote_it(records: list[Any]) -> None:
    config = PluginConfig()
    remember_instance(config, InstanceInfo("the-id", "mine", "name", None, None, None, None, 1))
    assert kong.telemetry.log("mine", config, "kind", "text", {"a": 1}) == (True, None)
    assert records == [
        (
            "text",
            {
                "a": 1,
                "message.type": "kind",
                "plugin.name": "mine",
                "plugin.id": "the-id",
                "plugin.instance.name": "name",
            },
        )
    ]


def test_without_an_exporter_nothing_is_recorded() -> None:
    ok, error = kong.telemetry.log("mine", {}, "kind")
    assert ok is False
    assert (error or "").startswith("Telemetry logging is disabled: log entry will not be recorded.")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((1, {}, "t"), "plugin_name must be a string"),
        (("p", None, "t"), "plugin_config must be a table"),
        (("p", {}, 1), "message_type must be a string"),
        (("p", {}, "t", 1), "message must be a string"),
        (("p", {}, "t", None, 1), "attributes must be a table"),
    ],
)
def test_wrong_arguments_are_told_not_raised(arguments: tuple[Any, ...], text: str) -> None:
    assert kong.telemetry.log(*arguments) == (False, text)


def test_a_failing_exporter_is_not_the_loggers_fault(records: list[Any]) -> None:
    def fail(message: Any, attributes: Any) -> None:
        raise OSError("down")

    kong.telemetry.set_exporter(fail)
    assert kong.telemetry.log("mine", {}, "kind") == (False, "down")
