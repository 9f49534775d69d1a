"""The runtime: what the engine calls for each phase, and what a worker calls at its start and for each new plan.

Runs handlers in order and decides what an early answer or a raised exception means for the rest (reference: phases
3-9).
Handlers that are `def` run at once on the engine thread; at the first awaitable the rest of the phase becomes one
coroutine for the worker's loop. It is the only place that catches `Exit` and what plugins raise.

Better than the reference in two points: a raised exception in `log` does not keep later plugins from logging, and one
in
`header_filter` answers 500 where the head is not out yet, instead of cutting the connection.
"""

import asyncio
import inspect
import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from time import perf_counter_ns
from typing import Any, TypeAlias, cast

from greenlet import greenlet

from headgate.errors import GatewayError
from headgate.pdk._body import RequestAbortedError
from headgate.pdk._bound import resolve_bound
from headgate.pdk._call import Call, current_call
from headgate.pdk._exchange import Exchange
from headgate.pdk._exit import Exit
from headgate.pdk._node import node
from headgate.pdk._phase import phase_label
from headgate.pdk.log import ALERT, NOTICE, is_pdk_file
from headgate.phases import STREAM_LOG, Phase
from headgate.policy.blocking import BlockingQueueFullError, bound
from headgate.policy.catalog import Catalog
from headgate.policy.chain import Chain, PluginInstance, Step
from headgate.policy.compile import CompiledPlan

NeedBodyFactory: TypeAlias = Callable[[int, Callable[[], Any]], Any]
Outcome: TypeAlias = Any
"""None (over), an awaitable, or the engine's `NeedBody`."""
Finish: TypeAlias = Callable[[], None]

SLOW_CONFIGURE_MS = 50
ALERT_INTERVAL_S = 60.0
MOST_TIMES = 64
"""Measurements of a request after which those of one handler are added up: a response may have any number of chunks."""

_CERTIFICATE = Phase.CERTIFICATE.value
_REWRITE = Phase.REWRITE.value
_ACCESS = Phase.ACCESS.value
_RESPONSE = Phase.RESPONSE.value
_HEADER_FILTER = Phase.HEADER_FILTER.value
_BODY_FILTER = Phase.BODY_FILTER.value
_LOG = Phase.LOG.value
_PREREAD = Phase.PREREAD.value
_WS_HANDSHAKE = Phase.WS_HANDSHAKE.value
_WS_CLIENT_FRAME = Phase.WS_CLIENT_FRAME.value
_WS_UPSTREAM_FRAME = Phase.WS_UPSTREAM_FRAME.value
_WS_CLOSE = Phase.WS_CLOSE.value

_ANSWERABLE = _REWRITE | _ACCESS | _RESPONSE | _HEADER_FILTER | _WS_HANDSHAKE
_AFTERWARDS = _LOG | _WS_CLOSE | STREAM_LOG

_BODY_UNREAD = 1

# A handler that calls sys.exit has failed like one that raises.
_FAULTS = (Exception, SystemExit)

_log = logging.getLogger("headgate.plugin")
_set_call = current_call.set
_NO_EXCHANGE = cast(Exchange, None)


class HandlerTimeoutError(GatewayError):
    """An asynchronous or blocking handler took longer than it may."""


class _BareInstance:
    """Stands for a plugin in the phases that have no configuration."""

    __slots__ = ("id", "name")

    def __init__(self, name: str) -> None:
        self.id = ""
        self.name = name


