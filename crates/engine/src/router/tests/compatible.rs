//! The `traditional_compatible` flavour, row by row.

use super::*;
use crate::router::{Captures, PathHandling};

const FLAVOR: Flavor = Flavor::TraditionalCompatible;

/// Whether a route with this host matches a request with that Host header on port 8000.
fn host_matches(configured: &str, header: &str) -> bool {
    let rules = [with_hosts(rule(1), &[configured])];
    winner(FLAVOR, &rules, &get(header, "/")).is_some()
}

#[test]
fn hosts_match_as_documented() {
    let rows = [
        ("a.com", "a.com", true),
        ("a.com", "a.com:1234", true),
        ("a.com", "A.com", false),
        ("a.com", "b.a.com", false),
        ("a.com", "a.com:port", false),
        ("a.com:8080", "a.com:8080", true),
        ("a.com:8080", "a.com", false),
        ("a.com:8000", "a.com", true),
        ("a.com:8080", "a.com:99", false),
        ("*.a.com", "x.a.com", true),
        ("*.a.com", "x.y.a.com:81", true),
        ("*.a.com", ".a.com", true),
        ("*.a.com", "a.com", false),
        ("*.a.com", "xa.com", false),
        ("a.*", "a.com", true),
        ("a.*", "a.b.c:81", true),
        ("a.*", "a.", true),
        ("a.*", "ab.com", false),
        ("a.*:80", "a.com:80", true),
        ("a.*:80", "a.com:81", false),
        ("a.*:8000", "a.com", true),
        ("*.a.com:80", "x.a.com:80", true),
        ("*.a.com:80", "x.a.com", false),
    ];
    for (configured, header, expected) in rows {
        assert_eq!(
            host_matches(configured, header),
            expected,
            "{configured} against {header}"
        );
    }
}

#[test]
fn plain_paths_are_prefixes_without_segment_boundary() {
    let rules = [with_paths(rule(1), &["/foo"])];
    for (path, expected) in [
        ("/foo", true),
        ("/foobar", true),
        ("/foo/x", true),
        ("/fo", false),
        ("/x/foo", false),
    ] {
        assert_eq!(winner(FLAVOR, &rules, &get("h", path)).is_some(), expected, "{path}");
    }
}

#[test]
fn regex_paths_are_anchored_at_the_start_only() {
    let rules = [with_paths(rule(1), &[r"~/v\d+/users"])];
    for (path, expected) in [
        ("/v1/users", true),
        ("/v22/users/7", true),
        ("/x/v1/users", false),
        ("/v/users", false),
    ] {
        assert_eq!(winner(FLAVOR, &rules, &get("h", path)).is_some(), expected, "{path}");
    }
}

#[test]
fn only_the_first_branch_of_an_alternation_is_anchored() {
    let rules = [with_paths(rule(1), &["~/a|/b"])];
    for (path, expected) in [("/a", true), ("/b", true), ("/x/b", true), ("/x/a", false)] {
        assert_eq!(winner(FLAVOR, &rules, &get("h", path)).is_some(), expected, "{path}");
    }
}

#[test]
fn header_names_are_anded_and_values_ored_without_regard_to_case() {
    let rules = [with_headers(
        with_headers(rule(1), "X_Version", &["V1", "v2"]),
        "x-tenant",
        &["Acme"],
    )];
    let request = |version: &str| with_header(get("h", "/"), "x-version", version);
    assert_eq!(winner(FLAVOR, &rules, &request("v1")), None);
    let with_tenant = |version: &str| with_header(request(version), "X-TENANT", "ACME");
    assert_eq!(winner(FLAVOR, &rules, &with_tenant("V2")), Some(0));
    assert_eq!(winner(FLAVOR, &rules, &with_tenant("v3")), None);
    let repeated = with_header(with_tenant("v3"), "X-Version", "v1");
    assert_eq!(winner(FLAVOR, &rules, &repeated), Some(0));
}

#[test]
fn any_header_value_may_be_a_regex_and_is_lower_cased_itself() {
    let rules = [with_headers(rule(1), "x-version", &["beta", r"~*^V\D+$"])];
    let request = |version: &str| with_header(get("h", "/"), "x-version", version);
    assert_eq!(winner(FLAVOR, &rules, &request("BETA")), Some(0));
    assert_eq!(winner(FLAVOR, &rules, &request("v12")), Some(0), r"\D became \d");
    assert_eq!(winner(FLAVOR, &rules, &request("vab")), None);
}

#[test]
fn snis_pass_on_plain_requests_and_are_tested_on_tls() {
    let rules = [with_snis(rule(1), &["a.com", "*.b.com", "c.*"])];
    assert_eq!(winner(FLAVOR, &rules, &get("h", "/")), Some(0));
    let rows = [
        (Some("a.com"), true),
        (Some("a.com."), true),
        (Some("x.b.com"), true),
        (Some("c.org"), true),
        (Some("b.com"), false),
        (None, false),
    ];
    for (sni, expected) in rows {
        let request = over_tls(get("h", "/"), sni);
        assert_eq!(winner(FLAVOR, &rules, &request).is_some(), expected, "{sni:?}");
    }
}

#[test]
fn methods_match_exactly() {
    let rules = [with_methods(rule(1), &["POST", "PUT"])];
    assert_eq!(winner(FLAVOR, &rules, &get("h", "/")), None);
    let mut put = get("h", "/");
    put.method = "PUT".into();
    assert_eq!(winner(FLAVOR, &rules, &put), Some(0));
    put.method = "put".into();
    assert_eq!(winner(FLAVOR, &rules, &put), None);
}

