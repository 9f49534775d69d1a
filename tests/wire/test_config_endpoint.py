"""A new configuration while serving: in force when answered, or refused whole with every fault."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.documents import catch_all, document, service
from tests.support.gateway import Gateway
from tests.support.http1 import wait_until
from tests.support.load import Load
from tests.support.upstream import Connection, Request, Upstream

SETTINGS = {"workers": 2}


def config(upstream: Upstream) -> dict[str, Any]:
    return catch_all(upstream)


@pytest.fixture(autouse=True)
def original(gateway: Gateway, upstream: Upstream) -> None:
    """Each test begins with the same configuration."""
    assert gateway.load(config(upstream)).status == 201


def _terminating(status: int) -> dict[str, Any]:
    plugin = {"name": "request-termination", "config": {"status_code": status}}
    return document(routes=[{"name": "only", "paths": ["/"], "plugins": [plugin]}])


def test_answer_means_that_every_worker_runs_it(gateway: Gateway) -> None:
    for status in (418, 503, 404, 451):
        assert gateway.load(_terminating(status)).status == 201
        assert {gateway.get("/").status for _ in range(20)} == {status}


def test_json_document_is_read_as_well(gateway: Gateway) -> None:
    body = b'{"_format_version":"3.0","routes":[{"name":"r","paths":["/json"]}]}'
    answer = gateway.admin_request("POST", "/config", body, {"Content-Type": "application/json"})
    assert answer.status == 201
    assert gateway.get("/json").json()["message"] == "no Service found with those values"


def test_document_in_a_config_field_is_read_as_well(gateway: Gateway) -> None:
    body = b'{"config":"_format_version: \\"3.0\\"\\nroutes:\\n- name: r\\n  paths: [/field]\\n"}'
    answer = gateway.admin_request("POST", "/config", body, {"Content-Type": "application/json"})
    assert answer.status == 201
    assert gateway.get("/field").status == 503


def test_every_fault_is_told_and_the_old_configuration_stays(gateway: Gateway) -> None:
    answer = gateway.load(
        {
            "_format_version": "3.0",
            "services": [
                {"name": "good", "host": "example.test"},
                {"name": "no-host", "port": 70000},
                {"name": "bad-protocol", "host": "example.test", "protocol": "gopher"},
            ],
            "plugins": [{"name": "rate-limiting", "config": {"minute": -1}}, {"name": "no-such-plugin"}],
            "wishes": [],
        }
    )
    assert answer.status == 400
    body = answer.json()
    assert (body["code"], body["name"]) == (14, "invalid declarative configuration")
    assert body["message"].startswith("declarative config is invalid: {")
    fields = body["fields"]
    assert fields["services"][1]["host"] == "required field missing"
    assert fields["services"][1]["port"] == "value should be between 0 and 65535"
    assert "protocol" in fields["services"][2]
    assert "plugins" in fields
    assert fields["wishes"] == "unknown field"
    assert gateway.get("/").status == 200


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{not: [yaml", "failed parsing declarative configuration"),
        ("just text", "expected an object"),
        ("services: []", "required field missing"),
        ("_format_version: '9.9'", "expected one of: 1.1, 2.1, 3.0"),
        ("_format_version: 3.0", "expected a string"),
    ],
)
def test_unusable_document_is_refused(gateway: Gateway, text: str, part: str) -> None:
    answer = gateway.load(text)
    assert answer.status == 400
    assert part in answer.body.decode()
    assert gateway.get("/").status == 200


def test_bad_reference_is_refused(gateway: Gateway) -> None:
    answer = gateway.load({"_format_version": "3.0", "routes": [{"name": "r", "paths": ["/"], "service": "ghost"}]})
    assert answer.status == 400
    assert "invalid reference 'service: ghost' (no such entry in 'services')" in answer.body.decode()


def test_router_that_cannot_be_built_leaves_the_old_one(gateway: Gateway) -> None:
    answer = gateway.load({"_format_version": "3.0", "routes": [{"name": "r", "paths": ["~/a("]}]})
    assert answer.status == 400
    assert gateway.get("/").status == 200


@pytest.mark.timeout(60)
def test_swaps_under_load_fail_no_request(gateway: Gateway, upstream: Upstream) -> None:
    def small(request: Request, connection: Connection) -> None:
        connection.respond(b"ok")

    path = upstream.script(small)
    with Load(gateway.client, path) as load:
        assert load.wait_for(100)
        for number in range(10):
            loaded = gateway.load(document(services=[service(upstream, tags=[f"revision-{number}"])]))
            assert loaded.status == 201
            assert load.wait_for(50)
    assert load.outcome.failed == []


def test_request_in_flight_finishes_on_the_configuration_it_began_with(gateway: Gateway, upstream: Upstream) -> None:
    statuses: list[int] = []

    def reloads(request: Request, connection: Connection) -> None:
        statuses.append(gateway.load(_terminating(503)).status)
        connection.respond(b"old")

    path = upstream.script(reloads)
    assert gateway.get(path).body == b"old"
    assert statuses == [201]
    assert gateway.get(path).status == 503


def test_loaded_entities_are_listed(gateway: Gateway) -> None:
    listed = gateway.admin_request("GET", "/services").json()
    assert [entity["name"] for entity in listed["data"]] == ["main"]
    assert gateway.admin_request("GET", "/services/main").json()["name"] == "main"
    assert gateway.admin_request("GET", "/services/ghost").status == 404
    assert gateway.admin_request("GET", "/schemas/services").status == 200
    assert gateway.admin_request("GET", "/schemas/plugins/key-auth").status == 200


def test_node_information_tells_version_and_status(gateway: Gateway) -> None:
    information = gateway.admin_request("GET", "/").json()
    assert "version" in information
    assert "rate-limiting" in information["plugins"]["available_on_server"]
    status = gateway.admin_request("GET", "/status").json()
    assert len(status["configuration_hash"]) == 32
    assert status["server"]["total_requests"] >= 0


def test_entities_cannot_be_written_without_a_database(gateway: Gateway) -> None:
    answer = gateway.admin_request("POST", "/services", b'{"name":"x"}', {"Content-Type": "application/json"})
    assert answer.status == 405


SLOW_PLUGIN = """
import contextlib
from pathlib import Path

from headgate import Plugin, PluginConfig

here = Path(__file__).parent
with contextlib.suppress(FileNotFoundError):
    gate = here / "gate"
    if gate.exists():
        (here / "began").touch()
        gate.read_bytes()


class Handler(Plugin[PluginConfig]):
    VERSION = "1.0.0"
    PRIORITY = 10
"""


@pytest.mark.timeout(90)
def test_document_posted_during_a_reload_is_in_force_after_it(upstream: Upstream, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW_PLUGIN, encoding="utf-8")
    with Gateway(config(upstream), plugin_path=tmp_path, plugins="bundled,slow") as node:
        os.mkfifo(tmp_path / "gate")
        (old,) = node.worker_pids
        node.signal(signal.SIGHUP)
        # The new processes load their plugins, and wait there.
        assert wait_until((tmp_path / "began").exists, 20)
        assert node.load(_terminating(418)).status == 201
        assert node.get("/").status == 418
        with (tmp_path / "gate").open("wb"):
            (tmp_path / "gate").unlink()
        assert wait_until(lambda: old not in node.worker_pids, 20)
        assert wait_until(lambda: node.get("/").status == 418, 20)
        assert node.load(_terminating(451)).status == 201
        assert node.get("/").status == 451