class Runtime:
    """One worker's runtime.

    Args: `need_body` makes the engine's `NeedBody(limit_bytes, resume)`; without it synchronous handlers cannot read a
        body that is still on the connection. `is_timed`: what handlers take is kept for the log phase.
        `slow_handler_ms`: one that holds its thread for longer is logged. `handler_timeout_ms`: one that waits for
        longer ends, and its request with it. 0: no such limit.
    """

    def __init__(
        self,
        catalog: Catalog,
        need_body: NeedBodyFactory | None = None,
        *,
        is_timed: bool = True,
        slow_handler_ms: int = 100,
        handler_timeout_ms: int = 60_000,
    ) -> None:
        self.need_body = need_body
        self._is_recorded = is_timed
        self._is_timed = is_timed or slow_handler_ms > 0
        self._slow_ns = slow_handler_ms * 1_000_000 or 2**63
        self._timeout_ms = handler_timeout_ms
        self._timeout_s = handler_timeout_ms / 1000 or None
        self.current_plan: CompiledPlan | None = None
        self._catalog = catalog
        self._start_faults: list[str] = []
        self._alerted_at_s = 0.0

    # -- worker start and new plans -----------------------------------------------------------------------------------

    async def init_workers(self) -> None:
        """Run `init_worker` of every plugin of the catalog, each protected from the others' faults."""
        for name, plugin in self._catalog.items():
            if "init_worker" not in plugin.phases:
                continue
            try:
                handle = bound(self._catalog.handler(name), "init_worker")
                await self._outside_of_request(name, Phase.INIT_WORKER, handle)
            except _FAULTS as error:
                fault = f'failed to execute the "init_worker" handler for plugin "{name}": {error}'
                self._start_faults.append(fault)
                _log.critical("worker initialization error: %s; this node must be restarted", fault, exc_info=True)

    async def configure(self, plan: CompiledPlan) -> None:
        """Run `configure` of every plugin with all its enabled configurations, or None; then take the plan as current.

        A fault is logged and the plan is used anyway.
        """
        node.snapshot = plan.snapshot
        # Their vaults may be new or changed ones.
        resolve_bound()
        for name, plugin in self._catalog.items():
            if "configure" not in plugin.phases:
                continue
            configs = [instance.argument for instance in plan.instances(name)] or None
            started_s = time.perf_counter()
            try:
                handle = bound(self._catalog.handler(name), "configure")
                await self._outside_of_request(name, Phase.CONFIGURE, handle, configs)
            except _FAULTS as error:
                _log.error("failed to execute plugin '%s:configure (%s)", name, error, exc_info=True)
            took_ms = round((time.perf_counter() - started_s) * 1000)
            if took_ms > SLOW_CONFIGURE_MS:
                _log.log(NOTICE, "executing plugin '%s:configure took excessively long: %d ms", name, took_ms)
        self.current_plan = plan

    async def _outside_of_request(self, name: str, phase: Phase, handle: Any, *arguments: Any) -> None:
        call = Call(_NO_EXCHANGE, phase.value)
        call.instance = _BareInstance(name)
        token = _set_call(call)
        try:
            returned = handle(*arguments)
            if inspect.isawaitable(returned):
                await returned
        finally:
            current_call.reset(token)
            # Tasks that the handler started keep the call: they run in no phase.
            call.phase = 0

    # -- phases -------------------------------------------------------------------------------------------------------

    def certificate(self, handshake: Any) -> Outcome:
        """Run `certificate` of the global instances; a fault aborts the handshake."""
        call = Call(handshake, _CERTIFICATE)
        plan = handshake.plan
        chosen = plan.stream_globals if handshake.is_stream else plan.globals
        return self._stopping(call, iter(chosen.certificate), _nothing)

    def preread(self, exchange: Exchange) -> Outcome:
        """Run `preread` of a stream route's instances; an answer or a fault closes the stream."""
        call = exchange.state or self._begin(exchange)
        call.exchange = exchange
        call.phase = _PREREAD
        return self._stopping(call, iter(exchange.plan.stream_chain(exchange.route_index).preread), _nothing)

    def stream_log(self, exchange: Exchange) -> Outcome:
        """Run `log` of a stream route's instances (else of the globals); each runs whatever others did."""
        call = exchange.state or self._begin(exchange)
        call.exchange = exchange
        call.phase = STREAM_LOG
        plan, index = exchange.plan, exchange.route_index
        chosen = plan.stream_globals if index is None else plan.stream_chain(index)
        return self._going_on(call, iter(chosen.log), _nothing)

    def rewrite(self, exchange: Exchange) -> Outcome:
        """Run `rewrite` of the global instances; an answer or a fault ends it."""
        call = exchange.state or self._begin(exchange)
        call.exchange = exchange
        call.phase = _REWRITE
        return self._suspendable(call, iter(exchange.plan.globals.rewrite), _nothing)

    def access(self, exchange: Exchange) -> Outcome:
        """Run the access pass: pick the route's instances, run their handlers, collect them for later phases.

        After an answer or a fault the remaining plugins are still picked and collected, but not run.
        """
        call: Call = exchange.state or self._begin(exchange)
        call.exchange = exchange
        call.phase = _ACCESS
        chain: Chain = exchange.plan.chains[exchange.route_index]
        if not chain.is_static:
            return self._late_access(call, chain)
        steps = iter(chain.access)
        if exchange.request_body_state == _BODY_UNREAD and chain.access:
            return self._suspendable(call, steps, lambda: _collect(call, chain.collected))
        _set_call(call)
        returned = self._run(call, steps, True)
        _set_call(None)
        if returned is not None:
            return self._on_loop(call, steps, True, returned, lambda: _collect(call, chain.collected))
        _collect(call, chain.collected)
        _leave(call)
        return None

    def response(self, exchange: Exchange) -> Outcome:
        """Run `response` of the collected instances; an answer or a fault ends it."""
        call = exchange.state or self._begin(exchange)
        call.exchange = exchange
        call.phase = _RESPONSE
        steps = () if call.collected is None else call.collected.response
        return self._stopping(call, iter(steps), _nothing)

    def header_filter(self, exchange: Exchange) -> Outcome:
        """Run `header_filter` of the collected instances (else the globals); each runs whatever others did."""
        call = exchange.state or self._begin(exchange)
        call.exchange = exchange
        call.phase = _HEADER_FILTER
        return self._going_on(call, iter((call.collected or exchange.plan.globals).header_filter), _nothing)

    def body_filter(self, exchange: Exchange) -> Outcome:
        """Run `body_filter` of the collected instances (else the globals) on one chunk; a fault cuts the response."""
        call = exchange.state or self._begin(exchange)
        call.exchange = exchange
        call.phase = _BODY_FILTER
        # The answer was given in an earlier phase: it ends nothing here.
        call.is_answered = False
        if len(call.times) > MOST_TIMES:
            _add_up(call)
        return self._stopping(call, iter((call.collected or exchange.plan.globals).body_filter), _nothing)

    def log(self, exchange: Exchange) -> Outcome:
        """Run `log` of the collected instances (else the globals); each runs whatever others did."""
        call = exchange.state or self._begin(exchange)
        call.exchange = exchange
        call.phase = _LOG
        return self._going_on(call, iter((call.collected or exchange.plan.globals).log), _nothing)

    def ws_handshake(self, exchange: Exchange) -> Outcome:
        """Run the `access` pass of a WebSocket service, with `ws_handshake` handlers."""
        call: Call = exchange.state or self._begin(exchange)
        call.exchange = exchange
        call.phase = _WS_HANDSHAKE
        chain: Chain = exchange.plan.chains[exchange.route_index]
        if not chain.is_static:
            return self._late_access(call, chain)
        return self._stopping(call, iter(chain.access), lambda: _collect(call, chain.collected))

    def ws_client_frame(self, exchange: Exchange) -> Outcome:
        """Run `ws_client_frame` of the collected instances on one message until it is dropped or closed for."""
        return self._frame(exchange, _WS_CLIENT_FRAME, exchange.state.collected.ws_client_frame)

    def ws_upstream_frame(self, exchange: Exchange) -> Outcome:
        """Run `ws_upstream_frame` of the collected instances on one message until it is dropped or closed for."""
        return self._frame(exchange, _WS_UPSTREAM_FRAME, exchange.state.collected.ws_upstream_frame)

    def _frame(self, exchange: Exchange, phase: int, steps: tuple[Step, ...]) -> Outcome:
        call: Call = exchange.state
        call.exchange = exchange
        call.phase = phase
        # What was dropped or closed was an earlier message.
        call.is_answered = False
        if len(call.times) > MOST_TIMES:
            _add_up(call)
        return self._stopping(call, iter(steps), _nothing)

    def ws_close(self, exchange: Exchange) -> Outcome:
        """Run `ws_close` of the collected instances; each runs whatever others did."""
        call = exchange.state or self._begin(exchange)
        call.exchange = exchange
        call.phase = _WS_CLOSE
        steps = () if call.collected is None else call.collected.ws_close
        return self._going_on(call, iter(steps), _nothing)

    # -- running handlers ---------------------------------------------------------------------------------------------

    def _begin(self, exchange: Exchange) -> Call:
        if self._start_faults:
            self._alert()
        call = exchange.state = Call(exchange, 0)
        return call

    def _late_access(self, call: Call, chain: Chain) -> Outcome:
        """Run the access pass of a chain whose instances depend on the consumer."""
        chosen: list[PluginInstance | None] = [None] * len(chain.slots)
        steps = chain.late_steps(call, chosen)

        def finish() -> None:
            # What an early end has left: picked with the consumer known by now, not run.
            for _ in steps:
                pass
            _collect(call, chain.collect(chosen))

        return self._suspendable(call, steps, finish)

    def _stopping(self, call: Call, steps: Iterator[Step], finish: Finish) -> Outcome:
        """Run handlers until one answers or fails."""
        _set_call(call)
        returned = self._run(call, steps, True)
        _set_call(None)
        if returned is not None:
            return self._on_loop(call, steps, True, returned, finish)
        finish()
        _leave(call)
        return None

    def _going_on(self, call: Call, steps: Iterator[Step], finish: Finish) -> Outcome:
        """Run every handler, whatever the others do."""
        _set_call(call)
        returned = self._run(call, steps, False)
        _set_call(None)
        if returned is not None:
            return self._on_loop(call, steps, False, returned, finish)
        finish()
        _leave(call)
        return None

    def _suspendable(self, call: Call, steps: Iterator[Step], finish: Finish) -> Outcome:
        """Run handlers until one answers or fails; synchronous ones can wait for the request body."""
        if self.need_body is None or call.exchange.request_body_state != _BODY_UNREAD:
            return self._stopping(call, steps, finish)
        suspended = greenlet(self._run_suspendable)
        return self._after_switch(suspended, suspended.switch(call, steps), call, steps, finish)

    def _after_switch(
        self, suspended: greenlet, outcome: Any, call: Call, steps: Iterator[Step], finish: Finish
    ) -> Outcome:
        if not suspended.dead:
            assert self.need_body is not None
            return self.need_body(
                outcome, lambda: self._after_switch(suspended, suspended.switch(), call, steps, finish)
            )
        if outcome is not None:
            return self._on_loop(call, steps, True, outcome, finish)
        finish()
        _leave(call)
        return None

    def _run_suspendable(self, call: Call, steps: Iterator[Step]) -> Awaitable[Any] | None:
        """Run handlers inside a greenlet, which has a context of its own; `suspend` hands the body limit to the
        parent.
        """
        _set_call(call)
        parent = greenlet.getcurrent().parent
        assert parent is not None
        switch = parent.switch

        def suspend(limit_bytes: int) -> object:
            started_ns = perf_counter_ns()
            try:
                return switch(limit_bytes)
            finally:
                call.suspended = (call.instance, call.phase, perf_counter_ns() - started_ns)

        call.suspend = suspend
        try:
            return self._run(call, steps, True)
        finally:
            call.suspend = None

    def _run(self, call: Call, steps: Iterator[Step], stops: bool) -> Awaitable[Any] | None:
        """Run handlers up to the end or the first awaitable, which is returned.

        Args: `stops`: an answer or a fault ends the phase; otherwise the next handler runs.
        """
        times, slow_ns, is_timed = call.times if self._is_recorded else None, self._slow_ns, self._is_timed
        for instance, handle, config in steps:
            call.instance = instance
            started_ns = perf_counter_ns() if is_timed else 0
            try:
                try:
                    returned = handle(config)
                finally:
                    if is_timed:
                        took_ns = perf_counter_ns() - started_ns
                        if times is not None:
                            times.append((instance, call.phase, took_ns))
                        if took_ns > slow_ns:
                            self._tell_slow(call, took_ns)
            except Exit:
                if stops:
                    return None
                continue
            except _FAULTS as error:
                _fault(call, error)
                if stops:
                    return None
                continue
            if returned is not None and hasattr(returned, "__await__"):
                awaitable: Awaitable[Any] = returned
                return awaitable
            # A bare `except:` in a handler can swallow Exit; the answer stands all the same.
            if stops and call.is_answered:
                return None
        return None

    async def _on_loop(
        self, call: Call, steps: Iterator[Step], stops: bool, returned: Awaitable[Any] | None, finish: Finish
    ) -> None:
        """Await a handler and run the rest of the phase, in a task of the worker's loop."""
        _set_call(call)
        while returned is not None:
            is_over = False
            instance = call.instance
            started_ns = perf_counter_ns()
            try:
                await self._in_time(returned)
            except Exit:
                is_over = stops
            except _FAULTS as error:
                _fault(call, error)
                is_over = stops
            if self._is_recorded and instance is not None:
                call.times.append((instance, call.phase, perf_counter_ns() - started_ns))
            if is_over or (stops and call.is_answered):
                break
            returned = await self._next_awaitable(call, steps, stops)
        finish()
        _leave(call)

    async def _in_time(self, returned: Awaitable[Any]) -> None:
        """Await a handler for as long as it may take.

        Raises: HandlerTimeoutError; whatever the handler raises.
        """
        try:
            async with asyncio.timeout(self._timeout_s) as limit:
                await returned
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise HandlerTimeoutError(f"no end after {self._timeout_ms} ms, see handler_timeout_ms") from error

    def _tell_slow(self, call: Call, took_ns: int) -> None:
        """Log a handler that kept its thread, and with it every other request there, from going on."""
        held_ns = took_ns
        if call.suspended is not None and call.suspended[:2] == (call.instance, call.phase):
            # While the engine read the request body for the handler, the thread was free.
            held_ns -= call.suspended[2]
        if held_ns <= self._slow_ns or call.instance is None:
            return
        _log.warning(
            "[kong] [%s] handler held its thread for %d ms, use async def or @blocking for what waits "
            "(plugin instance %s, phase %s)",
            call.instance.name,
            held_ns // 1_000_000,
            call.instance.id,
            phase_label(call.phase),
            extra={"request_id": getattr(call.exchange, "id", None), "plugin": call.instance.name},
        )

    async def _next_awaitable(self, call: Call, steps: Iterator[Step], stops: bool) -> Awaitable[Any] | None:
        """Run synchronous handlers on the loop; they can wait for the request body as on the engine thread."""
        if not call.phase & (_REWRITE | _ACCESS) or call.exchange.request_body_state != _BODY_UNREAD:
            return self._run(call, steps, stops)
        suspended = greenlet(self._run_suspendable)
        outcome = suspended.switch(call, steps)
        while not suspended.dead:
            await call.exchange.read_request_body(outcome)
            outcome = suspended.switch()
        return cast("Awaitable[Any] | None", outcome)

    def _alert(self) -> None:
        """Remind of failed `init_worker` handlers, once a minute."""
        now_s = time.monotonic()
        if self._alerted_at_s and now_s - self._alerted_at_s < ALERT_INTERVAL_S:
            return
        self._alerted_at_s = now_s
        _log.log(
            ALERT,
            "unsafe request processing due to earlier initialization errors; this node must be restarted (%s)",
            "; ".join(self._start_faults),
        )


