"""A TCP relay in one thread that can be cut or stalled: a network between two processes that fails on command."""

import contextlib
import select
import selectors
import socket
import threading
from types import TracebackType
from typing import Self


class TcpRelay:
    """Passes connections on to an address, until `cut` or `stall`, and again after `join`. A context manager."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._peers: dict[socket.socket, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._is_cut = threading.Event()
        self._is_stalled = threading.Event()
        self._is_over = threading.Event()
        self._wake_read, self._wake_write = socket.socketpair()
        for each in (self._listener, self._wake_read):
            self._selector.register(each, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="tcp-relay")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._is_over.set()
        self._wake()
        self._thread.join()
        for each in (*self._peers, self._listener, self._wake_read, self._wake_write):
            each.close()
        self._selector.close()

    def cut(self) -> None:
        """End all connections and refuse new ones."""
        self._is_cut.set()
        self._wake()

    def stall(self) -> None:
        """Pass nothing on, end nothing: connections are open, and silent."""
        self._is_stalled.set()
        self._wake()

    def join(self) -> None:
        """Pass connections on again, and what waited in them."""
        self._is_cut.clear()
        self._is_stalled.clear()
        self._wake()

    def _wake(self) -> None:
        self._wake_write.send(b"x")

    def _run(self) -> None:
        while not self._is_over.is_set():
            if self._is_stalled.is_set():
                select.select([self._wake_read], [], [])
                self._wake_read.recv(64)
                continue
            for key, _ in self._selector.select():
                source = key.fileobj
                assert isinstance(source, socket.socket)
                if source is self._wake_read:
                    source.recv(64)
                elif source is self._listener:
                    self._accept()
                elif source in self._peers:
                    self._pass(source)
            if self._is_cut.is_set():
                for each in list(self._peers):
                    self._drop(each)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            if self._is_cut.is_set():
                raise ConnectionRefusedError
            server = socket.create_connection(self._target)
        except OSError:
            client.close()
            return
        for one, other in ((client, server), (server, client)):
            self._peers[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _pass(self, source: socket.socket) -> None:
        try:
            data = source.recv(65536)
            if data:
                self._peers[source].sendall(data)
                return
        except OSError:
            pass
        self._drop(source)

    def _drop(self, one: socket.socket) -> None:
        other = self._peers.pop(one, None)
        for each in (one, other):
            if each is None:
                continue
            self._peers.pop(each, None)
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(each)
            each.close()
