//! Which route a described request or stream would take, asked of the same routers that serve.
//!
//! For `headgate explain`: no sockets, no settings, only the plan. Nothing here runs while serving.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::Deserialize;

use crate::http::headers::HeaderBlock;
use crate::live::{rule_of, stream_rule_of};
use crate::pipeline::Lookup;
use crate::plan::Plan;
use crate::router::path::{encode_for_upstream, normalize, split_target, upstream_path};
use crate::router::stream::{StreamKey, StreamRouter, StreamTransport};
use crate::router::{Captures, RequestKey, Router, RouterFault};

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
    /// The client.
    pub source: DescribedAddress,
    /// What was connected to, its port after `port_maps`.
    pub destination: DescribedAddress,
}

/// A stream as somebody describes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DescribedStream {
    /// What the client speaks.
    pub transport: DescribedTransport,
    /// TLS server name.
    pub sni: Option<String>,
    /// The client.
    pub source: DescribedAddress,
    /// What was connected to, its port after `port_maps`.
    pub destination: DescribedAddress,
}

/// What a described stream's client speaks.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DescribedTransport {
    /// Plain bytes.
    Tcp,
    /// TLS, wherever it ends.
    Tls,
    /// Datagrams.
    Udp,
}

/// One end of a described connection; what nobody said fits no route that asks for it.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DescribedAddress {
    /// Address.
    pub ip: Option<IpAddr>,
    /// Port.
    pub port: Option<u16>,
}

impl DescribedAddress {
    /// As a stream has it, which always knows both its ends: an unknown address is the unspecified one.
    fn known(self) -> SocketAddr {
        let ip = self.ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        SocketAddr::new(ip, self.port.unwrap_or(0))
    }
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
    let plan = read_plan(plan)?;
    let request: DescribedRequest =
        serde_json::from_slice(request).map_err(|error| vec![format!("request: {error}")])?;
    let rules: Vec<_> = plan
        .routes
        .iter()
        .take_while(|route| !route.is_stream())
        .map(rule_of)
        .collect();
    let router = Router::build(plan.router_flavor, &rules).map_err(|faults| texts_of(&faults))?;
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
        client: request.source.ip.map(|ip| (ip, request.source.port.unwrap_or(0))),
        listener_ip: request.destination.ip,
        sni: request.sni.as_deref(),
        is_tls: request.is_tls,
        listener_port: request.destination.port.unwrap_or(0),
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

/// Find the route of a described stream in a plan: its position there.
///
/// # Errors
/// The plan or the description cannot be read, or the plan's routes cannot be compiled; all faults at once.
pub fn explain_stream(plan: &[u8], stream: &[u8]) -> Result<Option<usize>, Vec<String>> {
    let plan = read_plan(plan)?;
    let stream: DescribedStream = serde_json::from_slice(stream).map_err(|error| vec![format!("stream: {error}")])?;
    let first = plan.routes.iter().take_while(|route| !route.is_stream()).count();
    let rules: Vec<_> = plan.routes.iter().skip(first).map(stream_rule_of).collect();
    let router = StreamRouter::build(plan.router_flavor, &rules).map_err(|faults| texts_of(&faults))?;
    let found = router.find(&StreamKey {
        transport: match stream.transport {
            DescribedTransport::Tcp => StreamTransport::Tcp,
            DescribedTransport::Tls => StreamTransport::Tls,
            DescribedTransport::Udp => StreamTransport::Udp,
        },
        source: stream.source.known(),
        destination: stream.destination.known(),
        server_name: stream.sni.as_deref(),
    });
    Ok(found.map(|route| first + route))
}

fn read_plan(plan: &[u8]) -> Result<Plan, Vec<String>> {
    serde_json::from_slice(plan).map_err(|error| vec![format!("plan: {error}")])
}

fn texts_of(faults: &[RouterFault]) -> Vec<String> {
    let text = |fault: &RouterFault| format!("{}: {}", fault.field, fault.message);
    faults.iter().map(text).collect()
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
                r#"{{"method": "GET", "host": "x", "target": "{target}", "headers": [], "sni": null, "is_tls": false,
                    "source": {{"ip": null, "port": null}}, "destination": {{"ip": null, "port": 80}}}}"#
            )
        };
        let explained = explain(plan, request("/a/b?q").as_bytes()).unwrap();
        assert_eq!(explained.route, Some(0));
        assert_eq!(explained.matched_prefix.as_deref(), Some(&b"/a"[..]));
        assert_eq!(explained.upstream_path.as_deref(), Some(&b"/base/b"[..]));
        assert_eq!(explain(plan, request("/z").as_bytes()).unwrap().route, None);
    }

    #[test]
    fn the_described_stream_finds_its_route_behind_those_of_http() {
        let plan = br#"{"revision": 1, "services": [], "routes": [
            {"id": "h", "protocols": ["http"], "paths": ["/"]},
            {"id": "a", "protocols": ["tcp"], "sources": [{"ip": "10.0.0.0/8"}]},
            {"id": "b", "protocols": ["tls_passthrough"], "snis": ["b.test"]}]}"#;
        let find = |transport: &str, sni: &str, source: &str| {
            let stream = format!(
                r#"{{"transport": "{transport}", "sni": {sni}, "source": {{"ip": {source}, "port": null}},
                    "destination": {{"ip": null, "port": 9000}}}}"#
            );
            explain_stream(plan, stream.as_bytes()).unwrap()
        };
        assert_eq!(find("tcp", "null", r#""10.1.1.1""#), Some(1));
        assert_eq!(find("tcp", "null", "null"), None);
        assert_eq!(find("tls", r#""b.test""#, "null"), Some(2));
        assert_eq!(find("udp", "null", r#""10.1.1.1""#), None);
    }
}
