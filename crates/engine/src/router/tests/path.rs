//! Targets, normal form, encoding and the join with the service's path.

use crate::router::path::{encode_for_upstream, normalize, split_target, upstream_path, Target};
use crate::router::PathHandling;
use proptest::prelude::*;
use std::borrow::Cow;

#[test]
fn targets_are_split() {
    let rows: [(&str, Option<&str>, &str, Option<&str>); 12] = [
        ("/", None, "/", None),
        ("/foo?a=b?c", None, "/foo", Some("a=b?c")),
        ("/foo?", None, "/foo", Some("")),
        ("?x?y", None, "?x", Some("y")),
        ("*", None, "*", None),
        ("", None, "", None),
        ("http://a.com", Some("a.com"), "/", None),
        ("http://a.com?x", Some("a.com"), "/", Some("x")),
        ("HTTPS://a.com:81/p/q?x", Some("a.com:81"), "/p/q", Some("x")),
        ("http://user:word@a.com/", Some("a.com"), "/", None),
        ("http://[::1]:80/p", Some("[::1]:80"), "/p", None),
        ("/http://a.com/", None, "/http://a.com/", None),
    ];
    for (target, authority, path, query) in rows {
        let expected = Target {
            authority: authority.map(str::as_bytes),
            path: path.as_bytes(),
            query: query.map(str::as_bytes),
        };
        assert_eq!(split_target(target.as_bytes()), expected, "{target}");
    }
}

#[test]
fn paths_are_normalised() {
    let rows: [(&str, &[u8]); 30] = [
        ("", b""),
        ("/", b"/"),
        ("*", b"*"),
        ("/a/b", b"/a/b"),
        ("/a/b/", b"/a/b/"),
        ("/%61%62c", b"/abc"),
        ("/a%2fb", b"/a%2Fb"),
        (
            "/%21%2a%27%28%29%3b%3a%40%26%3d%2b%24%2c%2f%3f%25%23%5b%5d",
            b"/%21%2A%27%28%29%3B%3A%40%26%3D%2B%24%2C%2F%3F%25%23%5B%5D",
        ),
        ("/%20%22%c3%a9%00%7e", b"/ \"\xc3\xa9\x00~"),
        ("/100%", b"/100%"),
        ("/%zz%4", b"/%zz%4"),
        ("/%2541", b"/%2541"),
        ("//a///b//", b"/a/b/"),
        ("/a/./b", b"/a/b"),
        ("/a/../b", b"/b"),
        ("/a/%2e%2e/b", b"/b"),
        ("/a/.%2E/b", b"/b"),
        ("/a/%2E/b", b"/a/b"),
        ("/a/b/..", b"/a/"),
        ("/a/b/.", b"/a/b/"),
        ("/..", b"/"),
        ("/../../a", b"/a"),
        ("/a//../b", b"/b"),
        ("/.hidden/..well/a..", b"/.hidden/..well/a.."),
        ("/...", b"/..."),
        ("/a/..b/.c", b"/a/..b/.c"),
        ("/.", b"/"),
        ("/a%2F..%2Fb", b"/a%2F..%2Fb"),
        ("a/../b", b"b"),
        ("../a", b"a"),
    ];
    for (raw, expected) in rows {
        assert_eq!(normalize(raw.as_bytes()).as_ref(), expected, "{raw}");
    }
}

#[test]
fn a_normal_path_is_not_copied() {
    for path in ["/", "/a/b/", "/.well-known/x", "/a..b/c.", "*"] {
        assert!(matches!(normalize(path.as_bytes()), Cow::Borrowed(_)), "{path}");
        assert!(
            matches!(encode_for_upstream(path.as_bytes()), Cow::Borrowed(_)),
            "{path}"
        );
    }
}

#[test]
fn paths_are_encoded_for_the_upstream() {
    let untouched = b"/!#$&'()*+,/:;=?@[\\]AZaz09-_.~%2F";
    assert_eq!(encode_for_upstream(untouched).as_ref(), untouched);
    assert_eq!(
        encode_for_upstream(b"/a \"<>^`{|}\xc3\xa9\x00").as_ref(),
        b"/a%20%22%3C%3E%5E%60%7B%7C%7D%C3%A9%00"
    );
}

const NO_PATH: &str = "";

/// Service path, route path, strip (`None`: either), request, v0, v1.
type Join = (
    &'static str,
    &'static str,
    Option<bool>,
    &'static str,
    &'static str,
    &'static str,
);

/// The reference's table.
const JOINS: [Join; 21] = [
    ("/", "/", None, "/route/", "/route/", "/route/"),
    ("/", "/route", Some(true), "/route", "/", "/"),
    ("/", "/route", Some(true), "/routereq", "/req", "/req"),
    ("/srv", "/rou", Some(false), "/roureq", "/srv/roureq", "/srvroureq"),
    ("/srv", "/rou", Some(true), "/roureq", "/srv/req", "/srvreq"),
    ("/srv/", "/rou", Some(true), "/rou", "/srv", "/srv/"),
    ("/service", "/", None, "/", "/service", "/service"),
    ("/service", "/", None, "/route", "/service/route", "/serviceroute"),
    ("/service", "/route", Some(true), "/route", "/service", "/service"),
    ("/service", "/route", Some(true), "/route/", "/service/", "/service/"),
    (
        "/service",
        "/route",
        Some(true),
        "/routereq",
        "/service/req",
        "/servicereq",
    ),
    ("/service", "/route/", Some(true), "/route/", "/service/", "/service"),
    (
        "/service",
        "/route/",
        Some(true),
        "/route/req",
        "/service/req",
        "/servicereq",
    ),
    ("/service/", "/", None, "/", "/service/", "/service/"),
    ("/service/", "/route", Some(true), "/route", "/service", "/service/"),
    ("/service/", "/route", Some(true), "/route/", "/service/", "/service/"),
    (
        "/service/",
        "/route/",
        Some(true),
        "/route/req",
        "/service/req",
        "/service/req",
    ),
    ("/service", NO_PATH, None, "/", "/service", "/service"),
    ("/service", NO_PATH, None, "/route", "/service/route", "/serviceroute"),
    (
        "/service",
        "/route",
        Some(true),
        "/route../req",
        "/service/req",
        "/servicereq",
    ),
    (
        "/service",
        "/route",
        Some(false),
        "/route%2E/req",
        "/service/route./req",
        "/serviceroute./req",
    ),
];

