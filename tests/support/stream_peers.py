"""Peers for tests of streams: servers over TCP, TLS and UDP that say what they saw, on threads of their own."""

import socket
import ssl
import threading
from collections.abc import Callable
from typing import Self

Serve = Callable[[socket.socket], None]


def echo(connection: socket.socket) -> None:
    """Send back what comes; after the client's end, `bye`."""
    while data := connection.recv(65536):
        connection.sendall(data)
    connection.sendall(b"bye")


class StreamServer:
    """A TCP or TLS server; each connection is served on a thread and closed behind it."""

    def __init__(
        self, serve: Serve = echo, context: ssl.SSLContext | None = None, *, address: str = "127.0.0.1"
    ) -> None:
        self._serve = serve
        self._context = context
        self._socket = socket.create_server((address, 0))
        self.address = address
        self.port: int = self._socket.getsockname()[1]
        self._clients: list[tuple[str, int]] = []
        self._asked = threading.Condition()
        self.server_names: list[str | None] = []
        self.client_certificates: list[bytes | None] = []
        if context is not None:
            context.sni_callback = self._name

    def _name(self, _socket: object, name: str | None, _context: object) -> None:
        self.server_names.append(name)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # Closing alone would not wake the thread that accepts.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def clients(self) -> list[tuple[str, int]]:
        """Return the addresses that have connected up to now.

        The kernel completes a connection long before the thread here may accept it. Accepts come in the order of the
        connections: once one of our own is through, so is everything before it.
        """
        with socket.create_connection((self.address, self.port), timeout=20) as own, self._asked:
            name = own.getsockname()
            if not self._asked.wait_for(lambda: name in self._clients, timeout=20):
                raise TimeoutError("the server accepts no more")
            self._clients.remove(name)
            return list(self._clients)

    def _accept(self) -> None:
        while True:
            try:
                connection, client = self._socket.accept()
            except OSError:
                return
            with self._asked:
                self._clients.append(client)
                self._asked.notify_all()
            threading.Thread(target=self._run, args=(connection,), daemon=True).start()

    def _run(self, connection: socket.socket) -> None:
        with connection:
            try:
                if self._context is None:
                    self._serve(connection)
                    return
                with self._context.wrap_socket(connection, server_side=True) as secured:
                    self.client_certificates.append(secured.getpeercert(True))
                    self._serve(secured)
            except OSError:
                # The other side has left; what the test wants to know it sees there.
                return


class DatagramServer:
    """A UDP server that answers each datagram with `count` datagrams that begin with its number."""

    def __init__(self, count: int = 1) -> None:
        self._count = count
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.peers: set[tuple[str, int]] = set()

    def __enter__(self) -> Self:
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # An empty datagram ends the thread.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waking:
            waking.sendto(b"", ("127.0.0.1", self.port))

    def _run(self) -> None:
        with self._socket:
            while True:
                data, peer = self._socket.recvfrom(65536)
                if not data:
                    return
                self.peers.add(peer)
                for number in range(self._count):
                    self._socket.sendto(b"%d:%s" % (number, data), peer)


def received(connection: socket.socket) -> bytes:
    """Read until the other side ends."""
    parts = []
    while data := connection.recv(65536):
        parts.append(data)
    return b"".join(parts)


def datagram_client(address: tuple[str, int]) -> socket.socket:
    """Return a UDP socket that speaks with one address and gives up after ten seconds."""
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(10)
    client.connect(address)
    return client
