//! From a routed request to a response head: pick a target, connect, send, wait, and try again where that is allowed.
//!
//! The only place that decides about retries. Rules (balancing reference, section 3): connection failures are retried for
//! every method; once bytes of the request left, POST, LOCK and PATCH are not; never after a byte of a response; never when
//! a body is gone that was not kept.

use std::fmt::Display;
use std::future::{poll_fn, Future};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;

use crate::error::Refusal;
use crate::exchange::Exchange;
use crate::gateway::Gateway;
use crate::http::client::{ClientFault, ClientStream};
use crate::http::forward::{forward_fields, queue_request_head};
use crate::http::h1::parse::Framing;
use crate::http::head::{Method, ResponseHead};
use crate::live::{Live, LiveService};
use crate::settings::EngineSettings;
use crate::tls::client::ClientTls;
use crate::upstream::balance::{Address, Lease, Outcome, RetryToken};
use crate::upstream::body_pump::{BodyPump, PumpFault};
use crate::upstream::connect::{connect, ConnectErrorKind, UpstreamStream};
use crate::upstream::connection::{TalkFault, UpstreamConnection};
use crate::upstream::destination::{choose, destination, host_header, pool_key, service_of, upstream_uri, Peer};
use crate::upstream::hash_input::Wishes;
use crate::upstream::http2::{Http2Connections, Http2Request};
use crate::upstream::link::Link;
use crate::upstream::pool::{Pool, PoolKey};
use crate::upstream::resolve::Resolver;

/// Connections and names towards upstreams, one per engine.
pub struct Upstreams {
    /// Idle connections.
    pub pool: Pool<Box<UpstreamConnection>>,
    /// Shared HTTP/2 connections.
    pub http2: Http2Connections,
    /// Names to addresses.
    pub resolver: Resolver,
    /// TLS configurations that plugins ask for.
    pub client_tls: Arc<ClientTls>,
}

/// A response head has come.
pub struct Reached {
    /// The connection it came on; the body follows.
    pub link: Link,
    /// Where the connection belongs afterwards.
    pub key: PoolKey,
    /// What is still to be sent of the request body.
    pub pump: BodyPump,
    /// The head.
    pub head: ResponseHead,
    /// Time between two reads.
    pub read_timeout: Duration,
    /// Time between two writes.
    pub write_timeout: Duration,
    /// The hold on the address: it counts as active until the response is over.
    pub lease: Option<Lease>,
    /// The hold on the upstream's budget of retries, when this is one.
    pub retry: Option<RetryToken>,
}

/// No response head came.
#[derive(Debug)]
pub enum Ended {
    /// The client is told so.
    Refused(Refusal),
    /// Nobody is there to be told.
    ClientGone,
}

struct Timeouts {
    connect: Duration,
    write: Duration,
    read: Duration,
}

