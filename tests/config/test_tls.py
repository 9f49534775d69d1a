"""Settings of TLS: suites, their order, sessions."""

import pytest

from headgate.config.load import Settings, load_settings
from headgate.errors import SettingsError


def settings(**given: str) -> Settings:
    return load_settings(None, {}, {"lua_ssl_trusted_certificate": "", **given})


def test_suites_are_those_of_the_engine_unless_custom() -> None:
    loaded = settings(ssl_ciphers="ECDHE-RSA-AES128-GCM-SHA256")
    assert len(loaded.tls.cipher_suites) == 6
    assert "ssl_ciphers has no effect with ssl_cipher_suite = intermediate: use custom" in loaded.notices


def test_custom_suites_keep_their_order_and_tell_what_is_left_out() -> None:
    names = "ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:!aNULL"
    loaded = settings(ssl_cipher_suite="custom", ssl_ciphers=names)
    assert loaded.tls.cipher_suites == (
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    )
    assert "ssl_ciphers: not available and left out: DHE-RSA-AES256-GCM-SHA384, !aNULL" in loaded.notices


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"ssl_ciphers": "AES128-SHA"}, "ssl_ciphers names no suite that is available"),
        ({"ssl_protocols": "TLSv1.1"}, "ssl_protocols: TLSv1.1 is not available"),
        ({"ssl_protocols": " "}, "ssl_protocols names no version"),
        ({"ssl_session_timeout": "0"}, "ssl_session_timeout must be greater than 0"),
    ],
)
def test_what_leaves_nothing_to_offer_is_refused(given: dict[str, str], text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(ssl_cipher_suite="custom", **given)
    assert any(fault.startswith(text) for fault in caught.value.faults), caught.value.faults


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, False),
        ({"ssl_cipher_suite": "old"}, True),
        ({"ssl_cipher_suite": "custom"}, True),
        ({"ssl_cipher_suite": "custom", "ssl_prefer_server_ciphers": "off"}, False),
    ],
)
def test_whose_order_of_suites_counts(given: dict[str, str], expected: bool) -> None:
    assert settings(**given).tls.prefers_server_order is expected


def test_sessions_have_a_time_and_a_bound() -> None:
    loaded = settings(ssl_session_timeout="90m", ssl_session_cache_size="2m")
    assert loaded.tls.session_timeout_s == 5400
    assert loaded.tls.session_cache_entries == 2048
