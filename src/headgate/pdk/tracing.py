"""`kong.tracing`: spans of a request (PDK reference 19.1).

`kong.tracing` is the global tracer: it does nothing unless the setting `tracing_instrumentations` names something.
Beside plugins' own spans there are `kong.router`, `kong.balancer`, `kong.database.query` (writes of `kong.db`) and
`kong.dns` (`kong.dns`), each when its instrumentation is named.
Spans live as long as their request; a plugin exports them in `log` with `process_span`. Spans of plugins' handlers come
from `traced`, which the gateway applies once per handler when it compiles a plan, and not at all when tracing is off.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from headgate.pdk._call import Call, current_call
from headgate.pdk._check import is_number
from headgate.pdk._node import node
from headgate.pdk._phase import FINISHED, WEBSOCKET, any_phase, phases
from headgate.pdk._span import CLIENT, CONSUMER, INTERNAL, NOOP_SPAN, SERVER, STATUS_ERROR, UNSPECIFIED, Span
from headgate.pdk.router import matched_service
from headgate.phases import Phase

P = ParamSpec("P")

SPAN_PHASES = int(
    Phase.CERTIFICATE | Phase.REWRITE | Phase.ACCESS | Phase.HEADER_FILTER | Phase.BODY_FILTER | Phase.LOG | WEBSOCKET
)
"""Phases in which spans are made; elsewhere a span that does nothing is returned."""

ALL = "all"
TRACED_PHASES = ("rewrite", "access", "header_filter", "ws_handshake")
"""Phases whose handlers get a span; the instrumentation is called `plugin_<phase>`."""


class _Trace:
    """The spans of one tracer in one request."""

    __slots__ = ("active", "has_balancer", "has_router", "spans")

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.has_router = False
        self.has_balancer = False
        self.active: Span | None = None


class Tracer:
    """One tracer: the global one, or what `new` returns."""

    __slots__ = ("_is_noop", "_rate", "name")

    def __init__(self, name: str, *, is_noop: bool | None = None, sampling_rate: float | None = None) -> None:
        self.name = name
        self._is_noop = is_noop
        self._rate = sampling_rate

    @any_phase
    def new(self, name: str, options: Mapping[str, Any] | None = None) -> "Tracer":
        """Return an independent tracer.

        Args: `options`: `noop` (does nothing), `sampling_rate` (0 to 1, default setting `tracing_sampling_rate`).
        Raises: TypeError or ValueError `invalid tracer name`, `invalid options type`.
        """
        if not _is_text(name):
            raise TypeError("invalid tracer name")
        if options is not None and not isinstance(options, Mapping):
            raise TypeError("invalid options type")
        given = options or {}
        return Tracer(name, is_noop=bool(given.get("noop")), sampling_rate=given.get("sampling_rate"))

    @any_phase
    def set_global_tracer(self, tracer: "Tracer") -> None:
        """Let `kong.tracing` work as another tracer, in this worker.

        Raises: TypeError `invalid tracer`.
        """
        if not isinstance(tracer, Tracer):
            raise TypeError("invalid tracer")
        tracing.name, tracing._is_noop, tracing._rate = tracer.name, tracer._is_noop, tracer._rate

    @any_phase
    def start_span(self, name: str, options: Mapping[str, Any] | None = None) -> Span:
        """Start a span and add it to the request's.

        Args: `options`: `start_time_ns`, `span_kind` (0 to 5, see `_span`), `should_sample`, `attributes`, `parent` (a
            span; default the active one), `parent_id`, `trace_id` (bytes).
        Raises: TypeError or ValueError `invalid span name`, `invalid options type`, `invalid start time`,
            `invalid start kind`, `invalid sampled`, `invalid attributes`.
        """
        if not _is_text(name):
            raise ValueError("invalid span name")
        _check(options)
        trace = self._trace()
        if trace is None:
            return NOOP_SPAN
        span = self._made(trace, name, options or {})
        trace.spans.append(span)
        return span

    @any_phase
    def create_span(self, tracer: "Tracer | None", options: Mapping[str, Any] | None = None) -> Span:
        """Make a span without adding it to the request's; `link_span` does that later.

        Raises: TypeError `invalid tracer`; as `start_span`.
        """
        owner = self._of(tracer)
        _check(options)
        trace = owner._trace()
        return NOOP_SPAN if trace is None else owner._made(trace, "", options or {})

    @any_phase
    def link_span(
        self, tracer: "Tracer | None", span: Span, name: str, options: Mapping[str, Any] | None = None
    ) -> Span:
        """Name a span that `create_span` made and add it to the request's.

        Args: `options`: `attributes` are added, `start_time_ns`, `span_kind` and `should_sample` replace.
        Raises: TypeError `invalid tracer`; as `start_span`.
        """
        owner = self._of(tracer)
        if not _is_text(name):
            raise ValueError("invalid span name")
        _check(options)
        trace = owner._trace()
        if trace is None or span.is_noop:
            return NOOP_SPAN
        given = options or {}
        span.name = name
        span.start_time_ns = given.get("start_time_ns", span.start_time_ns)
        span.kind = given.get("span_kind", span.kind)
        span.should_sample = given.get("should_sample", span.should_sample)
        span.attributes.update(given.get("attributes") or {})
        trace.spans.append(span)
        return span

    @any_phase
    def active_span(self) -> Span | None:
        """Return the span that new ones get as parent: the one set, else the root; None when tracing is off here."""
        trace = self._trace()
        return None if trace is None else trace.active or trace.spans[0]

    @any_phase
    def set_active_span(self, span: Span) -> None:
        """Make a span the parent of those that follow."""
        trace = self._trace()
        if trace is not None and not span.is_noop:
            trace.active = span

    @any_phase
    def init_spans(self) -> list[Span]:
        """Make the request's root span, unless it exists, and return all spans; empty when tracing is off here."""
        return self.get_spans()

    @any_phase
    def get_spans(self) -> list[Span]:
        """Return the request's spans of this tracer, the root first; empty when tracing is off here."""
        trace = self._trace()
        if trace is None:
            return []
        _add_engine_spans(trace)
        return trace.spans

    @any_phase
    def get_root_span(self) -> Span | None:
        """Return the span of the whole request, from its first byte on; None when tracing is off here."""
        trace = self._trace()
        return None if trace is None else trace.spans[0]

    @phases(FINISHED)
    def process_span(self, call: Call, processor: Callable[Concatenate[Span, P], Any], *args: Any) -> None:
        """Call `processor(span, *args)` for each span of the request; ends the root span when nobody has.

        Raises: TypeError `processor must be a function`.
        """
        if not callable(processor):
            raise TypeError("processor must be a function")
        trace = self._trace()
        if trace is None:
            return
        _add_engine_spans(trace)
        root = trace.spans[0]
        if root.end_time_ns is None:
            root.set_attribute("http.status_code", call.exchange.response_status)
            root.finish()
        for span in list(trace.spans):
            processor(span, *args)  # type: ignore[call-arg]

    @any_phase
    def set_should_sample(self, should_sample: bool) -> None:
        """Decide for all spans of the request, and those that follow, whether they are worth exporting."""
        for span in self.get_spans():
            span.should_sample = should_sample

    @any_phase
    def get_sampling_decision(self, parent_should_sample: bool | None, plugin_sampling_rate: float | None) -> bool:
        """Decide whether to export this request.

        Args: what the caller's trace said (None: nothing); the plugin's rate (None: setting `tracing_sampling_rate`).
        Returns: False without a root span; else what the caller said when it said no; else by the trace id and rate.
        """
        root = self.get_root_span()
        if root is None:
            return False
        if parent_should_sample is False:
            return False
        return self.get_probability_sampling_decision(root.trace_id, plugin_sampling_rate)

    @any_phase
    def get_probability_sampling_decision(self, trace_id: bytes, rate: float | None = None) -> bool:
        """Decide by a trace id, so that all who see it decide alike; `rate` is the share (0 to 1) to export."""
        wanted = rate if rate is not None else self._rate if self._rate is not None else node.sampling_rate
        return int.from_bytes(trace_id[-8:], "big") < wanted * 2**64

    def _of(self, tracer: "Tracer | None") -> "Tracer":
        if tracer is not None and not isinstance(tracer, Tracer):
            raise TypeError("invalid tracer")
        return tracer or self

    def _trace(self) -> _Trace | None:
        """Return the request's trace with its root, making both at the first call; None where there are no spans."""
        if self._is_noop or (self._is_noop is None and not node.instrumentations):
            return None
        call = current_call.get()
        if call is None or not call.phase & SPAN_PHASES:
            return None
        if call.trace is None:
            call.trace = {}
        trace: _Trace | None = call.trace.get(self.name)
        if trace is None:
            trace = call.trace[self.name] = _Trace()
            trace.spans.append(self._root(call))
        return trace

    def _root(self, call: Call) -> Span:
        exchange = call.exchange
        if call.phase == Phase.CERTIFICATE.value:
            root = Span("kong", {"span_kind": SERVER, "attributes": {"net.peer.ip": exchange.client_ip}})
        else:
            root = Span(
                "kong",
                {
                    "span_kind": SERVER,
                    "start_time_ns": exchange.start_time_ms * 1_000_000,
                    "attributes": {
                        "http.method": exchange.method,
                        "http.url": f"{exchange.scheme}://{exchange.host}{exchange.request_target}",
                        "http.host": exchange.host,
                        "http.scheme": exchange.scheme,
                        "http.flavor": f"{exchange.http_version:g}",
                        "http.client_ip": exchange.forwarded_client_ip,
                        "net.peer.ip": exchange.client_ip,
                    },
                },
            )
        root.should_sample = self.get_probability_sampling_decision(root.trace_id)
        return root

    def _made(self, trace: _Trace, name: str, options: Mapping[str, Any]) -> Span:
        if options.get("parent") is None:
            options = {**options, "parent": trace.active or trace.spans[0]}
        return Span(name, options)


