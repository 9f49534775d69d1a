"""Handshakes as `openssl s_client` sees them: certificates that plugins give, sessions over all workers, suites."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import authority
from tests.support.documents import document, service
from tests.support.gateway import Gateway
from tests.support.openssl import openssl_or_skip, s_client
from tests.support.upstream import Upstream

PLUGINS = Path(__file__).parent / "plugins"
# With two workers, this many attempts meet only one of them once in 4,096 runs.
ATTEMPTS = 12


@pytest.fixture(scope="module")
def gateway(upstream: Upstream) -> Iterator[Gateway]:
    """Two workers, and a global plugin that decides by server name."""
    openssl_or_skip()
    own, other = authority().issue("given by a plugin"), authority().issue("other")
    given = {"chain": own.certificate + authority().pem, "key": own.key, "other_key": other.key}
    config = document(services=[service(upstream)], plugins=[{"name": "certificates", "config": given}])
    settings = {"plugins": "bundled,certificates", "plugin_path": PLUGINS, "ssl_handshake_timeout": 1500}
    with Gateway(config, workers=2, **settings) as running:
        yield running


@pytest.mark.parametrize("name", ["own.test", "async-own.test"])
def test_plugin_answers_with_its_own_certificate(gateway: Gateway, name: str) -> None:
    seen = s_client(gateway.tls, name, "-showcerts")
    assert seen.common_name == "given by a plugin"
    assert seen.output.count("BEGIN CERTIFICATE") == 2, "the intermediate is sent along"
    assert "HTTP/1.1 200" in seen.output


def test_certificate_and_key_may_be_der(gateway: Gateway) -> None:
    assert s_client(gateway.tls, "der.test").common_name == "given by a plugin"


def test_other_names_get_the_configured_certificate(gateway: Gateway) -> None:
    assert s_client(gateway.tls, "else.test").common_name == "localhost"


@pytest.mark.parametrize("name", ["raise.test", "async-raise.test", "mismatch.test", "async-never.test"])
def test_handshake_fails_closed(gateway: Gateway, name: str) -> None:
    seen = s_client(gateway.tls, name)
    assert seen.protocol is None, seen.output
    assert s_client(gateway.tls, "own.test").common_name == "given by a plugin"


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_session_is_resumed_by_every_worker(gateway: Gateway, version: str, tmp_path: Path) -> None:
    kept = tmp_path / "session.pem"
    assert s_client(gateway.tls, "else.test", version, save=kept).is_reused is False
    resumed = [s_client(gateway.tls, "else.test", version, resume=kept) for _ in range(ATTEMPTS)]
    assert [one.is_reused for one in resumed] == [True] * ATTEMPTS
    assert all("HTTP/1.1 200" in one.output for one in resumed)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_plugin_keeps_sessions_from_being_resumed(gateway: Gateway, version: str, tmp_path: Path) -> None:
    kept = tmp_path / "session.pem"
    s_client(gateway.tls, "fresh.test", version, save=kept)
    if kept.is_file():  # of TLS 1.2 there is something to keep, of TLS 1.3 without a ticket nothing
        assert not any(s_client(gateway.tls, "fresh.test", version, resume=kept).is_reused for _ in range(4))


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_session_of_another_name_is_not_resumed_where_a_plugin_forbids_it(
    gateway: Gateway, version: str, tmp_path: Path
) -> None:
    kept = tmp_path / "session.pem"
    s_client(gateway.tls, "else.test", version, save=kept)
    assert kept.is_file()
    assert not s_client(gateway.tls, "fresh.test", version, resume=kept).is_reused


def test_only_the_suites_and_versions_of_the_settings_are_offered(upstream: Upstream) -> None:
    settings = {
        "ssl_cipher_suite": "custom",
        "ssl_protocols": "TLSv1.2",
        "ssl_ciphers": "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384",
        "ssl_session_tickets": "off",
    }
    with Gateway(document(services=[service(upstream)]), workers=1, **settings) as gateway:
        both = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256"
        assert s_client(gateway.tls, "a.test", "-cipher", both).cipher == "ECDHE-ECDSA-AES128-GCM-SHA256"
        assert s_client(gateway.tls, "a.test", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305").protocol is None
        assert s_client(gateway.tls, "a.test", "-tls1_3").protocol is None
        assert s_client(gateway.tls, "a.test").protocol == "TLSv1.2"


def test_without_tickets_a_worker_still_resumes_stored_sessions(upstream: Upstream, tmp_path: Path) -> None:
    with Gateway(document(services=[service(upstream)]), workers=1, ssl_session_tickets="off") as gateway:
        kept = tmp_path / "session.pem"
        s_client(gateway.tls, "a.test", "-tls1_2", save=kept)
        assert s_client(gateway.tls, "a.test", "-tls1_2", resume=kept).is_reused
