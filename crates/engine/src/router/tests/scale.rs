//! Lookups do not slow down with the number of routes. The figures are printed by
//! `cargo test --release -- --ignored --nocapture lookups`.

use super::*;
use std::hint::black_box;
use std::time::Instant;

const ROUTES: u32 = 10_000;
const LOOKUPS: u32 = 200_000;

fn base() -> RouteRule {
    with_paths(rule(0), &["/api"])
}

/// Shape, the rule and the request of the route with this number.
type Shape = (&'static str, fn(u32) -> RouteRule, fn(u32) -> Request);

fn numbered(number: u32, mut made: RouteRule) -> RouteRule {
    made.id = rule(number).id;
    made.created_at = i64::from(number);
    made
}

const METHODS: [&str; 5] = ["DELETE", "GET", "PATCH", "POST", "PUT"];

fn shapes() -> [Shape; 10] {
    [
        (
            "host",
            |number| numbered(number, with_hosts(base(), &[&format!("h{number}.example.com")])),
            |number| get(&format!("h{number}.example.com"), "/api/users/17"),
        ),
        (
            "wildcard host",
            |number| numbered(number, with_hosts(base(), &[&format!("*.h{number}.example.com")])),
            |number| get(&format!("x.h{number}.example.com"), "/api/users/17"),
        ),
        (
            "path",
            |number| numbered(number, with_paths(rule(0), &[&format!("/api/v1/item{number}/detail")])),
            |number| get("example.com", &format!("/api/v1/item{number}/detail/17")),
        ),
        (
            "header value",
            |number| numbered(number, with_headers(base(), "x-tenant", &[&format!("tenant-{number}")])),
            |number| {
                with_header(
                    get("example.com", "/api/users/17"),
                    "X-Tenant",
                    &format!("Tenant-{number}"),
                )
            },
        ),
        (
            "method and path",
            |number| {
                let made = with_paths(rule(0), &[&format!("/api/item{}", number / 5)]);
                numbered(number, with_methods(made, &[METHODS[number as usize % 5]]))
            },
            |number| {
                let mut made = get("example.com", &format!("/api/item{}", number / 5));
                made.method = METHODS[number as usize % 5].into();
                made
            },
        ),
        (
            "server name",
            |number| numbered(number, with_snis(base(), &[&format!("h{number}.example.com")])),
            |number| {
                over_tls(
                    get("example.com", "/api/users/17"),
                    Some(&format!("h{number}.example.com")),
                )
            },
        ),
        (
            "regex path, own prefix",
            |number| {
                numbered(
                    number,
                    with_paths(rule(0), &[&format!(r"~/api/item{number}/(?<id>\d+)$")]),
                )
            },
            |number| get("example.com", &format!("/api/item{number}/17")),
        ),
        (
            "regex path, shared prefix",
            |number| numbered(number, with_paths(rule(0), &[&format!("~/users/[^/]+/item{number}$")])),
            |number| get("example.com", &format!("/users/someone/item{number}")),
        ),
        (
            "same regex, host",
            |number| {
                let made = with_paths(rule(0), &[r"~/api/\d+/users$"]);
                numbered(number, with_hosts(made, &[&format!("h{number}.example.com")]))
            },
            |number| get(&format!("h{number}.example.com"), "/api/17/users"),
        ),
        (
            "no match",
            |number| numbered(number, with_paths(rule(0), &[&format!("/api/v1/item{number}/detail")])),
            |_| get("example.com", "/api/v1/other/detail/17"),
        ),
    ]
}

#[test]
fn each_of_many_routes_is_found() {
    const FEW: u32 = 300;
    for flavor in [Flavor::TraditionalCompatible, Flavor::Traditional] {
        for (name, make_rule, make_request) in shapes() {
            let rules: Vec<_> = (0..FEW).map(make_rule).collect();
            let router = build(flavor, &rules);
            for number in 0..FEW {
                let found = router.find(&make_request(number).key()).map(|found| found.route);
                let expected = (name != "no match").then_some(number as usize);
                assert_eq!(found, expected, "{name} {number} {flavor:?}");
            }
        }
    }
}

fn expressed(number: u32, expression: String) -> RouteRule {
    let expression = Some(expression);
    numbered(number, RouteRule { expression, ..base() })
}

/// The same with expressions; the last shape has nothing that an index could use.
fn expression_shapes() -> [Shape; 4] {
    [
        (
            "host and path",
            |number| {
                let host = format!("h{number}.example.com");
                expressed(number, format!(r#"http.host == "{host}" && http.path ^= "/api""#))
            },
            |number| get(&format!("h{number}.example.com"), "/api/users/17"),
        ),
        (
            "regex path, own prefix",
            |number| expressed(number, format!(r##"http.path ~ r#"^/api/item{number}/\d+$"#"##)),
            |number| get("example.com", &format!("/api/item{number}/17")),
        ),
        (
            "header value",
            |number| {
                let header = format!(r#"any(lower(http.headers.x_tenant)) == "tenant-{number}""#);
                expressed(number, format!(r#"http.path ^= "/api" && {header}"#))
            },
            |number| {
                with_header(
                    get("example.com", "/api/users/17"),
                    "X-Tenant",
                    &format!("Tenant-{number}"),
                )
            },
        ),
        (
            "end of the path",
            |number| expressed(number, format!(r#"http.path =^ "/item{number}""#)),
            |number| get("example.com", &format!("/api/item{number}")),
        ),
    ]
}

#[test]
fn each_of_many_expressions_is_found() {
    const FEW: u32 = 300;
    for (name, make_rule, make_request) in expression_shapes() {
        let rules: Vec<_> = (0..FEW).map(make_rule).collect();
        let router = build(Flavor::Expressions, &rules);
        for number in 0..FEW {
            let found = router.find(&make_request(number).key()).map(|found| found.route);
            assert_eq!(found, Some(number as usize), "{name} {number}");
        }
    }
}

#[test]
#[ignore = "prints timings; meaningful in release mode only"]
fn lookups_of_ten_thousand_routes() {
    let shapes = [
        (Flavor::TraditionalCompatible, shapes().to_vec()),
        (Flavor::Traditional, shapes().to_vec()),
        (Flavor::Expressions, expression_shapes().to_vec()),
    ];
    for (flavor, shapes) in shapes {
        for (name, make_rule, make_request) in shapes {
            let rules: Vec<_> = (0..ROUTES).map(make_rule).collect();
            let building = Instant::now();
            let router = build(flavor, &rules);
            let build_ms = building.elapsed().as_millis();
            let requests: Vec<_> = (0..ROUTES).step_by(7).map(make_request).collect();
            let looking = Instant::now();
            for request in requests.iter().cycle().take(LOOKUPS as usize) {
                black_box(router.find(black_box(&request.key())));
            }
            let lookup_ns = looking.elapsed().as_nanos() / u128::from(LOOKUPS);
            println!("{flavor:?}, {ROUTES} routes by {name}: build {build_ms} ms, lookup {lookup_ns} ns");
        }
    }
}
