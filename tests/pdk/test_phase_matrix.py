"""Every PDK function in every phase: accepted, or refused with exactly the documented text."""

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.errors import PhaseError
from headgate.pdk import kong
from headgate.pdk._call import Call, current_call
from headgate.pdk.db import EntityTable
from headgate.phases import STREAM_LOG, Phase
from headgate.testing import MemoryExchange, Request, Stream, Upstream
from headgate.testing.plan import MemoryPlan, MemorySnapshot
from headgate.testing.stream import MemoryStream

COLUMNS = (
    "init_worker certificate client_hello rewrite access balancer response header_filter body_filter log preread error "
    "admin_api ws_handshake ws_client_frame ws_upstream_frame ws_close"
)

# The matrix of the reference, section 26, with columns for the WebSocket phases: the handshake is as access but for
# method and bodies, the close as log. Rows that come with later protocols or versions are marked.
MATRIX: dict[str, str] = {
    "request.get_scheme request.get_host request.get_forwarded_scheme request.get_forwarded_host "
    "request.get_forwarded_port request.get_forwarded_path request.get_raw_forwarded_path request.get_forwarded_prefix "
    "request.get_http_version request.get_method request.get_raw_path request.get_path request.get_path_with_query "
    "request.get_raw_query request.get_query request.get_query_arg request.get_header request.get_headers "
    "request.get_raw_headers request.get_start_time request.get_uri_captures "
    "request.get_id": "- - - + + + + + + + - + + + + + +",
    "request.get_port client.get_ip client.get_port client.get_forwarded_ip "
    "client.get_forwarded_port": "- + + + + + + + + + + + + + + + +",
    "request.get_raw_body request.read_raw_body request.get_body": "- - - + + - + - - - - + + - - - -",
    # The head is there for connections of streams too.
    "client.get_aws_vpce_id": "- + - + + - + + + + + - - + - - +",
    "client.get_consumer client.get_credential client.get_protocol client.load_consumer router.get_route "
    "router.get_service client.get_consumer_groups "
    "client.set_authenticated_consumer_groups": "- - - - + - + + + + - - - + + + +",
    "client.set_authenticated_consumer_group client.get_consumer_group "
    "client.get_identity_realm_source client.set_identity_realm_source "
    # From 3.14 on.
    "client.set_token client.get_token client.get_jwt_token_header "
    "client.get_jwt_token_payload": "- - - - + - + + + + - - - + + + +",
    "client.authenticate service.set_upstream service.set_retries service.set_timeouts "
    "service.set_target_retry_callback "
    "client.authenticate_consumer_group_by_consumer_id": "- - - - + - - - - - - - - + - - -",
    "service.set_target service.set_tls_cert_key service.set_tls_verify service.set_tls_verify_depth "
    "service.set_tls_verify_store": "- - - + + + - - - - + - - + - - -",
    "client.tls.request_client_certificate client.tls.disable_session_reuse "
    # Own functions: the contract leaves these to the library below it.
    "client.tls.set_certificate": "- + - - - - - - - - - - - - - - -",
    "client.tls.get_server_name": "- + - + + + + + + + + - - + - - +",
    # `certificate`: no handler runs in client_hello.
    "client.tls.disable_http2_alpn": "- + + - - - - - - - - - - - - - -",
    "client.tls.get_full_client_certificate_chain": "- - - + + + + - - + - - - + - - +",
    "client.tls.set_client_verify": "- - - + + + + - - - - - - + - - -",
    "tracing.process_span": "- - - - - - - - - + - - - - - - +",
    "service.request.set_query service.request.set_raw_query service.request.add_header "
    "service.request.clear_header service.request.set_headers service.request.clear_query_arg "
    "service.request.set_authentication_headers": "- - - + + - - - - - - - - + - - -",
    "service.request.set_method service.request.set_body": "- - - + + - - - - - - - - - - - -",
    "service.request.enable_buffering service.request.set_raw_body": "- - - + + + - - - - - - - - - - -",
    "service.request.set_scheme service.request.set_path "
    "service.request.set_header": "- - - + + + - - - - - - - + - - -",
    "service.response.get_status service.response.get_headers service.response.get_header "
    "service.response.get_raw_body service.response.get_body": "- - - - - - + + + + - - - - - - +",
    # From 3.12 on; the reader is an own addition.
    "service.enable_recording_upstream_ssl": "- - - + + + - - - - - - - + - - -",
    "service.get_upstream_ssl": "- - - - - - + + + + - - - - - - +",
    "service.response.set_body": "- - - - - - + - - - - - - - - - -",
    "response.get_status response.get_header response.get_headers "
    "response.get_source": "- - - - - - + + + + - + + - - - +",
    "response.set_status response.set_header response.add_header response.clear_header response.set_headers "
    "response.error": "- - - + + + + + - - - + + + - - -",
    # In preread it closes the stream.
    "response.exit": "- - - + + + + + - - + + + + - - -",
    "service.request.disable_tls": "- - - - - + - - - - + - - - - - -",
    # `response` from 3.12 on.
    "response.get_raw_body response.set_raw_body": "- - - - - - + - + - - - - - - - -",
    "log.set_serialize_value": "- - - + + - + + + + - - - + + + +",
    "websocket.client.get_frame websocket.client.set_frame_data websocket.client.set_status "
    "websocket.client.drop_frame websocket.client.close": "- - - - - - - - - - - - - - + - -",
    "websocket.upstream.get_frame websocket.upstream.set_frame_data websocket.upstream.set_status "
    "websocket.upstream.drop_frame websocket.upstream.close": "- - - - - - - - - - - - - - - + -",
    "websocket.client.set_max_payload_size "
    "websocket.upstream.set_max_payload_size": "- - - - - - - - - - - - - + - - -",
    "log.serialize": "- - - - - - - - - + - - - - - - +",
    "log.debug log.info log.notice log.warn log.err log.crit log.alert log.emerg log.trace log.new log.set_format "
    "ip.is_trusted node.get_id node.get_memory_stats node.get_hostname plugin.get_id table.new table.clear table.merge "
    "db.consumers.select db.consumers.each db.consumers.page db.consumers.cache_key "
    "db.consumers.select_by_cache_key db.consumers.truncate cluster_events.subscribe cluster_events.broadcast "
    "db.consumers.insert db.consumers.update db.consumers.upsert db.consumers.delete "
    "nginx.get_subsystem nginx.get_statistics cluster.get_id telemetry.log telemetry.set_exporter "
    "vault.is_reference vault.parse_reference vault.get vault.update vault.try_ "
    "jwe.encrypt jwe.decrypt jwe.decode dns.resolve dns.toip "
    "timer.at timer.every timer.named_at timer.named_every timer.cancel timer.stats "
    "worker_events.register worker_events.unregister worker_events.post worker_events.post_local "
    "cache.get cache.get_with_level cache.probe cache.renew cache.get_bulk cache.safe_set cache.invalidate "
    "cache.invalidate_local cache.purge "
    "tracing.new tracing.set_global_tracer tracing.start_span tracing.create_span tracing.link_span "
    "tracing.active_span tracing.set_active_span tracing.init_spans tracing.get_spans tracing.get_root_span "
    "tracing.set_should_sample tracing.get_sampling_decision "
    "tracing.get_probability_sampling_decision": "+ + + + + + + + + + + + + + + + +",
}