/// Reach the upstream of a routed request.
///
/// # Errors
/// All attempts failed, or the client left.
///
/// # Cancel safety
/// Dropping the future closes the connection in use.
pub async fn reach<C: ClientStream>(
    gateway: &Gateway,
    exchange: &mut Exchange,
    client: &mut C,
) -> Result<Reached, Ended> {
    let live = exchange.live.clone();
    let Some(service) = service_of(&live, exchange) else {
        return Err(Ended::Refused(Refusal::NoService));
    };
    exchange.upstream_uri = upstream_uri(exchange, service);
    let timeouts = timeouts_of(exchange, service);
    let retries = exchange.overrides.retries.unwrap_or(service.plan.retries);
    let mut tried: Vec<Arc<Address>> = Vec::new();
    let mut attempt = 0;
    let mut retry: Option<RetryToken> = None;
    let mut wishes = match live.upstreams.get(destination(exchange, service).0) {
        Some(upstream) => Wishes::of(exchange, &upstream.plan),
        None => Wishes::default(),
    };
    loop {
        let started = Instant::now();
        let resolver = &gateway.upstreams.resolver;
        let goal = destination(exchange, service);
        let mut peer = match choose(resolver, &live, goal, &wishes.wish(), &tried, timeouts.connect).await {
            Ok(peer) => peer,
            Err(Refusal::NoPeer) if attempt > 0 => return Err(Ended::Refused(Refusal::NoPeerForRetry)),
            Err(refusal) => return Err(Ended::Refused(refusal)),
        };
        exchange.begin_attempt(started, peer.address);
        let failure = match once(gateway, &live, exchange, client, service, &peer, &timeouts).await {
            Ok(mut reached) => {
                if let Some(lease) = peer.lease.take() {
                    lease.measure();
                    lease.report(Outcome::Status(reached.head.status));
                    if let Some(upstream) = live.upstreams.get(destination(exchange, service).0) {
                        wishes.stick(&upstream.plan, &lease);
                    }
                    reached.lease = Some(lease);
                }
                if let Some(cookie) = &wishes.set_cookie {
                    exchange.response.headers.add(b"Set-Cookie", cookie.as_bytes());
                }
                reached.retry = retry;
                return Ok(reached);
            }
            Err(failure) => failure,
        };
        let Failure {
            refusal,
            may_retry,
            status,
            is_stale,
        } = match failure {
            OnceFailed::Ended(ended) => return Err(ended),
            OnceFailed::Upstream(failure) => failure,
        };
        if is_stale {
            // The upstream closed an idle connection as we used it: not an attempt, a fresh connection decides.
            exchange.attempts.pop();
            continue;
        }
        if let Some(last) = exchange.attempts.last_mut() {
            last.failure = Some(status);
        }
        exchange.upstream_statuses.push(status);
        let mut is_last = !may_retry || attempt >= retries;
        if let (false, Some(lease)) = (is_last, &peer.lease) {
            // One retry at a time counts: that of this request.
            drop(retry.take());
            retry = lease.balancer().retry();
            if retry.is_none() {
                is_last = true;
                tracing::warn!(
                    request_id = exchange.id_text(),
                    "no retry: the budget of retries is used up"
                );
            }
        }
        if let Some(lease) = peer.lease.take() {
            lease.report(match (is_last, status) {
                (true, status) => Outcome::Status(status),
                (false, 504) => Outcome::TimedOut,
                (false, _) => Outcome::Failed,
            });
            tried.push(lease.address().clone());
        }
        if is_last {
            return Err(Ended::Refused(refusal));
        }
        attempt += 1;
        if let Err(cause) = ask_for_target(exchange, &live) {
            tracing::error!(request_id = exchange.id_text(), "retry handler failed: {cause}");
            return Err(Ended::Refused(Refusal::NoPeerForRetry));
        }
        tracing::warn!(
            request_id = exchange.id_text(),
            "attempt {attempt} failed, trying again: {refusal}"
        );
    }
}

/// Let a plugin's callback name the target of a retry, unless an upstream balances.
fn ask_for_target(exchange: &mut Exchange, live: &Live) -> Result<(), String> {
    let Some(ask) = exchange.overrides.retry_target.clone() else {
        return Ok(());
    };
    let is_balanced = exchange
        .overrides
        .target
        .as_ref()
        .is_some_and(|(host, _)| live.upstreams.contains_key(host));
    if is_balanced {
        return Ok(());
    }
    if let Some((host, port)) = ask()? {
        exchange.overrides.host = Some(host.clone().into_bytes());
        exchange.overrides.target = Some((host, Some(port)));
    }
    Ok(())
}

struct Failure {
    refusal: Refusal,
    may_retry: bool,
    status: u16,
    is_stale: bool,
}

enum OnceFailed {
    Ended(Ended),
    Upstream(Failure),
}

