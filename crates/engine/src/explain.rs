//! Which route a described request would take, asked of the same router that serves.
//!
//! For `headgate explain`: no sockets, no settings, only the plan. Nothing here runs while serving.

use std::net::IpAddr;

use serde::Deserialize;

use crate::http::headers::HeaderBlock;
use crate::live::rule_of;
use crate::pipeline::Lookup;
use crate::plan::Plan;
use crate::router::path::{encode_for_upstream, normalize, split_target, upstream_path};
use crate::router::{Captures, RequestKey, Router};

/// A request as somebody describes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DescribedRequest {
    /// Method, upper case.
    pub method: String,
    /// Host header, with port if any.
    pub host: String,
    /// Request target: path with query.
    pub target: String,
    /// Header fields.
    pub headers: Vec<(String, String)>,
    /// TLS server name.
    pub sni: Option<String>,
    /// The connection is encrypted.
    pub is_tls: bool,
    /// Client address, when it matters.
    #[serde(default)]
    pub client: Option<IpAddr>,
    /// Port of the listener.
    pub port: u16,
}

/// What the router says.
#[derive(Debug)]
pub struct Explained {
    /// Position of the matched route in the plan.
    pub route: Option<usize>,
    /// Path as it is matched.
    pub normalized_path: Vec<u8>,
    /// Text that the route's path matched.
    pub matched_prefix: Option<Vec<u8>>,
    /// Captures of a regex path.
    pub captures: Option<Captures>,
    /// Path that the upstream would get.
    pub upstream_path: Option<Vec<u8>>,
}

/// Find the route of a described request in a plan.
///
/// # Errors
/// The plan or the description cannot be read, or the plan's routes cannot be compiled; all faults at once.
pub fn explain(plan: &[u8], request: &[u8]) -> Result<Explained, Vec<String>> {
    let plan: Plan = serde_json::from_slice(plan).map_err(|error| vec![format!("plan: {error}")])?;
    let request: DescribedRequest =
        serde_json::from_slice(request).map_err(|error| vec![format!("request: {error}")])?;
    let rules: Vec<_> = plan
        .routes
        .iter()
        .take_while(|route| !route.is_stream())
        .map(rule_of)
        .collect();
    let router = Router::build(plan.router_flavor, &rules).map_err(|faults| {
        faults
            .iter()
            .map(|fault| format!("{}: {}", fault.field, fault.message))
            .collect::<Vec<_>>()
    })?;
    let mut headers = HeaderBlock::new();
    for (name, value) in &request.headers {
        headers.add(name.as_bytes(), value.as_bytes());
    }
    let path = normalize(split_target(request.target.as_bytes()).path).into_owned();
    let found = router.find(&RequestKey {
        method: &request.method,
        host: &request.host,
        path: &path,
        query: split_target(request.target.as_bytes()).query.unwrap_or_default(),
        client: request.client.map(|ip| (ip, 0)),
        listener_ip: None,
        sni: request.sni.as_deref(),
        is_tls: request.is_tls,
        listener_port: request.port,
        headers: &Lookup(&headers),
    });
    let Some(found) = found else {
        return Ok(Explained {
            route: None,
            normalized_path: path,
            matched_prefix: None,
            captures: None,
            upstream_path: None,
        });
    };
    let service = plan
        .routes
        .get(found.route)
        .and_then(|route| plan.services.get(route.service?));
    let sent = service.map(|service| {
        let base = service.path.as_deref().map(str::as_bytes);
        let joined = upstream_path(
            base,
            &path,
            found.matched_prefix_len,
            found.strip_path,
            found.path_handling,
        );
        encode_for_upstream(&joined).into_owned()
    });
    Ok(Explained {
        route: Some(found.route),
        matched_prefix: found
            .matched_prefix_len
            .and_then(|length| path.get(..length))
            .map(<[u8]>::to_vec),
        captures: found.captures,
        upstream_path: sent,
        normalized_path: path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_described_request_finds_its_route() {
        let plan = br#"{"revision": 1, "services": [{"id": "s", "protocol": "http", "host": "h", "port": 80, "path": "/base"}],
            "routes": [{"id": "r", "protocols": ["http"], "paths": ["/a"], "service": 0}]}"#;
        let request = |target: &str| {
            format!(
                r#"{{"method": "GET", "host": "x", "target": "{target}", "headers": [], "sni": null, "is_tls": false, "port": 80}}"#
            )
        };
        let explained = explain(plan, request("/a/b?q").as_bytes()).unwrap();
        assert_eq!(explained.route, Some(0));
        assert_eq!(explained.matched_prefix.as_deref(), Some(&b"/a"[..]));
        assert_eq!(explained.upstream_path.as_deref(), Some(&b"/base/b"[..]));
        assert_eq!(explain(plan, request("/z").as_bytes()).unwrap().route, None);
    }
}
