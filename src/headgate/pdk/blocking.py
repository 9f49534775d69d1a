"""`blocking`: the mark of handlers that wait in ways asyncio does not know, such as a library with sockets of its own.

Only the mark is here; `policy.blocking` runs what is marked on a pool of threads.
"""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

Marked = TypeVar("Marked", bound=Callable[..., Any])

MARK = "__headgate_blocking__"


def blocking(marked: Marked) -> Marked:
    """Mark a handler, or with a class all its handlers that are `def`, to run on the worker's thread pool.

    The phase waits for it; other requests go on meanwhile. PDK, order and answers are the same as without the mark.
    Threads are few (setting `blocking_threads`): when all are busy and their queue is full, the request gets 503.

    Raises: TypeError for an `async def`, which belongs on the event loop.
    """
    if inspect.iscoroutinefunction(marked):
        raise TypeError(f"{marked.__qualname__} is async: it waits with await and needs no thread")
    setattr(marked, MARK, True)
    return marked
