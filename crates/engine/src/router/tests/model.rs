//! The router against a slow, obvious one: all routes sorted by the documented order and tried one
//! after the other with plain string operations.

use super::*;
use crate::router::compatible::split_id;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use regex::bytes::Regex;
use std::cmp::Reverse;

/// A route or a part of it, with the paths of that part.
struct Part<'a> {
    position: usize,
    rule: &'a RouteRule,
    paths: Vec<&'a str>,
    id: String,
}

fn is_regex(path: &str) -> bool {
    path.starts_with('~')
}

fn parts_by_group(position: usize, rule: &RouteRule) -> Vec<Part<'_>> {
    let group = |path: &&str| if is_regex(path) { 0 } else { path.len() };
    let mut paths: Vec<&str> = rule.paths.iter().map(String::as_str).collect();
    paths.sort_by_key(group);
    let mut groups: Vec<Vec<&str>> = Vec::new();
    for path in paths {
        match groups.last_mut() {
            Some(last) if group(&last[0]) == group(&path) => last.push(path),
            _ => groups.push(vec![path]),
        }
    }
    if groups.is_empty() {
        groups.push(Vec::new());
    }
    let count = groups.len();
    let named = |(index, paths)| Part {
        position,
        rule,
        paths,
        id: if count == 1 {
            rule.id.clone()
        } else {
            split_id(&rule.id, index + 1)
        },
    };
    groups.into_iter().enumerate().map(named).collect()
}

/// The documented 64-bit priority.
fn priority_bits(part: &Part<'_>) -> u64 {
    let rule = part.rule;
    let hosts = rule.hosts.clone().unwrap_or_default();
    let kinds = [
        rule.methods.is_empty(),
        hosts.is_empty(),
        rule.headers.is_empty(),
        rule.snis.is_empty(),
        rule.paths.is_empty(),
    ];
    let mut bits = (kinds.iter().filter(|&&is_empty| !is_empty).count() as u64) << 61;
    if rule.hosts.is_some() && !hosts.iter().any(|host| host.contains('*')) {
        bits |= 1 << 60;
    }
    bits |= (rule.headers.len() as u64) << 52;
    match part.paths.first() {
        Some(path) if is_regex(path) => bits |= 1 << 51 | (rule.regex_priority as u64) << 19,
        Some(path) => bits |= path.len() as u64,
        None => {}
    }
    bits
}

fn category(rule: &RouteRule) -> u8 {
    let hosts = rule.hosts.clone().unwrap_or_default();
    u8::from(!hosts.is_empty()) << 6
        | u8::from(!rule.headers.is_empty()) << 5
        | u8::from(!rule.paths.is_empty()) << 4
        | u8::from(!rule.methods.is_empty()) << 3
        | u8::from(!rule.snis.is_empty()) << 2
}

fn traditional_parts(position: usize, rule: &RouteRule) -> Vec<Part<'_>> {
    let part = |paths| Part {
        position,
        rule,
        paths,
        id: String::new(),
    };
    if rule.paths.is_empty() {
        return vec![part(Vec::new())];
    }
    rule.paths.iter().map(|path| part(vec![path.as_str()])).collect()
}

fn traditional_key(part: &Part<'_>) -> impl Ord {
    let rule = part.rule;
    let hosts = rule.hosts.clone().unwrap_or_default();
    let with_port = hosts.iter().any(|host| host.contains('*') && host.contains(':'));
    let plain = !hosts.is_empty() && !hosts.iter().any(|host| host.contains('*'));
    let regex = part.paths.iter().any(|path| is_regex(path));
    let weight = u8::from(with_port) * 4 + u8::from(plain) * 2 + u8::from(regex);
    let plain_len = part.paths.first().filter(|_| !regex).map_or(0, |path| path.len());
    (
        Reverse((category(rule).count_ones(), category(rule), weight, rule.headers.len())),
        Reverse((if regex { rule.regex_priority } else { 0 }, plain_len)),
        rule.created_at,
    )
}

fn name_and_port(host: &str) -> (&str, Option<u16>) {
    match host.split_once(':') {
        Some((name, port)) => (name, port.parse().ok()),
        None => (host, None),
    }
}

fn name_matches(flavor: Flavor, pattern: &str, name: &str) -> bool {
    let needs_text = usize::from(flavor == Flavor::Traditional);
    if let Some(suffix) = pattern.strip_prefix('*') {
        name.ends_with(suffix) && name.len() >= suffix.len() + needs_text
    } else if let Some(prefix) = pattern.strip_suffix('*') {
        name.starts_with(prefix) && name.len() >= prefix.len() + needs_text
    } else {
        name == pattern
    }
}

fn host_matches(flavor: Flavor, pattern: &str, request: &Request) -> bool {
    let (pattern, wanted_port) = name_and_port(pattern);
    let (name, port) = name_and_port(&request.host);
    let assumed = match flavor {
        Flavor::TraditionalCompatible | Flavor::Expressions => request.listener_port,
        Flavor::Traditional => [80, 443][usize::from(request.is_tls)],
    };
    name_matches(flavor, pattern, name) && wanted_port.is_none_or(|wanted| wanted == port.unwrap_or(assumed))
}

