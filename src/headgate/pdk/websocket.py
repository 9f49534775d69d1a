"""`kong.websocket`: the messages of WebSocket services, one module for each side (PDK reference 21).

A frame handler sees one whole message of its side at a time, whatever frames it came in. What it leaves is passed on;
later plugins see what earlier ones made of it. The reference names no exception texts: those here are our own.
"""

from collections.abc import Callable
from typing import Any, Concatenate, Literal, ParamSpec, TypeAlias, TypeVar

from headgate.pdk._call import Call
from headgate.pdk._check import is_number, type_name
from headgate.pdk._phase import phases
from headgate.phases import Phase

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

FrameType: TypeAlias = Literal["text", "binary", "ping", "pong", "close"]
Frame: TypeAlias = tuple[bytes, FrameType, int | None]

CONTROL_BYTES = 125
"""Longest payload of a ping or pong (RFC 6455, section 5.5)."""
REASON_BYTES = 123
"""Longest reason of a close frame."""
MOST_PAYLOAD_BYTES = 2**31 - 1

_NORMAL = 1000
_SIDES = {"client": "upstream", "upstream": "client"}


def _of_frames(function: Callable[Concatenate[S, Call, P], R]) -> Callable[Concatenate[S, P], R]:
    """Mark a method for the frame phase of its side: each subclass of `_Side` guards it with its own."""
    function.__is_of_frames__ = True  # type: ignore[attr-defined]
    unguarded: Any = function
    return unguarded  # type: ignore[no-any-return]


class _Side:
    """The functions of both modules, which differ in their phases only."""

    __slots__ = ("_side",)

    def __init_subclass__(cls, phase: Phase) -> None:
        super().__init_subclass__()
        for name, function in vars(_Side).items():
            if getattr(function, "__is_of_frames__", False):
                setattr(cls, name, phases(phase)(function))
            elif hasattr(function, "__phases__"):
                # Pages and the phase matrix list what a module's own class has.
                setattr(cls, name, function)

    def __init__(self, side: str) -> None:
        self._side = side

    @_of_frames
    def get_frame(self, call: Call) -> Frame:
        """Return the message as (payload, type, status), as earlier plugins left it.

        The type is `text`, `binary`, `ping`, `pong` or `close`; a close frame's payload is its reason and only it has
        a status, unless its sender gave none.
        """
        frame: Any = call.exchange.websocket_message()
        return frame  # type: ignore[no-any-return]

    @_of_frames
    def set_frame_data(self, call: Call, data: str | bytes) -> None:
        """Replace the payload of the message.

        Raises: TypeError `frame payload must be a string`; ValueError for text that is no UTF-8, or more than 125
            bytes in a ping or pong, 123 in the reason of a close frame.
        """
        payload = _payload(data, "frame payload")
        _, kind, _ = call.exchange.websocket_message()
        if kind == "text":
            _need_utf8(payload, data, "frame payload")
        elif kind == "close":
            _need_short(payload, REASON_BYTES, "close reason")
            _need_utf8(payload, data, "close reason")
        elif kind != "binary":
            _need_short(payload, CONTROL_BYTES, "frame payload")
        call.exchange.set_websocket_message(payload, None)

    @_of_frames
    def set_status(self, call: Call, status: int) -> None:
        """Replace the status of a close frame.

        Raises: TypeError `status must be an integer`; ValueError for one that must not be sent (RFC 6455, section
            7.4), or when the message is no close frame.
        """
        code = _status(status, "status")
        _, kind, _ = call.exchange.websocket_message()
        if kind != "close":
            raise ValueError(f"cannot set the status of a {kind} frame, only of a close frame")
        call.exchange.set_websocket_message(None, code)

    @_of_frames
    def drop_frame(self, call: Call) -> None:
        """Do not pass the message on; later plugins do not see it.

        Raises: ValueError `cannot drop a close frame`.
        """
        _, kind, _ = call.exchange.websocket_message()
        if kind == "close":
            raise ValueError("cannot drop a close frame")
        call.exchange.drop_websocket_message()
        call.is_answered = True

    @_of_frames
    def close(
        self,
        call: Call,
        status: int | None = None,
        message: str | bytes | None = None,
        peer_status: int | None = None,
        peer_message: str | bytes | None = None,
    ) -> None:
        """Close both sides after this handler; the message is not passed on and later plugins do not see it.

        Args: `status` and `message` are for this side, the others for its peer; a status of None is 1000.
        Raises: TypeError, ValueError for a status that must not be sent or a reason of more than 123 bytes.
        """
        own = (_status(status, "status"), _reason(message, "message"))
        peer = (_status(peer_status, "peer_status"), _reason(peer_message, "peer_message"))
        told = {self._side: own, _SIDES[self._side]: peer}
        call.exchange.close_websocket(told["client"], told["upstream"])
        call.is_answered = True

    @phases(Phase.WS_HANDSHAKE)
    def set_max_payload_size(self, call: Call, size: int) -> None:
        """Set the largest message that this side may send, in bytes; 0 is the node's setting.

        It counts for text and binary messages, fragments together. Whoever exceeds it is closed with 1009, its peer
        with 1001.

        Raises: TypeError `size must be an integer`; ValueError `size must be an integer between 0 and 2147483647`.
        """
        call.exchange.set_websocket_limit(self._side, _limit(size))


class ClientSide(_Side, phase=Phase.WS_CLIENT_FRAME):
    """`kong.websocket.client`: messages from the client."""

    __slots__ = ()


class UpstreamSide(_Side, phase=Phase.WS_UPSTREAM_FRAME):
    """`kong.websocket.upstream`: messages from the upstream."""

    __slots__ = ()


class WebSocket:
    """`kong.websocket`: both sides of a connection to a WebSocket service."""

    __slots__ = ("client", "upstream")

    def __init__(self) -> None:
        self.client = ClientSide("client")
        self.upstream = UpstreamSide("upstream")


def _status(status: int | None, what: str) -> int:
    """Return a close status, 1000 for None; raise for what must not be in a close frame."""
    if status is None:
        return _NORMAL
    if not is_number(status) or status != status // 1:
        raise TypeError(f"{what} must be an integer")
    code = int(status)
    if code not in range(1000, 1004) and code not in range(1007, 1015) and code not in range(3000, 5000):
        raise ValueError(f"{what} must be a close status that may be sent: given {code}")
    return code


def _limit(size: int) -> int:
    if not is_number(size) or size != size // 1:
        raise TypeError("size must be an integer")
    if not 0 <= size <= MOST_PAYLOAD_BYTES:
        raise ValueError(f"size must be an integer between 0 and {MOST_PAYLOAD_BYTES}")
    return int(size)


def _reason(message: str | bytes | None, what: str) -> bytes:
    if message is None:
        return b""
    payload = _payload(message, what)
    _need_short(payload, REASON_BYTES, what)
    _need_utf8(payload, message, what)
    return payload


def _payload(data: str | bytes, what: str) -> bytes:
    if isinstance(data, str):
        return data.encode("utf-8", "surrogatepass")
    if isinstance(data, bytes):
        return data
    raise TypeError(f"{what} must be a string, got {type_name(data)}")


def _need_short(payload: bytes, most: int, what: str) -> None:
    if len(payload) > most:
        raise ValueError(f"{what} must be at most {most} bytes: given {len(payload)}")


def _need_utf8(payload: bytes, given: str | bytes, what: str) -> None:
    """Raise for text that the other side would refuse with 1007."""
    if isinstance(given, str) and given.isascii():
        return
    try:
        payload.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{what} must be valid UTF-8") from None


websocket = WebSocket()
