"""Routes: what each family of protocols may and must have."""

from typing import Any

import pytest

from headgate.entities.registry import ENTITY_TYPES
from headgate.entities.routes import entity_type_of


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


def expression_faults(checked: list[str] | None = None, **route: Any) -> dict[str, Any]:
    """Faults in the flavour `expressions`, whose language finds the given faults."""
    return entity_type_of("expressions", lambda _expression, _is_stream: checked or []).examine(route, now=1)[1]


def test_expressions_are_unknown_fields_in_the_other_flavours() -> None:
    assert entity_type_of("traditional", lambda _expression, _is_stream: []) is ENTITY_TYPES["routes"]
    assert faults(expression='http.path == "/"', paths=["/"]) == {"expression": "unknown field"}


@pytest.mark.parametrize(
    ("route", "text"),
    [
        (
            {"expression": "e", "paths": ["/"]},
            "cannot set 'expression' with 'methods', 'hosts', 'paths', 'headers', 'snis', 'sources' or 'destinations' "
            "simultaneously",
        ),
        ({"expression": "e", "regex_priority": 1}, "cannot set 'regex_priority' with 'expression' simultaneously"),
        (
            {"hosts": ["a.com"], "priority": 1},
            "cannot set 'priority' with 'methods', 'hosts', 'paths', 'headers', 'snis', 'sources' or 'destinations' "
            "simultaneously",
        ),
    ],
)
def test_expression_and_attributes_exclude_each_other(route: dict[str, Any], text: str) -> None:
    assert expression_faults(**route) == {"@entity": [f"Router Expression failed validation: {text}"]}


def test_every_fault_of_an_expression_is_told_at_once() -> None:
    found = expression_faults(["first", "second"], expression="e")
    assert found == {"@entity": ["Router Expression failed validation: first; second"]}


def test_stream_routes_are_checked_with_the_fields_of_streams() -> None:
    seen: list[tuple[str, bool]] = []

    def check(expression: str, is_stream: bool) -> list[str]:
        seen.append((expression, is_stream))
        return []

    kind = entity_type_of("expressions", check)
    for protocols in (["tcp"], ["https"]):
        assert kind.examine({"protocols": protocols, "expression": "e"}, now=1)[1] == {}
    assert seen == [("e", True), ("e", False)]


def test_expression_flavour_keeps_attributes_and_takes_addresses_on_http() -> None:
    assert expression_faults(paths=["/"], sources=[{"ip": "10.0.0.0/8"}]) == {}
    assert expression_faults(sources=[{"port": 1}]) == {}
    needed = "must set one of 'methods', 'hosts', 'headers', 'paths', 'snis', 'expression' when 'protocols' is 'https'"
    assert expression_faults() == {"@entity": [needed]}


def test_priority_has_46_bits() -> None:
    assert expression_faults(expression="e", priority=2**46 - 1) == {}
    assert expression_faults(expression="e", priority=2**46) == {
        "priority": f"value should be between 0 and {2**46 - 1}"
    }
