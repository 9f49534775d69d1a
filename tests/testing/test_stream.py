"""Handlers of streams, run in memory."""

from typing import Any

import pytest

from headgate import Plugin, PluginConfig, kong
from headgate.errors import PhaseError
from headgate.testing import Stream, run_phase


class Config(PluginConfig):
    """Nothing to configure."""


class Guard(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 1

    record: Any = None

    async def preread(self, conf: Config) -> None:
        if kong.client.get_ip() == "10.0.0.9":
            kong.response.exit(403, {"message": "not you"})
        kong.service.set_target("backend.test", 5432)
        kong.service.request.disable_tls()
        kong.ctx.plugin.subsystem = kong.nginx.get_subsystem()

    def log(self, conf: Config) -> None:
        Guard.record = kong.log.serialize() | {"protocol": kong.client.get_protocol()}


def test_preread_sees_the_stream_and_chooses_its_upstream() -> None:
    result = run_phase(Guard, "preread")
    assert not result.is_exit
    assert result.upstream.target == ("backend.test", 5432)
    assert result.upstream.scheme == "http"
    assert result.ctx.subsystem == "stream"


def test_preread_can_refuse() -> None:
    result = run_phase(Guard, "preread", stream=Stream(client_ip="10.0.0.9"))
    assert (result.is_exit, result.status) == (True, 403)
    assert b"not you" in result.body


@pytest.mark.parametrize("status", [201, 404, "200"])
def test_only_some_statuses_can_end_a_stream(status: Any) -> None:
    class Ending(Plugin[Config]):
        VERSION = "1.0.0"
        PRIORITY = 1

        def preread(self, conf: Config) -> None:
            kong.response.exit(status)

    with pytest.raises((TypeError, ValueError), match=r"code must be a number|unacceptable code, only 200, 400, 403"):
        run_phase(Ending, "preread")


def test_log_has_the_record_of_a_stream() -> None:
    stream = Stream(protocol="tls", server_name="a.test", received=5, sent=7, upstream_received=7, upstream_sent=5)
    run_phase(Guard, "log", stream=stream, service={"protocol": "tls", "name": "database"})
    record = Guard.record
    assert record["session"] == {
        "received": 5,
        "sent": 7,
        "status": 200,
        "server_port": 9000,
        "tls": {"version": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384", "client_verify": "NONE"},
    }
    assert record["upstream"] == {"received": 7, "sent": 5}
    assert (record["protocol"], record["service"]["name"]) == ("tls", "database")
    assert "request" not in record
    assert "response" not in record


def test_requests_are_not_there() -> None:
    class Asking(Plugin[Config]):
        VERSION = "1.0.0"
        PRIORITY = 1

        def log(self, conf: Config) -> None:
            kong.request.get_path()

    with pytest.raises(PhaseError, match="log phase of streams"):
        run_phase(Asking, "log", stream=Stream())
