"""TLS towards clients and upstreams: which certificate is shown, which protocols, who is believed."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import authority, common_name, insecure_context
from tests.support.documents import document, service
from tests.support.gateway import Gateway
from tests.support.http1 import Client
from tests.support.upstream import Upstream


@pytest.fixture(scope="module")
def tls_upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    """An upstream with a certificate of the test authority."""
    context = authority().issue("127.0.0.1", "upstream.test").server_context(tmp_path_factory.mktemp("tls"))
    with Upstream(context) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(upstream: Upstream, tls_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Certificates by SNI, and services over https: verified, not verified, and with a stranger's authority."""
    pairs = {
        "exact": (authority().issue("exact.test"), ["exact.test", "www.example.com"]),
        "left": (authority().issue("left wildcard"), ["*.example.com"]),
        "right": (authority().issue("right wildcard"), ["example.*"]),
    }
    trusted = tmp_path_factory.mktemp("authority") / "ca.pem"
    trusted.write_text(authority().pem, encoding="ascii")
    config = document(
        certificates=[
            {"cert": pair.certificate, "key": pair.key, "snis": [{"name": name} for name in names]}
            for pair, names in pairs.values()
        ],
        services=[
            service(upstream),
            _https_service(tls_upstream, "open", tls_verify=False),
            _https_service(tls_upstream, "verified", tls_verify=True),
            _https_service(tls_upstream, "mismatch", tls_verify=True, host="localhost"),
            {
                "name": "secure-only",
                "url": upstream.url,
                "routes": [
                    {"name": "upgrade", "paths": ["/secure"], "protocols": ["https"], "strip_path": False},
                    {
                        "name": "redirect",
                        "paths": ["/moved"],
                        "protocols": ["https"],
                        "https_redirect_status_code": 301,
                    },
                ],
            },
        ],
    )
    with Gateway(config, lua_ssl_trusted_certificate=trusted) as running:
        yield running


def _https_service(upstream: Upstream, name: str, **fields: Any) -> dict[str, Any]:
    base = {"name": name, "protocol": "https", "host": "127.0.0.1", "port": upstream.port}
    return base | fields | {"routes": [{"name": name, "paths": [f"/{name}"], "strip_path": False}]}


def _shown(gateway: Gateway, server_name: str | None) -> str:
    with Client(gateway.tls, tls=insecure_context(), server_name=server_name) as client:
        assert isinstance(client.socket, ssl.SSLSocket)
        return common_name(client.socket.getpeercert(binary_form=True))


@pytest.mark.parametrize(
    ("server_name", "shown"),
    [
        ("exact.test", "exact.test"),
        ("EXACT.test", "exact.test"),
        ("www.example.com", "exact.test"),
        ("api.example.com", "left wildcard"),
        ("example.org", "right wildcard"),
        ("a.b.example.com", "localhost"),
        ("unknown.test", "localhost"),
        (None, "localhost"),
    ],
)
def test_certificate_is_chosen_by_server_name(gateway: Gateway, server_name: str | None, shown: str) -> None:
    assert _shown(gateway, server_name) == shown


def test_client_that_checks_accepts_the_configured_certificate(gateway: Gateway) -> None:
    with Client(gateway.tls, tls=authority().client_context(), server_name="exact.test") as client:
        seen = client.request("GET", "/").json()
    assert ["X-Forwarded-Proto", "https"] in [[name.title(), value] for name, value in seen["headers"]]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_current_versions_are_spoken(gateway: Gateway, version: ssl.TLSVersion) -> None:
    context = insecure_context()
    context.minimum_version = context.maximum_version = version
    with Client(gateway.tls, tls=context, server_name="exact.test") as client:
        assert client.request("GET", "/").status == 200


def test_plain_http_on_the_tls_port_is_closed_and_harms_nobody(gateway: Gateway) -> None:
    with Client(gateway.tls) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.reader.read_to_end()
    assert _shown(gateway, "exact.test") == "exact.test"


def test_abandoned_handshake_harms_nobody(gateway: Gateway) -> None:
    with Client(gateway.tls) as client:
        client.send(b"\x16\x03\x01")
    assert _shown(gateway, "exact.test") == "exact.test"


def test_upstream_over_https_without_verification(gateway: Gateway) -> None:
    assert gateway.get("/open").status == 200


def test_upstream_certificate_of_a_trusted_authority_is_believed(gateway: Gateway) -> None:
    assert gateway.get("/verified").status == 200


def test_upstream_certificate_for_another_name_gives_502(gateway: Gateway) -> None:
    assert gateway.get("/mismatch").status == 502


def test_https_route_over_plain_http_asks_for_an_upgrade(gateway: Gateway) -> None:
    response = gateway.get("/secure")
    assert response.status == 426
    assert response.json()["message"] == "Please use HTTPS protocol"
    assert response.headers["Upgrade"] == "TLS/1.2, HTTP/1.1"
    assert response.headers["Connection"] == "Upgrade"


def test_https_route_over_https_is_served(gateway: Gateway) -> None:
    with Client(gateway.tls, tls=insecure_context(), server_name="exact.test") as client:
        assert client.request("GET", "/secure").status == 200


def test_https_route_with_a_redirect_status_redirects(gateway: Gateway) -> None:
    response = gateway.get("/moved/here?q=1")
    assert response.status == 301
    assert response.headers["Location"] == "https://gateway.test/moved/here?q=1"
    assert response.body == b""


def test_default_certificate_is_kept_in_the_prefix(gateway: Gateway) -> None:
    kept = list(Path(gateway.prefix / "ssl").glob("*.crt"))
    assert kept
