"""correlation-id: the id's forms and where it goes."""

import os
import re
from typing import Any

import pytest

from headgate.plugins.correlation_id import Handler
from tests.plugins.scene import Scene

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


def play(config: dict[str, Any] | None = None, **request: Any) -> Scene:
    return Scene(Handler, config or {}, **request).access()


@pytest.mark.parametrize(
    ("generator", "pattern"),
    [
        ("uuid", UUID),
        ("uuid#counter", UUID + "#1"),
        ("tracker", rf"[0-9.]+-\d+-{os.getpid()}-\d+-1-\d+\.\d{{3}}"),
    ],
    ids=["uuid", "uuid#counter", "tracker"],
)
def test_a_request_without_an_id_gets_one(generator: str, pattern: str) -> None:
    [correlation_id] = play({"generator": generator}).sent("Kong-Request-ID")
    assert re.fullmatch(pattern, correlation_id)


def test_the_counter_goes_up_in_one_worker() -> None:
    handler = Handler()
    ids = [play(handler=handler).sent("Kong-Request-ID")[0] for _ in range(3)]
    assert [correlation_id.partition("#")[2] for correlation_id in ids] == ["1", "2", "3"]
    assert len({correlation_id.partition("#")[0] for correlation_id in ids}) == 1


def test_workers_have_series_of_their_own() -> None:
    handler = Handler()
    before = play(handler=handler).sent("Kong-Request-ID")
    handler.init_worker()
    assert play(handler=handler).sent("Kong-Request-ID") != before


def test_an_id_that_came_is_kept_under_the_configured_name() -> None:
    assert play({"header_name": "X-Trace"}, headers=[("x-trace", "given")]).sent("X-Trace") == ["given"]


def test_an_empty_id_is_replaced() -> None:
    assert play(headers=[("Kong-Request-ID", "")]).sent("Kong-Request-ID") != [""]


def test_the_log_record_holds_the_id() -> None:
    assert play(headers=[("Kong-Request-ID", "given")]).serialize_values == [("correlation_id", "given")]


def test_the_id_is_echoed_only_when_asked() -> None:
    played = play({"echo_downstream": True}, headers=[("Kong-Request-ID", "given")]).header_filter()
    assert played.client_headers["kong-request-id"] == "given"
    played = play(headers=[("Kong-Request-ID", "given")]).header_filter()
    assert "kong-request-id" not in played.client_headers


def test_a_generated_id_is_echoed_unchanged() -> None:
    played = play({"echo_downstream": True}).header_filter()
    assert [played.client_headers["kong-request-id"]] == played.sent("Kong-Request-ID")


def test_a_request_that_never_came_to_access_is_given_an_id_for_the_client() -> None:
    played = Scene(Handler, {"echo_downstream": True, "generator": "uuid"}).header_filter()
    assert re.fullmatch(UUID, played.client_headers["kong-request-id"])
