//! Routes written as expressions, against the interpreter of the crate that defines the language.

use super::*;
use crate::router::{check_expression, AddressRule, Subsystem};
use atc_router::ast::Value;
use atc_router::context::{Context, Match};
use atc_router::interpreter::Execute;
use atc_router::parser::parse;
use atc_router::schema::Schema;
use proptest::prelude::*;
use proptest::sample::select;
use std::cmp::Reverse;

const FLAVOR: Flavor = Flavor::Expressions;

fn expressed(number: u32, priority: u64, expression: &str) -> RouteRule {
    RouteRule {
        expression: Some(expression.to_owned()),
        priority,
        protocols: texts(&["http", "https"]),
        ..rule(number)
    }
}

fn is_match(expression: &str, request: &Request) -> bool {
    winner(FLAVOR, &[expressed(1, 0, expression)], request).is_some()
}

fn with_query(mut request: Request, query: &str) -> Request {
    request.query = query.to_owned();
    request
}

#[test]
fn every_documented_field_is_read() {
    let mut request = over_tls(
        with_query(get("a.com:81", "/one/two/three/"), "q=1&empty&sp=a+b%21"),
        Some("s.com"),
    );
    request.client = Some((IpAddr::V4(Ipv4Addr::new(192, 168, 1, 7)), 4711));
    request = with_header(request, "X-Tenant", "Blue");
    for expression in [
        r#"net.protocol == "https""#,
        r#"tls.sni == "s.com""#,
        r#"http.method == "GET""#,
        r#"http.host == "a.com""#,
        r#"http.path ^= "/one""#,
        r#"http.path =^ "three/""#,
        r#"http.path contains "two""#,
        r##"http.path ~ r#"^/\w+/two"#"##,
        r#"http.path.segments.0 == "one""#,
        r#"http.path.segments.2 == "three""#,
        r#"http.path.segments.1_2 == "two/three""#,
        r#"http.path.segments.len == 3"#,
        r#"http.headers.x_tenant == "Blue""#,
        r#"lower(http.headers.x_tenant) == "blue""#,
        r#"http.queries.q == "1""#,
        r#"http.queries.empty == """#,
        r#"http.queries.sp == "a b!""#,
        "net.src.ip in 192.168.0.0/16",
        "net.src.ip == 192.168.1.7",
        "net.src.ip not in fd00::/8",
        "net.src.port > 4710 && net.src.port <= 4711",
        "net.dst.ip == 10.0.0.1",
        "net.dst.port == 81",
        "net.port == 0x51",
        r#"!(http.method == "POST")"#,
    ] {
        assert!(is_match(expression, &request), "{expression}");
    }
    for expression in [
        r#"http.path.segments.3 == """#,
        r#"http.path.segments.1_3 != "x""#,
        r#"http.headers.absent != "x""#,
        r#"http.queries.absent != "x""#,
        r#"tls.sni != "s.com""#,
        "net.src.ip in fd00::/8",
    ] {
        assert!(!is_match(expression, &request), "{expression}");
    }
}

