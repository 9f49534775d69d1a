"""Routes: what each family of protocols may and must have."""

from typing import Any

import pytest

from headgate.entities.registry import ENTITY_TYPES


def faults(**route: Any) -> dict[str, Any]:
    return ENTITY_TYPES["routes"].examine(route, now=1)[1]


@pytest.mark.parametrize(
    ("protocols", "text"),
    [
        (None, "must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'https'"),
        (["http"], "must set one of 'methods', 'hosts', 'headers', 'paths' when 'protocols' is 'http'"),
        (["tcp"], "must set one of 'sources', 'destinations', 'snis' when 'protocols' is 'tcp', 'tls' or 'udp'"),
        (["tls_passthrough"], "must set snis when 'protocols' is 'tls_passthrough'"),
        (["grpcs", "grpc"], "must set one of 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'grpcs'"),
        (["grpc"], "must set one of 'hosts', 'headers', 'paths' when 'protocols' is 'grpc'"),
        (["ws"], "must set one of 'methods', 'hosts', 'headers', 'paths' when 'protocols' is 'ws'"),
    ],
)
def test_route_needs_something_to_match(protocols: list[str] | None, text: str) -> None:
    assert faults(**({"protocols": protocols} if protocols else {})) == {"@entity": [text]}


@pytest.mark.parametrize(
    ("route", "name", "text"),
    [
        (
            {"paths": ["/"], "sources": [{"port": 1}]},
            "sources",
            "cannot set 'sources' when 'protocols' is 'http' or 'https'",
        ),
        (
            {"protocols": ["tcp"], "sources": [{"port": 1}], "methods": ["GET"]},
            "methods",
            "cannot set 'methods' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'",
        ),
        (
            {"protocols": ["grpc"], "paths": ["/"], "strip_path": True},
            "strip_path",
            "cannot set 'strip_path' when 'protocols' is 'grpc' or 'grpcs'",
        ),
    ],
)
def test_attribute_of_another_family_is_refused(route: dict[str, Any], name: str, text: str) -> None:
    assert faults(**route) == {name: text}


def test_strip_path_is_off_by_default_for_grpc_only() -> None:
    assert ENTITY_TYPES["routes"].examine({"protocols": ["grpc"], "paths": ["/"]}, now=1)[0]["strip_path"] is False
    assert ENTITY_TYPES["routes"].examine({"paths": ["/"]}, now=1)[0]["strip_path"] is True


def test_snis_need_a_protocol_with_tls() -> None:
    text = "'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or 'tls_passthrough'"
    assert faults(protocols=["http"], paths=["/"], snis=["a"]) == {"snis": "length must be 0", "@entity": [text]}
    assert faults(protocols=["https"], snis=["a"]) == {}
    assert faults(protocols=["wss"], snis=["a"]) == {}


def test_protocols_of_two_families_are_refused() -> None:
    assert faults(protocols=["http", "tcp"], paths=["/"])["protocols"] == (
        "these sets are mutually exclusive: ('http', 'https'), ('tcp', 'tls', 'udp')"
    )


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/", None),
        ("/a/b.c~d", None),
        ("/a%2Fb", None),
        (r"~/a/\d+$", None),
        (r"~/(?<id>[a-z]+)/\p{L}+$", None),
        ("a", "should start with: / (fixed path) or ~/ (regex path)"),
        ("/a//b", "must not have empty segments"),
        ("/a%2e", "non-normalized path, consider use '/a.' instead"),
        ("/a/../b", "non-normalized path, consider use '/b' instead"),
        ("/a%2fb", "non-normalized path, consider use '/a%2Fb' instead"),
        ("/a%zz", "invalid url-encoded value: '%zz'"),
    ],
)
def test_path(path: str, text: str | None) -> None:
    assert faults(paths=[path]) == ({} if text is None else {"paths": [text]})


def test_malformed_regex_is_told_with_the_reason() -> None:
    assert faults(paths=["~/a("])["paths"][0].startswith("invalid regex: '/a(' (PCRE returned: ")


@pytest.mark.parametrize("path", ["~/(?=a)", "~/(?<!a)b", r"~/(a)\1", "~/(?>a)"])
def test_regex_beyond_linear_time_is_refused(path: str) -> None:
    assert faults(paths=[path])["@entity"][0].startswith("Router Expression failed validation: ")


def test_hosts_and_headers() -> None:
    assert faults(hosts=["*.a.com", "a.*", "b:80", "*.*", "a*b"]) == {
        "hosts": [
            None,
            None,
            None,
            "invalid wildcard: must have at most one wildcard",
            "invalid wildcard: must be placed at leftmost or rightmost label",
        ]
    }
    assert faults(headers={"Host": ["a"]}) == {
        "headers": "cannot contain 'host' header, which must be specified in the 'hosts' attribute"
    }
    assert faults(methods=["get"]) == {"methods": ["invalid value: get"]}


def test_stream_address_needs_ip_or_port() -> None:
    assert faults(protocols=["tcp"], sources=[{"ip": "10.0.0.0/8"}, {}]) == {
        "sources": [None, {"@entity": ["at least one of these fields must be non-empty: 'ip', 'port'"]}]
    }
