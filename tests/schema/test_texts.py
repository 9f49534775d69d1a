"""Checks of names, tags, paths and URLs."""

import pytest

from headgate.schema import texts


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("/a", "/a"),
        ("/a%2e", "/a."),
        ("/a%2fb", "/a%2Fb"),
        ("/a//b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/./b/..", "/a/"),
        ("/a/%2e%2e/b", "/b"),
        ("/..", "/"),
        ("/.a/..b", "/.a/..b"),
    ],
)
def test_normal_form_of_a_path(path: str, normal: str) -> None:
    assert texts.normalized_path(path) == normal


def test_name_accepts_letters_beyond_ascii_and_refuses_spaces() -> None:
    assert texts.utf8_name_fault("grün-1.~_") is None
    assert texts.utf8_name_fault("a b") == (
        "invalid value 'a b': the only accepted ascii characters are alphanumerics or ., -, _, and ~"
    )
    assert texts.utf8_name_fault("a\ud800") == "invalid utf-8 character sequence detected at position 2"


def test_tag_accepts_spaces_and_refuses_comma_and_slash() -> None:
    assert texts.tag_fault("a b") is None
    for tag in ("a,b", "a/b", "a\tb"):
        assert texts.tag_fault(tag) == (
            f"invalid tag '{tag}': expected printable ascii (except `,` and `/`) or valid utf-8 sequences"
        )


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://a", None),
        ("//a", "missing scheme in url"),
        ("http://", "missing host in url"),
        ("a", "missing host in url"),
    ],
)
def test_url_needs_scheme_and_host(url: str, text: str | None) -> None:
    assert texts.url_fault(url) == text


def test_path_refuses_what_a_url_cannot_hold() -> None:
    assert (
        texts.path_fault("/a b") == "invalid path: '/a b' (characters outside of the reserved list of RFC 3986 found)"
    )
    assert texts.path_fault("/a%2") == "invalid url-encoded value: '%2'"
    assert texts.path_fault("/a%zz") == "invalid url-encoded value: '%zz'"


def test_header_and_cookie_names() -> None:
    assert texts.header_name_fault("X-a_1") is None
    assert texts.header_name_fault("a b") == (
        "bad header name 'a b', allowed characters are A-Z, a-z, 0-9, '_', and '-'"
    )
    assert texts.cookie_name_fault("a;b") is not None
