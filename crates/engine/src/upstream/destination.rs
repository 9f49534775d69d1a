//! Where a request goes: which peer, which Host, which URI, which connections may serve it.
//!
//! Reads the plan and what plugins set for the request; opens nothing. `attempt.rs` asks it for each attempt.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;

use crate::error::Refusal;
use crate::exchange::Exchange;
use crate::http::head::host_without_port;
use crate::live::{Live, LiveService};
use crate::router::path::{encode_for_upstream, upstream_path};
use crate::tls::client::UpstreamTls;
use crate::upstream::balance::{Address, Lease, Wish};
use crate::upstream::pool::PoolKey;
use crate::upstream::resolve::{Record, ResolveError, Resolver};

/// Where one attempt goes.
pub struct Peer {
    /// Host name or address as configured, without port.
    pub name: String,
    /// Port.
    pub port: u16,
    /// Where to connect.
    pub address: SocketAddr,
    /// The hold on the address, when an upstream balances. Keep it until nothing more comes from there.
    pub lease: Option<Lease>,
}

/// The service of the matched route.
#[must_use]
pub fn service_of<'live>(live: &'live Live, exchange: &Exchange) -> Option<&'live LiveService> {
    let route = live.routes.get(exchange.matched.as_ref()?.route)?;
    live.services.get(route.plan.service?)
}

/// Host and port that the request is for: as a plugin set them, else the service's.
#[must_use]
pub fn destination<'a>(exchange: &'a Exchange, service: &'a LiveService) -> (&'a str, u16) {
    match &exchange.overrides.target {
        Some((host, port)) => (host, port.unwrap_or(service.plan.port)),
        None => (&service.plan.host, service.plan.port),
    }
}

/// Choose where the next attempt for `host` goes, away from the addresses in `tried`: to an address of the upstream of
/// that name, else to one of the name's own. The same for HTTP and streams.
///
/// `patience`: how long to wait for a turn where the upstream limits its connections.
///
/// # Errors
/// No target may be used, the upstream is at its limit, or the name has no address.
///
/// # Cancel safety
/// Safe.
pub async fn choose(
    resolver: &Resolver,
    live: &Live,
    (host, port): (&str, u16),
    wish: &Wish<'_>,
    tried: &[Arc<Address>],
    patience: Duration,
) -> Result<Peer, Refusal> {
    if let Some(upstream) = live.upstreams.get(host) {
        let lease = upstream.balancer.choose(resolver, wish, tried, patience).await?;
        let address = lease.address();
        let name = match &address.srv_name {
            Some(name) if upstream.plan.use_srv_name => name,
            _ => &address.key.host,
        };
        return Ok(Peer {
            name: name.as_ref().to_owned(),
            port: address.key.port,
            address: address.socket_address(),
            lease: Some(lease),
        });
    }
    let record = resolve(resolver, host).await?;
    let port = record.port(port);
    Ok(Peer {
        name: host.to_owned(),
        port,
        address: SocketAddr::new(record.address, port),
        lease: None,
    })
}

async fn resolve(resolver: &Resolver, name: &str) -> Result<Record, Refusal> {
    if let Ok(address) = name.trim_start_matches('[').trim_end_matches(']').parse() {
        return Ok(Record::plain(address));
    }
    let found = match resolver.cached_next(name) {
        Some(found) => found,
        None => resolver.resolve_next(name).await,
    };
    found.map_err(|error| match error {
        ResolveError::NotFound => Refusal::NameNotFound { host: name.to_owned() },
        other => Refusal::NameLookup {
            host: name.to_owned(),
            cause: other.to_string(),
        },
    })
}

/// Host to send (routing reference, section 11).
#[must_use]
pub fn host_header<'a>(
    exchange: &'a Exchange,
    live: &'a Live,
    service: &'a LiveService,
    peer: &'a Peer,
    is_tls: bool,
) -> Cow<'a, [u8]> {
    if let Some(host) = &exchange.overrides.host {
        return Cow::Borrowed(host);
    }
    let preserves = exchange
        .matched
        .as_ref()
        .and_then(|matched| live.routes.get(matched.route))
        .is_some_and(|route| route.plan.preserve_host);
    if preserves {
        let authority = exchange.request.authority();
        if !authority.is_empty() {
            return Cow::Borrowed(authority);
        }
    }
    let upstream = live.upstreams.get(destination(exchange, service).0);
    let name = match upstream {
        Some(upstream) => upstream.plan.host_header.as_deref().unwrap_or(&peer.name),
        None => &peer.name,
    };
    let default_port = if is_tls { 443 } else { 80 };
    let is_bare_v6 = name.parse::<std::net::Ipv6Addr>().is_ok();
    let has_port = !is_bare_v6 && !name.ends_with(']') && name.contains(':');
    if peer.port == default_port || has_port {
        return if is_bare_v6 {
            Cow::Owned(format!("[{name}]").into_bytes())
        } else {
            Cow::Borrowed(name.as_bytes())
        };
    }
    let port = peer.port;
    Cow::Owned(
        if is_bare_v6 {
            format!("[{name}]:{port}")
        } else {
            format!("{name}:{port}")
        }
        .into_bytes(),
    )
}

/// What connections may be shared with, and the name to ask for and verify over TLS.
///
/// # Errors
/// The host is no valid TLS server name.
pub fn pool_key(
    address: SocketAddr,
    tls: Option<&Arc<UpstreamTls>>,
    host: &[u8],
) -> Result<(PoolKey, Option<ServerName<'static>>), String> {
    let Some(tls) = tls else {
        return Ok((PoolKey::plain(address), None));
    };
    let name = String::from_utf8_lossy(host_without_port(host))
        .trim_matches(['[', ']'])
        .to_owned();
    let server_name =
        ServerName::try_from(name.clone()).map_err(|_| format!("'{name}' is no valid TLS server name"))?;
    Ok((PoolKey::tls(address, Arc::from(name), tls.identity), Some(server_name)))
}

/// Path and query to send (routing reference, section 10).
#[must_use]
pub fn upstream_uri(exchange: &Exchange, service: &LiveService) -> Vec<u8> {
    let mut uri = match (&exchange.overrides.path, exchange.matched.as_ref()) {
        (Some(path), _) => path.clone(),
        (None, Some(matched)) => {
            let route = exchange.live.routes.get(matched.route);
            let strips = route.is_some_and(|route| route.plan.strip_path);
            let handling = route.map(|route| route.plan.path_handling).unwrap_or_default();
            let handling = exchange.live.router.flavor().effective_path_handling(handling);
            let base = service.plan.path.as_deref().map(str::as_bytes);
            let joined = upstream_path(base, &exchange.path, matched.prefix_bytes, strips, handling);
            encode_for_upstream(&joined).into_owned()
        }
        (None, None) => exchange.path.clone(),
    };
    if let Some(query) = exchange.query() {
        uri.push(b'?');
        uri.extend_from_slice(query);
    }
    uri
}
