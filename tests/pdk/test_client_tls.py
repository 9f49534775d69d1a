"""TLS of both sides as plugins change it."""

from typing import Any

import pytest
from cryptography import x509

from headgate.pdk import kong
from headgate.testing import Request, Stream
from headgate.testing.plan import MemoryPlan, MemorySnapshot
from headgate.testing.stream import MemoryStream
from tests.pdk.calls import continued, phase
from tests.support.certificates import Authority


def test_a_client_certificate_is_asked_for_by_the_names_of_its_issuers() -> None:
    pem = Authority().pem
    with phase("certificate") as exchange:
        assert kong.client.tls.request_client_certificate(pem) is True
        assert exchange.requested_ca_names == [x509.load_pem_x509_certificate(pem.encode()).subject.public_bytes()]
        kong.client.tls.request_client_certificate()
        assert exchange.requested_ca_names is None
        with pytest.raises(ValueError):
            kong.client.tls.request_client_certificate("no certificate")
        kong.client.tls.disable_session_reuse()
        assert exchange.is_session_reusable is False


def test_a_plugin_gives_its_own_certificate_as_text_or_bytes() -> None:
    with phase("certificate", Request(scheme="https", host="own.test")) as exchange:
        assert kong.client.tls.get_server_name() == "own.test"
        assert kong.client.tls.set_certificate("CHAIN", b"KEY") is True
        assert exchange.given_certificate == (b"CHAIN", b"KEY")
        with pytest.raises(TypeError, match="key must be a string or bytes"):
            kong.client.tls.set_certificate("CHAIN", None)  # type: ignore[arg-type]


def test_the_server_name_is_known_in_later_phases() -> None:
    with phase("access", Request(scheme="https", host="own.test")):
        assert kong.client.tls.get_server_name() == "own.test"
    with phase("access"):
        assert kong.client.tls.get_server_name() is None
    stream = Stream(protocol="tls_passthrough", server_name="own.test")
    with continued(MemoryStream(stream, MemoryPlan(MemorySnapshot({}), None, None), 0), "preread"):
        assert kong.client.tls.get_server_name() == "own.test"


def test_the_chain_and_the_verdict_of_a_plugin_are_in_the_record() -> None:
    with phase("access", Request(scheme="https", client_certificate="PEM")) as exchange:
        assert kong.client.tls.get_full_client_certificate_chain() == "PEM"
        kong.client.tls.set_client_verify("FAILED:expired")
    with continued(exchange, "log"):
        assert kong.log.serialize()["request"]["tls"]["client_verify"] == "FAILED:expired"


@pytest.mark.parametrize("value", ["success", "FAILED", ""])
def test_other_verdicts_are_refused(value: str) -> None:
    with phase("access"), pytest.raises(ValueError) as caught:
        kong.client.tls.set_client_verify(value)
    assert str(caught.value) == (
        f'unknown client verify value: {value} accepted values are: "SUCCESS", "NONE" or "FAILED:<reason>"'
    )


def test_tls_towards_the_upstream_is_overridden_piece_by_piece() -> None:
    with phase("access") as exchange:
        kong.service.set_tls_verify(True)
        kong.service.set_tls_verify_depth(2)
        kong.service.set_tls_verify_store(["A", "B"])
        kong.service.set_tls_cert_key(b"CHAIN", "KEY")
        assert exchange.upstream_tls == {
            "verify": True,
            "depth": 2,
            "ca_pem": "A\nB",
            "certificate": ("CHAIN", "KEY"),
        }


@pytest.mark.parametrize(
    ("function", "arguments", "text"),
    [
        ("set_tls_verify", (1,), "argument must be a boolean"),
        ("set_tls_verify_depth", ("1",), "argument must be a number"),
        ("set_tls_verify_store", (None,), "argument must be a resty.openssl.x509.store object"),
        ("set_tls_cert_key", (None, "k"), "chain must be a parsed cdata object"),
        ("set_tls_cert_key", ("c", None), "key must be a parsed cdata object"),
    ],
)
def test_wrong_arguments_are_refused(function: str, arguments: tuple[Any, ...], text: str) -> None:
    with phase("access"), pytest.raises(TypeError) as caught:
        getattr(kong.service, function)(*arguments)
    assert str(caught.value) == text
