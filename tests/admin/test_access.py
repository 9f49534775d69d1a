"""Who may use the Admin API: tokens, roles, failures, origins of browsers, and what the audit log says."""

import hashlib
from pathlib import Path
from typing import Any

import orjson
import pytest

from headgate.admin.access import MOST_ADDRESSES, Failures
from headgate.config.load import load_settings
from headgate.errors import SettingsError
from tests.admin.conftest import Api

READER, WRITER = "reader-0123456789", "writer-0123456789"
TOKENS = f"ci:read-only:{READER}, ops:read-write:sha256:{hashlib.sha256(WRITER.encode()).hexdigest()}"
DOCUMENT = '{"_format_version": "3.0", "services": [{"name": "s", "host": "h"}]}'
JSON = {"Content-Type": "application/json"}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def audit(prefix: Path) -> list[dict[str, Any]]:
    text = (prefix / "logs" / "admin_audit.log").read_text(encoding="utf-8")
    return [orjson.loads(line) for line in text.splitlines()]


def test_without_settings_everybody_may_do_everything_and_writes_are_noted(tmp_path: Path) -> None:
    api = Api(tmp_path)
    assert api.call("GET", "/").status_code == 200
    assert api.call("POST", "/schemas/routes/validate", json={"paths": ["/"]}).status_code == 200
    assert api.call("POST", "/services?x=1", headers=JSON, content='{"name": "s", "host": "h"}').status_code == 405
    (entry,) = audit(tmp_path)
    assert entry.pop("time").endswith("Z")
    assert entry.pop("from").startswith("127.0.0.1:")
    entry.pop("fields", None)
    assert entry == {
        "who": "anonymous",
        "role": "read-write",
        "method": "POST",
        "path": "/services",
        "status": 405,
    }
    assert (tmp_path / "logs" / "admin_audit.log").stat().st_mode & 0o777 == 0o600


def test_tokens_have_roles(tmp_path: Path) -> None:
    api = Api(tmp_path, admin_tokens=TOKENS)
    answer = api.call("GET", "/services")
    assert (answer.status_code, answer.json()) == (401, {"message": "Unauthorized"})
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="headgate-admin"'
    assert "Server" in answer.headers
    for headers in (bearer(READER), {"Kong-Admin-Token": READER}, bearer(WRITER)):
        assert api.call("GET", "/services", headers=headers).status_code == 200
    answer = api.call("POST", "/config", headers=bearer(READER) | JSON, content=DOCUMENT)
    assert (answer.status_code, answer.json()) == (
        403,
        {"message": "'ci' has the role read-only, which allows no writes"},
    )
    assert api.call("POST", "/schemas/routes/validate", headers=bearer(READER), json={}).status_code != 403
    assert api.call("DELETE", "/config", headers=bearer(WRITER)).status_code == 405
    for wrong in (bearer(READER + "x"), bearer(""), {"Authorization": f"Basic {READER}"}, bearer("é" * 20)):
        assert api.call("GET", "/", headers={k: v.encode("latin-1") for k, v in wrong.items()}).status_code == 401
    # The Status API is another one, and for reading.
    assert api.call("GET", "/status", api="status").status_code == 200
    assert api.call("POST", "/config", api="status").status_code == 404
    assert [(entry["who"], entry["status"]) for entry in audit(tmp_path)][:3] == [
        (None, 401),
        ("ci", 403),
        ("ops", 405),
    ]


def test_posting_a_configuration_is_noted_without_its_values(tmp_path: Path) -> None:
    api = Api(tmp_path, admin_tokens=TOKENS)
    content = '{"config": "not yaml: [", "password": "hidden"}'
    api.call("POST", "/config", headers=bearer(WRITER) | JSON, content=content)
    api.call("DELETE", "/consumers/c/key-auth/a-secret-key", headers=bearer(WRITER))
    api.call("DELETE", "/cache/keyauth_credentials:a-secret-key", headers=bearer(WRITER))
    first, second, third = audit(tmp_path)
    assert first["fields"] == ["config", "password"]
    assert (second["path"], third["path"]) == ("/consumers/c/key-auth/***", "/cache/***")
    assert "hidden" not in (tmp_path / "logs" / "admin_audit.log").read_text(encoding="utf-8")


