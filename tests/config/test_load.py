"""Sources, precedence and faults of the settings as a whole."""

from pathlib import Path

import pytest

from headgate.config.load import SETTINGS, Settings, load_settings
from headgate.errors import SettingsError


def faults_of(environment: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, environment)
    return caught.value.faults


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_command_line_beats_own_environment_beats_kong_environment_beats_file(tmp_path: Path) -> None:
    file = write(tmp_path / "h.conf", "log_level = warn\nprefix = /file\nworkers = 2\ndns_cache_size = 7\n")
    environment = {"KONG_LOG_LEVEL": "error", "HEADGATE_LOG_LEVEL": "info", "KONG_PREFIX": "/kong", "KONG_WORKERS": "3"}

    settings = load_settings(file, environment, {"prefix": "/line"})

    assert settings.general.prefix == "/line"
    assert settings.general.log_level == "info"
    assert settings.general.workers == 3
    assert settings.dns.dns_cache_size == 7


def test_file_comments_and_escaped_hashes(tmp_path: Path) -> None:
    file = write(tmp_path / "h.conf", "# a\nlog_level = info # b\nreal_ip_header = X\\#Y\nnonsense\n")
    settings = load_settings(file, {})
    assert settings.general.log_level == "info"
    assert settings.http.real_ip_header == "X#Y"
    assert settings.warnings == (f"{file}:4: not a setting (name = value): nonsense",)


def test_missing_file_is_one_clear_fault() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings("/no/such.conf", {})
    assert caught.value.faults == ["no file at: /no/such.conf"]


def test_all_faults_come_at_once_in_kong_texts() -> None:
    faults = faults_of(
        {
            "KONG_LOG_LEVEL": "loud",
            "KONG_DNS_CACHE_SIZE": "many",
            "KONG_HEADERS": "server_tokens, x",
            "KONG_NODE_ID": "7",
            "KONG_DATABASE": "cassandra",
        }
    )
    levels = "debug, info, notice, warn, error, crit, alert, emerg"
    assert f"log_level has an invalid value: 'loud' ({levels})" in faults
    assert "dns_cache_size is not a number: 'many'" in faults
    assert "headers: invalid entry 'x'" in faults
    assert "node_id must be a valid UUID" in faults


def test_alias_sets_the_setting_and_the_name_itself_wins_in_one_source() -> None:
    assert load_settings(None, {"KONG_NGINX_WORKER_PROCESSES": "5"}).general.workers == 5
    both = {"HEADGATE_WORKERS": "2", "HEADGATE_NGINX_WORKER_PROCESSES": "5"}
    assert load_settings(None, both).general.workers == 2


def test_empty_environment_variable_unsets() -> None:
    assert load_settings(None, {"KONG_DNS_HOSTSFILE": ""}).dns.dns_hostsfile is None
    assert faults_of({"KONG_LOG_LEVEL": ""}) == ["log_level must have a value"]


def test_unknown_own_variable_warns_with_the_nearest_name_and_unknown_kong_one_is_silent() -> None:
    settings = load_settings(None, {"HEADGATE_PROXY_LISTN": "x", "KONG_PROXY_LISTN": "x"})
    assert settings.warnings == (
        "unknown environment variable HEADGATE_PROXY_LISTN (did you mean HEADGATE_PROXY_LISTEN?)",
    )


def test_setting_without_effect_is_a_notice_and_harmful_one_a_fault() -> None:
    assert load_settings(None, {"KONG_PG_BACKLOG": "1"}).notices == (
        "pg_backlog has no effect: connections to the database have no such option",
    )
    assert faults_of({"KONG_NGINX_HTTP_DENY": "all"})[0].startswith("nginx_http_deny: ")
    assert faults_of({"KONG_WASM": "on"}) == ["wasm = on: Wasm filters are not available"]
    assert load_settings(None, {"KONG_WASM": "off"}).notices == ()


def test_reference_is_resolved_and_shown_as_reference() -> None:
    settings = load_settings(None, {"KONG_PREFIX": "{vault://env/my-dir}", "MY_DIR": "/there"})
    assert settings.general.prefix == "/there"
    assert settings.configuration()["prefix"] == "{vault://env/my-dir}"


def test_unresolvable_reference_names_the_setting() -> None:
    fault = faults_of({"KONG_PREFIX": "{vault://env/none}"})[0]
    assert fault.startswith("failed to dereference '{vault://env/none}': ")
    assert fault.endswith(" for config option 'prefix'")


def test_configuration_masks_secrets_and_types_values() -> None:
    shown = load_settings(None, {"KONG_DECLARATIVE_CONFIG_STRING": "{}", "KONG_PLUGINS": "bundled, x"}).configuration()
    assert shown["declarative_config_string"] == "******"
    assert shown["plugins"] == ["bundled", "x"]
    assert shown["allow_debug_header"] is False
    assert shown["real_ip_recursive"] == "off"
    assert shown["upstream_keepalive_idle_timeout"] == 60
    assert shown["node_id"] is None
    assert shown["nginx_worker_processes"] == "auto"


def test_document_rebuilds_equal_sections() -> None:
    settings = load_settings(None, {"KONG_TRUSTED_IPS": "10.0.0.0/8", "KONG_PORT_MAPS": "80:8000"})
    rebuilt = Settings.from_document(settings.to_document())
    assert (rebuilt.general, rebuilt.listeners, rebuilt.http) == (settings.general, settings.listeners, settings.http)
    assert rebuilt.http.trusted_ips == ("10.0.0.0/8",)


def test_every_default_parses() -> None:
    for name, entry in SETTINGS.items():
        if entry.default is not None:
            entry.kind.parse(name, entry.default)