def _collect(call: Call, collected: Any) -> None:
    """End the access pass: remember what later phases run, and tell the engine which of them to call."""
    exchange = call.exchange
    call.collected = collected
    if collected.response and not exchange.is_answered:
        exchange.enable_buffering()
    exchange.set_phases(collected.mask)


def _leave(call: Call) -> None:
    """End a phase: tasks that a handler left behind are in no phase, and exchange and call no longer keep one another.

    The engine's exchange is invisible to Python's cycle collector, so that a cycle would never be freed.
    """
    call.phase = 0
    call.exchange = _NO_EXCHANGE


def _add_up(call: Call) -> None:
    """Make one measurement of all those of an instance in a phase."""
    sums: dict[tuple[Any, int], int] = {}
    for instance, phase, took_ns in call.times:
        sums[instance, phase] = sums.get((instance, phase), 0) + took_ns
    call.times = [(instance, phase, took_ns) for (instance, phase), took_ns in sums.items()]


def _nothing() -> None:
    """End a phase that has nothing to do at its end."""


def _fault(call: Call, error: BaseException) -> None:
    """Log what a handler raised, with plugin, instance, phase and traceback; outside of log, fail the request.

    A client that went away in the middle of its body is no fault of the plugin, so it is only told at info.
    """
    instance = call.instance
    name, instance_id = (instance.name, instance.id) if instance is not None else ("?", "?")
    if isinstance(error, RequestAbortedError):
        _log.info("[kong] [%s] %s", name, error, extra={"request_id": call.exchange.id, "plugin": name})
        call.exchange.fail()
        return
    frames = traceback.extract_tb(error.__traceback__)
    # The plugin's own line rather than that of the PDK function it called.
    frame = next((one for one in reversed(frames) if not is_pdk_file(one.filename)), frames[-1])
    # Code in another language tells its own place.
    file, line = getattr(error, "place", None) or (frame.filename, frame.lineno)
    _log.error(
        "[kong] %s:%s [%s] %s: %s (plugin instance %s, phase %s)",
        file.rpartition("/")[2],
        line,
        name,
        type(error).__name__,
        error,
        instance_id,
        phase_label(call.phase),
        exc_info=error,
        extra={"request_id": getattr(call.exchange, "id", None), "plugin": name},
    )
    if isinstance(error, BlockingQueueFullError) and call.phase & _ANSWERABLE:
        call.exchange.respond_error(503, None, [])
    elif not call.phase & _AFTERWARDS:
        call.exchange.fail()
