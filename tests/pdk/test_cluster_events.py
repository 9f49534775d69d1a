"""Messages to the cluster as a plugin sends and gets them; their way is tested in `cluster/test_relay.py`."""

import asyncio
import logging
from typing import Any

import pytest

from headgate.pdk import cluster_events as module
from headgate.pdk._node import node
from headgate.pdk.cluster_events import ClusterEventError, ClusterEvents


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> ClusterEvents:
    made = ClusterEvents()
    monkeypatch.setattr(module, "cluster_events", made)
    monkeypatch.setattr(node, "loop", None)
    monkeypatch.setattr(node, "broadcast", None)
    return made


def test_without_a_control_process_this_one_is_the_cluster(
    events: ClusterEvents, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    got: list[Any] = []

    async def main() -> None:
        over = asyncio.Event()

        async def last(data: Any) -> None:
            got.append(data)
            over.set()

        events.subscribe("mine", lambda data: 1 / 0)
        events.subscribe("mine", last)
        events.broadcast("other", 1)
        events.broadcast("mine", {"a": [1]}, 0.001)
        await asyncio.wait_for(over.wait(), 5)

    asyncio.run(main())
    assert got == [{"a": [1]}]
    assert "subscriber of cluster event mine failed" in caplog.text


def test_in_a_worker_a_message_goes_to_the_control_process(
    events: ClusterEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(node, "broadcast", lambda *event: sent.append(event))
    events.broadcast("mine", "x", 2)
    assert sent == [("mine", "x", 2.0, False)]


def test_arguments_are_checked(events: ClusterEvents) -> None:
    wrong: Any = None
    with pytest.raises(TypeError, match="channel must be a string"):
        events.subscribe(wrong, print)
    with pytest.raises(TypeError, match="callback must be a function"):
        events.subscribe("x", wrong)
    with pytest.raises(TypeError, match="channel must be a string"):
        events.broadcast(wrong, 1)
    with pytest.raises(TypeError, match="delay must be a number"):
        events.broadcast("x", 1, "1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="delay must be a number between 0 and 3600"):
        events.broadcast("x", 1, -1)
    with pytest.raises(ClusterEventError, match="failed to broadcast event: payload exceeds the limitation"):
        events.broadcast("x", "x" * 65_536)
    with pytest.raises(ClusterEventError, match="failed to broadcast event"):
        events.broadcast("x", object())
    with pytest.raises(ClusterEventError, match="need the loop of a worker"):
        events.broadcast("x", 1)
