"""Client certificates on the Admin API's TLS listener: who they are, and what that allows."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from tests.support.certificates import Authority, Pair, insecure_context
from tests.support.gateway import Gateway
from tests.support.http1 import Client, Response, Truncated

OURS, FOREIGN = Authority(), Authority()
TOKEN = "token-0123456789"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    ca = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.write_text(OURS.pem, encoding="ascii")
    with Gateway(
        None,
        admin_listen="127.0.0.1:0 ssl",
        admin_client_ca=ca,
        admin_client_roles="ops:read-write, ci:read-only",
        admin_tokens=f"robot:read-only:{TOKEN}",
    ) as gateway:
        yield gateway


def call(
    running: Gateway,
    method: str,
    target: str,
    pair: Pair | None,
    directory: Path,
    headers: dict[str, str] | None = None,
) -> Response:
    context = insecure_context()
    if pair is not None:
        file = directory / "client.pem"
        file.write_text(pair.key + pair.certificate, encoding="ascii")
        context.load_cert_chain(file)
    with Client(running.admin, tls=context) as client:
        return client.request(method, target, headers, b"" if method == "POST" else None)


def test_certificates_have_roles_by_common_name(running: Gateway, tmp_path: Path) -> None:
    for name, statuses in (("ops", (200, 400)), ("ci", (200, 403)), ("nobody", (401, 401))):
        pair = OURS.issue(name)
        got = tuple(call(running, method, "/config", pair, tmp_path).status for method in ("GET", "POST"))
        assert got == statuses, name
    log = (running.prefix / "logs" / "admin_audit.log").read_text(encoding="utf-8")
    assert {(entry["who"], entry["status"]) for entry in map(orjson.loads, log.splitlines())} >= {
        ("ops", 400),
        ("ci", 403),
        (None, 401),
    }


def test_without_a_certificate_a_token_does_too(running: Gateway, tmp_path: Path) -> None:
    assert call(running, "GET", "/", None, tmp_path).status == 401
    assert call(running, "GET", "/", None, tmp_path, {"Authorization": f"Bearer {TOKEN}"}).status == 200
    assert call(running, "POST", "/config", None, tmp_path, {"Authorization": f"Bearer {TOKEN}"}).status == 403


def test_certificates_of_others_end_the_handshake(running: Gateway, tmp_path: Path) -> None:
    # By TLS 1.3 the client hears of it only when it reads.
    with pytest.raises((ssl.SSLError, Truncated)):
        call(running, "GET", "/", FOREIGN.issue("ops"), tmp_path)
    assert call(running, "GET", "/", OURS.issue("ops"), tmp_path).status == 200