def test_tokens_come_from_a_file_too(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# of the team\n\nteam:read-write:{WRITER}\n", encoding="utf-8")
    api = Api(tmp_path, admin_tokens_file=str(file))
    assert api.call("GET", "/", headers=bearer(WRITER)).status_code == 200
    assert api.call("GET", "/").status_code == 401


def test_an_address_that_fails_often_is_refused_for_a_while(tmp_path: Path) -> None:
    api = Api(tmp_path, admin_tokens=TOKENS, admin_failures_per_minute="3")
    statuses = [api.call("GET", "/", headers=bearer("guess" * 4)).status_code for _ in range(5)]
    assert statuses == [401, 401, 401, 429, 429]
    refused = api.call("GET", "/", headers=bearer(WRITER))
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 60


def test_failures_are_counted_in_a_bounded_table() -> None:
    now_s = 1000.0
    failures = Failures(2, lambda: now_s)
    for _ in range(2):
        failures.add("a")
    assert failures.wait_s("a") == 60.0
    assert failures.wait_s("b") == 0.0
    now_s += 61
    assert failures.wait_s("a") == 0.0
    failures.add("a")
    assert failures.wait_s("a") == 0.0
    for number in range(MOST_ADDRESSES + 10):
        failures.add(str(number))
    assert len(failures) == MOST_ADDRESSES


def test_pages_of_other_origins_neither_read_nor_write(tmp_path: Path) -> None:
    api = Api(tmp_path)
    foreign = {"Origin": "https://evil.example"}
    assert "Access-Control-Allow-Origin" not in api.call("GET", "/", headers=foreign).headers
    answer = api.call("POST", "/config", headers=foreign, data={"config": "x"})
    assert (answer.status_code, answer.json()["message"]) == (
        403,
        "writes from pages of other origins are refused; see admin_cors_origins",
    )
    assert api.call("POST", "/config", headers={"Origin": "http://admin"} | JSON, content=DOCUMENT).status_code != 403


def test_origins_of_the_setting_are_let_in(tmp_path: Path) -> None:
    api = Api(tmp_path, admin_cors_origins="https://panel.example", admin_tokens=TOKENS)
    origin = {"Origin": "https://panel.example"}
    preflight = api.call(
        "OPTIONS",
        "/services",
        headers=origin
        | {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "Authorization, If-Match"},
    )
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == "https://panel.example"
    assert api.call("GET", "/", headers=origin).headers["Access-Control-Allow-Origin"] == "https://panel.example"
    answer = api.call("DELETE", "/config", headers=origin | bearer(WRITER))
    assert answer.status_code == 405
    assert api.call("POST", "/config", headers={"Origin": "https://x.example"} | bearer(WRITER)).status_code == 403


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"admin_tokens": "x"}, "admin_tokens: each token must be <name>:<read-only|read-write>:<token or sha256:hex>"),
        ({"admin_tokens": "a:admin:0123456789abcdef"}, "admin_tokens: each token must be"),
        ({"admin_tokens": "a:read-only:short"}, "admin_tokens: the token of 'a' must have 16 characters at least"),
        ({"admin_tokens_file": "/nowhere/tokens"}, "admin_tokens_file: cannot read /nowhere/tokens"),
        ({"admin_client_ca": "/nowhere/ca.pem"}, "admin_client_ca: no such file at /nowhere/ca.pem"),
        ({"admin_client_roles": "ops"}, "admin_client_roles: 'ops' must be <common name>:<read-only|read-write>"),
        ({"admin_cors_origins": "example.com"}, "admin_cors_origins: 'example.com' must be * or an origin"),
    ],
)
def test_faults_of_the_settings_are_told_without_the_secret(settings: dict[str, str], fault: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings(None, {}, settings)
    assert raised.value.faults[0].startswith(fault)
    assert "0123456789abcdef" not in raised.value.faults[0]


def test_an_open_admin_api_beyond_loopback_is_told() -> None:
    wide = {"admin_listen": "0.0.0.0:8001"}
    text = "admin_listen: anybody who reaches 0.0.0.0:8001 may change everything; set admin_tokens or admin_client_ca"
    assert text in load_settings(None, {}, wide).notices
    assert text not in load_settings(None, {}, wide | {"admin_tokens": TOKENS}).notices
    assert not [one for one in load_settings(None, {}, {}).notices if one.startswith("admin_listen: anybody")]
    shown = load_settings(None, {}, {"admin_tokens": TOKENS}).configuration()
    assert READER not in str(shown)