async fn once<C: ClientStream>(
    gateway: &Gateway,
    live: &Arc<Live>,
    exchange: &mut Exchange,
    client: &mut C,
    service: &LiveService,
    peer: &Peer,
    timeouts: &Timeouts,
) -> Result<Reached, OnceFailed> {
    let settings: &EngineSettings = &live.settings;
    let is_tls = exchange.overrides.is_tls.unwrap_or(service.tls.is_some());
    let host = host_header(exchange, live, service, peer, is_tls).into_owned();
    let changed;
    let mut tls = is_tls.then(|| service.tls.as_ref().unwrap_or(&live.default_client_tls));
    if let (Some(base), Some(changes)) = (tls, &exchange.overrides.tls) {
        changed = gateway.upstreams.client_tls.changed(base, changes).map_err(|faults| {
            let cause = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            OnceFailed::Ended(Ended::Refused(Refusal::UpstreamFailed {
                address: peer.address.to_string(),
                cause,
            }))
        })?;
        tls = Some(&changed);
    }
    let (key, server_name) = pool_key(peer.address, tls, &host).map_err(|cause| {
        OnceFailed::Ended(Ended::Refused(Refusal::UpstreamFailed {
            address: peer.address.to_string(),
            cause,
        }))
    })?;
    let framing = request_framing(exchange);
    let secured = match (tls, server_name) {
        (Some(tls), Some(name)) => Some((tls.config.clone(), name)),
        _ => None,
    };
    let opening = Opening {
        gateway,
        peer,
        key: &key,
        secured,
        timeout: timeouts.connect,
    };
    exchange.is_http2_upstream = service.is_http2;
    let (mut link, is_reused) = if service.is_http2 {
        opening.http2(exchange, client, &host, is_tls, framing).await?
    } else {
        opening.http1(exchange, client, &host, framing).await?
    };
    if exchange.records_upstream_tls {
        exchange.upstream_tls = match &link {
            Link::Http1(connection, _) => connection.transport.io().tls_facts().map(Arc::new),
            Link::Http2(_) => gateway.upstreams.http2.tls_facts(&key),
        };
    }
    let already_sent = link.sent_bytes();
    let keeps_body = exchange
        .matched
        .as_ref()
        .and_then(|matched| live.routes.get(matched.route))
        .is_none_or(|route| route.plan.request_buffering);
    let keep_bytes = if keeps_body {
        settings.limits.request_body_buffer_bytes
    } else {
        0
    };
    let mut pump = BodyPump::start(
        &mut link,
        &exchange.body,
        keep_bytes,
        settings.limits.request_body_bytes,
    );
    let to_head_request = exchange.request.method == Method::HEAD;
    let head_limit = settings.limits.response_head_bytes;
    let mut is_waiting = false;
    let body = &mut exchange.body;
    let outcome = poll_fn(|context| {
        match pump.poll(client, &mut link, body, timeouts.write, context) {
            Poll::Ready(Ok(())) => {
                if !is_waiting {
                    is_waiting = true;
                    link.expect_bytes(timeouts.read);
                }
            }
            Poll::Ready(Err(PumpFault::Upstream(fault @ TalkFault::WriteTimeout))) => {
                return Poll::Ready(Talked::Fault(fault))
            }
            Poll::Ready(Err(PumpFault::Upstream(_))) => {
                // It takes no more of the body; an early answer may be on its way.
                pump.is_refused = true;
                link.expect_bytes(timeouts.read);
            }
            Poll::Ready(Err(PumpFault::Client(fault))) => return Poll::Ready(Talked::Client(fault)),
            Poll::Ready(Err(PumpFault::TooLarge)) => return Poll::Ready(Talked::TooLarge),
            Poll::Pending => {}
        }
        match link.poll_head(to_head_request, head_limit, context) {
            Poll::Ready(Ok(head)) => return Poll::Ready(Talked::Head(head)),
            Poll::Ready(Err(fault)) => return Poll::Ready(Talked::Fault(fault)),
            Poll::Pending => {}
        }
        if client.is_body_done() && client.poll_gone(context).is_ready() {
            return Poll::Ready(Talked::ClientGone);
        }
        Poll::Pending
    })
    .await;
    let fault = match outcome {
        Talked::Head(head) => {
            exchange.timings.upstream_head = Some(Instant::now());
            exchange.upstream_statuses.push(head.status);
            return Ok(Reached {
                link,
                key,
                pump,
                head,
                read_timeout: timeouts.read,
                write_timeout: timeouts.write,
                lease: None,
                retry: None,
            });
        }
        Talked::Client(ClientFault::BadBody(cause)) => {
            return Err(OnceFailed::Ended(Ended::Refused(Refusal::Body(cause))));
        }
        Talked::Client(ClientFault::BodyTimeout) => {
            return Err(OnceFailed::Ended(Ended::Refused(Refusal::ClientTimeout)));
        }
        Talked::Client(_) | Talked::ClientGone => return Err(OnceFailed::Ended(Ended::ClientGone)),
        Talked::TooLarge => return Err(OnceFailed::Ended(Ended::Refused(Refusal::BodyTooLarge))),
        Talked::Fault(fault) => fault,
    };
    let was_sent = link.sent_bytes() > already_sent;
    let is_repeatable = !matches!(exchange.request.method.as_str(), "POST" | "LOCK" | "PATCH");
    let was_not_processed = matches!(fault, TalkFault::NotProcessed(_));
    // Nothing of the answer has gone to the client: its head was never whole.
    let may_retry = !exchange.body.is_gone && (is_repeatable || !was_sent || was_not_processed);
    let is_stale =
        is_reused && may_retry && link.is_silent() && (was_not_processed || matches!(fault, TalkFault::Broken(_)));
    Err(OnceFailed::Upstream(talk_failure(peer, &fault, may_retry, is_stale)))
}

