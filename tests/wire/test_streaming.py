"""Bodies move while they are made: both ways at once, in order, and never faster than the slower end."""

import threading
from typing import Any

import pytest

from tests.support import processes
from tests.support.documents import catch_all, document, service
from tests.support.gateway import Gateway
from tests.support.upstream import Connection, Request, Upstream

MEGABYTE = 1024 * 1024


def config(upstream: Upstream) -> dict[str, Any]:
    return catch_all(upstream)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def test_both_directions_stream_at_once(gateway: Gateway, upstream: Upstream) -> None:
    def returns_each_chunk(request: Request, connection: Connection) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for chunk in connection.reader.chunks():
            connection.send(_chunk(chunk))
        connection.send(b"0\r\n\r\n")

    path = upstream.script(returns_each_chunk)
    with gateway.client() as client:
        client.send(f"POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        # The head is out before the request body is: nothing waits for its end.
        client.reader.read_head()
        chunks = client.reader.chunks()
        for number in range(20):
            sent = b"piece %d" % number
            client.send(_chunk(sent))
            received = b""
            while len(received) < len(sent):
                received += next(chunks)
            assert received == sent
        client.send(b"0\r\n\r\n")
        assert list(chunks) == []


def test_response_chunks_arrive_while_the_upstream_still_works(gateway: Gateway, upstream: Upstream) -> None:
    go_on = threading.Event()

    def in_two_parts(request: Request, connection: Connection) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        assert go_on.wait(10)
        connection.send(b"later")

    path = upstream.script(in_two_parts)
    with gateway.client() as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        client.reader.read_head()
        assert client.reader.take(5) == b"first"
        go_on.set()
        assert client.reader.take(5) == b"later"


def test_client_that_does_not_read_stops_the_upstream(gateway: Gateway, upstream: Upstream) -> None:
    size = 256 * MEGABYTE
    sent = [0]
    finished = threading.Event()

    def large(request: Request, connection: Connection) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        block = b"x" * 65536
        try:
            while sent[0] < size:
                connection.send(block)
                sent[0] += len(block)
        finally:
            finished.set()

    path = upstream.script(large)
    worker = gateway.worker_pids[0]
    before = processes.memory_bytes(worker)
    with gateway.client(receive_buffer_bytes=65536) as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        client.reader.read_head()
        # Unread, the transfer stands still: had it gone on, 256 MB would have been through in this time.
        assert not finished.wait(2)
        assert sent[0] < 64 * MEGABYTE
        assert processes.memory_bytes(worker) - before < 16 * MEGABYTE
    assert finished.wait(10)


def test_upstream_that_does_not_read_stops_the_client(gateway: Gateway, upstream: Upstream) -> None:
    release = threading.Event()
    total: list[int] = []

    def reads_late(request: Request, connection: Connection) -> None:
        assert release.wait(20)
        total.append(len(connection.read_body(request)))
        connection.respond(b"done")

    path = upstream.script(reads_late)
    size = 64 * MEGABYTE
    worker = gateway.worker_pids[0]
    before = processes.memory_bytes(worker)
    with gateway.client() as client:
        client.send(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode())
        sent = client.send_until_blocked(b"y" * 65536, size)
        assert sent < size
        assert processes.memory_bytes(worker) - before < 16 * MEGABYTE
        release.set()
        client.send(b"y" * (size - sent))
        assert client.read_response().body == b"done"
    assert total == [size]


@pytest.mark.parametrize("is_buffering", [True, False])
def test_slow_client_keeps_the_upstream_only_without_response_buffering(upstream: Upstream, is_buffering: bool) -> None:
    # More than the kernel's buffers of both connections hold, less than may be read ahead.
    sent, size = threading.Event(), 64 * 1024 * 1024

    def script(request: Request, connection: Connection) -> None:
        connection.respond(bytes(size))
        sent.set()

    path = upstream.script(script)
    route = {"name": "r", "paths": ["/"], "strip_path": False, "response_buffering": is_buffering}
    shown = document(services=[service(upstream, routes=[route])])
    with Gateway(shown, response_read_ahead_size="128m") as gateway, gateway.client(timeout_s=20) as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert sent.wait(15 if is_buffering else 0.5) is is_buffering
        assert len(client.read_response().body) == size
