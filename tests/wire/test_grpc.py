"""gRPC through grpc and grpcs routes: a real grpcio client and server, the gateway between them."""

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support.certificates import Authority, Pair, authority
from tests.support.gateway import Gateway

DEADLINE_S = 10.0
BIG = b"0123456789abcdef" * (640 * 1024)
CANCELLED = threading.Event()
STRANGER = Authority()


def _unary(request: bytes, context: grpc.ServicerContext) -> bytes:
    seen = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-seen", str(seen.get("x-from-plugin", ""))),))
    context.set_trailing_metadata((("x-trailer", "last"),))
    return request


def _fail(request: bytes, context: grpc.ServicerContext) -> bytes:
    context.set_trailing_metadata((("x-detail-bin", b"\x00\xff"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not like this: \u00fc")
    return b""


def _wait(request: bytes, context: grpc.ServicerContext) -> bytes:
    ended = threading.Event()
    context.add_callback(ended.set)
    if ended.wait(20):
        CANCELLED.set()
    return b""


def _split(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    for number in range(int(request)):
        yield b"%d" % number


def _join(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
    return b",".join(requests)


def _echo(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
    for request in requests:
        yield b"re:" + request


_METHODS = {
    "Unary": grpc.unary_unary_rpc_method_handler(_unary),
    "Fail": grpc.unary_unary_rpc_method_handler(_fail),
    "Wait": grpc.unary_unary_rpc_method_handler(_wait),
    "Split": grpc.unary_stream_rpc_method_handler(_split),
    "Join": grpc.stream_unary_rpc_method_handler(_join),
    "Echo": grpc.stream_stream_rpc_method_handler(_echo),
}


class _Service(grpc.GenericRpcHandler):
    """`/test.Service/<Method>` without generated code: messages are bytes."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the method of this path."""
        return _METHODS.get(handler_call_details.method.rpartition("/")[2])


_LARGE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@pytest.fixture(scope="module")
def certificate() -> Pair:
    """A certificate for localhost."""
    return authority().issue("localhost")


@pytest.fixture(scope="module")
def ports(certificate: Pair) -> Iterator[tuple[int, int]]:
    """A gRPC server: (plain port, TLS port)."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=_LARGE)
    server.add_generic_rpc_handlers((_Service(),))
    plain = server.add_insecure_port("127.0.0.1:0")
    pair = (certificate.key.encode(), certificate.certificate.encode())
    secure = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()
    yield plain, secure
    server.stop(None).wait()


@pytest.fixture(scope="module")
def gateway(ports: tuple[int, int], certificate: Pair) -> Iterator[Gateway]:
    """grpc route by default, grpcs route under another service name, both with a plugin."""
    plain, secure = ports

    def verified(name: str, believed: Authority) -> dict[str, Any]:
        return {
            "name": name,
            "protocol": "grpcs",
            "host": "localhost",
            "port": secure,
            "retries": 0,
            "routes": [{"name": name, "protocols": ["grpc"], "paths": [f"/{name}.Service/"]}],
            "plugins": [{"name": "verify_upstream", "config": {"authority": believed.pem}}],
        }

    config = {
        "_format_version": "3.0",
        "services": [
            {
                "name": "plain",
                "protocol": "grpc",
                "host": "127.0.0.1",
                "port": plain,
                "routes": [{"name": "plain", "protocols": ["grpc"], "paths": ["/test.Service/"]}],
            },
            {
                "name": "secure",
                "protocol": "grpcs",
                "host": "localhost",
                "port": secure,
                "routes": [
                    {"name": "secure", "protocols": ["grpcs"], "hosts": ["localhost"], "paths": ["/test.Service/"]}
                ],
            },
            verified("verified", authority()),
            verified("mistrusted", STRANGER),
            {
                "name": "buffered",
                "protocol": "grpc",
                "host": "127.0.0.1",
                "port": plain,
                "routes": [{"name": "buffered", "protocols": ["grpc"], "paths": ["/buffered.Service/"]}],
                "plugins": [{"name": "probe-response", "config": {"is_async": True}}],
            },
            {
                "name": "broken",
                "protocol": "grpc",
                "host": "127.0.0.1",
                "port": plain,
                "routes": [{"name": "broken", "protocols": ["grpc"], "paths": ["/broken.Service/"]}],
                "plugins": [{"name": "probe-response", "config": {"raise_in": "response"}}],
            },
            {
                "name": "gone",
                "protocol": "grpc",
                "host": "127.0.0.1",
                "port": 1,
                "retries": 0,
                "routes": [{"name": "gone", "protocols": ["grpc"], "paths": ["/gone.Service/"]}],
            },
        ],
        "plugins": [{"name": "metadata"}],
        "certificates": [
            {"cert": certificate.certificate, "key": certificate.key, "snis": [{"name": "localhost"}]},
        ],
    }
    with Gateway(
        config, plugins="bundled,metadata,probe-response,verify_upstream", plugin_path=Path(__file__).parent / "plugins"
    ) as running:
        yield running


@pytest.fixture(params=["grpc", "grpcs"])
def channel(request: pytest.FixtureRequest, gateway: Gateway) -> Iterator[grpc.Channel]:
    """A channel to the gateway's plain or TLS port."""
    if request.param == "grpc":
        host, port = gateway.prior_knowledge
        made = grpc.insecure_channel(f"{host}:{port}", options=_LARGE)
    else:
        credentials = grpc.ssl_channel_credentials(authority().pem.encode())
        made = grpc.secure_channel(f"localhost:{gateway.tls[1]}", credentials, options=_LARGE)
    with made:
        yield made


def _method(channel: grpc.Channel, kind: str, name: str) -> Callable[..., Any]:
    method: Callable[..., Any] = getattr(channel, kind)(name if name.startswith("/") else f"/test.Service/{name}")
    return method


def test_unary_call_carries_metadata_both_ways_through_the_plugin(channel: grpc.Channel) -> None:
    answer, call = _method(channel, "unary_unary", "Unary").with_call(b"hello", timeout=DEADLINE_S)
    assert answer == b"hello"
    initial = dict(call.initial_metadata())
    assert initial["x-seen"] == "request"
    assert initial["x-from-plugin"] == "response"
    assert dict(call.trailing_metadata())["x-trailer"] == "last"


def test_three_kinds_of_streams_pass(channel: grpc.Channel) -> None:
    assert list(_method(channel, "unary_stream", "Split")(b"5", timeout=DEADLINE_S)) == [b"0", b"1", b"2", b"3", b"4"]
    assert _method(channel, "stream_unary", "Join")(iter([b"a", b"b", b"c"]), timeout=DEADLINE_S) == b"a,b,c"
    assert list(_method(channel, "stream_stream", "Echo")(iter([b"x", b"y"]), timeout=DEADLINE_S)) == [
        b"re:x",
        b"re:y",
    ]


def test_bidirectional_stream_is_not_held_back(channel: grpc.Channel) -> None:
    answered = threading.Event()

    def requests() -> Iterator[bytes]:
        yield b"first"
        # The second message is sent only after the answer to the first came.
        assert answered.wait(DEADLINE_S)
        yield b"second"

    stream = _method(channel, "stream_stream", "Echo")(requests(), timeout=DEADLINE_S)
    assert next(stream) == b"re:first"
    answered.set()
    assert list(stream) == [b"re:second"]


def test_message_of_ten_megabytes_passes(channel: grpc.Channel) -> None:
    assert _method(channel, "unary_unary", "Unary")(BIG, timeout=DEADLINE_S) == BIG


def test_error_keeps_status_text_and_details(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        _method(channel, "unary_unary", "Fail")(b"", timeout=DEADLINE_S)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert caught.value.details() == "not like this: \u00fc"
    assert dict(caught.value.trailing_metadata())["x-detail-bin"] == b"\x00\xff"


def test_deadline_ends_the_call_at_the_server_too(channel: grpc.Channel) -> None:
    CANCELLED.clear()
    with pytest.raises(grpc.RpcError) as caught:
        _method(channel, "unary_unary", "Wait")(b"", timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert CANCELLED.wait(DEADLINE_S)


def test_cancelled_call_is_cancelled_at_the_server(channel: grpc.Channel) -> None:
    CANCELLED.clear()
    call = _method(channel, "unary_unary", "Wait").future(b"", timeout=DEADLINE_S)
    # Cancelled once the server has it: an answered call behind it on the same channel says so.
    assert _method(channel, "unary_unary", "Unary")(b"x", timeout=DEADLINE_S) == b"x"
    call.cancel()
    assert CANCELLED.wait(DEADLINE_S)


def test_refusal_of_a_plugin_is_a_grpc_status(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        _method(channel, "unary_unary", "Unary")(b"", timeout=DEADLINE_S, metadata=(("x-refuse", "1"),))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert caught.value.details() == "refused by a plugin"


def test_unreachable_upstream_is_a_grpc_status(gateway: Gateway) -> None:
    host, port = gateway.prior_knowledge
    with grpc.insecure_channel(f"{host}:{port}") as channel, pytest.raises(grpc.RpcError) as caught:
        _method(channel, "unary_unary", "/gone.Service/Any")(b"", timeout=DEADLINE_S)
    assert caught.value.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE)
    assert caught.value.details() == "An invalid response was received from the upstream server"


def test_upstream_is_verified_where_a_plugin_asks_for_it(gateway: Gateway) -> None:
    host, port = gateway.prior_knowledge
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        assert _method(channel, "unary_unary", "/verified.Service/Unary")(b"x", timeout=DEADLINE_S) == b"x"
        with pytest.raises(grpc.RpcError) as caught:
            _method(channel, "unary_unary", "/mistrusted.Service/Unary")(b"x", timeout=DEADLINE_S)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == "An invalid response was received from the upstream server"
    assert "TLS handshake failed: invalid peer certificate" in gateway.output()


def test_unknown_method_is_a_grpc_status(gateway: Gateway) -> None:
    host, port = gateway.prior_knowledge
    with grpc.insecure_channel(f"{host}:{port}") as channel, pytest.raises(grpc.RpcError) as caught:
        _method(channel, "unary_unary", "/other.Service/Any")(b"", timeout=DEADLINE_S)
    assert caught.value.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED)
    assert caught.value.details() == "no Route matched with those values"


def test_buffered_response_keeps_messages_status_and_trailers(gateway: Gateway) -> None:
    host, port = gateway.prior_knowledge
    with grpc.insecure_channel(f"{host}:{port}", options=_LARGE) as channel:
        unary = _method(channel, "unary_unary", "/buffered.Service/Unary")
        answer, call = unary.with_call(b"hello", timeout=DEADLINE_S)
        assert answer == b"hello"
        # A message has five bytes in front of it.
        assert dict(call.initial_metadata())["x-body-bytes"] == "10"
        assert dict(call.trailing_metadata())["x-trailer"] == "last"
        assert unary(BIG, timeout=DEADLINE_S) == BIG
        split = _method(channel, "unary_stream", "/buffered.Service/Split")
        assert list(split(b"3", timeout=DEADLINE_S)) == [b"0", b"1", b"2"]
        with pytest.raises(grpc.RpcError) as caught:
            _method(channel, "unary_unary", "/buffered.Service/Fail")(b"", timeout=DEADLINE_S)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert caught.value.details() == "not like this: \u00fc"


def test_fault_in_the_response_phase_is_a_grpc_status(gateway: Gateway) -> None:
    host, port = gateway.prior_knowledge
    with grpc.insecure_channel(f"{host}:{port}") as channel, pytest.raises(grpc.RpcError) as caught:
        _method(channel, "unary_unary", "/broken.Service/Unary")(b"x", timeout=DEADLINE_S)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == "An unexpected error occurred"


def test_grpcs_route_without_tls_is_refused_with_a_grpc_status(gateway: Gateway) -> None:
    host, port = gateway.prior_knowledge
    options = (("grpc.default_authority", "localhost"),)
    with grpc.insecure_channel(f"{host}:{port}", options=options) as channel, pytest.raises(grpc.RpcError) as caught:
        _method(channel, "unary_unary", "Unary")(b"x", timeout=DEADLINE_S)
    assert caught.value.code() is grpc.StatusCode.CANCELLED
    assert caught.value.details() == "gRPC request matched gRPCs route"


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"Content-Type": "application/grpc"}, 426, "Please use HTTP2 protocol"),
        ({"Content-Type": "application/json"}, 415, "Non-gRPC request matched gRPC route"),
    ],
)
def test_what_is_not_grpc_is_refused(gateway: Gateway, fields: dict[str, str], status: int, message: str) -> None:
    response = gateway.get("/test.Service/Unary", fields, "POST")
    assert response.status == status
    assert response.json()["message"] == message