#[test]
fn all_values_have_to_pass_unless_any_is_asked_for() {
    let request = with_header(with_header(get("h", "/"), "x-a", "1"), "X_A", "2");
    assert!(!is_match(r#"http.headers.x_a == "1""#, &request));
    assert!(is_match(r#"any(http.headers.x_a) == "1""#, &request));
    assert!(is_match(r#"http.headers.x_a != "3""#, &request));
}

#[test]
fn expressions_come_first_then_the_higher_priority_then_the_greater_id() {
    let attributes = with_hosts(with_paths(rule(9), &["/a"]), &["a.com"]);
    let rules = [
        attributes,
        expressed(1, 7, r#"http.path ^= "/""#),
        expressed(3, 7, r#"http.path ^= "/a""#),
        expressed(2, 7, r#"http.path ^= "/a""#),
        expressed(4, 6, r#"http.path == "/a""#),
    ];
    assert_eq!(winner(FLAVOR, &rules, &get("a.com", "/a")), Some(2));
    assert_eq!(winner(FLAVOR, &rules[..2], &get("a.com", "/a")), Some(1));
    assert_eq!(winner(FLAVOR, &rules[..1], &get("a.com", "/a")), Some(0));
}

#[test]
fn the_matched_path_and_the_captures_are_told() {
    let found = |expression: &str, path: &str| {
        let found = find(FLAVOR, &[expressed(1, 0, expression)], &get("h", path));
        found.map(|found| (found.matched_prefix_len, found.captures))
    };
    assert_eq!(found(r#"http.path ^= "/abc""#, "/abcdef"), Some((Some(4), None)));
    assert_eq!(found(r#"http.path == "/abc""#, "/abc"), Some((Some(4), None)));
    assert_eq!(found(r#"http.method == "GET""#, "/abc"), Some((None, None)));
    let (len, captures) = found(r##"http.path ~ r#"^/(?<id>\d+)/(x)?"#"##, "/12/y").unwrap();
    let captures = captures.unwrap();
    assert_eq!(len, Some(4));
    assert_eq!(captures.unnamed, [Some(b"/12/".to_vec()), Some(b"12".to_vec()), None]);
    assert_eq!(captures.named, [("id".to_owned(), Some(b"12".to_vec()))]);
}

#[test]
fn protocols_are_a_criterion_except_for_https_alone() {
    let mut only_http = with_paths(rule(1), &["/"]);
    only_http.protocols = texts(&["http"]);
    let mut only_https = only_http.clone();
    only_https.protocols = texts(&["https"]);
    let mut only_grpcs = only_http.clone();
    only_grpcs.protocols = texts(&["grpcs"]);
    let (plain, secure) = (get("h", "/"), over_tls(get("h", "/"), None));
    let is_found = |rule: &RouteRule, request| winner(FLAVOR, std::slice::from_ref(rule), request).is_some();
    assert_eq!(
        (is_found(&only_http, &plain), is_found(&only_http, &secure)),
        (true, false)
    );
    assert_eq!(
        (is_found(&only_https, &plain), is_found(&only_https, &secure)),
        (true, true)
    );
    assert_eq!(
        (is_found(&only_grpcs, &plain), is_found(&only_grpcs, &secure)),
        (false, true)
    );
}

#[test]
fn sources_and_destinations_of_routes_with_attributes_count() {
    let mut limited = with_paths(rule(1), &["/"]);
    let network = "10.1.0.0/16".parse().ok();
    limited.sources = vec![
        AddressRule { network, port: None },
        AddressRule {
            network: None,
            port: Some(5),
        },
    ];
    let mut request = get("h", "/");
    for (client, expected) in [([10, 1, 2, 3], true), ([10, 2, 2, 3], false)] {
        request.client = Some((IpAddr::from(client), 9));
        assert_eq!(winner(FLAVOR, &[limited.clone()], &request).is_some(), expected);
    }
    request.client = Some((IpAddr::from([10, 2, 2, 3]), 5));
    assert_eq!(winner(FLAVOR, &[limited], &request), Some(0));
}

#[test]
fn bytes_that_are_no_text_are_compared_as_bytes() {
    let router = build(
        FLAVOR,
        &[expressed(1, 0, r#"http.path ^= "/a" && !(http.path =^ "z")"#)],
    );
    let request = get("h", "");
    let path = b"/a\xff\xfe";
    let found = router.find(&RequestKey { path, ..request.key() });
    assert_eq!(found.and_then(|found| found.matched_prefix_len), Some(2));
}

#[test]
fn faults_of_an_expression_are_told_all_at_once() {
    let faults = |source: &str| check_expression(source, Subsystem::Http).err().unwrap_or_default();
    assert_eq!(faults(r#"http.path ^= "/a""#), Vec::<String>::new());
    assert_eq!(
        faults(r#"http.nothing == "x" && http.path == 1 && http.path.segments.2_1 == "x""#),
        [
            "Unknown LHS field",
            "Type mismatch between the LHS and RHS values of predicate",
            "illformed http.path.segments.* field",
        ]
    );
    assert!(
        faults("! a == 1")[0].contains("expected term"),
        "{:?}",
        faults("! a == 1")
    );
    assert!(faults(r#"http.path ~ "(""#)[0].contains("unclosed group"));
    assert!(faults(&format!("{}http.path == 1", "(".repeat(100)))[0].contains("64 levels"));
    assert!(faults(&"x".repeat(20_000))[0].contains("longer than 16384 bytes"));
    let stream = check_expression(r#"http.path == "/""#, Subsystem::Stream);
    assert_eq!(stream.err().unwrap_or_default(), ["Unknown LHS field"]);
    assert!(check_expression(r#"tls.sni =^ ".com" && net.dst.port == 9000"#, Subsystem::Stream).is_ok());
}

#[test]
fn the_longest_chain_that_is_allowed_does_not_exhaust_the_stack() {
    let term = "net.src.port==1||";
    let mut source = term.repeat(16_384 / term.len() - 1);
    source.push_str("net.src.port==2");
    let mut request = get("h", "/");
    request.client = Some((LISTENER_IP, 2));
    assert!(is_match(&source, &request));
}

#[test]
fn expressions_in_another_flavour_are_a_fault() {
    let faults = Router::build(Flavor::TraditionalCompatible, &[expressed(1, 0, r#"http.path == "/""#)]);
    assert_eq!(
        faults.err().map(|faults| faults[0].field.clone()),
        Some("expression".to_owned())
    );
}

// -- against the crate ------------------------------------------------------------------------------------------------

const PREDICATES: [&str; 34] = [
    r#"http.path ^= "/a""#,
    r#"http.path ^= "/""#,
    r#"http.path == "/a/b""#,
    r#"http.path == "/b""#,
    r#"http.path != "/a""#,
    r#"http.path =^ "b""#,
    r#"http.path contains "a/""#,
    r#"http.path ~ "^/a/\\d+""#,
    r#"http.path ~ "/(?<name>b|c)$""#,
    r#"http.path ~ "^/(a|b)/(.)""#,
    r#"lower(http.path) ^= "/a""#,
    r#"http.host == "a.com""#,
    r#"http.host == "b.com""#,
    r#"http.host =^ ".a.com""#,
    r#"http.host ^= "a.""#,
    r#"lower(http.host) == "a.com""#,
    r#"http.method == "GET""#,
    r#"http.method == "POST""#,
    r#"http.method != "PUT""#,
    r#"net.protocol == "https""#,
    r#"tls.sni == "a.com""#,
    r#"tls.sni ^= "a""#,
    "net.dst.port == 8080",
    "net.dst.port >= 443",
    "net.src.ip in 10.0.0.0/8",
    "net.src.ip not in 10.0.0.0/8",
    r#"http.headers.x_a == "1""#,
    r#"any(http.headers.x_a) == "1""#,
    r#"lower(http.headers.x_a) == "two""#,
    r#"any(lower(http.headers.x_a)) != "two""#,
    r#"any(http.headers.x_b) ~ "^(3+)""#,
    r#"http.queries.q == "1""#,
    r#"any(http.queries.q) == "2""#,
    r#"http.queries.z != "1""#,
];

fn any_expression() -> impl Strategy<Value = String> {
    let leaf = select(&PREDICATES[..]).prop_map(str::to_owned);
    leaf.prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            3 => (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left}) && ({right})")),
            3 => (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left}) || ({right})")),
            2 => prop::collection::vec(inner.clone(), 2..4).prop_map(|terms| format!("({})", terms.join(" && "))),
            1 => inner.prop_map(|inner| format!("!({inner})")),
        ]
    })
}

prop_compose! {
    fn any_request()(
        method in select(vec!["GET", "POST", "PUT"]),
        host in select(vec!["a.com", "b.com", "x.a.com", "A.com", "a.org:8080", "c.org", ""]),
        path in select(vec!["/", "/a", "/a/b", "/b", "/a/12/x", "/A/B", "/c", "/b/c", "/ab"]),
        query in select(vec!["", "q=1", "q=1&q=2", "z=2", "q"]),
        is_tls in any::<bool>(), sni in prop::option::of(select(vec!["a.com", "b.com"])),
        client in prop::option::of(select(vec![[10, 1, 1, 1], [11, 1, 1, 1]])),
        listener_port in select(vec![80_u16, 443, 8080]),
        headers in prop::collection::vec((select(vec!["x-a", "X-A", "x_b"]), select(vec!["1", "TWO", "two", "33"])), 0..3),
    ) -> Request {
        let mut request = get(host, path);
        request.method = method.to_owned();
        request.query = query.to_owned();
        request.client = client.map(|client| (IpAddr::from(client), 5));
        request.listener_port = listener_port;
        request.is_tls = is_tls;
        request.sni = sni.filter(|_| is_tls).map(str::to_owned);
        for (name, value) in headers {
            request = with_header(request, name, value);
        }
        request
    }
}

fn schema() -> Schema {
    use atc_router::ast::Type;
    let mut schema = Schema::default();
    for name in [
        "net.protocol",
        "tls.sni",
        "http.method",
        "http.host",
        "http.path",
        "http.headers.*",
        "http.queries.*",
    ] {
        schema.add_field(name, Type::String);
    }
    schema.add_field("net.dst.port", Type::Int);
    schema.add_field("net.src.ip", Type::IpAddr);
    schema
}

fn context<'a>(schema: &'a Schema, request: &Request) -> Context<'a> {
    let mut context = Context::new(schema);
    let mut add = |name: &str, value: &str| context.add_value(name, Value::String(value.to_owned()));
    add("net.protocol", ["http", "https"][usize::from(request.is_tls)]);
    add("http.method", &request.method);
    add("http.path", &request.path);
    let (host, port) = request.host.split_once(':').unwrap_or((&request.host, ""));
    add("http.host", host);
    if let Some(sni) = &request.sni {
        add("tls.sni", sni);
    }
    for (name, value) in &request.headers.0 {
        add(
            &format!("http.headers.{}", name.to_lowercase().replace('-', "_")),
            value,
        );
    }
    for pair in request.query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        add(&format!("http.queries.{name}"), value);
    }
    let port = port.parse().unwrap_or(request.listener_port);
    context.add_value("net.dst.port", Value::Int(i64::from(port)));
    if let Some((address, _)) = request.client {
        context.add_value("net.src.ip", Value::IpAddr(address));
    }
    context
}

/// The route, the length of what the path matched, and the captured texts by name.
type Seen = (usize, Option<usize>, Vec<(String, String)>);

/// What the crate finds, trying all expressions in order.
fn interpreted(rules: &[RouteRule], request: &Request) -> Option<Seen> {
    let schema = schema();
    let mut context = context(&schema, request);
    let mut order: Vec<usize> = (0..rules.len()).collect();
    order.sort_by_key(|&at| Reverse((rules[at].priority, rules[at].id.clone())));
    order.into_iter().find_map(|at| {
        let expression = parse(rules[at].expression.as_deref().unwrap()).unwrap();
        let mut found = Match::new();
        expression.execute(&mut context, &mut found).then(|| {
            let len = found.matches.get("http.path").map(|value| match value {
                Value::String(text) => text.len(),
                _ => 0,
            });
            let is_name = |name: &str| name.starts_with(|first: char| !first.is_ascii_digit());
            let mut named: Vec<_> = found.captures.into_iter().filter(|(name, _)| is_name(name)).collect();
            named.sort();
            (at, len, named)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_indexed_router_finds_what_the_crate_finds(
        sources in prop::collection::vec((any_expression(), 0_u64..4, any::<u32>()), 1..25),
        requests in prop::collection::vec(any_request(), 1..8),
    ) {
        let rules: Vec<RouteRule> = sources
            .iter()
            .map(|(source, priority, number)| expressed(*number, *priority, source))
            .collect();
        let router = build(FLAVOR, &rules);
        for request in &requests {
            let found = router.find(&request.key()).map(|found| {
                let mut named: Vec<_> = found
                    .captures
                    .unwrap_or_default()
                    .named
                    .into_iter()
                    .map(|(name, text)| (name, String::from_utf8(text.unwrap_or_default()).unwrap()))
                    .collect();
                named.sort();
                (found.route, found.matched_prefix_len, named)
            });
            let expected = interpreted(&rules, request)
                .map(|(route, len, named)| (route, len.map(|len| len.min(request.path.len())), named));
            let by_number = |found: &Option<Seen>| {
                found.as_ref().map(|(route, len, named)| (rules[*route].id.clone(), *len, named.clone()))
            };
            // Two rules of one id and priority cannot be told apart by the order.
            prop_assert_eq!(by_number(&found), by_number(&expected), "{:?}", request);
        }
    }
}