def _add_engine_spans(trace: _Trace) -> None:
    """Add what the engine did for the request, once it is known: `kong.router`, and `kong.balancer` for each try.

    Times are the engine's, so that a request whose spans nobody looks at pays nothing for them.
    """
    call = current_call.get()
    if call is None or call.phase == Phase.CERTIFICATE.value:
        return
    exchange, root = call.exchange, trace.spans[0]
    if not trace.has_router and is_instrumented("router") and (times := exchange.routing_ns()) is not None:
        trace.has_router = True
        span = Span("kong.router", {"parent": root, "start_time_ns": times[0]})
        span.finish(times[1])
        trace.spans.insert(1, span)
    if not call.phase & FINISHED or trace.has_balancer or not is_instrumented("balancer"):
        return
    trace.has_balancer = True
    tries = exchange.tries()
    if not tries:
        return
    kong_ms, proxy_ms, request_ms, receive_ms = exchange.latencies_ms()
    took_ms = kong_ms + proxy_ms + receive_ms if proxy_ms >= 0 else request_ms
    ends_ns = [one["balancer_start_ns"] for one in tries[1:]]
    ends_ns.append(exchange.start_time_ms * 1_000_000 + took_ms * 1_000_000)
    service = matched_service(exchange) or {}
    for number, (one, end_ns) in enumerate(zip(tries, ends_ns, strict=True), 1):
        attributes = {
            "try_count": number,
            "net.peer.ip": one["ip"],
            "net.peer.port": one["port"],
            "net.peer.name": service.get("host"),
        }
        start_ns = one["balancer_start_ns"]
        options = {"parent": root, "span_kind": CLIENT, "start_time_ns": start_ns, "attributes": attributes}
        span = Span("kong.balancer", options)
        if one.get("state") is not None:
            span.set_attribute("http.status_code", one.get("code"))
            span.set_status(STATUS_ERROR)
        # The total is in whole milliseconds, the start in nanoseconds.
        span.finish(max(end_ns, start_ns + one["balancer_latency_ns"]))
        trace.spans.append(span)


