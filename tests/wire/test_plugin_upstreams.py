"""What plugins say about the connection to the upstream, against real ones: TLS, client certificates, other targets."""

import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Authority, authority, insecure_context
from tests.support.documents import document
from tests.support.gateway import Gateway
from tests.support.http1 import Client, Response, wait_until
from tests.support.upstream import Connection, Request, Upstream

PLUGIN = """
import json

from headgate import Plugin, PluginConfig, kong


class Config(PluginConfig):
    trusted: str
    stranger: str
    chain: str
    key: str
    good_port: int


class Handler(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 10

    def certificate(self, conf):
        kong.client.tls.disable_http2_alpn()

    def access(self, conf):
        kong.service.enable_recording_upstream_ssl()
        wishes = kong.request.get_query()
        if "verify" in wishes:
            kong.service.set_tls_verify(wishes["verify"] == "on")
        if "store" in wishes:
            kong.service.set_tls_verify_store(getattr(conf, wishes["store"]))
        if "depth" in wishes:
            kong.service.set_tls_verify_depth(int(wishes["depth"]))
        if "certificate" in wishes:
            kong.service.set_tls_cert_key(conf.chain, conf.key)
        if "retry" in wishes:
            kong.service.set_target_retry_callback(lambda: self.other_target(conf, wishes["retry"]))

    def other_target(self, conf, how):
        if how == "raise":
            raise RuntimeError("no other target")
        if how == "none":
            return None
        if how == "call":
            kong.service.set_target("127.0.0.1", conf.good_port)
            return True
        return "127.0.0.1", conf.good_port

    def header_filter(self, conf):
        facts = kong.service.get_upstream_ssl()
        if facts is not None:
            kong.response.set_header("X-Upstream-TLS", json.dumps(facts))

    def log(self, conf):
        spans = [(span.name, span.status, span.attributes.get("try_count")) for span in kong.tracing.get_spans()]
        kong.log.notice("upstream_tls ", json.dumps(kong.log.serialize().get("upstream_tls")))
        kong.log.notice("spans ", json.dumps(spans))
"""


def tell_certificate(request: Request, connection: Connection) -> None:
    """Answer with the name in the certificate that the gateway has presented."""
    assert isinstance(connection.socket, ssl.SSLSocket)
    shown: Any = connection.socket.getpeercert() or {}
    names = [value for part in shown.get("subject", ()) for key, value in part if key == "commonName"]
    connection.respond(json.dumps(names).encode())


@pytest.fixture(scope="module")
def tls_upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    context = authority().issue("127.0.0.1").server_context(tmp_path_factory.mktemp("tls"))
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=authority().pem)
    with Upstream(context) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(upstream: Upstream, tls_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    directory: Path = tmp_path_factory.mktemp("plugins")
    (directory / "upstreams.py").write_text(PLUGIN, encoding="utf-8")
    pair = authority().issue("gateway.test")
    with socket.socket() as refusing:
        # Bound and not listening: the kernel refuses, and nobody else gets the port.
        refusing.bind(("127.0.0.1", 0))
        config = document(
            services=[
                {
                    "name": "secure",
                    "protocol": "https",
                    "host": "127.0.0.1",
                    "port": tls_upstream.port,
                    "routes": [{"name": "secure", "paths": ["/secure"]}],
                },
                {
                    "name": "refusing",
                    "protocol": "http",
                    "host": "127.0.0.1",
                    "port": refusing.getsockname()[1],
                    "retries": 2,
                    "routes": [{"name": "refusing", "paths": ["/refusing"]}],
                },
            ],
            plugins=[
                {
                    "name": "upstreams",
                    "config": {
                        "trusted": authority().pem,
                        "stranger": Authority().pem,
                        "chain": pair.certificate,
                        "key": pair.key,
                        "good_port": upstream.port,
                    },
                }
            ],
        )
        settings: dict[str, Any] = {"plugins": "bundled,upstreams", "tracing_instrumentations": "balancer,router"}
        with Gateway(config, plugin_path=directory, **settings) as running:
            yield running


def secure(gateway: Gateway, tls_upstream: Upstream, wishes: str) -> Response:
    return gateway.get(f"/secure{tls_upstream.script(tell_certificate)}?{wishes}")


@pytest.mark.parametrize(
    ("wishes", "status"),
    [
        ("", 200),
        ("verify=on&store=trusted", 200),
        ("verify=on&store=trusted&depth=0", 200),
        ("verify=on&store=stranger", 502),
        # Without a store nothing is trusted.
        ("verify=on", 502),
        ("verify=off&store=stranger", 200),
    ],
)
def test_the_upstreams_certificate_is_verified_as_the_plugin_says(
    gateway: Gateway, tls_upstream: Upstream, wishes: str, status: int
) -> None:
    assert secure(gateway, tls_upstream, wishes).status == status


def test_the_plugins_certificate_is_presented(gateway: Gateway, tls_upstream: Upstream) -> None:
    assert json.loads(secure(gateway, tls_upstream, "certificate").body) == ["gateway.test"]
    assert json.loads(secure(gateway, tls_upstream, "").body) == []


def test_facts_of_the_upstreams_tls_are_recorded(gateway: Gateway, tls_upstream: Upstream) -> None:
    facts = json.loads(secure(gateway, tls_upstream, "").headers.get("X-Upstream-TLS") or "null")
    assert (facts["version"], facts["subject"], facts["issuer"]) == (
        "TLSv1.3",
        "CN=127.0.0.1",
        "CN=Headgate test authority",
    )
    assert facts["cipher"].startswith("TLS")
    assert wait_until(lambda: '"subject": "CN=127.0.0.1"' in gateway.output())


@pytest.mark.parametrize("how", ["call", "answer"])
def test_a_retry_goes_where_the_callback_says(gateway: Gateway, how: str) -> None:
    answer = gateway.get(f"/refusing?retry={how}")
    assert (answer.status, answer.headers.get("X-Upstream-TLS")) == (200, None)
    # 2: the first try failed.
    wanted = '["kong.router", 0, null], ["kong.balancer", 2, 1], ["kong.balancer", 0, 2]'
    assert wait_until(lambda: wanted in gateway.output())


@pytest.mark.parametrize(
    ("how", "text"),
    [("raise", "RuntimeError: no other target"), ("none", "RetryError: the callback gave no target")],
)
def test_a_callback_that_fails_ends_the_tries(gateway: Gateway, how: str, text: str) -> None:
    assert gateway.get(f"/refusing?retry={how}").status == 503
    assert wait_until(lambda: f"retry handler failed: {text}" in gateway.output())


def test_without_a_callback_the_same_target_is_tried(gateway: Gateway) -> None:
    assert gateway.get("/refusing").status == 502


def test_a_plugin_can_keep_clients_from_http2(gateway: Gateway) -> None:
    with Client(gateway.tls, tls=insecure_context("h2", "http/1.1")) as client:
        assert isinstance(client.socket, ssl.SSLSocket)
        assert client.socket.selected_alpn_protocol() == "http/1.1"