PHASES = [Phase[name.upper()] for name in COLUMNS.split()]

EXPECTED: dict[str, frozenset[Phase]] = {
    name: frozenset(phase for phase, mark in zip(PHASES, marks.split(), strict=True) if mark == "+")
    for names, marks in MATRIX.items()
    for name in names.split()
}

# Functions that say they reject a phase; the others say which they accept.
REJECTING = {
    "request.get_port",
    "client.get_ip",
    "client.get_port",
    "client.get_forwarded_ip",
    "client.get_forwarded_port",
}

MODULES: dict[str, Any] = {
    "request": kong.request,
    "client": kong.client,
    "router": kong.router,
    "service": kong.service,
    "service.request": kong.service.request,
    "service.response": kong.service.response,
    "response": kong.response,
    "log": kong.log,
    "ip": kong.ip,
    "node": kong.node,
    "plugin": kong.plugin,
    "table": kong.table,
    "db.consumers": EntityTable("consumers"),
    "client.tls": kong.client.tls,
    "nginx": kong.nginx,
    "cluster": kong.cluster,
    "telemetry": kong.telemetry,
    "vault": kong.vault,
    "jwe": kong.jwe,
    "dns": kong.dns,
    "timer": kong.timer,
    "cache": kong.cache,
    "worker_events": kong.worker_events,
    "cluster_events": kong.cluster_events,
    "tracing": kong.tracing,
    "websocket.client": kong.websocket.client,
    "websocket.upstream": kong.websocket.upstream,
}

# What a logger needs inside, not part of the PDK.
INTERNAL = {"log.current_namespace", "log.write"}


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    for prefix, module in MODULES.items():
        for name, _ in inspect.getmembers(type(module), inspect.isfunction):
            if not name.startswith("_") and f"{prefix}.{name}" not in INTERNAL:
                yield f"{prefix}.{name}", getattr(module, name)