fn path_match_len(flavor: Flavor, pattern: &str, path: &str) -> Option<usize> {
    match pattern.strip_prefix('~') {
        None => path.starts_with(pattern).then_some(pattern.len()),
        Some(text) => {
            let anchored = match flavor {
                Flavor::TraditionalCompatible | Flavor::Expressions => format!("^{text}"),
                Flavor::Traditional => format!("^(?:{text})"),
            };
            let regex = Regex::new(&anchored).unwrap();
            regex.find(path.as_bytes()).map(|found| found.len())
        }
    }
}

fn header_matches(name: &str, accepted: &[String], request: &Request) -> bool {
    let plain = |name: &str| name.to_lowercase().replace('_', "-");
    let mut values = request
        .headers
        .0
        .iter()
        .filter(|(given, _)| plain(given) == plain(name));
    values.any(|(_, value)| {
        let value = value.to_lowercase();
        accepted.iter().any(|accepted| match accepted.strip_prefix("~*") {
            Some(pattern) => Regex::new(pattern).unwrap().is_match(value.as_bytes()),
            None => accepted.to_lowercase() == value,
        })
    })
}

fn sni_matches(rule: &RouteRule, request: &Request) -> bool {
    let accepted = |sni: &String| {
        let is_fit = |pattern: &String| name_matches(Flavor::TraditionalCompatible, pattern, sni);
        rule.snis.iter().any(is_fit)
    };
    rule.snis.is_empty() || !request.is_tls || request.sni.as_ref().is_some_and(accepted)
}

/// The length of the matched path, `Some(None)` for a match without path.
fn part_matches(flavor: Flavor, part: &Part<'_>, request: &Request) -> Option<Option<usize>> {
    let rule = part.rule;
    let hosts = rule.hosts.clone().unwrap_or_default();
    let fits = (rule.methods.is_empty() || rule.methods.contains(&request.method))
        && (hosts.is_empty() || hosts.iter().any(|host| host_matches(flavor, host, request)))
        && rule
            .headers
            .iter()
            .all(|(name, values)| header_matches(name, values, request))
        && sni_matches(rule, request);
    if !fits {
        None
    } else if part.paths.is_empty() {
        Some(None)
    } else {
        part.paths
            .iter()
            .find_map(|path| path_match_len(flavor, path, &request.path))
            .map(Some)
    }
}

/// Where a plain request starts in the `traditional` flavour.
fn start_category(rules: &[RouteRule], request: &Request) -> u8 {
    let flavor = Flavor::Traditional;
    let any = |test: &dyn Fn(&RouteRule) -> bool| u8::from(rules.iter().any(test));
    any(&|rule| {
        rule.hosts
            .iter()
            .flatten()
            .any(|host| host_matches(flavor, host, request))
    }) << 6
        | any(&|rule| {
            let is_sent = |(name, _): &(String, Vec<String>)| header_matches(name, &["~*".into()], request);
            rule.headers.iter().any(is_sent)
        }) << 5
        | any(&|rule| {
            rule.paths
                .iter()
                .any(|path| path_match_len(flavor, path, &request.path).is_some())
        }) << 4
        | any(&|rule| rule.methods.contains(&request.method)) << 3
}

fn scan(flavor: Flavor, rules: &[RouteRule], request: &Request) -> Option<(usize, Option<usize>)> {
    let numbered = rules.iter().enumerate();
    let mut parts: Vec<Part<'_>> = match flavor {
        Flavor::TraditionalCompatible | Flavor::Expressions => {
            numbered.flat_map(|(at, rule)| parts_by_group(at, rule)).collect()
        }
        Flavor::Traditional => numbered.flat_map(|(at, rule)| traditional_parts(at, rule)).collect(),
    };
    match flavor {
        Flavor::TraditionalCompatible | Flavor::Expressions => {
            parts.sort_by_key(|part| Reverse((priority_bits(part), part.id.clone())))
        }
        Flavor::Traditional => parts.sort_by_key(traditional_key),
    }
    let mut start = 0;
    if flavor == Flavor::Traditional && !request.is_tls {
        let wanted = start_category(rules, request);
        start = parts.iter().position(|part| category(part.rule) == wanted).unwrap_or(0);
    }
    parts[start..]
        .iter()
        .find_map(|part| part_matches(flavor, part, request).map(|len| (part.position, len)))
}

