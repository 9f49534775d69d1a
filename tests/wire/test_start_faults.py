"""What is wrong before a start: one clear line for each fault, exit code 1, no traceback, nothing left running."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.gateway import PLUGIN_DIRECTORY, Gateway, StartFailed, command, run


def _refusal(config: str | None = None, **settings: object) -> str:
    with pytest.raises(StartFailed) as caught:
        Gateway(config, **settings).stop()
    assert caught.value.exit_code == 1, caught.value.output
    assert "Traceback" not in caught.value.output
    return caught.value.output


def test_every_fault_of_a_declarative_file_is_told_with_its_path() -> None:
    output = _refusal(
        """
_format_version: "3.0"
services:
- name: one
- name: two
  host: example.test
  port: 99999
  routes:
  - name: r
    paths: ["no-slash"]
"""
    )
    assert "in 'services':" in output
    assert "in entry 1 of 'services':" in output
    assert "in 'host': required field missing" in output
    assert "in 'port': value should be between 0 and 65535" in output
    assert "in 'paths':" in output


def test_missing_declarative_file_is_named() -> None:
    assert "/no/such/file.yml" in _refusal(declarative_config="/no/such/file.yml")


def test_unknown_plugin_in_the_settings_is_named() -> None:
    assert "no-such-plugin" in _refusal(plugins="bundled,no-such-plugin")


def test_plugin_that_is_used_but_not_loaded_is_named() -> None:
    config = '{_format_version: "3.0", plugins: [{name: key-auth}]}'
    assert "key-auth" in _refusal(config, plugins="off")


@pytest.mark.parametrize(
    ("plugin", "text"),
    [
        ("fails-to-import", "the disk is on fire"),
        ("response-and-filter", "implements both `response` and `header_filter` or `body_filter` methods"),
        ("no-priority", "PRIORITY"),
    ],
)
def test_broken_plugin_is_named_with_its_fault(plugin: str, text: str) -> None:
    output = _refusal(plugins=f"bundled,{plugin}", plugin_path=PLUGIN_DIRECTORY / "broken")
    assert plugin in output
    assert text in output


def test_plugin_configuration_that_fails_its_schema_is_told() -> None:
    output = _refusal(
        """
_format_version: "3.0"
plugins:
- name: rate-limiting
  config: {policy: telepathy}
"""
    )
    assert "policy" in output


def test_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        output = _refusal(proxy_listen=f"127.0.0.1:{port}")
    assert str(port) in output
    assert "in use" in output.lower()


def test_bad_certificate_is_told(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("not a certificate", encoding="ascii")
    assert "ssl_cert" in _refusal(ssl_cert=bad, ssl_cert_key=bad)


def test_all_faulty_settings_are_told_at_once() -> None:
    output = _refusal(log_level="loud", proxy_listen="nowhere", upstream_keepalive_pool_size="many")
    for name in ("log_level", "proxy_listen", "upstream_keepalive_pool_size"):
        assert name in output


def test_second_start_in_a_prefix_is_refused() -> None:
    with Gateway() as running:
        with pytest.raises(StartFailed) as caught:
            Gateway(prefix=running.prefix).stop()
        assert "already running" in caught.value.output
        assert running.get("/").status == 404


def test_kong_environment_names_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished = run("check", prefix=tmp_path)
    assert finished.returncode == 0, finished.stderr
    monkeypatch.setenv("KONG_LOG_LEVEL", "loud")
    refused = subprocess.run(
        [*command(), "check"],
        env=os.environ | {"HEADGATE_PREFIX": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert "log_level" in refused.stderr + refused.stdout


def test_stopped_gateway_leaves_no_pid_file() -> None:
    with Gateway() as running:
        running.signal(signal.SIGTERM)
        assert running.wait() == 0
        assert not list(running.prefix.rglob("*.pid"))
