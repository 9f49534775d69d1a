"""kong.log."""

import logging
from typing import Any

import pytest

from headgate.pdk import kong
from headgate.pdk.plugin import InstanceInfo
from headgate.testing import Request, Upstream
from tests.pdk.calls import continued, phase

INSTANCE = InstanceInfo("id", "my-plugin", None, None, None, None, None, 1)


@pytest.fixture(autouse=True)
def _at_notice(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(25, "headgate.plugin")


def test_parts_are_joined_and_the_caller_is_named(caplog: pytest.LogCaptureFixture) -> None:
    kong.log("a", 1, None, True, b"b")
    assert caplog.messages[0].startswith("[kong] test_log.py:")
    assert caplog.messages[0].endswith(" a1niltrueb")


@pytest.mark.parametrize(
    ("function", "level"),
    [("notice", 25), ("warn", 30), ("err", 40), ("crit", 50), ("alert", 60), ("emerg", 70)],
)
def test_levels(caplog: pytest.LogCaptureFixture, function: str, level: int) -> None:
    getattr(kong.log, function)("x")
    assert [record.levelno for record in caplog.records] == [level]


def test_arguments_are_not_converted_below_the_level(caplog: pytest.LogCaptureFixture) -> None:
    class Expensive:
        def __str__(self) -> str:
            raise AssertionError("converted")

    kong.log.debug(Expensive())
    kong.log.info(Expensive())
    assert caplog.messages == []


def test_lines_of_a_plugin_have_its_name_and_the_request_id(caplog: pytest.LogCaptureFixture) -> None:
    with phase("access") as exchange:
        exchange.state.instance = INSTANCE
        kong.log.warn("hello")
    [record] = caplog.records
    assert "[my-plugin] hello" in record.getMessage()
    assert (record.request_id, record.plugin) == (exchange.id, "my-plugin")  # type: ignore[attr-defined]


def test_a_logger_of_its_own_has_namespace_and_format(caplog: pytest.LogCaptureFixture) -> None:
    logger = kong.log.new("space", "%namespace: %message %message %%message %func_name")
    logger.warn("x")
    logger.set_format()
    logger.warn("y")
    assert caplog.messages[0] == ("[kong] space: x x %%message test_a_logger_of_its_own_has_namespace_and_format")
    assert caplog.messages[1].endswith(" [space] y")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((1,), "namespace must be a string"),
        (("",), "namespace cannot be an empty string"),
        (("a", 1), "format must be a string if specified"),
        (("a", ""), "format cannot be an empty string if specified"),
    ],
)
def test_wrong_arguments_of_new(arguments: tuple[Any, ...], text: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        kong.log.new(*arguments)
    assert str(caught.value) == text


def test_deprecation_says_since_and_until_when(caplog: pytest.LogCaptureFixture) -> None:
    kong.log.deprecation("old", {"after": "1.0", "removal": "2.0"})
    kong.log.deprecation("older", {"removal": "2.0"})
    assert caplog.messages[0].endswith("old (deprecated after 1.0, scheduled for removal in 2.0)")
    assert caplog.messages[1].endswith("older (scheduled for removal in 2.0)")
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_inspect_draws_a_frame_and_can_be_switched_off(caplog: pytest.LogCaptureFixture) -> None:
    logger = kong.log.new("space")
    logger.inspect({"a": "x" * 200}, "text")
    assert caplog.messages[0].startswith("[kong] test_log.py:test_inspect_draws_a_frame_and_can_be_switched_off:")
    assert caplog.messages[0].endswith("-+")
    assert {len(line) for line in caplog.messages[1:]} == {122}
    caplog.clear()
    logger.inspect.off()
    logger.inspect("nothing")
    assert caplog.messages == []


def record_of(*values: tuple[Any, ...], request: Request | None = None) -> dict[str, Any]:
    with phase("access", request, Upstream(200, {"X-Up": "1"}), service={"name": "s"}) as exchange:
        for arguments in values:
            kong.log.set_serialize_value(*arguments)
    with continued(exchange, "log"):
        return kong.log.serialize()


def test_the_record_hides_credentials() -> None:
    headers = {"Authorization": "Basic secret", "Proxy-Authorization": "secret", "X-Other": "1"}
    found = record_of(request=Request(headers=headers))["request"]["headers"]
    assert (found["authorization"], found["proxy-authorization"], found["x-other"]) == ("REDACTED", "REDACTED", "1")


def test_the_record_of_a_proxied_request() -> None:
    record = record_of(request=Request(path="/p?a=1", host="h"))
    assert record["request"]["url"] == "http://h:8000/p?a=1"
    assert record["request"]["querystring"] == {"a": "1"}
    assert record["response"]["headers"] == {"x-up": "1"}
    assert (record["source"], record["upstream_status"], record["upstream_uri"]) == ("upstream", "200", "/p?a=1")
    assert record["service"]["name"] == "s"
    assert record["workspace_name"] == "default"
    assert "consumer" not in record
    assert "tls" not in record["request"]


def test_values_are_applied_in_order_with_their_mode() -> None:
    record = record_of(
        ("a.b.c", 1),
        ("a.b.c", 2, {"mode": "add"}),
        ("a.b.d", 3, {"mode": "replace"}),
        ("e.f", 4, {"mode": "replace"}),
        (r"g\.h", 5),
        (".i", 6),
        ("client_ip", None),
        ("source", "me", {"mode": "replace"}),
    )
    assert record["a"] == {"b": {"c": 1}}
    assert "e" not in record
    assert (record["g.h"], record[".i"], record["source"]) == (5, 6, "me")
    assert "client_ip" not in record


def test_a_value_below_something_that_is_no_table_is_refused_when_serialising() -> None:
    with pytest.raises(ValueError) as caught:
        record_of(("client_ip.x", 1))
    assert str(caught.value) == (
        "The key 'client_ip.x' could not be used as a serialize value. "
        "Subkey 'client_ip' is not a table. It's 127.0.0.1"
    )


def test_values_that_cannot_be_serialised_are_refused() -> None:
    endless: dict[str, Any] = {}
    endless["self"] = endless
    for value in (print, object(), endless, {None: 1}):
        with pytest.raises(
            ValueError, match=r"^value must be nil, a number, string, boolean or a non-self-referencial"
        ):
            record_of(("x", value))


def test_wrong_arguments_of_set_serialize_value() -> None:
    with phase("access"):
        with pytest.raises(TypeError, match=r"^key must be a string$"):
            kong.log.set_serialize_value(1, 1)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"^mode must be 'set', 'add' or 'replace'$"):
            kong.log.set_serialize_value("a", 1, {"mode": "x"})
