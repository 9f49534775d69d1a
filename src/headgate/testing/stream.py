"""A stream in memory: what `preread` and `log` of TCP, TLS and UDP see of it."""

from dataclasses import dataclass
from typing import Any

from headgate.testing.exchange import MemoryExchange, Request


@dataclass
class Stream:
    """A client's stream. The byte counts, `status` and `session_ms` are those of its end, for `log`."""

    protocol: str = "tcp"
    client_ip: str = "127.0.0.1"
    client_port: int = 40000
    forwarded_ip: str | None = None
    port: int = 9000
    server_name: str | None = None
    received: int = 0
    sent: int = 0
    upstream_received: int = 0
    upstream_sent: int = 0
    status: int = 200
    session_ms: int = 0
    aws_vpce_id: str | None = None


class MemoryStream(MemoryExchange):
    """One stream, with the members of the native exchange."""

    def __init__(self, stream: Stream, plan: Any, route_index: int | None) -> None:
        request = Request(
            scheme="https" if stream.protocol == "tls" else "http",
            host=stream.server_name or "",
            port=stream.port,
            client_ip=stream.client_ip,
            client_port=stream.client_port,
            forwarded_ip=stream.forwarded_ip,
        )
        super().__init__(request, None, plan, route_index)
        self._stream = stream
        self.tls_server_name = stream.server_name
        self.stream_protocol = stream.protocol
        self.session_status = stream.status
        self.upstream_received_bytes = stream.upstream_received
        self.upstream_sent_bytes = stream.upstream_sent
        self.aws_vpce_id = stream.aws_vpce_id

    @property
    def request_bytes(self) -> int:
        return self._stream.received

    @property
    def response_bytes(self) -> int:
        return self._stream.sent

    def latencies_ms(self) -> tuple[int, int, int, int]:
        return (0, 0, self._stream.session_ms, 0)