/// Each pair is (stronger, weaker), both of which match `request`.
fn precedence_pairs() -> Vec<(&'static str, RouteRule, RouteRule)> {
    let regex = |number, text: &str, priority| {
        let mut made = with_paths(rule(number), &[text]);
        made.regex_priority = priority;
        made
    };
    let with_count = |count: usize| {
        (0..count).fold(rule(1), |made, number| {
            with_headers(made, &format!("x-{number}"), &["1"])
        })
    };
    let mut empty_hosts = with_paths(rule(1), &["/"]);
    empty_hosts.hosts = Some(Vec::new());
    vec![
        (
            "more attributes",
            with_methods(with_paths(rule(1), &["/"]), &["GET"]),
            with_hosts(rule(2), &["a.com"]),
        ),
        (
            "plain hosts",
            with_hosts(rule(1), &["a.com"]),
            with_hosts(rule(2), &["*.com"]),
        ),
        (
            "one wildcard spoils",
            with_hosts(rule(1), &["a.com"]),
            with_hosts(rule(2), &["a.com", "*.org"]),
        ),
        (
            "plain hosts over headers",
            with_hosts(rule(1), &["a.com"]),
            with_headers(rule(2), "x-0", &["1"]),
        ),
        ("more headers", with_count(2), with_headers(rule(2), "x-0", &["1"])),
        ("headers over regex", with_count(1), regex(2, "~/a", 9)),
        ("regex over plain", regex(1, "~/", 0), with_paths(rule(2), &["/a/b"])),
        ("regex priority", regex(1, "~/a", 2), regex(2, "~/a/b", 1)),
        ("negative regex priority", regex(1, "~/a", 0), regex(2, "~/a/b", -1)),
        (
            "longer path",
            with_paths(rule(1), &["/a/b"]),
            with_paths(rule(2), &["/a"]),
        ),
        (
            "greater UUID",
            with_paths(rule(2), &["/a"]),
            with_paths(rule(1), &["/b", "/a"]),
        ),
        (
            "empty hosts are plain hosts",
            empty_hosts,
            with_paths(rule(2), &["/a/b"]),
        ),
    ]
}

#[test]
fn precedence_follows_the_documented_layout() {
    let request = (0..2).fold(get("a.com", "/a/b"), |made, number| {
        with_header(made, &format!("x-{number}"), "1")
    });
    for (name, stronger, weaker) in precedence_pairs() {
        let rules = [stronger.clone(), weaker.clone()];
        assert_eq!(winner(FLAVOR, &rules, &request), Some(0), "{name}");
        let rules = [weaker, stronger];
        assert_eq!(winner(FLAVOR, &rules, &request), Some(1), "{name}, reversed");
    }
}

#[test]
fn regex_and_prefix_of_one_route_have_their_own_priorities() {
    let rules = [with_paths(rule(1), &["~/never$", "/a"]), with_paths(rule(2), &["/a/b"])];
    assert_eq!(winner(FLAVOR, &rules, &get("h", "/a/b")), Some(1));
    assert_eq!(winner(FLAVOR, &rules, &get("h", "/never")), Some(0));
}

#[test]
fn the_matched_prefix_is_the_plain_path_or_the_matched_text() {
    let rules = [with_paths(rule(1), &["/a", "/abc", r"~/r/\d+"])];
    for (path, expected) in [("/abcd", 4), ("/ax", 2), ("/r/123/x", 6)] {
        let found = find(FLAVOR, &rules, &get("h", path));
        assert_eq!(
            found.and_then(|found| found.matched_prefix_len),
            Some(expected),
            "{path}"
        );
    }
    let found = find(FLAVOR, &[rule(1)], &get("h", "/a"));
    assert_eq!(found.map(|found| found.matched_prefix_len), Some(None));
}

#[test]
fn the_first_matching_regex_of_a_route_gives_the_captures() {
    let rules = [with_paths(rule(1), &["~/(x)", "~/(?<first>a+)(b)?", "~/(?P<second>a)"])];
    let found = find(FLAVOR, &rules, &get("h", "/aa/c"));
    let expected = Captures {
        unnamed: vec![Some(b"/aa".to_vec()), Some(b"aa".to_vec()), None],
        named: vec![("first".into(), Some(b"aa".to_vec()))],
    };
    assert_eq!(found.and_then(|found| found.captures), Some(expected));
}

#[test]
fn a_regex_without_groups_has_no_captures() {
    let found = find(FLAVOR, &[with_paths(rule(1), &["~/(?:a|b)"])], &get("h", "/a"));
    assert_eq!(found.map(|found| found.captures), Some(None));
}

#[test]
fn path_handling_v1_is_ignored() {
    let mut made = rule(1);
    made.path_handling = PathHandling::V1;
    let found = find(FLAVOR, &[made], &get("h", "/"));
    assert_eq!(found.map(|found| found.path_handling), Some(PathHandling::V0));
}

#[test]
fn a_path_that_is_not_utf8_matches_its_prefix() {
    let router = build(FLAVOR, &[with_paths(rule(1), &["/a"]), with_paths(rule(2), &["~/a/b"])]);
    let request = get("h", "/");
    let mut key = request.key();
    key.path = b"/a\xff/\xfe";
    assert_eq!(router.find(&key).map(|found| found.route), Some(0));
}
