"""The thread pool of handlers marked `blocking`: bounded in threads and in what may wait for one.

Owns one pool per worker, made on first use, and the binding of a handler's methods (`bound`). A handler on a thread
has the request's context, so the PDK works there as elsewhere; the phase waits for it on the event loop. Threads do not
keep a stopping worker alive.
"""

import asyncio
import contextlib
import inspect
import queue
import threading
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any, TypeAlias

from headgate.errors import GatewayError
from headgate.pdk._call import current_call
from headgate.pdk.blocking import MARK

DEFAULT_THREADS = 8
WAITING_PER_THREAD = 16
"""How many handlers may wait per thread (own choice: at 50 ms each the last one waits for less than a second)."""

Handle: TypeAlias = Callable[..., Any]
_Job: TypeAlias = Callable[[], None]


class BlockingQueueFullError(GatewayError):
    """All threads are busy and as many handlers wait as may."""


class BlockingPool:
    """Threads for blocking handlers, started one by one as they are needed."""

    def __init__(self, threads: int = DEFAULT_THREADS, waiting: int | None = None) -> None:
        self._most_threads = threads
        self._most_jobs = threads + (threads * WAITING_PER_THREAD if waiting is None else waiting)
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._unfinished = 0
        self._threads = 0

    async def run(self, handle: Handle, *arguments: Any) -> Any:
        """Run a handler on a thread, in a copy of the present context, and return what it returns.

        Raises: BlockingQueueFullError; whatever the handler raises, `Exit` too.
        """
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()
        context = copy_context()

        def work() -> None:
            returned, raised = None, None
            try:
                returned = context.run(handle, *arguments)
            except BaseException as error:
                raised = error
            finally:
                with self._lock:
                    self._unfinished -= 1
            # The loop is closed when the worker has stopped meanwhile.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, outcome, (returned, raised))

        call = current_call.get()
        if call is not None:
            call.suspend = lambda limit_bytes: asyncio.run_coroutine_threadsafe(
                _read_body(call.exchange, limit_bytes), loop
            ).result()
        try:
            self._start(work)
            returned, raised = await outcome
        finally:
            if call is not None:
                call.suspend = None
        if raised is not None:
            raise raised
        return returned

    def _start(self, work: _Job) -> None:
        with self._lock:
            if self._unfinished >= self._most_jobs:
                raise BlockingQueueFullError(
                    f"all {self._most_threads} threads for blocking handlers are busy and "
                    f"{self._most_jobs - self._most_threads} handlers wait; see the setting blocking_threads"
                )
            self._unfinished += 1
            is_thread_needed = self._threads < min(self._unfinished, self._most_threads)
            self._threads += is_thread_needed
        if is_thread_needed:
            threading.Thread(target=self._serve, name="headgate-blocking", daemon=True).start()
        self._jobs.put(work)

    def _serve(self) -> None:
        while True:
            self._jobs.get()()


async def _read_body(exchange: Any, limit_bytes: int) -> Any:
    return await exchange.read_request_body(limit_bytes)


def _settle(outcome: "asyncio.Future[Any]", result: Any) -> None:
    # A handler that took longer than it may has nobody waiting any more.
    if not outcome.done():
        outcome.set_result(result)


_pool = BlockingPool()


def configure_pool(threads: int) -> None:
    """Set the size of this process's pool; at its start, before any handler runs."""
    global _pool
    _pool = BlockingPool(threads)


def bound(handler: Any, method: str) -> Handle | None:
    """Return a handler's method ready to be called: on the pool when it is marked; None when it has none."""
    handle: Handle | None = getattr(handler, method, None)
    if handle is None or inspect.iscoroutinefunction(handle):
        return handle
    if not (getattr(handle, MARK, False) or getattr(type(handler), MARK, False)):
        return handle
    blocking_handle = handle

    def on_pool(*arguments: Any) -> Coroutine[Any, Any, Any]:
        return _pool.run(blocking_handle, *arguments)

    return on_pool
