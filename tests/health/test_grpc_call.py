"""Probes by the gRPC health protocol, against a real gRPC server, and against what is none."""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from headgate.entities.registry import ENTITY_TYPES
from headgate.health.checks import Checks
from headgate.health.grpc_call import request, serving_status
from headgate.health.pools import AddressKey
from headgate.health.probe import probe
from tests.support.certificates import authority, insecure_context
from tests.support.grpc_health import NOT_SERVING, SERVING, HealthServer


def checks(**active: Any) -> Checks:
    given = {"name": "u", "healthchecks": {"active": {"timeout": 5, "type": "grpc", **active}}}
    entity, errors = ENTITY_TYPES["upstreams"].examine(given, now=1)
    assert errors == {}
    return Checks.of(entity, has_checker=True)


def probed(port: int, wanted: Checks, context: ssl.SSLContext | None = None) -> str | None:
    return asyncio.run(probe(AddressKey("target.test", "127.0.0.1", port), wanted, context))


def test_a_server_says_whether_it_serves() -> None:
    with HealthServer() as server:
        assert probed(server.port, checks(headers={"X-Probe": ["1"]})) == "success"
        service, metadata = server.asked[0]
        assert (service, metadata["x-probe"]) == ("", "1")
        server.status[""] = NOT_SERVING
        assert probed(server.port, checks()) == "http_failure"


def test_the_path_names_a_service() -> None:
    name = "orders." + "x" * 150
    with HealthServer() as server:
        server.status = {"orders.Orders": SERVING}
        assert probed(server.port, checks(http_path="/orders.Orders")) == "success"
        assert probed(server.port, checks(http_path="/other.Service")) == "http_failure"
        assert probed(server.port, checks()) == "http_failure"
    assert request(name)[5:8] == b"\x0a\x9d\x01", "a length above 127 has two bytes"


def test_a_server_without_the_health_service_is_not_healthy() -> None:
    with HealthServer() as server:
        server.status = {}
        assert probed(server.port, checks()) == "http_failure"


def test_a_probe_over_tls_asks_for_http2() -> None:
    with HealthServer(authority().issue("target.test")) as server:
        wanted = checks(type="grpcs")
        assert probed(server.port, wanted, insecure_context("h2")) == "success"
        assert probed(server.port, wanted, authority().client_context(is_http2=True)) == "success"
        assert probed(server.port, checks(type="grpcs", https_sni="else.test"), authority().client_context()) == (
            "tcp_failure"
        )


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answered(serve: Serve, wanted: Checks) -> str | None:
    async def whole() -> str | None:
        done = asyncio.Event()

        async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                await serve(reader, writer)
            writer.transport.abort()
            done.set()

        server = await asyncio.start_server(served, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            observation = await probe(AddressKey("target.test", "127.0.0.1", port), wanted, None)
            await asyncio.wait_for(done.wait(), 5)
            return observation
        finally:
            server.close()

    return asyncio.run(whole())


async def _http1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()
    await reader.read()


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(65536):
        pass


async def _gone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)


@pytest.mark.parametrize(
    ("serve", "timeout", "observation"),
    [(_http1, 5, "http_failure"), (_silent, 0.05, "timeout"), (_gone, 5, "tcp_failure")],
)
def test_what_is_no_grpc_counts_as_for_http(serve: Serve, timeout: float, observation: str) -> None:
    assert answered(serve, checks(timeout=timeout)) == observation


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"\x00\x00\x00\x00\x02\x08\x01", 1),
        (b"\x00\x00\x00\x00\x00", 0),
        (b"\x00\x00\x00\x00\x04\x08\x02\x08\x01", 1),
        (b"", None),
        (b"\x01\x00\x00\x00\x02\x08\x01", None),
        (b"\x00\x00\x00\x00\x03\x08\x01", None),
        (b"\x00\x00\x00\x00\x02\x0a\x01", None),
    ],
)
def test_the_status_of_an_answer(body: bytes, status: int | None) -> None:
    assert serving_status(body) == status
