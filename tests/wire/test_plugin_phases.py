"""Handlers of every phase end to end: order, what they may do, what happens when they raise or answer."""

import contextlib
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import insecure_context
from tests.support.documents import catch_all
from tests.support.gateway import PLUGIN_DIRECTORY, Gateway
from tests.support.http1 import Client, Truncated, wait_until
from tests.support.upstream import Upstream

SETTINGS = {"plugins": "bundled,probe,probe-async,probe-response", "plugin_path": PLUGIN_DIRECTORY}
REQUEST_PHASES = ["rewrite", "access", "header_filter", "body_filter", "log"]


def config(upstream: Upstream) -> dict[str, Any]:
    return catch_all(upstream)


class Reports:
    """What the probe tells."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(10)

    def next(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self._socket.recv(65536))
        return report

    def until(self, phase: str) -> list[dict[str, Any]]:
        """Return all reports up to the first of this phase."""
        found = [self.next()]
        while found[-1]["phase"] != phase:
            found.append(self.next())
        return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def reports(tmp_path: Path) -> Iterator[Reports]:
    with contextlib.closing(Reports(tmp_path / "reports")) as opened:
        yield opened


def _load(gateway: Gateway, upstream: Upstream, *plugins: dict[str, Any]) -> None:
    response = gateway.load(catch_all(upstream, plugins=list(plugins)))
    assert response.status == 201, response.body


def _phases(reports: list[dict[str, Any]]) -> list[str]:
    """The phases in order, consecutive repeats (chunks) as one."""
    names = [report["phase"] for report in reports]
    return [name for index, name in enumerate(names) if index == 0 or names[index - 1] != name]


def test_phases_run_in_order_and_share_their_context(gateway: Gateway, upstream: Upstream, reports: Reports) -> None:
    _load(gateway, upstream, {"name": "probe", "config": {"report_to": reports.path}})
    response = gateway.get("/some/path")
    seen = reports.until("log")
    assert _phases(seen) == REQUEST_PHASES
    assert seen[0]["path"] == "/some/path"
    assert seen[1]["route"] == "all"
    assert seen[-1]["seen"][:3] == ["rewrite", "access", "header_filter"]
    assert seen[-1]["source"] == "service"
    assert response.headers["X-Probe"] == "probe"
    assert ["X-Probe", "probe"] in response.json()["headers"]


def test_coroutines_run_in_every_phase(gateway: Gateway, upstream: Upstream) -> None:
    _load(gateway, upstream, {"name": "probe-async"})
    path = upstream.script(lambda request, connection: connection.respond(b"body"))
    with gateway.client() as client:
        for _ in range(5):
            response = client.request("GET", path)
            assert response.headers["X-Async"] == "rewrite,access,header_filter"
            assert response.body == b"body and more"
    assert upstream.requests_to(path)[0].headers["X-Async"] == "access"


def test_plain_and_coroutine_handlers_mix_in_priority_order(
    gateway: Gateway, upstream: Upstream, reports: Reports
) -> None:
    _load(
        gateway,
        upstream,
        {"name": "probe", "config": {"report_to": reports.path}},
        {"name": "probe-async"},
        {"name": "key-auth", "enabled": False},
    )
    assert gateway.get("/").status == 200
    assert _phases(reports.until("log")) == REQUEST_PHASES


@pytest.mark.parametrize("is_async", [False, True])
def test_response_handler_sees_the_whole_body(gateway: Gateway, upstream: Upstream, is_async: bool) -> None:
    _load(gateway, upstream, {"name": "probe-response", "config": {"is_async": is_async}})
    body = b"x" * 100_000
    path = upstream.script(lambda request, connection: connection.respond(body))
    response = gateway.get(path)
    assert response.headers["X-Body-Bytes"] == "100000"
    assert response.body == body


def test_response_handler_may_replace_the_response(gateway: Gateway, upstream: Upstream) -> None:
    _load(gateway, upstream, {"name": "probe-response", "config": {"exit_in": "response"}})
    path = upstream.script(lambda request, connection: connection.respond(b"12345"))
    response = gateway.get(path)
    assert response.status == 299
    assert response.json() == {"answered_in": "response", "upstream_bytes": 5}


@pytest.mark.parametrize("plugin", ["probe", "probe-async"])
@pytest.mark.parametrize("phase", ["rewrite", "access"])
def test_answer_before_proxying_spares_the_upstream(
    gateway: Gateway, upstream: Upstream, plugin: str, phase: str
) -> None:
    _load(gateway, upstream, {"name": plugin, "config": {"exit_in": phase}})
    response = gateway.get("/never-proxied")
    assert response.status == 299
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    assert b"answered_in" in response.body
    assert upstream.requests_to("/never-proxied") == []


def test_answer_in_access_still_runs_the_filters_and_log(
    gateway: Gateway, upstream: Upstream, reports: Reports
) -> None:
    _load(gateway, upstream, {"name": "probe", "config": {"report_to": reports.path, "exit_in": "access"}})
    response = gateway.get("/")
    assert response.headers["X-Answered-In"] == "access"
    assert response.headers["X-Probe"] == "probe"
    seen = reports.until("log")
    assert _phases(seen) == REQUEST_PHASES
    assert seen[-1]["source"] == "exit"


def test_answer_in_header_filter_replaces_status_and_body(gateway: Gateway, upstream: Upstream) -> None:
    _load(gateway, upstream, {"name": "probe", "config": {"exit_in": "header_filter"}}, {"name": "probe-async"})
    response = gateway.get("/")
    assert response.status == 299
    # Later plugins still run.
    assert "X-Async" in response.headers
    assert b'"answered_in":"header_filter"' in response.body.replace(b" ", b"")


@pytest.mark.parametrize(
    ("plugin", "phase"),
    [("probe", "rewrite"), ("probe", "access"), ("probe-async", "rewrite"), ("probe-async", "access")],
)
def test_raise_before_proxying_gives_500_and_spares_the_upstream(
    gateway: Gateway, upstream: Upstream, plugin: str, phase: str
) -> None:
    _load(gateway, upstream, {"name": plugin, "config": {"raise_in": phase}})
    with gateway.client() as client:
        response = client.request("GET", "/raised-before", {"Accept": "application/json"})
        assert response.status == 500
        # Filters still run on the answer, and this coroutine's adds to it: the text is looked for, not parsed.
        assert b'"message":"An unexpected error occurred"' in response.body
        assert b"told to raise" not in response.body
        assert client.request("GET", "/raised-before", {"Accept": "application/json"}).status == 500
    assert upstream.requests_to("/raised-before") == []
    assert wait_until(lambda: f"ValueError: told to raise in {phase}" in gateway.output())


def test_raise_is_logged_with_the_instance_id_and_traceback(gateway: Gateway, upstream: Upstream) -> None:
    instance = "5b3ad9d7-9e2a-4b6c-9d0f-2c8f6f0a1234"
    _load(gateway, upstream, {"id": instance, "name": "probe", "config": {"raise_in": "access"}})
    assert gateway.get("/").status == 500
    assert wait_until(lambda: instance in gateway.output())
    assert "Traceback (most recent call last)" in gateway.output()
    assert "probe.py" in gateway.output()


def test_raise_in_response_gives_500(gateway: Gateway, upstream: Upstream) -> None:
    _load(gateway, upstream, {"name": "probe-response", "config": {"raise_in": "response"}})
    assert gateway.get("/").status == 500


@pytest.mark.parametrize("plugin", ["probe", "probe-async"])
def test_raise_in_header_filter_never_lets_the_response_pass(gateway: Gateway, upstream: Upstream, plugin: str) -> None:
    _load(gateway, upstream, {"name": plugin, "config": {"raise_in": "header_filter"}})
    path = upstream.script(lambda request, connection: connection.respond(b"secret"))
    with gateway.client() as client:
        try:
            response = client.request("GET", path)
        except Truncated as cut:
            assert cut.received == b""
        else:
            assert response.status == 500
            assert b"secret" not in response.body


@pytest.mark.parametrize("plugin", ["probe", "probe-async"])
def test_raise_in_body_filter_truncates_the_response(gateway: Gateway, upstream: Upstream, plugin: str) -> None:
    _load(gateway, upstream, {"name": plugin, "config": {"raise_in": "body_filter"}})
    with gateway.client() as client, pytest.raises(Truncated):
        client.request("GET", "/")


@pytest.mark.parametrize("plugin", ["probe", "probe-async"])
def test_raise_in_log_is_not_seen_by_the_client(gateway: Gateway, upstream: Upstream, plugin: str) -> None:
    _load(gateway, upstream, {"name": plugin, "config": {"raise_in": "log"}})
    with gateway.client() as client:
        assert client.request("GET", "/").status == 200
        assert client.request("GET", "/").status == 200
    assert wait_until(lambda: "told to raise in log" in gateway.output())


def test_certificate_phase_runs_once_per_handshake(gateway: Gateway, upstream: Upstream, reports: Reports) -> None:
    _load(gateway, upstream, {"name": "probe", "config": {"report_to": reports.path}})
    with Client(gateway.tls, tls=insecure_context(), server_name="a.test") as client:
        assert client.request("GET", "/").status == 200
        assert client.request("GET", "/").status == 200
    seen = reports.until("log") + reports.until("log")
    assert [report["phase"] for report in seen].count("certificate") == 1
    assert seen[0]["phase"] == "certificate"


def test_raise_in_certificate_fails_the_handshake(gateway: Gateway, upstream: Upstream) -> None:
    _load(gateway, upstream, {"name": "probe", "config": {"raise_in": "certificate"}})
    with pytest.raises((ssl.SSLError, ConnectionError)):
        Client(gateway.tls, tls=insecure_context(), server_name="a.test").close()
    assert gateway.get("/").status == 200


def test_log_runs_when_the_client_left(gateway: Gateway, upstream: Upstream, reports: Reports) -> None:
    _load(gateway, upstream, {"name": "probe", "config": {"report_to": reports.path}})
    path = upstream.script(lambda request, connection: connection.wait_for_end() and None)
    with gateway.client() as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert reports.until("access")
    assert reports.until("log")[-1]["status"] == 499


def test_unmatched_request_runs_global_plugins_only_outside_access(
    gateway: Gateway, upstream: Upstream, reports: Reports
) -> None:
    probe = {"name": "probe", "config": {"report_to": reports.path}}
    document = catch_all(upstream, plugins=[probe])
    document["services"][0]["routes"][0]["paths"] = ["/only-this"]
    assert gateway.load(document).status == 201
    assert gateway.get("/something-else").status == 404
    assert _phases(reports.until("log")) == ["rewrite", "header_filter", "body_filter", "log"]
