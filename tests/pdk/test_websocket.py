"""Frame handlers: what they see of a message and what becomes of it."""

from collections.abc import Callable
from typing import Any

import pytest

from headgate import Plugin, PluginConfig, kong
from headgate.testing import Frame, Result, run_phase


def of_client(act: Callable[[], Any], frame: Frame) -> Result:
    class Handler(Plugin[PluginConfig]):
        def ws_client_frame(self, conf: PluginConfig) -> Any:
            return act()

    return run_phase(Handler, "ws_client_frame", frame=frame)


def of_upstream(act: Callable[[], Any], frame: Frame) -> Result:
    class Handler(Plugin[PluginConfig]):
        def ws_upstream_frame(self, conf: PluginConfig) -> Any:
            return act()

    return run_phase(Handler, "ws_upstream_frame", frame=frame)


def in_handshake(act: Callable[[], Any]) -> Result:
    class Handler(Plugin[PluginConfig]):
        def ws_handshake(self, conf: PluginConfig) -> Any:
            return act()

    return run_phase(Handler, "ws_handshake")


def test_a_message_is_shown_with_type_and_status() -> None:
    assert of_client(kong.websocket.client.get_frame, Frame("é")).returned == ("é".encode(), "text", None)
    closing = Frame("bye", "close", 1001)
    assert of_upstream(kong.websocket.upstream.get_frame, closing).returned == (b"bye", "close", 1001)


def test_an_untouched_message_is_passed_on() -> None:
    assert of_client(lambda: None, Frame(b"\xff", "binary")).frame == Frame(b"\xff", "binary")


def test_payload_and_status_can_be_replaced_and_are_seen_at_once() -> None:
    def act() -> Any:
        kong.websocket.upstream.set_frame_data("later")
        kong.websocket.upstream.set_status(4000)
        return kong.websocket.upstream.get_frame()

    result = of_upstream(act, Frame("now", "close", 1000))
    assert result.returned == (b"later", "close", 4000)
    assert result.frame == Frame(b"later", "close", 4000)


def test_a_dropped_message_is_not_passed_on() -> None:
    assert of_client(kong.websocket.client.drop_frame, Frame("x")).frame is None


def test_close_tells_the_own_side_first() -> None:
    result = of_client(lambda: kong.websocket.client.close(1008, "no", 1001, "gone"), Frame("x"))
    assert result.closed == ((1008, b"no"), (1001, b"gone"))
    assert result.frame is None
    result = of_upstream(lambda: kong.websocket.upstream.close(1008, "no"), Frame("x"))
    assert result.closed == ((1000, b""), (1008, b"no"))


def test_the_handshake_sets_limits() -> None:
    def act() -> None:
        kong.websocket.client.set_max_payload_size(10)
        kong.websocket.upstream.set_max_payload_size(0)

    assert in_handshake(act).payload_limits == {"client": 10, "upstream": 0}


@pytest.mark.parametrize(
    ("act", "frame", "error", "text"),
    [
        (lambda: kong.websocket.client.set_frame_data(1), Frame("x"), TypeError, "frame payload must be a string"),
        (
            lambda: kong.websocket.client.set_frame_data(b"\xff"),
            Frame("x"),
            ValueError,
            "frame payload must be valid UTF-8",
        ),
        (
            lambda: kong.websocket.client.set_frame_data("x" * 126),
            Frame("x", "ping"),
            ValueError,
            "frame payload must be at most 125 bytes: given 126",
        ),
        (
            lambda: kong.websocket.client.set_frame_data("x" * 124),
            Frame("x", "close", 1000),
            ValueError,
            "close reason must be at most 123 bytes: given 124",
        ),
        (
            lambda: kong.websocket.client.set_status(1000),
            Frame("x"),
            ValueError,
            "cannot set the status of a text frame, only of a close frame",
        ),
        (
            lambda: kong.websocket.client.set_status("1000"),
            Frame("x", "close", 1000),
            TypeError,
            "status must be an integer",
        ),
        (kong.websocket.client.drop_frame, Frame("x", "close", 1000), ValueError, "cannot drop a close frame"),
        (
            lambda: kong.websocket.client.close(1006),
            Frame("x"),
            ValueError,
            "status must be a close status that may be sent: given 1006",
        ),
        (
            lambda: kong.websocket.client.close(1000, "", 1005),
            Frame("x"),
            ValueError,
            "peer_status must be a close status that may be sent: given 1005",
        ),
        (
            lambda: kong.websocket.client.close(1000, "x" * 124),
            Frame("x"),
            ValueError,
            "message must be at most 123 bytes: given 124",
        ),
    ],
)
def test_wrong_arguments_are_refused(act: Any, frame: Frame, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        of_client(act, frame)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("size", "error", "text"),
    [
        (-1, ValueError, "size must be an integer between 0 and 2147483647"),
        (1.5, TypeError, "size must be an integer"),
        (None, TypeError, "size must be an integer"),
    ],
)
def test_wrong_limits_are_refused(size: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        in_handshake(lambda: kong.websocket.client.set_max_payload_size(size))
    assert str(caught.value) == text
