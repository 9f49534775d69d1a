"""Checks of host names and addresses."""

import pytest

from headgate.schema import addresses


@pytest.mark.parametrize("host", ["a", "a.b", "a.b.", "a_b", "127.0.0.1", "::1", "[::1]"])
def test_host_is_accepted(host: str) -> None:
    assert addresses.host_fault(host) is None


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("a:80", "must not have a port"),
        ("127.0.0.1:80", "must not have a port"),
        ("a b", "invalid value: a b"),
        ("a..b", "invalid value: a..b"),
        ("a-.b", "invalid value: a-.b"),
        ("http://a", "invalid value: http://a"),
        ("", "invalid value: "),
        ("300.1.1.1", "invalid value: 300.1.1.1"),
        ("zz::1::", "invalid value: zz::1::"),
    ],
)
def test_host_is_refused(host: str, text: str) -> None:
    assert addresses.host_fault(host) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("*.a.com", None),
        ("a.*", None),
        ("a", None),
        ("a.*.b", "wildcard must be leftmost or rightmost character"),
        ("*.a.*", "only one wildcard must be specified"),
        ("1.2.3.4", "must not be an IP"),
        ("a:80", "must not have a port"),
    ],
)
def test_wildcard_host(value: str, text: str | None) -> None:
    assert addresses.wildcard_host_fault(value) == text


@pytest.mark.parametrize(
    ("target", "normal"),
    [
        ("a", "a:8000"),
        ("a:80", "a:80"),
        ("1.2.3.4", "1.2.3.4:8000"),
        ("[::1]:80", "[0000:0000:0000:0000:0000:0000:0000:0001]:80"),
        ("::1", "[0000:0000:0000:0000:0000:0000:0000:0001]:8000"),
        ("a:99999", None),
        ("1.2.3.999", None),
        ("a b", None),
        ("a:", None),
    ],
)
def test_target_is_normalized_or_refused(target: str, normal: str | None) -> None:
    assert addresses.normalized_target(target) == normal


@pytest.mark.parametrize(
    ("name", "reason"),
    [("1.2.3.4", "no ip addresses allowed"), ("a:80", "no port allowed"), ("a b", "must be a valid hostname")],
)
def test_upstream_name_is_a_host_name(name: str, reason: str) -> None:
    assert addresses.upstream_name_fault(name) == f"Invalid name ('{name}'); {reason}"


def test_ranges() -> None:
    assert addresses.ip_or_cidr_fault("10.0.0.1/8") is None
    assert addresses.ip_or_cidr_fault("::/0") is None
    assert addresses.ip_or_cidr_fault("10.0.0.1/40") == "invalid ip or cidr range: '10.0.0.1/40'"
    assert addresses.ip_fault("a") == "not an ip address: a"
