"""One call of the gRPC health checking protocol over an open connection: is a service being served?

Owns the call alone (gRPC over HTTP/2, one message each way, `grpc.health.v1.Health/Check`); who connects, waits and
counts is `probe`. Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md and PROTOCOL-HTTP2.md.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset, TrailersReceived
from h2.exceptions import H2Error

PATH: Final = "/grpc.health.v1.Health/Check"
_SERVING: Final = 1
_OK: Final = b"0"
_PREFIX_BYTES: Final = 5
# An answer has two bytes; whoever sends more is no health service.
_MOST_ANSWER_BYTES: Final = 1_024
_READ_BYTES: Final = 16_384
# What speaks HTTP/2 begins with a frame SETTINGS (RFC 9113, sections 3.4 and 4.1).
_FRAME_HEAD_BYTES: Final = 9
_FRAME_TYPE_AT: Final = 3
_SETTINGS: Final = 4
# RFC 9113, section 8.2.2: not to be sent over HTTP/2.
_OF_THE_CONNECTION: Final = frozenset(
    ("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te", "host", "content-type")
)


@dataclass
class _Answer:
    """What has come so far."""

    status: bytes = b""
    grpc_status: bytes = b""
    body: bytearray = field(default_factory=bytearray)
    is_over: bool = False

    def take(self, event: Event) -> None:
        if isinstance(event, ResponseReceived | TrailersReceived):
            fields = dict(event.headers)
            self.status = fields.get(b":status", self.status)
            self.grpc_status = fields.get(b"grpc-status", self.grpc_status)
        elif isinstance(event, DataReceived):
            self.body += event.data
        if isinstance(event, StreamEnded | StreamReset) or len(self.body) > _MOST_ANSWER_BYTES:
            self.is_over = True

    @property
    def is_serving(self) -> bool:
        return self.status == b"200" and self.grpc_status == _OK and serving_status(bytes(self.body)) == _SERVING


async def is_serving(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    service: str,
    scheme: str,
    authority: str,
    metadata: Iterable[tuple[str, str]],
    timeout_s: float,
) -> bool:
    """Ask whether a service is being served; any other answer, and one that is no gRPC, is False.

    Args: `service`: its full name, empty for the server as a whole; `timeout_s`: for sending, and again for the answer.
    Raises: TimeoutError; ConnectionResetError, the connection ended before the answer was whole; OSError.
    """
    connection = H2Connection(H2Configuration(client_side=True))
    answer = _Answer()
    try:
        connection.initiate_connection()
        stream = connection.get_next_available_stream_id()
        fields = [
            (":method", "POST"),
            (":scheme", scheme),
            (":path", PATH),
            (":authority", authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("grpc-timeout", f"{max(1, int(timeout_s * 1000))}m"),
        ]
        fields += [(name, value) for name, value in metadata if name.lower() not in _OF_THE_CONNECTION]
        connection.send_headers(stream, fields)
        connection.send_data(stream, request(service), end_stream=True)
        writer.write(connection.data_to_send())
        async with asyncio.timeout(timeout_s):
            await writer.drain()
        async with asyncio.timeout(timeout_s):
            data = await reader.readexactly(_FRAME_HEAD_BYTES)
            if data[_FRAME_TYPE_AT] != _SETTINGS:
                return False
            while data:
                for event in connection.receive_data(data):
                    answer.take(event)
                writer.write(connection.data_to_send())
                if answer.is_over:
                    return answer.is_serving
                data = await reader.read(_READ_BYTES)
    except asyncio.IncompleteReadError:
        pass
    except H2Error:
        return False
    raise ConnectionResetError("the connection ended before the answer")


def request(service: str) -> bytes:
    """Return the message that asks for a service, with its prefix: `HealthCheckRequest {string service = 1}`."""
    name = service.encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    return b"\x00" + len(message).to_bytes(4, "big") + message


def serving_status(body: bytes) -> int | None:
    """Return the `status` (field 1) of a `HealthCheckResponse` with its prefix; None when it is none.

    A message without the field has its default, 0: unknown.
    """
    if len(body) < _PREFIX_BYTES or body[0] != 0 or int.from_bytes(body[1:_PREFIX_BYTES], "big") != len(body) - 5:
        return None
    message = body[_PREFIX_BYTES:]
    status = 0
    while message:
        # Numbers below 128 are one byte, and the protocol knows no field but this one.
        if len(message) < 2 or message[0] != 0x08 or message[1] & 0x80:
            return None
        status, message = message[1], message[2:]
    return status


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
