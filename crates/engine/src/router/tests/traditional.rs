//! The `traditional` flavour where it differs from the default one.

use super::*;
use crate::router::{Captures, PathHandling};

const FLAVOR: Flavor = Flavor::Traditional;

#[test]
fn hosts_match_as_documented() {
    let rows = [
        ("a.com", "a.com", true),
        ("a.com", "a.com:1234", true),
        ("a.com", "A.com", false),
        ("a.com:8080", "a.com:8080", true),
        ("a.com:80", "a.com", true),
        ("a.com:8000", "a.com", false),
        ("*.a.com", "x.y.a.com:81", true),
        ("*.a.com", ".a.com", false),
        ("a.*", "a.com:81", true),
        ("a.*", "a.", false),
        ("a.*:80", "a.com", true),
        ("a.*:80", "a.com:81", false),
        ("[::1]", "[::1]:80", true),
        ("[::1]:80", "[::1]", true),
        ("[::1]:81", "[::1]", false),
    ];
    for (configured, header, expected) in rows {
        let rules = [with_hosts(rule(1), &[configured])];
        assert_eq!(
            winner(FLAVOR, &rules, &get(header, "/")).is_some(),
            expected,
            "{configured} against {header}"
        );
    }
    let https = over_tls(get("a.com", "/"), None);
    assert_eq!(winner(FLAVOR, &[with_hosts(rule(1), &["a.com:443"])], &https), Some(0));
}

#[test]
fn a_header_regex_counts_only_as_the_single_value() {
    let request = |value: &str| with_header(get("h", "/"), "x-version", value);
    let single = [with_headers(rule(1), "x-version", &[r"~*^v\D+$"])];
    assert_eq!(winner(FLAVOR, &single, &request("VAB")), Some(0));
    assert_eq!(winner(FLAVOR, &single, &request("v1")), None);
    let several = [with_headers(rule(1), "x-version", &["~*v.", "w"])];
    assert_eq!(winner(FLAVOR, &several, &request("v1")), None);
    assert_eq!(winner(FLAVOR, &several, &request("~*V.")), Some(0));
}

#[test]
fn precedence_follows_categories_then_weights_then_age() {
    let regex = |number, text: &str, priority| {
        let mut made = with_paths(rule(number), &[text]);
        made.regex_priority = priority;
        made
    };
    let two_headers = with_headers(with_headers(rule(2), "x-0", &["1"]), "x-1", &["1"]);
    let pairs = [
        (
            "more attributes",
            with_methods(with_paths(rule(2), &["/"]), &["GET"]),
            with_hosts(rule(1), &["a.com"]),
        ),
        (
            "hosts over headers",
            with_hosts(rule(2), &["*.com"]),
            with_headers(rule(1), "x-0", &["1"]),
        ),
        (
            "headers over paths",
            with_headers(rule(2), "x-0", &["1"]),
            with_paths(rule(1), &["/a/b"]),
        ),
        (
            "paths over methods",
            with_paths(rule(2), &["/"]),
            with_methods(rule(1), &["GET"]),
        ),
        (
            "wildcard with port over plain",
            with_hosts(rule(2), &["*.com:80"]),
            with_hosts(rule(1), &["a.com"]),
        ),
        (
            "plain host over wildcard",
            with_hosts(rule(2), &["a.com"]),
            with_hosts(rule(1), &["*.com"]),
        ),
        (
            "regex over plain path",
            regex(2, "~/", 0),
            with_paths(rule(1), &["/a/b"]),
        ),
        ("more headers", two_headers, with_headers(rule(1), "x-0", &["1"])),
        ("regex priority", regex(2, "~/a", 1), regex(1, "~/a/b", 0)),
        (
            "longer path",
            with_paths(rule(2), &["/a/b"]),
            with_paths(rule(1), &["/a"]),
        ),
        (
            "older route",
            with_paths(rule(1), &["/a"]),
            with_paths(rule(2), &["/a"]),
        ),
    ];
    let request = (0..2).fold(get("a.com", "/a/b"), |made, number| {
        with_header(made, &format!("x-{number}"), "1")
    });
    for (name, stronger, weaker) in pairs {
        let rules = [stronger.clone(), weaker.clone()];
        assert_eq!(winner(FLAVOR, &rules, &request), Some(0), "{name}");
        let rules = [weaker, stronger];
        assert_eq!(winner(FLAVOR, &rules, &request), Some(1), "{name}, reversed");
    }
}

#[test]
fn a_plain_request_does_not_reach_snis_above_its_category() {
    let with_sni = with_snis(with_hosts(rule(1), &["a.com"]), &["a.com"]);
    let hosts_only = with_hosts(rule(2), &["a.com"]);
    let rules = [with_sni.clone(), hosts_only];
    assert_eq!(winner(FLAVOR, &rules, &get("a.com", "/")), Some(1));
    let tls = over_tls(get("a.com", "/"), Some("a.com"));
    assert_eq!(winner(FLAVOR, &rules, &tls), Some(0));
    assert_eq!(
        winner(FLAVOR, &[with_sni], &get("a.com", "/")),
        Some(0),
        "no such category: from the top"
    );
}

#[test]
fn captures_leave_out_the_whole_match() {
    let found = find(FLAVOR, &[with_paths(rule(1), &["~/(?<name>a)"])], &get("h", "/a"));
    let expected = Captures {
        unnamed: vec![None, Some(b"a".to_vec())],
        named: vec![("name".into(), Some(b"a".to_vec()))],
    };
    assert_eq!(found.and_then(|found| found.captures), Some(expected));
}

#[test]
fn path_handling_is_the_routes_own() {
    let mut made = rule(1);
    made.path_handling = PathHandling::V1;
    let found = find(FLAVOR, &[made], &get("h", "/"));
    assert_eq!(found.map(|found| found.path_handling), Some(PathHandling::V1));
}
