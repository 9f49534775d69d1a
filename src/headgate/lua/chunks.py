"""The chunks of body_filter as Lua code gets them: the end of a body comes alone, as an empty chunk.

Plugins written for nginx rely on it: many keep each chunk that is not the last, and put all of them in the place of the
last one without looking at what is in it. The engine's last chunk has data as a rule; it is shown in two calls, and
what came of both goes on as one.
"""

from collections.abc import Callable
from typing import Any

from headgate.pdk._call import current_call

Run = Callable[[], Any]


def in_pieces(run: Run) -> Any:
    """Run body_filter for the present chunk. Args: run, returns None when it is over or something to await."""
    call = current_call.get()
    if call is None or call.exchange is None:
        return run()
    exchange = call.exchange
    chunk, is_last = exchange.response_chunk()
    if not (is_last and chunk):
        return run()
    exchange.set_response_chunk(chunk, False)
    waiting = run()
    if waiting is not None:
        return _after(waiting, exchange, run)
    waiting = _begin_end(exchange, run)
    return None if waiting is None else waiting


def _begin_end(exchange: Any, run: Run) -> Any:
    head, is_over = exchange.response_chunk()
    if is_over:
        return None
    exchange.set_response_chunk(b"", True)
    waiting = run()
    if waiting is not None:
        return _joined(waiting, exchange, head)
    _join(exchange, head)
    return None


def _join(exchange: Any, head: bytes) -> None:
    if head:
        tail, is_last = exchange.response_chunk()
        exchange.set_response_chunk(head + tail, is_last)


async def _joined(waiting: Any, exchange: Any, head: bytes) -> None:
    await waiting
    _join(exchange, head)


async def _after(waiting: Any, exchange: Any, run: Run) -> None:
    await waiting
    rest = _begin_end(exchange, run)
    if rest is not None:
        await rest
