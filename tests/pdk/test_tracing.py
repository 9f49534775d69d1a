"""Spans of a request: off by default, parents, sampling, processing."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from headgate.pdk import _node, kong
from headgate.pdk import dns as kong_dns
from headgate.pdk.tracing import Span, traced
from headgate.testing import Request
from tests.pdk.calls import continued, phase


@pytest.fixture
def is_on() -> Iterator[None]:
    _node.node.configure({"tracing_instrumentations": ["all"], "tracing_sampling_rate": 1}, None)
    yield
    _node.node.configure({}, None)


def test_it_is_off_unless_an_instrumentation_is_named() -> None:
    with phase("access"):
        span = kong.tracing.start_span("mine")
        assert span.is_noop
        span.set_attribute("a", 1)
        span.finish()
        assert (kong.tracing.get_spans(), kong.tracing.active_span(), span.attributes) == ([], None, {})

    def handle(conf: Any) -> None: ...

    assert traced(handle, "access", "mine") is handle


@pytest.mark.usefixtures("is_on")
def test_spans_have_the_requests_root_as_parent_and_reach_the_log() -> None:
    with phase("access", Request(method="POST", path="/a?b=c", host="example.com")) as exchange:
        with kong.tracing.start_span("outer", {"attributes": {"a": 1}, "span_kind": 3}) as outer:
            kong.tracing.set_active_span(outer)
            with pytest.raises(ValueError, match="wrong"), kong.tracing.start_span("inner"):
                raise ValueError("wrong")
        root = kong.tracing.get_root_span()
    assert root is not None
    assert outer.parent_id == root.span_id
    assert root.attributes["http.url"] == "http://example.com/a?b=c"
    assert root.start_time_ns == exchange.start_time_ms * 1_000_000
    seen: list[Span] = []
    with continued(exchange, "log"):
        kong.tracing.process_span(lambda span, extra: seen.append(span), "extra")
    assert [span.name for span in seen] == ["kong", "kong.router", "outer", "inner"]
    inner = seen[3]
    assert (inner.parent, inner.trace_id, inner.status) == (outer, root.trace_id, 2)
    assert inner.events[0]["attributes"] == {"exception.message": "wrong"}
    assert all(span.end_time_ns for span in seen)


@pytest.mark.usefixtures("is_on")
def test_other_phases_get_spans_that_do_nothing() -> None:
    with phase("response"):
        assert kong.tracing.start_span("mine").is_noop
    assert kong.tracing.start_span("mine").is_noop


@pytest.mark.usefixtures("is_on")
def test_sampling_follows_the_caller_then_the_rate() -> None:
    with phase("access"):
        assert kong.tracing.get_sampling_decision(False, 1) is False
        assert kong.tracing.get_sampling_decision(None, 1) is True
        assert kong.tracing.get_sampling_decision(True, 0) is False
        assert kong.tracing.get_probability_sampling_decision(b"\0" * 15 + b"\1", 0.001) is True
        assert kong.tracing.get_probability_sampling_decision(b"\xff" * 16, 0.999) is False
        span = kong.tracing.start_span("mine")
        kong.tracing.set_should_sample(False)
        assert span.should_sample is False


@pytest.mark.usefixtures("is_on")
def test_a_span_can_be_made_first_and_linked_later() -> None:
    with phase("access"):
        span = kong.tracing.create_span(None, {"start_time_ns": 5})
        assert span not in kong.tracing.get_spans()
        assert kong.tracing.link_span(None, span, "late", {"attributes": {"a": 1}}) is span
        assert (span.name, span.attributes, kong.tracing.get_spans()[-1]) == ("late", {"a": 1}, span)
        own = kong.tracing.new("own", {"sampling_rate": 0})
        assert own.start_span("other") not in kong.tracing.get_spans()
        assert kong.tracing.new("off", {"noop": True}).start_span("x").is_noop


@pytest.mark.usefixtures("is_on")
def test_handlers_of_plugins_get_spans() -> None:
    async def later(conf: Any) -> str:
        return "later"

    def now(conf: Any) -> str:
        return "now"

    with phase("access"):
        assert traced(now, "access", "first")(None) == "now"
        assert asyncio.run(traced(later, "access", "second")(None)) == "later"
        names = [span.name for span in kong.tracing.get_spans()]
    assert names == ["kong", "kong.router", "kong.access.plugin.first", "kong.access.plugin.second"]
    assert traced(now, "log", "first") is now


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("", None, "invalid span name"),
        ("a", 1, "invalid options type"),
        ("a", {"start_time_ns": "1"}, "invalid start time"),
        ("a", {"span_kind": 9}, "invalid start kind"),
        ("a", {"should_sample": 1}, "invalid sampled"),
        ("a", {"attributes": 1}, "invalid attributes"),
    ],
)
def test_wrong_arguments_are_refused(name: str, options: Any, text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        kong.tracing.start_span(name, options)


def test_a_span_refuses_wrong_values() -> None:
    span = Span("a", {"start_time_ns": 10})
    for call, text in (
        (lambda: span.set_attribute(1, 1), "invalid key"),  # type: ignore[arg-type]
        (lambda: span.add_event(1), "invalid name"),  # type: ignore[arg-type]
        (lambda: span.add_event("a", 1), "invalid attribute"),  # type: ignore[arg-type]
        (lambda: span.set_status("1"), "invalid status"),  # type: ignore[arg-type]
        (lambda: span.finish("1"), "invalid span end time"),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError, match=text):
            call()
    span.finish(5)
    assert span.end_time_ns is None
    span.finish(20)
    span.finish(30)
    assert span.end_time_ns == 20


def test_writes_and_names_get_spans_when_their_instrumentation_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def write(*_: Any) -> dict[str, Any]:
        return {"id": "1"}

    async def both() -> None:
        await kong.db.consumers.insert({"username": "u"})
        with pytest.raises(kong_dns.DnsError):
            await kong.dns.resolve("\u0000")

    monkeypatch.setattr(_node.node, "write_entity", write)
    for named, wanted in (
        ("request", ["kong"]),
        ("db_query", ["kong", "kong.database.query"]),
        ("dns_query", ["kong", "kong.dns"]),
    ):
        _node.node.configure({"tracing_instrumentations": [named], "database": "postgres"}, None)
        try:
            with phase("access"):
                asyncio.run(both())
                spans = kong.tracing.get_spans()
        finally:
            _node.node.configure({}, None)
        assert [span.name for span in spans] == wanted
        if named == "db_query":
            assert spans[1].attributes == {"db.system": "postgres", "db.statement": "insert consumers"}
        if named == "dns_query":
            assert (spans[1].attributes, spans[1].status) == ({"dns.record.domain": "\u0000"}, 2)
