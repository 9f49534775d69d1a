"""Serves the Admin and Status API on the sockets inherited from the supervisor, with uvicorn in control's loop."""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from headgate.admin.access import PeerProtocol
from headgate.admin.app import admin_app, status_app
from headgate.admin.node import Node
from headgate.config.tls import read_pem
from headgate.node import default_certificate
from headgate.node.bootstrap import ChildListener

_GRACE_S = 2


class _Server(uvicorn.Server):
    """A server that leaves signals to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle no signal."""
        yield


class AdminServers:
    """The servers of a control process: one per API and scheme."""

    def __init__(self, node: Node, listeners: Sequence[ChildListener]) -> None:
        self._node = node
        self._listeners = listeners
        self._servers: list[_Server] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Accept connections on all listeners."""
        apps = {"admin_listen": admin_app, "status_listen": status_app}
        for setting_name, build in apps.items():
            own = [entry for entry in self._listeners if entry.setting_name == setting_name]
            if not own:
                continue
            app = build(self._node)
            for is_ssl in (False, True):
                sockets = [_socket(entry) for entry in own if entry.is_ssl == is_ssl]
                if sockets:
                    self._serve(app, setting_name, sockets, is_ssl)
        while not all(server.started for server in self._servers):
            if any(task.done() for task in self._tasks):
                raise RuntimeError("the Admin API cannot be served")
            await asyncio.sleep(0.005)

    def _serve(self, app: ASGIApp, setting_name: str, sockets: list[socket.socket], is_ssl: bool) -> None:
        certificate: tuple[Path, Path] | None = None
        if is_ssl:
            certificate = _certificate_files(self._node, setting_name.removesuffix("_listen"))
        client_ca = self._client_ca() if is_ssl and setting_name == "admin_listen" else None
        config = uvicorn.Config(
            app,
            http=PeerProtocol,
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_S,
            ssl_certfile=None if certificate is None else str(certificate[0]),
            ssl_keyfile=None if certificate is None else str(certificate[1]),
            # Asked for, not demanded: a token will do too. A certificate of anybody else ends the handshake.
            ssl_cert_reqs=ssl.CERT_NONE if client_ca is None else ssl.CERT_OPTIONAL,
            ssl_ca_certs=client_ca,
        )
        server = _Server(config)
        self._servers.append(server)
        self._tasks.append(asyncio.ensure_future(server.serve(sockets=sockets)))

    def _client_ca(self) -> str | None:
        """Return the file of the authorities of client certificates; None without any."""
        value = self._node.settings.access.admin_client_ca
        if value is None:
            return None
        path = self._node.settings.prefix / "ssl" / "admin-client-ca.crt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(read_pem(value), encoding="utf-8")
        return str(path)

    async def stop(self) -> None:
        """Finish running calls and end."""
        for server in self._servers:
            server.should_exit = True
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _socket(listener: ChildListener) -> socket.socket:
    inherited = socket.socket(fileno=listener.fd)
    inherited.setblocking(False)
    return inherited


def _certificate_files(node: Node, api: str) -> tuple[Path, Path]:
    """Return the files of an API's certificate and key; values that are no files are written below the prefix."""
    directory = node.settings.prefix / "ssl"
    certificates, keys = (
        getattr(node.settings.tls, f"{api}_ssl_cert"),
        getattr(node.settings.tls, f"{api}_ssl_cert_key"),
    )
    if not certificates:
        return default_certificate.paths(directory, "ecdsa")
    files = []
    for value, suffix in ((certificates[0], "crt"), (keys[0], "key")):
        path = directory / f"{api}.{suffix}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(read_pem(value))
        files.append(path)
    return files[0], files[1]


logging.getLogger("uvicorn").setLevel(logging.WARNING)
