"""A client that opens WebSockets as streams of one HTTP/2 connection (RFC 8441), over TLS or by prior knowledge."""

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset

from tests.support.certificates import insecure_context
from tests.support.gateway import Gateway
from tests.support.http1 import Client
from tests.support.websockets import read_frame

_FRAME_HEAD_BYTES = 9
_GOAWAY = 7


class Http2:
    """One connection; what came is kept by stream."""

    def __init__(self, gateway: Gateway, *, is_tls: bool = False) -> None:
        self.scheme = "https" if is_tls else "http"
        if is_tls:
            self._client = Client(gateway.tls, tls=insecure_context("h2"), server_name="a.test", timeout_s=20)
        else:
            self._client = Client(gateway.prior_knowledge, timeout_s=20)
        self.connection = H2Connection(
            H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
        )
        self.connection.initiate_connection()
        self._waiting = b""
        self.is_leaving = False
        self.status: dict[int, int] = {}
        self.headers: dict[int, dict[str, str]] = {}
        self.data: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.was_reset: dict[int, int] = {}
        self.flush()

    def __enter__(self) -> "Http2":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def local_port(self) -> int:
        """The port that it was opened from."""
        port: int = self._client.socket.getsockname()[1]
        return port

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def flush(self) -> None:
        self._client.send(self.connection.data_to_send())

    def receive(self) -> None:
        """Take what comes next and keep it by stream."""
        data = self._client.socket.recv(65536)
        if not data:
            raise EOFError("connection closed")
        for event in self.connection.receive_data(self._without_goaway(data)):
            self._take(event)
        self.flush()

    def _without_goaway(self, data: bytes) -> bytes:
        """Return the whole frames so far: the library takes nothing more behind a GOAWAY, where open streams go on."""
        self._waiting += data
        kept = b""
        while len(self._waiting) >= _FRAME_HEAD_BYTES:
            size = _FRAME_HEAD_BYTES + int.from_bytes(self._waiting[:3], "big")
            if len(self._waiting) < size:
                break
            if self._waiting[3] == _GOAWAY:
                self.is_leaving = True
            else:
                kept += self._waiting[:size]
            self._waiting = self._waiting[size:]
        return kept

    def _take(self, event: Event) -> None:
        if isinstance(event, ResponseReceived):
            fields = {_text(name): _text(value) for name, value in event.headers or []}
            self.status[event.stream_id] = int(fields[":status"])
            self.headers[event.stream_id] = fields
        elif isinstance(event, DataReceived):
            self.data[event.stream_id] = self.data.get(event.stream_id, b"") + event.data
            if event.flow_controlled_length:
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            self.ended.add(event.stream_id)
        elif isinstance(event, StreamReset):
            self.was_reset[event.stream_id] = int(event.error_code)

    def ask(self, path: str, *additions: tuple[str, str], protocol: str = "websocket") -> int:
        """Send an extended CONNECT and wait for its answer; returns the stream."""
        stream: int = self.connection.get_next_available_stream_id()
        head = [
            (":method", "CONNECT"),
            (":protocol", protocol),
            (":scheme", self.scheme),
            (":path", path),
            (":authority", "gateway.test"),
            ("sec-websocket-version", "13"),
            *additions,
        ]
        self.connection.send_headers(stream, head)
        self.flush()
        while stream not in self.status and stream not in self.was_reset:
            self.receive()
        return stream

    def open(self, path: str, *additions: tuple[str, str]) -> int:
        """Open a WebSocket."""
        stream = self.ask(path, *additions)
        assert self.status[stream] == 200
        assert stream not in self.ended
        return stream

    def send(self, stream: int, data: bytes) -> None:
        """Send bytes as the windows allow."""
        while data:
            room = min(self.connection.local_flow_control_window(stream), self.connection.max_outbound_frame_size)
            if room == 0:
                self.receive()
                continue
            self.connection.send_data(stream, data[:room])
            data = data[room:]
            self.flush()

    def take(self, stream: int, count: int) -> bytes:
        """Return the next bytes of a stream."""
        while len(self.data.get(stream, b"")) < count:
            assert stream not in self.ended
            assert stream not in self.was_reset
            self.receive()
        taken, self.data[stream] = self.data[stream][:count], self.data[stream][count:]
        return taken

    def read_frame(self, stream: int) -> tuple[int, bytes]:
        return read_frame(lambda count: self.take(stream, count))

    def wait_for_end(self, stream: int) -> None:
        while stream not in self.ended and stream not in self.was_reset:
            self.receive()


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()
