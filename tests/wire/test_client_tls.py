"""What plugins ask and learn of the client's side of TLS: names, certificates, what they found out about them."""

import hashlib
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from tests.support.certificates import Authority, Pair, authority, insecure_context
from tests.support.documents import document
from tests.support.gateway import PLUGIN_DIRECTORY, Gateway
from tests.support.http1 import Client, wait_until
from tests.support.openssl import openssl_or_skip, s_client


@pytest.fixture(scope="module")
def log_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "verified"


@pytest.fixture(scope="module")
def gateway(log_path: Path) -> Iterator[Gateway]:
    given = {"authority": authority().pem, "path": str(log_path)}
    config = document(routes=[{"paths": ["/"]}], plugins=[{"name": "client_tls", "config": given}])
    with Gateway(config, plugin_path=PLUGIN_DIRECTORY, plugins="bundled,client_tls") as running:
        yield running


@pytest.fixture(scope="module")
def pair() -> Pair:
    return Authority().subordinate("between").issue("a client")


def presenting(pair: Pair, directory: Path) -> ssl.SSLContext:
    """Return the context of a client that shows a certificate when it is asked for one."""
    path = directory / "client.pem"
    path.write_text(pair.key + pair.certificate, encoding="ascii")
    context = insecure_context()
    context.load_cert_chain(path)
    return context


def ask(gateway: Gateway, name: str, context: ssl.SSLContext, **headers: str) -> dict[str, Any]:
    with Client(gateway.tls, tls=context, server_name=name) as client:
        response = client.request("GET", "/", {key.replace("_", "-"): value for key, value in headers.items()})
    assert response.status == 200, response.body
    answer: dict[str, Any] = response.json()
    return answer


@pytest.mark.parametrize("name", ["any.test", "named.test"])
def test_a_certificate_that_was_asked_for_is_seen_with_its_chain(
    gateway: Gateway, pair: Pair, tmp_path: Path, name: str
) -> None:
    seen = ask(gateway, name, presenting(pair, tmp_path))
    assert seen["name"] == name
    assert seen["chain"].count("BEGIN CERTIFICATE") == 2
    assert seen["chain"].split() == pair.certificate.split()


def test_a_client_that_has_none_or_was_not_asked_is_served(gateway: Gateway, pair: Pair, tmp_path: Path) -> None:
    assert ask(gateway, "any.test", insecure_context())["chain"] is None
    assert ask(gateway, "other.test", presenting(pair, tmp_path))["chain"] is None


def test_the_client_is_told_whose_certificates_are_wanted(gateway: Gateway) -> None:
    openssl_or_skip()
    assert "Acceptable client certificate CA names\nCN = Headgate test authority" in _spaced(
        s_client(gateway.tls, "named.test").output
    )
    for name in ("any.test", "other.test"):
        assert "No client certificate CA names sent" in s_client(gateway.tls, name).output


def _spaced(output: str) -> str:
    # Releases differ in how they write a name.
    return output.replace("CN=", "CN = ")


def test_what_a_plugin_found_out_is_in_the_record_of_the_log(
    gateway: Gateway, pair: Pair, tmp_path: Path, log_path: Path
) -> None:
    context = presenting(pair, tmp_path)
    log_path.write_text("")
    for count, given in enumerate((None, "SUCCESS", "FAILED:too old"), 1):
        ask(gateway, "any.test", context, **({} if given is None else {"x_verified": given}))
        assert wait_until(lambda count=count: len(log_path.read_text().splitlines()) == count)
    records = [json.loads(line) for line in log_path.read_text().splitlines()]
    assert records == ["FAILED:certificate was not verified", "SUCCESS", "FAILED:too old"]
    ask(gateway, "any.test", insecure_context())
    assert wait_until(lambda: log_path.read_text().splitlines()[3:] == ['"NONE"'])
    with Client(gateway.tls, tls=context, server_name="any.test") as client:
        assert client.request("GET", "/", {"x-verified": "perhaps"}).status == 500
    assert 'unknown client verify value: perhaps accepted values are: "SUCCESS", "NONE"' in gateway.output()


def test_a_name_may_be_kept_from_http2(gateway: Gateway) -> None:
    for name, agreed in (("plain.test", "http/1.1"), ("other.test", "h2")):
        with Client(gateway.tls, tls=insecure_context("h2", "http/1.1"), server_name=name) as client:
            assert isinstance(client.socket, ssl.SSLSocket)
            assert client.socket.selected_alpn_protocol() == agreed


def test_variables_of_lua_tell_of_the_client_s_certificate(pair: Pair, tmp_path: Path) -> None:
    names = ("escaped_cert", "fingerprint", "i_dn", "raw_cert", "s_dn", "serial")
    told = ", ".join(f"{name} = ngx.var.ssl_client_{name}" for name in names)
    functions = {
        "certificate": ["kong.client.tls.request_client_certificate()"],
        "access": [f"return kong.response.exit(200, {{ {told} }})"],
    }
    config = document(routes=[{"paths": ["/"]}], plugins=[{"name": "pre-function", "config": functions}])
    with Gateway(config, workers=1) as running:
        assert ask(running, "any.test", insecure_context()) == {}
        seen = ask(running, "any.test", presenting(pair, tmp_path))
    end = "-----END CERTIFICATE-----\n"
    own = pair.certificate.partition(end)[0] + end
    assert seen["raw_cert"] == own
    assert unquote(seen["escaped_cert"]) == own
    assert seen["fingerprint"] == hashlib.sha1(ssl.PEM_cert_to_DER_cert(own), usedforsecurity=False).hexdigest()
    assert seen["s_dn"] == "CN=a client"
    assert seen["i_dn"] == "CN=between"
    assert len(seen["serial"]) % 2 == 0
    assert set(seen["serial"]) <= set("0123456789ABCDEF")
