"""The engine's settings as JSON: every field of the Rust side, from the node's settings."""

import re
from pathlib import Path
from typing import Any

import pytest

from headgate.config.load import load_settings
from headgate.engine import Engine, InheritedListener, engine_settings
from headgate.errors import EngineError, PlanError

RUST = Path(__file__).parent.parent / "crates" / "engine" / "src" / "settings.rs"


def rust_fields(struct: str) -> set[str]:
    body = re.search(rf"pub struct {struct} \{{(.*?)\n\}}", RUST.read_text(), re.DOTALL)
    assert body is not None
    return set(re.findall(r"^    pub (\w+):", body[1], re.MULTILINE))


def document(**overrides: str) -> Any:
    listener = InheritedListener(7, "127.0.0.1", 8443, is_ssl=True, is_http2=True)
    return engine_settings(load_settings(None, {}, overrides), [listener], [("cert", "key")])


@pytest.mark.parametrize(
    ("struct", "path"),
    [
        ("EngineSettings", ()),
        ("ListenerSettings", ("listeners", 0)),
        ("ResponseHeaders", ("response_headers",)),
        ("ErrorTemplates", ("error_templates",)),
        ("Limits", ("limits",)),
        ("ClientTimeouts", ("client_timeouts",)),
        ("UpstreamKeepalive", ("upstream_keepalive",)),
        ("TlsSettings", ("tls",)),
        ("DnsSettings", ("dns",)),
    ],
)
def test_document_has_exactly_the_fields_of_the_rust_struct(struct: str, path: tuple[Any, ...]) -> None:
    found = document()
    for step in path:
        found = found[step]
    assert set(found) == rust_fields(struct)


def test_settings_reach_the_engine_in_its_units() -> None:
    found = document(
        port_maps="80:8000",
        nginx_http_client_max_body_size="10m",
        upstream_keepalive_idle_timeout="2",
        headers="X-Kong-Upstream-Status",
        real_ip_header="X-Forwarded-For",
        proxy_access_log="off",
    )
    assert found["port_maps"] == [(8000, 80)]
    assert found["limits"]["request_body_bytes"] == 10 * 1024**2
    assert found["limits"]["request_head_bytes"] == 4 * 8192
    assert found["upstream_keepalive"]["idle_timeout_ms"] == 2000
    assert found["response_headers"]["upstream_status"] is True
    assert found["response_headers"]["server"] is False
    assert found["real_ip_header"] == "x-forwarded-for"
    assert found["access_log"] is None


def test_faults_of_the_native_engine_become_our_errors() -> None:
    class Refusing:
        def apply(self, plan: bytes, attachment: Any) -> None:
            raise ValueError(["a", "b"])

    settings = load_settings(None, {})
    engine = Engine(settings, [], [], None, None, lambda *_: Refusing())  # type: ignore[arg-type,return-value]
    with pytest.raises(PlanError) as plan_error:
        engine.apply(b"{}", None)
    assert plan_error.value.faults == ["a", "b"]

    def refuse(*_: Any) -> Any:
        raise ValueError(["no certificate", "bad address"])

    with pytest.raises(EngineError, match="no certificate; bad address"):
        Engine(settings, [], [], None, None, refuse)
