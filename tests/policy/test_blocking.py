"""The pool of blocking handlers: threads, order of phases, the PDK on a thread, a full queue."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from headgate import blocking
from headgate.pdk import Plugin, kong
from headgate.pdk._call import Call, current_call
from headgate.policy import blocking as pool_module
from headgate.policy.blocking import BlockingPool, BlockingQueueFullError, bound, configure_pool
from headgate.testing import Request
from tests.policy.plans import Config
from tests.policy.test_runner import run, world_of

threads: list[threading.Thread] = []


@pytest.fixture(autouse=True)
def _fresh_pool() -> Iterator[None]:
    threads.clear()
    before = pool_module._pool
    configure_pool(2)
    yield
    pool_module._pool = before


@blocking
class Waiting(Plugin[Config]):
    """Everything on the pool."""

    VERSION = "1.0.0"
    PRIORITY = 10

    def access(self, conf: Config) -> None:
        threads.append(threading.current_thread())
        kong.ctx.plugin.body = kong.request.get_raw_body().decode()
        kong.service.request.set_header("X-From-Pool", conf.label)
        if conf.action == "exit":
            kong.response.exit(403, {"message": conf.label})
        if conf.action == "raise":
            raise RuntimeError("broken on the pool")

    def header_filter(self, conf: Config) -> None:
        threads.append(threading.current_thread())
        kong.response.set_header("X-Body", kong.ctx.plugin.body or "none")


class OneBlockingMethod(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 1

    def access(self, conf: Config) -> None:
        threads.append(threading.current_thread())

    @blocking
    def log(self, conf: Config) -> None:
        threads.append(threading.current_thread())


def on_pool() -> list[bool]:
    return [thread.name == "headgate-blocking" for thread in threads]


def test_a_marked_class_runs_on_the_pool_with_the_pdk_and_the_waiting_body() -> None:
    done = run(world_of(Waiting, {"label": "a"}), Request(method="POST", body=b"hello", is_body_read=False))
    assert on_pool() == [True, True]
    assert done.get_request_header("x-from-pool") == "a"
    assert done.get_response_header("x-body") == "hello"
    assert done.response_status == 200


def test_only_marked_methods_leave_the_thread() -> None:
    run(world_of(OneBlockingMethod, {}))
    assert on_pool() == [False, True]
    assert threads[0] is threading.current_thread()


def test_an_exit_on_the_pool_answers_and_ends_the_phase() -> None:
    done = run(world_of(Waiting, {"label": "a", "action": "exit"}, {"label": "b"}))
    assert done.response_status == 403
    assert done.get_request_header("x-from-pool") == "a"


def test_a_fault_on_the_pool_is_500_with_the_plugins_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    assert run(world_of(Waiting, {"label": "a", "action": "raise"})).response_status == 500
    assert "test_blocking.py" in caplog.text
    assert "broken on the pool" in caplog.text


def test_a_full_queue_is_503_with_a_log_line(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_pool", BlockingPool(1, waiting=-1))
    done = run(world_of(Waiting, {"label": "a"}))
    assert done.response_status == 503
    assert "see the setting blocking_threads" in caplog.text
    assert threads == []


def test_threads_and_waiting_handlers_are_bounded() -> None:
    async def fill() -> tuple[list[Any], set[threading.Thread]]:
        pool, gate = BlockingPool(2, waiting=1), threading.Event()
        seen: set[threading.Thread] = set()

        def wait() -> str:
            seen.add(threading.current_thread())
            gate.wait(10)
            return "done"

        running = [asyncio.ensure_future(pool.run(wait)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(BlockingQueueFullError, match="all 2 threads"):
            await pool.run(wait)
        gate.set()
        outcomes = await asyncio.gather(*running)
        return [*outcomes, await pool.run(wait)], seen

    outcomes, seen = asyncio.run(fill())
    assert outcomes == ["done"] * 4
    assert len(seen) <= 2


def test_a_handler_sees_the_call_of_its_request() -> None:
    async def ask() -> Any:
        call = Call(None, 0)  # type: ignore[arg-type]
        current_call.set(call)
        return await BlockingPool(1).run(current_call.get) is call

    assert asyncio.run(ask())


def test_async_handlers_cannot_be_marked_and_stay_on_the_loop_in_a_marked_class() -> None:
    async def access() -> None: ...

    with pytest.raises(TypeError, match="is async"):
        blocking(access)

    @blocking
    class Mixed(Plugin[Config]):
        async def log(self, conf: Config) -> None: ...

    handler = Mixed()
    assert bound(handler, "log") == handler.log
    assert bound(handler, "access") is None
