//! From a routed stream to a connection: pick a target, connect, try again where that fails.
//!
//! Retries are for connecting only (balancing reference, section 3): once a byte may have left, nothing is repeated.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::Refusal;
use crate::exchange::Exchange;
use crate::gateway::Gateway;
use crate::live::{Live, LiveService};
use crate::tls::client::UpstreamTls;
use crate::upstream::balance::{Address, Lease, Outcome, RetryToken};
use crate::upstream::connect::{connect, ConnectErrorKind, UpstreamStream};
use crate::upstream::destination::{choose, destination, host_header, pool_key, service_of, Peer};
use crate::upstream::hash_input::Wishes;

/// A connection to an upstream and how long it may be silent.
pub struct Connected {
    /// The connection.
    pub stream: UpstreamStream,
    /// The larger of the read and the write timeout.
    pub idle: Duration,
    /// The hold on the address, when an upstream balances: it counts as active until the stream is over.
    pub lease: Option<Lease>,
}

/// Where the datagrams of a session go.
pub struct Found {
    /// The address.
    pub address: SocketAddr,
    /// The larger of the read and the write timeout.
    pub idle: Duration,
    /// The hold on the address, when an upstream balances.
    pub lease: Option<Lease>,
}

/// Connect a stream to its upstream.
///
/// # Errors
/// The route has no service, or every attempt failed.
///
/// # Cancel safety
/// Dropping the future closes the connection in use.
pub async fn open(gateway: &Gateway, exchange: &mut Exchange) -> Result<Connected, Refusal> {
    let live = exchange.live.clone();
    let service = service_of(&live, exchange).ok_or(Refusal::NoService)?;
    let (connect_timeout, idle) = timeouts(exchange, service);
    let retries = exchange.overrides.retries.unwrap_or(service.plan.retries);
    let mut tried: Vec<Arc<Address>> = Vec::new();
    let mut attempt = 0;
    let mut retry: Option<RetryToken> = None;
    loop {
        let mut peer = match next_peer(gateway, &live, exchange, service, &tried, connect_timeout).await {
            Err(Refusal::NoPeer) if attempt > 0 => return Err(Refusal::NoPeerForRetry),
            outcome => outcome?,
        };
        let lease = peer.lease.take();
        let failure = match once(gateway, &live, exchange, service, &peer, connect_timeout).await {
            Ok(stream) => {
                if let Some(lease) = &lease {
                    lease.measure();
                    lease.report(Outcome::Status(200));
                }
                return Ok(Connected { stream, idle, lease });
            }
            Err(failure) => failure,
        };
        let status = failure.answer().status;
        if let Some(last) = exchange.attempts.last_mut() {
            last.failure = Some(status);
        }
        let mut is_last = attempt >= retries;
        if let (false, Some(lease)) = (is_last, &lease) {
            // One retry at a time counts: that of this stream.
            drop(retry.take());
            retry = lease.balancer().retry();
            is_last = retry.is_none();
        }
        if let Some(lease) = lease {
            lease.report(match (is_last, status) {
                (true, status) => Outcome::Status(status),
                (false, 504) => Outcome::TimedOut,
                (false, _) => Outcome::Failed,
            });
            tried.push(lease.address().clone());
        }
        if is_last {
            return Err(failure);
        }
        attempt += 1;
        tracing::warn!(
            request_id = exchange.id_text(),
            "attempt {attempt} failed, trying again: {failure}"
        );
    }
}

/// Where datagrams of a session go, and how long it may be silent.
///
/// # Errors
/// The route has no service, or no target has an address.
pub async fn find(gateway: &Gateway, exchange: &mut Exchange) -> Result<Found, Refusal> {
    let live = exchange.live.clone();
    let service = service_of(&live, exchange).ok_or(Refusal::NoService)?;
    if asks_for_tls(exchange, service) {
        let cause = "a service of protocol tls cannot take datagrams".to_owned();
        let address = service.plan.host.clone();
        return Err(Refusal::UpstreamFailed { address, cause });
    }
    let (patience, idle) = timeouts(exchange, service);
    let peer = next_peer(gateway, &live, exchange, service, &[], patience).await?;
    Ok(Found {
        address: peer.address,
        idle,
        lease: peer.lease,
    })
}