/// Getting a connection for one attempt.
struct Opening<'a> {
    gateway: &'a Gateway,
    peer: &'a Peer,
    key: &'a PoolKey,
    secured: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    timeout: Duration,
}

impl Opening<'_> {
    /// An HTTP/1.1 connection with the request's head queued; true when it served requests before.
    async fn http1<C: ClientStream>(
        self,
        exchange: &mut Exchange,
        client: &mut C,
        host: &[u8],
        framing: Framing,
    ) -> Result<(Link, bool), OnceFailed> {
        let pool = &self.gateway.upstreams.pool;
        let mut pooled = None;
        while let Some(mut connection) = pool.checkout(self.key) {
            if connection.is_usable() {
                pooled = Some(connection);
                break;
            }
        }
        let is_reused = pooled.is_some();
        let mut connection = match pooled {
            Some(connection) => connection,
            None => Box::new(UpstreamConnection::new(self.connect(client).await?)),
        };
        connection.begin();
        queue_request_head(
            &mut connection.transport.write,
            exchange,
            host,
            &exchange.upstream_uri,
            framing,
        );
        Ok((Link::http1(connection, framing), is_reused))
    }

    /// A stream of an HTTP/2 connection that carries the request's head; true when the connection was open already.
    async fn http2<C: ClientStream>(
        self,
        exchange: &mut Exchange,
        client: &mut C,
        host: &[u8],
        is_tls: bool,
        framing: Framing,
    ) -> Result<(Link, bool), OnceFailed> {
        let connections = &self.gateway.upstreams.http2;
        let failed = |fault: TalkFault| OnceFailed::Upstream(talk_failure(self.peer, &fault, true, false));
        let (mut sender, is_reused) = match connections.checkout(self.key).await {
            Some(sender) => (sender, true),
            None => {
                let stream = self.connect(client).await?;
                let opening = connections.open(self.key, stream);
                let opened = tokio::time::timeout(self.timeout, opening)
                    .await
                    .unwrap_or(Err(TalkFault::ReadTimeout));
                (opened.map_err(failed)?, false)
            }
        };
        let head = http2_head(exchange, host, is_tls, framing).map_err(|cause| failed(TalkFault::Broken(cause)))?;
        let is_whole = framing == Framing::None;
        let request = Http2Request::start(&mut sender, head, is_whole)
            .map_err(|fault| OnceFailed::Upstream(talk_failure(self.peer, &fault, true, is_reused)))?;
        Ok((Link::Http2(Box::new(request)), is_reused))
    }

    async fn connect<C: ClientStream>(&self, client: &mut C) -> Result<UpstreamStream, OnceFailed> {
        let mut connecting = pin!(connect(self.peer.address, self.secured.clone(), self.timeout));
        let watches_client = client.is_body_done();
        let outcome = poll_fn(|context| {
            if let Poll::Ready(outcome) = connecting.as_mut().poll(context) {
                return Poll::Ready(Some(outcome));
            }
            if watches_client && client.poll_gone(context).is_ready() {
                return Poll::Ready(None);
            }
            Poll::Pending
        })
        .await;
        match outcome {
            None => Err(OnceFailed::Ended(Ended::ClientGone)),
            Some(Ok(stream)) => Ok(stream),
            Some(Err(error)) => Err(OnceFailed::Upstream(connect_failure(self.peer, &error.kind))),
        }
    }
}

