"""TLS towards upstreams that ask for certificates: who we are, whom we believe, how long a chain may be."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Authority, authority, common_name
from tests.support.documents import document
from tests.support.gateway import Gateway
from tests.support.upstream import Connection, Request, Upstream

STRANGER = Authority()
OURS = "11111111-0000-4000-8000-000000000001"
THEIRS = "11111111-0000-4000-8000-000000000002"
INTERMEDIATE = authority().subordinate("intermediate")


def _tell_who_calls(request: Request, connection: Connection) -> None:
    assert isinstance(connection.socket, ssl.SSLSocket)
    connection.read_body(request)
    connection.respond(common_name(connection.socket.getpeercert(binary_form=True)).encode())


@pytest.fixture(scope="module")
def demanding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    """An upstream that lets in clients with a certificate of the test authority only, and tells their names."""
    context = authority().issue("upstream.test", "127.0.0.1").server_context(tmp_path_factory.mktemp("tls"))
    context.load_verify_locations(cadata=authority().pem)
    context.verify_mode = ssl.CERT_REQUIRED
    with Upstream(context, default=_tell_who_calls) as server:
        yield server


@pytest.fixture(scope="module")
def chained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    """An upstream whose certificate has one intermediate above it."""
    context = INTERMEDIATE.issue("upstream.test", "127.0.0.1").server_context(tmp_path_factory.mktemp("chain"))
    with Upstream(context) as server:
        yield server


def _service(name: str, upstream: Upstream, **fields: Any) -> dict[str, Any]:
    base = {"name": name, "protocol": "https", "host": "127.0.0.1", "port": upstream.port, "retries": 0}
    return base | fields | {"routes": [{"name": name, "paths": [f"/{name}/"]}]}


@pytest.fixture(scope="module")
def config(demanding: Upstream, chained: Upstream) -> dict[str, Any]:
    """Services by what they present and demand."""
    certificates = {}
    for number, (name, issuer) in enumerate(
        [("of the service", authority()), ("of the upstream", authority()), ("of a stranger", STRANGER)]
    ):
        pair = issuer.issue(name)
        identity = f"22222222-0000-4000-8000-00000000000{number}"
        certificates[name] = {"id": identity, "cert": pair.certificate, "key": pair.key}

    def shown(name: str) -> str:
        return str(certificates[name]["id"])

    return document(
        certificates=list(certificates.values()),
        ca_certificates=[{"id": OURS, "cert": authority().pem}, {"id": THEIRS, "cert": STRANGER.pem}],
        upstreams=[
            {
                "name": "balanced.test",
                "client_certificate": shown("of the upstream"),
                "targets": [{"target": f"127.0.0.1:{demanding.port}"}],
            }
        ],
        services=[
            _service("none", demanding),
            _service("own", demanding, client_certificate=shown("of the service")),
            _service("stranger", demanding, client_certificate=shown("of a stranger")),
            _service("balanced", demanding, host="balanced.test"),
            _service("both", demanding, host="balanced.test", client_certificate=shown("of the service")),
            _service("ours", chained, tls_verify=True, ca_certificates=[OURS]),
            _service("theirs", chained, tls_verify=True, ca_certificates=[THEIRS]),
            _service("bundle", chained, tls_verify=True),
            _service("open", chained, ca_certificates=[THEIRS], tls_verify=False),
            _service("too-deep", chained, tls_verify=True, ca_certificates=[OURS], tls_verify_depth=0),
            _service("deep", chained, tls_verify=True, ca_certificates=[OURS], tls_verify_depth=1),
        ],
    )


@pytest.fixture(scope="module")
def gateway(config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A node whose own bundle holds only the stranger's authority."""
    bundle = tmp_path_factory.mktemp("bundle") / "ca.pem"
    bundle.write_text(STRANGER.pem, encoding="ascii")
    with Gateway(config, lua_ssl_trusted_certificate=bundle) as running:
        yield running


@pytest.mark.parametrize(
    ("name", "seen"), [("own", "of the service"), ("balanced", "of the upstream"), ("both", "of the service")]
)
def test_upstream_sees_the_certificate_that_comes_first(gateway: Gateway, name: str, seen: str) -> None:
    response = gateway.get(f"/{name}/x")
    assert (response.status, response.body.decode()) == (200, seen)


@pytest.mark.parametrize("name", ["none", "stranger"])
def test_upstream_that_refuses_our_certificate_gives_502(gateway: Gateway, name: str) -> None:
    assert gateway.get(f"/{name}/x").status == 502


@pytest.mark.parametrize(
    ("name", "status"),
    [("ours", 200), ("theirs", 502), ("bundle", 502), ("open", 200), ("too-deep", 502), ("deep", 200)],
)
def test_upstream_is_believed_by_authorities_and_depth_of_its_service(gateway: Gateway, name: str, status: int) -> None:
    assert gateway.get(f"/{name}/x").status == status


def test_certificate_and_depth_of_the_node_are_for_services_without_their_own(
    config: dict[str, Any], tmp_path: Path
) -> None:
    pair = authority().issue("of the node")
    (tmp_path / "client.crt").write_text(pair.certificate, encoding="ascii")
    (tmp_path / "client.key").write_text(pair.key, encoding="ascii")
    settings = {
        "client_ssl": "on",
        "client_ssl_cert": tmp_path / "client.crt",
        "client_ssl_cert_key": tmp_path / "client.key",
        "lua_ssl_verify_depth": 0,
    }
    with Gateway(config, **settings) as gateway:
        assert gateway.get("/none/x").body == b"of the node"
        assert gateway.get("/own/x").body == b"of the service"
        assert gateway.get("/ours/x").status == 502, "the node's depth allows no intermediate"
        assert gateway.get("/deep/x").status == 200
