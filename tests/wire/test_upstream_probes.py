"""Probes that need more than a connection: TLS against an authority, client certificates, the gRPC health protocol."""

import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Authority, Pair, authority
from tests.support.documents import document
from tests.support.gateway import Gateway
from tests.support.grpc_health import NOT_SERVING, SERVING, HealthServer
from tests.support.http1 import wait_until
from tests.support.upstream import Connection, Request, Upstream

STRANGER = Authority()
CERTIFICATE_ID = "22222222-0000-4000-8000-000000000001"


def _alive(request: Request, connection: Connection) -> None:
    connection.respond(b"alive")


@dataclass(frozen=True)
class Case:
    """An upstream with one target that is probed over TLS."""

    issuer: Authority
    name: str
    active: dict[str, Any]
    is_healthy: bool
    needs_client: bool = False
    has_certificate: bool = False


OURS = authority()
CASES = {
    "believed": Case(OURS, "127.0.0.1", {}, is_healthy=True),
    "of-a-stranger": Case(STRANGER, "127.0.0.1", {}, is_healthy=False),
    "not-verified": Case(STRANGER, "127.0.0.1", {"https_verify_certificate": False}, is_healthy=True),
    "by-its-name": Case(OURS, "target.test", {"https_sni": "target.test"}, is_healthy=True),
    "by-another-name": Case(OURS, "target.test", {"https_sni": "other.test"}, is_healthy=False),
    "with-certificate": Case(OURS, "127.0.0.1", {}, is_healthy=True, needs_client=True, has_certificate=True),
    "without-certificate": Case(OURS, "127.0.0.1", {}, is_healthy=False, needs_client=True),
}


def _context(case: Case, directory: Path) -> ssl.SSLContext:
    context = case.issuer.issue(case.name).server_context(directory)
    # A client that is refused hears so in its handshake, not with its first bytes.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    if case.needs_client:
        context.load_verify_locations(cadata=OURS.pem)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.fixture(scope="module")
def tls_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Upstream]]:
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(Upstream(_context(case, tmp_path_factory.mktemp(name)), default=_alive))
            for name, case in CASES.items()
        }


@pytest.fixture(scope="module")
def certificate() -> Pair:
    return authority().issue("localhost")


@pytest.fixture(scope="module")
def grpc_servers(certificate: Pair) -> Iterator[dict[str, HealthServer]]:
    with HealthServer() as plain, HealthServer(certificate) as secure, HealthServer() as one_service:
        one_service.status = {"orders.Orders": SERVING}
        yield {"grpc": plain, "grpcs": secure, "grpc-service": one_service}


GRPC = {
    "grpc": {"type": "grpc"},
    "grpcs": {"type": "grpcs", "https_sni": "localhost"},
    "grpc-service": {"type": "grpc", "http_path": "/orders.Orders"},
}


def _upstream(name: str, port: int, active: dict[str, Any], **fields: Any) -> dict[str, Any]:
    intervals = {
        "healthy": {"interval": 0.1, "successes": 1},
        "unhealthy": {"interval": 0.1, "http_failures": 1, "tcp_failures": 1},
        "timeout": 5,
    }
    checks = {"active": active | intervals}
    return {"name": name, "targets": [{"target": f"127.0.0.1:{port}"}], "healthchecks": checks} | fields


@pytest.fixture(scope="module")
def gateway(
    tls_servers: dict[str, Upstream], grpc_servers: dict[str, HealthServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    trusted = tmp_path_factory.mktemp("trusted") / "authority.pem"
    trusted.write_text(OURS.pem)
    client = OURS.issue("the gateway")
    upstreams = [_upstream(name, server.port, GRPC[name]) for name, server in grpc_servers.items()]
    for name, case in CASES.items():
        fields = {"client_certificate": CERTIFICATE_ID} if case.has_certificate else {}
        upstreams.append(_upstream(name, tls_servers[name].port, {"type": "https", **case.active}, **fields))
    certificates = [{"id": CERTIFICATE_ID, "cert": client.certificate, "key": client.key}]
    configuration = document(upstreams=upstreams, certificates=certificates)
    with Gateway(configuration, workers=1, lua_ssl_trusted_certificate=str(trusted)) as running:
        yield running


def _health(gateway: Gateway, name: str) -> str:
    response = gateway.admin_request("GET", f"/upstreams/{name}/health")
    assert response.status == 200, response.body
    (target,) = response.json()["data"]
    return str(target["health"])


def _set_unhealthy(gateway: Gateway, name: str, port: int) -> None:
    answer = gateway.admin_request("PUT", f"/upstreams/{name}/targets/127.0.0.1:{port}/unhealthy")
    assert answer.status == 204, answer.body


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.is_healthy])
def test_a_probe_over_tls_brings_a_target_back(gateway: Gateway, tls_servers: dict[str, Upstream], name: str) -> None:
    _set_unhealthy(gateway, name, tls_servers[name].port)
    assert wait_until(lambda: _health(gateway, name) == "HEALTHY")


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.is_healthy])
def test_a_probe_whose_handshake_fails_takes_a_target_out(gateway: Gateway, name: str) -> None:
    assert wait_until(lambda: _health(gateway, name) == "UNHEALTHY")


@pytest.mark.parametrize("name", list(GRPC))
def test_a_grpc_server_says_whether_it_serves(
    gateway: Gateway, grpc_servers: dict[str, HealthServer], name: str
) -> None:
    server = grpc_servers[name]
    (service,) = server.status
    server.status = {service: NOT_SERVING}
    assert wait_until(lambda: _health(gateway, name) == "UNHEALTHY")
    server.status = {service: SERVING}
    assert wait_until(lambda: _health(gateway, name) == "HEALTHY")
    assert {asked for asked, _ in server.asked} == {service}