FUNCTIONS = dict(functions())
CALLS = [(name, phase) for name in FUNCTIONS for phase in PHASES]


def call_of(phase: Phase) -> Call:
    plan = MemoryPlan(MemorySnapshot({}), None, None)
    exchange = MemoryExchange(Request(), Upstream(), plan, 0)
    exchange.phase = phase.value
    return Call(exchange, phase.value)


def call_with_nothing(function: Callable[..., Any]) -> None:
    """Call a function with None for all it needs; whatever happens after the phase check is not the matter here."""
    needed = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    try:
        returned = function(*[None] * len(needed))
    except PhaseError:
        raise
    except BaseException:
        return
    if inspect.iscoroutine(returned):
        returned.close()


def refusal(name: str, phase: Phase) -> str:
    if name in REJECTING:
        return f"function cannot be called in {phase.label} phase (can be called in any phases except: init_worker)"
    # `cluster_listener` is accepted like the request phases; the matrix has no column for it.
    accepted = set(EXPECTED[name])
    if Phase.ADMIN_API in accepted and Phase.LOG in accepted and Phase.REWRITE in accepted:
        accepted.add(Phase.CLUSTER_LISTENER)
    only = ", ".join(one.label for one in Phase if one in accepted)
    return f"function cannot be called in {phase.label} phase (only in: {only})"


def test_in_the_log_phase_of_streams_functions_of_requests_are_refused() -> None:
    of_streams = {
        "client.get_ip client.get_port client.get_forwarded_ip client.get_forwarded_port client.get_protocol",
        "router.get_route router.get_service log.serialize log.set_serialize_value client.tls.get_server_name",
    }
    # A port of the listener is one of a stream too; what has no guard runs everywhere.
    expected = {name for names in of_streams for name in names.split()} | {"request.get_port"}
    plan = MemoryPlan(MemorySnapshot({}), {"protocols": ["tcp", "tls"]}, None)
    call = Call(MemoryStream(Stream(), plan, 0), STREAM_LOG)
    token = current_call.set(call)
    try:
        for name, function in FUNCTIONS.items():
            if not hasattr(function, "__is_for_streams__"):
                continue
            if name in expected:
                call_with_nothing(function)
                continue
            with pytest.raises(PhaseError, match="function cannot be called in log phase"):
                call_with_nothing(function)
    finally:
        current_call.reset(token)


def test_every_function_is_in_the_matrix_and_every_row_exists() -> None:
    assert set(FUNCTIONS) == set(EXPECTED)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_the_declaration_is_the_documented_row(name: str) -> None:
    declared: Phase = FUNCTIONS[name].__phases__  # type: ignore[attr-defined]
    assert frozenset(phase for phase in PHASES if phase in declared) == EXPECTED[name]


@pytest.mark.parametrize(("name", "phase"), CALLS, ids=lambda value: value if isinstance(value, str) else value.label)
def test_a_call_is_accepted_or_refused_with_the_documented_text(name: str, phase: Phase) -> None:
    token = current_call.set(call_of(phase))
    try:
        if phase in EXPECTED[name]:
            call_with_nothing(FUNCTIONS[name])
        else:
            with pytest.raises(PhaseError) as caught:
                call_with_nothing(FUNCTIONS[name])
            assert str(caught.value) == refusal(name, phase)
    finally:
        current_call.reset(token)


def test_without_a_phase_the_needed_ones_are_named() -> None:
    with pytest.raises(PhaseError) as caught:
        kong.client.authenticate()
    assert str(caught.value) == "no phase in ngx.ctx.KONG_PHASE, (need one of access, ws_handshake)"
    with pytest.raises(PhaseError) as caught:
        kong.client.get_ip()
    assert str(caught.value) == "no phase in ngx.ctx.KONG_PHASE"


def test_the_phase_is_checked_before_the_arguments() -> None:
    token = current_call.set(call_of(Phase.LOG))
    try:
        with pytest.raises(PhaseError):
            kong.response.exit("not a number")  # type: ignore[arg-type]
    finally:
        current_call.reset(token)


def test_the_docstring_names_the_phases() -> None:
    assert (kong.client.authenticate.__doc__ or "").endswith("Phases: access, ws_handshake.")


def test_every_function_is_on_the_page_of_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "pdk.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"^### `(?:await )?kong\.([\w.<>]+)\(", page, re.MULTILINE))
    assert {name.replace("db.consumers", "db.<entity>") for name in FUNCTIONS} - shown == set()


def test_the_signature_is_the_public_one() -> None:
    assert list(inspect.signature(kong.response.exit).parameters) == ["status", "body", "headers"]