/// The head of a request over HTTP/2 (RFC 9113, section 8.3.1).
fn http2_head(exchange: &Exchange, host: &[u8], is_tls: bool, framing: Framing) -> Result<http::Request<()>, String> {
    let uri = http::Uri::builder()
        .scheme(if is_tls { "https" } else { "http" })
        .authority(host)
        .path_and_query(exchange.upstream_uri.as_slice())
        .build()
        .map_err(|error| format!("no valid HTTP/2 request: {error}"))?;
    let mut head = http::Request::new(());
    *head.method_mut() = exchange.request.method.clone();
    *head.uri_mut() = uri;
    *head.version_mut() = http::Version::HTTP_2;
    forward_fields(head.headers_mut(), exchange);
    if let Framing::Length(length) = framing {
        head.headers_mut().insert(http::header::CONTENT_LENGTH, length.into());
    }
    Ok(head)
}

enum Talked {
    Head(ResponseHead),
    Fault(TalkFault),
    Client(ClientFault),
    ClientGone,
    TooLarge,
}

fn connect_failure(peer: &Peer, kind: &ConnectErrorKind) -> Failure {
    let during = matches!(kind, ConnectErrorKind::Timeout).then_some("connecting");
    failure(peer, during, kind)
}

fn talk_failure(peer: &Peer, fault: &TalkFault, may_retry: bool, is_stale: bool) -> Failure {
    let during = match fault {
        TalkFault::ReadTimeout => Some("reading the response"),
        TalkFault::WriteTimeout => Some("sending the request"),
        _ => None,
    };
    Failure {
        may_retry,
        is_stale,
        ..failure(peer, during, fault)
    }
}

/// A failure that may be retried; `during`: what was waited for too long.
fn failure(peer: &Peer, during: Option<&'static str>, cause: &impl Display) -> Failure {
    let address = peer.address.to_string();
    let refusal = match during {
        Some(during) => Refusal::UpstreamTimeout { address, during },
        None => Refusal::UpstreamFailed {
            address,
            cause: cause.to_string(),
        },
    };
    let status = refusal.answer().status;
    Failure {
        refusal,
        may_retry: true,
        status,
        is_stale: false,
    }
}

fn timeouts_of(exchange: &Exchange, service: &LiveService) -> Timeouts {
    let plan = &service.plan;
    let (connect, write, read) = exchange.overrides.timeouts_ms.unwrap_or((
        plan.connect_timeout_ms,
        plan.write_timeout_ms,
        plan.read_timeout_ms,
    ));
    Timeouts {
        connect: Duration::from_millis(connect),
        write: Duration::from_millis(write),
        read: Duration::from_millis(read),
    }
}

fn request_framing(exchange: &Exchange) -> Framing {
    let body = &exchange.body;
    if body.is_complete {
        if body.held.is_empty() && !body.is_replaced {
            return Framing::None;
        }
        if body.trailers.is_none() {
            return Framing::Length(body.held.len() as u64);
        }
    }
    match body.framing {
        Framing::UntilClose => Framing::Chunked,
        framing => framing,
    }
}