#[test]
fn upstream_paths_follow_the_reference_table() {
    for (service, route, strip, request, v0, v1) in JOINS {
        let normal = normalize(request.as_bytes());
        let matched_len = (route != NO_PATH).then_some(route.len());
        let strips = strip.map_or(vec![true, false], |strip| vec![strip]);
        for strip in strips {
            for (handling, expected) in [(PathHandling::V0, v0), (PathHandling::V1, v1)] {
                let joined = upstream_path(Some(service.as_bytes()), &normal, matched_len, strip, handling);
                let joined = String::from_utf8_lossy(&joined);
                assert_eq!(joined, expected, "{service} {route} {strip} {request} {handling:?}");
            }
        }
    }
}

#[test]
fn other_joins() {
    let v0 = |service: Option<&'static str>, request: &'static str, matched: Option<usize>| {
        let base = service.map(str::as_bytes);
        String::from_utf8_lossy(&upstream_path(
            base,
            request.as_bytes(),
            matched,
            true,
            PathHandling::V0,
        ))
        .into_owned()
    };
    assert_eq!(v0(None, "/a", None), "/a", "no service path is /");
    assert_eq!(v0(Some("/s"), "/route..", Some(6)), "/s", "a left-over .. is dropped");
    assert_eq!(v0(Some("/s"), "/route./x", Some(6)), "/s/x");
    assert_eq!(v0(Some("/s/"), "/route/x", Some(6)), "/s/x");
    assert_eq!(v0(Some("/s/"), "/routex", Some(6)), "/s/x");
    assert_eq!(v0(Some("/s/"), "/a", None), "/s/a");
    assert_eq!(
        v0(Some("/s"), "/a", Some(99)),
        "/s",
        "a length beyond the path strips all of it"
    );
}

#[test]
fn joining_without_a_service_path_copies_nothing() {
    for strip in [true, false] {
        let joined = upstream_path(None, b"/route/x", Some(6), strip, PathHandling::V0);
        assert!(matches!(joined, Cow::Borrowed(_)));
    }
}

proptest! {
    #[test]
    fn a_normal_form_has_no_dot_or_empty_segments(raw in prop::collection::vec(any::<u8>(), 0..40)) {
        let raw = [b"/".as_slice(), &raw].concat();
        let normal = normalize(&raw);
        prop_assert!(normal.starts_with(b"/"));
        let segments: Vec<&[u8]> = normal[1..].split(|&byte| byte == b'/').collect();
        let (last, inner) = segments.split_last().unwrap();
        prop_assert!(inner.iter().all(|segment| !matches!(*segment, b"" | b"." | b"..")));
        prop_assert!(!matches!(*last, b"." | b".."));
    }

    #[test]
    fn normalising_twice_changes_nothing(pieces in prop::collection::vec(
        prop::sample::select(vec!["/", "..", ".", "a", "%2e", "%2F", "%25", "%41", "%c3", "b", "%20", "//"]), 0..20,
    )) {
        let raw = pieces.concat();
        let once = normalize(raw.as_bytes()).into_owned();
        let twice = normalize(&once).into_owned();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn escaped_and_plain_spellings_have_one_normal_form(raw in "(/|[a-z.~_ -]){0,20}", mask in any::<u32>()) {
        let escaped: String = raw.char_indices().map(|(at, letter)| {
            let is_escaped = letter != '/' && mask >> at & 1 == 1;
            if is_escaped { format!("%{:02x}", letter as u32) } else { letter.to_string() }
        }).collect();
        prop_assert_eq!(normalize(escaped.as_bytes()), normalize(raw.as_bytes()));
    }

    #[test]
    fn encoding_yields_only_target_bytes_and_is_stable(raw in prop::collection::vec(any::<u8>(), 0..40)) {
        let encoded = encode_for_upstream(&raw);
        prop_assert!(encoded.iter().all(|byte| byte.is_ascii_graphic()));
        prop_assert_eq!(encode_for_upstream(&encoded), encoded.as_ref());
    }

    #[test]
    fn any_bytes_split_and_join_without_panic(
        target in prop::collection::vec(any::<u8>(), 0..30), base in prop::collection::vec(any::<u8>(), 0..10),
        matched in prop::option::of(0_usize..40), strip in any::<bool>(),
    ) {
        let parts = split_target(&target);
        let normal = normalize(parts.path);
        for handling in [PathHandling::V0, PathHandling::V1] {
            let joined = upstream_path(Some(&base), &normal, matched, strip, handling);
            prop_assert!(joined.len() <= base.len() + normal.len() + 1);
        }
    }
}
