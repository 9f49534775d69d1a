"""Numbers and identities of node and cluster."""

import pytest

from headgate.pdk import _node, kong
from headgate.testing.plan import MemorySnapshot
from tests.pdk.calls import phase


def test_the_subsystem_is_http_but_for_plain_connections() -> None:
    assert kong.nginx.get_subsystem() == "http"
    with phase("preread"):
        assert kong.nginx.get_subsystem() == "stream"


def test_statistics_come_from_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_node.node, "statistics", None)
    assert kong.nginx.get_statistics()["total_requests"] == 0
    monkeypatch.setattr(_node.node, "statistics", lambda: {"total_requests": 7, "connections_active": 2, "revision": 1})
    statistics = kong.nginx.get_statistics()
    assert (statistics["total_requests"], statistics["connections_active"]) == (7, 2)
    assert len(statistics) == 7


def test_the_cluster_has_an_id_when_the_store_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_node.node, "snapshot", None)
    assert kong.cluster.get_id() is None
    parameters = [{"key": "other", "value": "x"}, {"key": "cluster_id", "value": "the-id"}]
    monkeypatch.setattr(_node.node, "snapshot", MemorySnapshot({"parameters": parameters}))
    assert kong.cluster.get_id() == "the-id"
