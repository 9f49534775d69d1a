"""Messages between workers, the link to control replaced by a list."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from headgate.errors import PhaseError
from headgate.pdk import _node, kong, worker_events
from headgate.pdk.worker_events import EVENT_KIND, WorkerEventError, WorkerEvents


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What goes to the control process."""
    made: list[Any] = []
    monkeypatch.setattr(_node.node, "loop", None)
    monkeypatch.setattr(_node.node, "post_event", lambda kind, message: made.append((kind, message)))
    return made


def run(body: Callable[[], object]) -> None:
    async def main() -> None:
        body()
        for _ in range(3):
            await asyncio.sleep(0)

    asyncio.run(main())


def test_the_posters_worker_gets_a_message_at_once_and_the_link_takes_it_to_others(sent: list[Any]) -> None:
    events = WorkerEvents()
    got: list[Any] = []

    async def later(*arguments: Any) -> None:
        got.append(("later", *arguments[:3]))
        with pytest.raises(PhaseError):
            kong.request.get_method()

    events.register(lambda *arguments: got.append(arguments[:3]), "mine", "changed")
    events.register(later, "mine")
    run(lambda: (events.post("mine", "changed", {"a": [1]}), events.post_local("mine", "other"), events.post("x", "y")))
    assert got == [
        ({"a": [1]}, "changed", "mine"),
        ("later", {"a": [1]}, "changed", "mine"),
        ("later", None, "other", "mine"),
    ]
    assert [(kind, message["source"]) for kind, message in sent] == [(EVENT_KIND, "mine"), (EVENT_KIND, "x")]


@pytest.mark.usefixtures("sent")
def test_a_message_of_another_worker_is_delivered_and_ones_own_not_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    events = WorkerEvents()
    monkeypatch.setattr(worker_events, "worker_events", events)
    got: list[Any] = []
    events.register(lambda data, event, source, pid: got.append(pid), "mine")
    mine = worker_events._message("mine", "e", None)
    run(lambda: [worker_events.receive(one) for one in (mine, mine | {"pid": 1})])
    assert got == [1]


@pytest.mark.usefixtures("sent")
def test_a_failing_handler_does_not_keep_others_from_theirs(caplog: pytest.LogCaptureFixture) -> None:
    events = WorkerEvents()
    got: list[Any] = []

    def fail(*arguments: Any) -> None:
        raise ValueError("no")

    def take(*arguments: Any) -> None:
        got.append(arguments)

    for handler in (fail, take):
        events.register(handler, "mine")
    with caplog.at_level(logging.ERROR, "headgate.plugin"):
        run(lambda: events.post("mine", "e"))
    assert len(got) == 1
    assert caplog.messages == ["[kong] handler of worker event mine/e failed"]
    events.unregister(take, "mine")
    run(lambda: events.post("mine", "e"))
    assert len(got) == 1


@pytest.mark.usefixtures("sent")
def test_wrong_messages_are_refused() -> None:
    events = WorkerEvents()
    for call, text in (
        (lambda: events.post(1, "e"), "source must be a string"),  # type: ignore[arg-type]
        (lambda: events.post("s", 1), "event must be a string"),  # type: ignore[arg-type]
        (lambda: events.register(None, "s"), "callback must be a function"),  # type: ignore[arg-type]
        (lambda: events.post("s", "e", "x" * 65_536), "failed to publish event: payload exceeds the limitation"),
        (lambda: events.post("s", "e", object()), "failed to publish event"),
        (lambda: events.post("s", "e"), "there is none here"),
    ):
        with pytest.raises((TypeError, WorkerEventError), match=text):
            call()
