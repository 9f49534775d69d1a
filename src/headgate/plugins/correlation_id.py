"""correlation-id: give every request an id that travels to the upstream, into the log record and, if asked, back.

Owns the three forms of the id. One that the client (or a gateway before this one) sent is kept. `tracker` is
`<address of the node>-<port>-<worker's process id>-<client's port>-<number in the worker>-<time in seconds>`.
"""

import os
import socket
import time
import uuid
from itertools import count
from typing import Literal

from headgate import Plugin, PluginConfig, kong
from headgate.schema import field


class Config(PluginConfig):
    header_name: str | None = "Kong-Request-ID"
    generator: Literal["uuid", "uuid#counter", "tracker"] = field("uuid#counter")
    echo_downstream: bool = False


class Handler(Plugin[Config]):
    VERSION = "3.9.1"
    PRIORITY = 100001

    def __init__(self) -> None:
        self._start_numbering()

    def init_worker(self) -> None:
        """Start this worker's own series: ids of two workers must not meet."""
        self._start_numbering()

    def access(self, conf: Config) -> None:
        """Keep the request's id or make one, for the upstream and the log."""
        header_name = conf.header_name
        correlation_id = kong.request.get_header(header_name) if header_name else None
        if not correlation_id:
            correlation_id = self._generate(conf.generator)
            if header_name:
                kong.service.request.set_header(header_name, correlation_id)
        kong.log.set_serialize_value("correlation_id", correlation_id)
        if conf.echo_downstream:
            kong.ctx.plugin.correlation_id = correlation_id

    def ws_handshake(self, conf: Config) -> None:
        """Do the same for a WebSocket; its answer can be given the id at once."""
        self.access(conf)
        if conf.echo_downstream and conf.header_name:
            kong.response.set_header(conf.header_name, kong.ctx.plugin.correlation_id)

    def header_filter(self, conf: Config) -> None:
        """Echo the id; a request that was answered before `access` gets one here."""
        if not conf.echo_downstream or not conf.header_name:
            return
        correlation_id = kong.ctx.plugin.correlation_id or kong.request.get_header(conf.header_name)
        if not correlation_id:
            correlation_id = self._generate(conf.generator)
            kong.log.set_serialize_value("correlation_id", correlation_id)
        kong.response.set_header(conf.header_name, correlation_id)

    def _start_numbering(self) -> None:
        self._worker_id = str(uuid.uuid4())
        self._numbers = count(1)
        self._address = _own_address()

    def _generate(self, generator: str) -> str:
        if generator == "uuid":
            return str(uuid.uuid4())
        if generator == "uuid#counter":
            return f"{self._worker_id}#{next(self._numbers)}"
        return (
            f"{self._address}-{kong.request.get_port()}-{os.getpid()}-{kong.client.get_port()}"
            f"-{next(self._numbers)}-{time.time():.3f}"
        )


def _own_address() -> str:
    # Connecting a datagram socket sends nothing; it makes the system choose the address this node is reached at.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])