const HOSTS: [&str; 9] = [
    "a.com",
    "b.com",
    "x.a.com",
    "*.com",
    "*.a.com",
    "a.*",
    "a.com:8080",
    "*.com:8080",
    "a.*:80",
];
const PATHS: [&str; 26] = [
    "~/[^/]+/b",
    "~/[^/]*/b/c",
    r"~/\w+/1",
    "~/[^/]/(x|1)",
    "~/(.)/(b)(/c)?",
    "~/.*b.*c",
    "~/[a-z]?/?x",
    "~/(?:[^/]+/)+c",
    "/",
    "/a",
    "/ab",
    "/a/b",
    "/b",
    "/a/1",
    "/a/b/c",
    "~/a",
    r"~/a/\d+",
    "~/(?<name>a|b)/x",
    "~/a|/b",
    "~.*x$",
    "~/(a|b)?c",
    "~(?i)/A/B",
    "~/a(/b)?(/c)?$",
    "~/[ab]/",
    "~(?m)/a$",
    "~/$",
];
const METHODS: [&str; 3] = ["GET", "POST", "PUT"];
const VALUES: [&str; 5] = ["1", "Two", "~*^3", "4", "~*o$"];
const SNIS: [&str; 5] = ["a.com", "b.com", "*.com", "a.*", "x.a.com"];

fn some_of(values: &'static [&'static str], max: usize) -> BoxedStrategy<Vec<String>> {
    prop_oneof![
        2 => Just(Vec::new()),
        3 => subsequence(values, 1..=max).prop_map(|chosen| texts(&chosen)),
    ]
    .boxed()
}

fn headers() -> impl Strategy<Value = Vec<(String, Vec<String>)>> {
    let one = |name: &'static str| {
        prop::option::weighted(0.3, subsequence(&VALUES[..], 1..=2))
            .prop_map(move |values| values.map(|values| (name.to_owned(), texts(&values))))
    };
    (one("X_A"), one("x-b")).prop_map(|(first, second)| first.into_iter().chain(second).collect())
}

prop_compose! {
    pub(super) fn any_rule()(
        id in any::<u128>(), methods in some_of(&METHODS, 2), hosts in some_of(&HOSTS, 2), is_empty in any::<bool>(),
        paths in some_of(&PATHS, 4), headers in headers(), snis in some_of(&SNIS, 2), regex_priority in 0_i64..3,
    ) -> RouteRule {
        let hosts = if hosts.is_empty() && !is_empty { None } else { Some(hosts) };
        let id = format!("{id:032x}");
        RouteRule { id, methods, hosts, paths, headers, snis, regex_priority, ..RouteRule::default() }
    }
}

pub(super) fn rules() -> impl Strategy<Value = Vec<RouteRule>> {
    // Half of the sets share host and path, so that they grow large enough to be divided.
    (prop::collection::vec(any_rule(), 0..40), any::<bool>()).prop_map(|(mut rules, is_crowded)| {
        for (age, rule) in rules.iter_mut().enumerate() {
            rule.created_at = age as i64;
            if is_crowded {
                rule.hosts = None;
                rule.paths = texts(&["/a"]);
            }
        }
        rules
    })
}

prop_compose! {
    pub(super) fn any_request()(
        method in select(&METHODS[..]),
        host in select(vec!["a.com", "b.com", "x.a.com", "c.org", "a.org:80", "a.com:8080", ".com", "x.com:8080", ""]),
        path in select(vec!["/", "/a", "/abx", "/a/b", "/a/1/x", "/b/x", "/c", "/bc", "/a/b/c", "/ac", "/z", "/A/b"]),
        sni in prop::option::of(select(vec!["a.com", "x.a.com", "b.org", "a.net"])), is_tls in any::<bool>(),
        listener_port in select(vec![80_u16, 8080, 443]),
        headers in prop::collection::vec((select(vec!["x-a", "X-B", "x_b"]), select(vec!["1", "TWO", "33", "4"])), 0..4),
    ) -> Request {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Request {
            method: method.into(), host: host.into(), path: path.into(), query: String::new(), client: None, sni: sni.map(str::to_owned), is_tls,
            listener_port, headers: Headers(headers.into_iter().map(owned).collect()),
        }
    }
}

fn check(flavor: Flavor, rules: &[RouteRule], requests: &[Request]) -> Result<(), TestCaseError> {
    let router = build(flavor, rules);
    for request in requests {
        let found = router
            .find(&request.key())
            .map(|found| (found.route, found.matched_prefix_len));
        prop_assert_eq!(found, scan(flavor, rules, request), "{:?}", request);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn compatible_finds_what_a_scan_in_order_finds(
        rules in rules(), requests in prop::collection::vec(any_request(), 1..12),
    ) {
        check(Flavor::TraditionalCompatible, &rules, &requests)?;
    }

    #[test]
    fn traditional_finds_what_a_scan_in_order_finds(
        mut rules in rules(), requests in prop::collection::vec(any_request(), 1..12),
    ) {
        // There a regular expression among several values is plain text: covered by its own test.
        for values in rules.iter_mut().flat_map(|rule| rule.headers.iter_mut()) {
            values.1.truncate(1);
        }
        check(Flavor::Traditional, &rules, &requests)?;
    }
}
