"""Services: the url shorthand and what depends on the protocol."""

from typing import Any

import pytest

from headgate.entities.registry import ENTITY_TYPES

SERVICES = ENTITY_TYPES["services"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://a.b", ("http", "a.b", 80, None)),
        ("https://a.b/x", ("https", "a.b", 443, "/x")),
        ("http://a:8000/", ("http", "a", 8000, "/")),
        ("grpc://a", ("grpc", "a", 80, None)),
        ("http://[::1]:90", ("http", "[::1]", 90, None)),
    ],
)
def test_url_is_split_and_wins_over_single_fields(url: str, expected: tuple[Any, ...]) -> None:
    service, errors = SERVICES.examine({"url": url, "host": "other", "port": 1}, now=7.9)
    assert errors == {}
    assert (service["protocol"], service["host"], service["port"], service["path"]) == expected
    assert "url" not in service


def test_url_without_a_host_makes_the_host_missing() -> None:
    assert SERVICES.examine({"url": "nonsense"}, now=1)[1] == {"host": "required field missing"}


def test_timestamps_and_id_are_made_up() -> None:
    service, _ = SERVICES.examine({"host": "a"}, now=7.9)
    assert (service["created_at"], service["updated_at"], len(service["id"])) == (7, 7, 36)
    assert service["port"] == 80


def test_tls_attributes_need_a_tls_protocol() -> None:
    _, errors = SERVICES.examine({"host": "a", "tls_verify": True}, now=1)
    assert errors == {
        "tls_verify": "value must be null",
        "@entity": ["failed conditional validation given value of field 'protocol'"],
    }
    assert SERVICES.examine({"host": "a", "protocol": "https", "tls_verify": True}, now=1)[1] == {}


def test_path_must_be_null_for_stream_protocols() -> None:
    _, errors = SERVICES.examine({"host": "a", "protocol": "tcp", "path": "/"}, now=1)
    assert errors["path"] == "value must be null"


def test_name_path_and_port_faults_come_together() -> None:
    _, errors = SERVICES.examine({"host": "a b", "name": "a b", "path": "/a//b", "port": 70000, "retries": -1}, now=1)
    assert errors == {
        "host": "invalid value: a b",
        "name": "invalid value 'a b': the only accepted ascii characters are alphanumerics or ., -, _, and ~",
        "path": "must not have empty segments",
        "port": "value should be between 0 and 65535",
        "retries": "value should be between 0 and 32767",
    }