def _check(options: object) -> None:
    """Check the options of a span."""
    if options is None:
        return
    if not isinstance(options, Mapping):
        raise TypeError("invalid options type")
    start = options.get("start_time_ns")
    if start is not None and not is_number(start):
        raise TypeError("invalid start time")
    kind = options.get("span_kind", INTERNAL)
    if not is_number(kind) or not UNSPECIFIED <= kind <= CONSUMER:
        raise ValueError("invalid start kind")
    sampled = options.get("should_sample")
    if sampled is not None and not isinstance(sampled, bool):
        raise TypeError("invalid sampled")
    attributes = options.get("attributes")
    if attributes is not None and not isinstance(attributes, Mapping):
        raise TypeError("invalid attributes")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def is_instrumented(instrumentation: str) -> bool:
    """Say whether the setting `tracing_instrumentations` names an instrumentation, or all."""
    return ALL in node.instrumentations or instrumentation in node.instrumentations


def traced(handle: Callable[..., Any], phase: str, plugin_name: str) -> Callable[..., Any]:
    """Return a handler that makes a span `kong.<phase>.plugin.<name>`; the handler itself where that is off."""
    if phase not in TRACED_PHASES or not is_instrumented(f"plugin_{phase}"):
        return handle
    span_name = f"kong.{phase}.plugin.{plugin_name}"

    @wraps(handle)
    def run(*arguments: Any) -> Any:
        span = tracing.start_span(span_name)
        try:
            returned = handle(*arguments)
        except BaseException as error:
            span.__exit__(type(error), error, None)
            raise
        if inspect.isawaitable(returned):
            return _until_done(span, returned)
        span.finish()
        return returned

    return run


async def _until_done(span: Span, returned: Any) -> Any:
    with span:
        return await returned


tracing = Tracer("core")

__all__ = ["STATUS_ERROR", "Span", "Tracer", "is_instrumented", "traced", "tracing"]