fn timeouts(exchange: &Exchange, service: &LiveService) -> (Duration, Duration) {
    let plan = &service.plan;
    let (connect, write, read) = exchange.overrides.timeouts_ms.unwrap_or((
        plan.connect_timeout_ms,
        plan.write_timeout_ms,
        plan.read_timeout_ms,
    ));
    (Duration::from_millis(connect), Duration::from_millis(write.max(read)))
}

/// TLS towards the upstream: only for the protocol `tls`, unless a plugin switched it off.
fn asks_for_tls(exchange: &Exchange, service: &LiveService) -> bool {
    service.plan.protocol == "tls" && exchange.overrides.is_tls.unwrap_or(true)
}

async fn next_peer(
    gateway: &Gateway,
    live: &Live,
    exchange: &mut Exchange,
    service: &LiveService,
    tried: &[Arc<Address>],
    patience: Duration,
) -> Result<Peer, Refusal> {
    let started = Instant::now();
    let goal = destination(exchange, service);
    let wishes = match live.upstreams.get(goal.0) {
        Some(upstream) => Wishes::of(exchange, &upstream.plan),
        None => Wishes::default(),
    };
    let resolver = &gateway.upstreams.resolver;
    let peer = choose(resolver, live, goal, &wishes.wish(), tried, patience).await?;
    exchange.begin_attempt(started, peer.address);
    Ok(peer)
}

async fn once(
    gateway: &Gateway,
    live: &Live,
    exchange: &Exchange,
    service: &LiveService,
    peer: &Peer,
    timeout: Duration,
) -> Result<UpstreamStream, Refusal> {
    let failed = |cause: String| Refusal::UpstreamFailed {
        address: peer.address.to_string(),
        cause,
    };
    let mut secured = None;
    if asks_for_tls(exchange, service) {
        let tls = tls_of(gateway, live, exchange, service).map_err(failed)?;
        let name = server_name(live, exchange, service, peer);
        let (_, name) = pool_key(peer.address, Some(&tls), &name).map_err(failed)?;
        secured = name.map(|name| (tls.config.clone(), name));
    }
    connect(peer.address, secured, timeout)
        .await
        .map_err(|error| match error.kind {
            ConnectErrorKind::Timeout => Refusal::UpstreamTimeout {
                address: peer.address.to_string(),
                during: "connecting",
            },
            kind => failed(kind.to_string()),
        })
}

fn tls_of(
    gateway: &Gateway,
    live: &Live,
    exchange: &Exchange,
    service: &LiveService,
) -> Result<Arc<UpstreamTls>, String> {
    let base = service.tls.as_ref().unwrap_or(&live.default_client_tls);
    match &exchange.overrides.tls {
        None => Ok(base.clone()),
        Some(changes) => gateway
            .upstreams
            .client_tls
            .changed(base, changes)
            .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
    }
}

/// The name to ask the upstream for: the client's when the route preserves it, else the target's.
fn server_name(live: &Live, exchange: &Exchange, service: &LiveService, peer: &Peer) -> Vec<u8> {
    let route = exchange
        .matched
        .as_ref()
        .and_then(|matched| live.routes.get(matched.route));
    let asked_for = exchange
        .session
        .as_ref()
        .and_then(|session| session.server_name.as_ref());
    match asked_for {
        Some(name) if exchange.overrides.host.is_none() && route.is_some_and(|route| route.plan.preserve_host) => {
            name.clone().into_bytes()
        }
        _ => host_header(exchange, live, service, peer, true).into_owned(),
    }
}
