"""A gRPC server with the standard health service, whose answers a test changes: `grpc.health.v1.Health/Check`."""

from concurrent import futures
from typing import Any, Self

import grpc

from tests.support.certificates import Pair

SERVING, NOT_SERVING = 1, 2


class HealthServer:
    """The server; a context manager. Messages are bytes, so that no generated code is needed."""

    def __init__(self, pair: Pair | None = None, client_authority: str | None = None) -> None:
        self.status: dict[str, int] = {"": SERVING}
        """Status by service; others are answered NOT_FOUND, all UNIMPLEMENTED when there is none."""
        self.asked: list[tuple[str, dict[str, str]]] = []
        """Service and metadata of each call."""
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
        methods = {"Check": grpc.unary_unary_rpc_method_handler(self._check)}
        handler = grpc.method_handlers_generic_handler("grpc.health.v1.Health", methods)
        self._server.add_generic_rpc_handlers((handler,))
        if pair is None:
            self.port = self._server.add_insecure_port("127.0.0.1:0")
            return
        credentials = grpc.ssl_server_credentials(
            [(pair.key.encode(), pair.certificate.encode())],
            root_certificates=None if client_authority is None else client_authority.encode(),
            require_client_auth=client_authority is not None,
        )
        self.port = self._server.add_secure_port("127.0.0.1:0", credentials)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()

    def _check(self, request: bytes, context: Any) -> bytes:
        # HealthCheckRequest {string service = 1}; names of tests are shorter than 128 bytes.
        service = request[2:].decode()
        self.asked.append((service, {name: str(value) for name, value in context.invocation_metadata()}))
        if service not in self.status:
            code = grpc.StatusCode.NOT_FOUND if self.status else grpc.StatusCode.UNIMPLEMENTED
            context.abort(code, "not here")
        return bytes((0x08, self.status[service]))
