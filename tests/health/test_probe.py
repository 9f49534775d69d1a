"""Probes against real servers: what is asked, and what each outcome counts as."""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from headgate.entities.registry import ENTITY_TYPES
from headgate.health.checks import Checks
from headgate.health.pools import AddressKey
from headgate.health.probe import probe
from tests.support import certificates

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def checks(host_header: str | None = None, **active: Any) -> Checks:
    given = {"name": "u", "host_header": host_header, "healthchecks": {"active": {"timeout": 5, **active}}}
    entity, errors = ENTITY_TYPES["upstreams"].examine(given, now=1)
    assert errors == {}
    return Checks.of(entity, has_checker=True)


def probed(serve: Serve, wanted: Checks, host: str = "target.test", tls: ssl.SSLContext | None = None) -> str | None:
    async def whole() -> str | None:
        done = asyncio.Event()

        async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await serve(reader, writer)
                writer.close()
                await writer.wait_closed()
            writer.transport.abort()
            done.set()

        server = await asyncio.start_server(served, "127.0.0.1", 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        context = certificates.insecure_context() if tls is not None else None
        try:
            observation = await probe(AddressKey(host, "127.0.0.1", port), wanted, context)
            await asyncio.wait_for(done.wait(), 5)
            return observation
        finally:
            server.close()

    return asyncio.run(whole())


def answering(answer: bytes, heads: list[bytes] | None = None) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if heads is not None:
            heads.append(head)
        writer.write(answer)
        await writer.drain()

    return serve


def test_the_request_of_a_probe() -> None:
    heads: list[bytes] = []
    wanted = checks(http_path="/alive", headers={"X-A": ["1", "2"]})
    assert probed(answering(b"HTTP/1.1 200 OK\r\n\r\n", heads), wanted) == "success"
    assert heads == [b"GET /alive HTTP/1.0\r\nX-A: 1\r\nX-A: 2\r\nHost: target.test\r\n\r\n"]
    assert probed(answering(b"HTTP/1.1 200 OK\r\n\r\n", heads), checks("public.test:8080")) == "success"
    assert b"\r\nHost: public.test:8080\r\n" in heads[1]


@pytest.mark.parametrize(
    ("answer", "observation"),
    [
        (b"HTTP/1.1 200 OK\r\n", "success"),
        (b"HTTP/1.0 302 Found\r\n", "success"),
        (b"HTTP/1.1 503 Service Unavailable\r\n", "http_failure"),
        (b"HTTP/1.1 418 Teapot\r\n", None),
        (b"220 smtp.test ready\r\n", "http_failure"),
        (b"x" * 20_000, "http_failure"),
        (b"", "tcp_failure"),
    ],
)
def test_what_an_answer_counts_as(answer: bytes, observation: str | None) -> None:
    assert probed(answering(answer), checks()) == observation


def test_silence_is_a_timeout() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    assert probed(serve, checks(timeout=0.05)) == "timeout"


def test_a_connection_is_enough_for_tcp_and_none_is_a_tcp_failure() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None: ...

    assert probed(serve, checks(type="tcp")) == "success"
    refused = probe(AddressKey("target.test", "127.0.0.1", 1), checks(type="tcp"), None)
    assert asyncio.run(refused) == "tcp_failure"


@pytest.mark.parametrize(
    ("active", "host_header", "expected"),
    [
        ({"https_sni": "chosen.test"}, "public.test", "chosen.test"),
        ({}, "public.test:8443", "public.test"),
        ({}, None, "target.test"),
    ],
)
def test_the_server_name_of_a_probe(
    tmp_path: Path, active: dict[str, Any], host_header: str | None, expected: str
) -> None:
    names: list[str | None] = []
    tls = certificates.authority().issue("target.test").server_context(tmp_path)
    tls.sni_callback = lambda _socket, name, _context: names.append(name)
    wanted = checks(host_header, type="https", **active)
    assert probed(answering(b"HTTP/1.1 200 OK\r\n\r\n"), wanted, tls=tls) == "success"
    assert names == [expected]
