//! Tests of the router as a whole; the helpers here build rules and requests.

mod changes;
mod compatible;
mod expressions;
mod faults;
mod model;
mod path;
mod scale;
mod traditional;

use std::net::{IpAddr, Ipv4Addr};

use super::{Flavor, HeaderLookup, RequestKey, RouteMatch, RouteRule, Router};

pub(super) const LISTENER_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// Headers as pairs; names are compared as the trait demands.
#[derive(Clone, Debug, Default)]
pub(super) struct Headers(pub(super) Vec<(String, String)>);

impl HeaderLookup for Headers {
    fn values(&self, name_lower_dashed: &str, visit: &mut dyn FnMut(&[u8]) -> bool) {
        for (name, value) in &self.0 {
            let is_same = name.to_ascii_lowercase().replace('_', "-") == name_lower_dashed;
            if is_same && !visit(value.as_bytes()) {
                return;
            }
        }
    }
}

/// A request that owns its parts.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) client: Option<(IpAddr, u16)>,
    pub(super) sni: Option<String>,
    pub(super) is_tls: bool,
    pub(super) listener_port: u16,
    pub(super) headers: Headers,
}

impl Request {
    pub(super) fn key(&self) -> RequestKey<'_> {
        RequestKey {
            method: &self.method,
            host: &self.host,
            path: self.path.as_bytes(),
            query: self.query.as_bytes(),
            client: self.client,
            listener_ip: Some(LISTENER_IP),
            sni: self.sni.as_deref(),
            is_tls: self.is_tls,
            listener_port: self.listener_port,
            headers: &self.headers,
        }
    }
}

/// A plain GET of `path` at `host` through port 8000.
pub(super) fn get(host: &str, path: &str) -> Request {
    Request {
        method: "GET".into(),
        host: host.into(),
        path: path.into(),
        query: String::new(),
        client: None,
        sni: None,
        is_tls: false,
        listener_port: 8000,
        headers: Headers::default(),
    }
}

/// The request with one more header.
pub(super) fn with_header(mut request: Request, name: &str, value: &str) -> Request {
    request.headers.0.push((name.into(), value.into()));
    request
}

/// The request over TLS.
pub(super) fn over_tls(mut request: Request, sni: Option<&str>) -> Request {
    request.is_tls = true;
    request.sni = sni.map(str::to_owned);
    request
}

/// A rule without attributes; `number` makes its id and age.
pub(super) fn rule(number: u32) -> RouteRule {
    RouteRule {
        id: format!("{number:08x}-0000-4000-8000-000000000000"),
        created_at: i64::from(number),
        strip_path: true,
        ..RouteRule::default()
    }
}

pub(super) fn texts(values: &[&str]) -> Vec<String> {
    values.iter().map(|&value| value.to_owned()).collect()
}

pub(super) fn with_hosts(mut rule: RouteRule, hosts: &[&str]) -> RouteRule {
    rule.hosts = Some(texts(hosts));
    rule
}

pub(super) fn with_paths(mut rule: RouteRule, paths: &[&str]) -> RouteRule {
    rule.paths = texts(paths);
    rule
}

pub(super) fn with_methods(mut rule: RouteRule, methods: &[&str]) -> RouteRule {
    rule.methods = texts(methods);
    rule
}

pub(super) fn with_snis(mut rule: RouteRule, snis: &[&str]) -> RouteRule {
    rule.snis = texts(snis);
    rule
}

pub(super) fn with_headers(mut rule: RouteRule, name: &str, values: &[&str]) -> RouteRule {
    rule.headers.push((name.into(), texts(values)));
    rule
}

pub(super) fn build(flavor: Flavor, rules: &[RouteRule]) -> Router {
    Router::build(flavor, rules).unwrap_or_else(|faults| panic!("rules are sound, but: {faults:?}"))
}

/// The match of one request among the rules.
pub(super) fn find(flavor: Flavor, rules: &[RouteRule], request: &Request) -> Option<RouteMatch> {
    build(flavor, rules).find(&request.key())
}

/// The position of the matched rule.
pub(super) fn winner(flavor: Flavor, rules: &[RouteRule], request: &Request) -> Option<usize> {
    find(flavor, rules, request).map(|found| found.route)
}
