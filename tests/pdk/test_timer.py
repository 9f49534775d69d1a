"""Timers on a loop of the test's own."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from headgate.errors import PhaseError
from headgate.pdk import _node, kong
from headgate.pdk._call import Call, current_call
from headgate.pdk.timer import TimerError, TimerModule


def run(body: Callable[[TimerModule], Any]) -> Any:
    async def main() -> Any:
        return await asyncio.wait_for(body(TimerModule()), 10)

    return asyncio.run(main())


def test_a_function_runs_once_with_its_arguments_and_without_a_phase() -> None:
    seen: list[Any] = []

    async def body(timer: TimerModule) -> None:
        done = asyncio.Event()

        async def fire(*arguments: Any) -> None:
            seen.append(arguments)
            with pytest.raises(PhaseError):
                kong.request.get_method()
            done.set()

        token = current_call.set(Call(None, 16))  # type: ignore[arg-type]
        name = timer.at(0, fire, 1, "two")
        current_call.reset(token)
        assert timer.stats()["sys"]["total"] == 1
        await done.wait()
        await asyncio.sleep(0)
        assert timer.cancel(name) is False
        assert timer.stats() == {"sys": {"running": 0, "waiting": 0, "total": 0, "runs": 1}, "timers": {}}

    run(body)
    assert seen == [(1, "two")]


def test_a_repeating_one_goes_on_after_a_fault_until_it_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    async def body(timer: TimerModule) -> None:
        done = asyncio.Event()
        runs = 0

        def fire() -> None:
            nonlocal runs
            runs += 1
            if runs == 1:
                raise ValueError("first")
            done.set()

        assert timer.named_every("mine", 0.001, fire) == "mine"
        with pytest.raises(TimerError, match="timer 'mine' exists already"):
            timer.named_at("mine", 1, fire)
        await done.wait()
        await asyncio.sleep(0)
        assert timer.stats()["timers"]["mine"]["faults"] == 1
        assert timer.cancel("mine") is True
        assert timer.stats()["sys"]["total"] == 0

    with caplog.at_level(logging.ERROR, "headgate.plugin"):
        run(body)
    assert caplog.messages == ["[kong] timer 'mine' failed"]


def test_no_more_timers_than_the_setting_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_node.node, "max_timers", 2)

    async def body(timer: TimerModule) -> None:
        timer.named_at("a", 60, print)
        timer.every(60, print)
        with pytest.raises(TimerError, match=r"^too many pending timers$"):
            timer.at(60, print)
        assert timer.cancel("a")
        timer.at(60, print)

    run(body)


def test_other_threads_start_timers_on_the_workers_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(timer: TimerModule) -> None:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(_node.node, "loop", loop)
        done = asyncio.Event()
        await asyncio.to_thread(timer.at, 0, done.set)
        await done.wait()

    run(body)


def test_wrong_arguments_are_refused() -> None:
    async def body(timer: TimerModule) -> None:
        for call, text in (
            (lambda: timer.at("1", print), "delay must be a number"),  # type: ignore[arg-type]
            (lambda: timer.at(-1, print), "delay must be greater than or equal to 0"),
            (lambda: timer.every(0, print), "interval must be greater than 0"),
            (lambda: timer.at(0, None), "callback must be a function"),  # type: ignore[arg-type]
            (lambda: timer.cancel(1), "name must be a string"),  # type: ignore[arg-type]
        ):
            with pytest.raises((TypeError, ValueError)) as caught:
                call()
            assert str(caught.value) == text

    run(body)


def test_without_a_loop_there_are_no_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_node.node, "loop", None)
    with pytest.raises(TimerError):
        TimerModule().at(0, print)
