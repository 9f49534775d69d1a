//! The stages of a stream that its transport does not change: its exchange, its route, preread, its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::error::Refusal;
use crate::exchange::{ClientConnection, Exchange, Matched};
use crate::gateway::Gateway;
use crate::http::h1::parse::Framing;
use crate::http::head::{Method, RequestHead, Version};
use crate::http::headers::{HeaderBlock, Span};
use crate::live::Live;
use crate::phase::Phase;
use crate::router::stream::{StreamKey, StreamTransport};
use crate::runner::Step;
use crate::telemetry::log_queue::LogQueue;

/// How a stream is served, which its listener and its route decide together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamProtocol {
    /// Plain bytes.
    Tcp,
    /// TLS ends here.
    Tls,
    /// TLS passes through.
    TlsPassthrough,
    /// Datagrams.
    Udp,
}

impl StreamProtocol {
    /// The name in a route's `protocols`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::TlsPassthrough => "tls_passthrough",
            Self::Udp => "udp",
        }
    }
}

/// What an exchange knows of its stream.
#[derive(Debug)]
pub struct Session {
    /// How it is served.
    pub protocol: StreamProtocol,
    /// Server name of the ClientHello, whether TLS ends here or not.
    pub server_name: Option<String>,
    /// Status as the contract counts sessions: 200, 500, 502, 503, 504, or that of `kong.response.exit`.
    pub status: u16,
    /// Bytes from the upstream.
    pub upstream_received: u64,
    /// Bytes to the upstream.
    pub upstream_sent: u64,
}

/// Begin the exchange of a stream.
#[must_use]
pub fn begin(
    gateway: &Gateway,
    live: Arc<Live>,
    connection: Arc<ClientConnection>,
    protocol: StreamProtocol,
    server_name: Option<String>,
) -> Box<Exchange> {
    let request = RequestHead {
        method: Method::GET,
        target: Span::default(),
        version: Version::Http11,
        headers: HeaderBlock::new(),
    };
    let phases = live.stream_global_phases;
    let source = source_of(&connection);
    let mut exchange = Exchange::new(gateway.request_id(), live, connection, request, Framing::None);
    exchange.phases = phases;
    exchange.forwarded_client = (source.ip(), source.port());
    exchange.session = Some(Box::new(Session {
        protocol,
        server_name,
        status: 200,
        upstream_received: 0,
        upstream_sent: 0,
    }));
    exchange
}

/// The client: what a trusted balancer says, else the direct peer.
fn source_of(connection: &ClientConnection) -> SocketAddr {
    connection
        .proxied
        .as_ref()
        .map_or(connection.peer, |proxied| proxied.source)
}

/// The position of the route that takes a stream.
#[must_use]
pub fn find_route(
    live: &Live,
    connection: &ClientConnection,
    transport: StreamTransport,
    server_name: Option<&str>,
) -> Option<usize> {
    let key = StreamKey {
        transport,
        source: source_of(connection),
        destination: SocketAddr::new(connection.local.ip().to_canonical(), connection.mapped_port),
        server_name,
    };
    live.stream_router
        .find(&key)
        .map(|route| live.first_stream_route + route)
}

/// Put an exchange on its route: what may run for it now is the route's.
pub fn enter_route(exchange: &mut Exchange, route: usize) {
    exchange.phases = exchange.live.routes.get(route).map_or(0, |route| route.plan.phases);
    exchange.matched = Some(Matched {
        route,
        prefix_bytes: None,
        captures: None,
    });
}

/// Run preread where there is one; None when the exchange was lost (the stream is cut).
pub async fn preread(gateway: &Gateway, mut exchange: Box<Exchange>) -> Option<Box<Exchange>> {
    if !exchange.has(Phase::Preread) {
        return Some(exchange);
    }
    exchange.phase = Phase::Preread;
    let mut step = gateway.runner.preread(exchange);
    loop {
        match step {
            Step::Done(exchange) => return Some(exchange),
            Step::Wait(next) => step = next.await?,
            // A stream has no body to read: nobody can go on.
            Step::NeedBody { .. } => return None,
        }
    }
}

/// What a plugin answered in preread: bytes for the client, none when it only closes.
pub fn take_answer(gateway: &Gateway, exchange: &mut Exchange) -> Option<Bytes> {
    let answer = exchange.answer.take()?;
    let status = exchange.response.status;
    if let Some(session) = &mut exchange.session {
        session.status = status;
    }
    exchange.timings.answered = Some(Instant::now());
    if status < 400 {
        return Some(answer.body);
    }
    if !exchange.is_failed {
        gateway.refused_streams.write(|more| {
            let body = String::from_utf8_lossy(&answer.body);
            tracing::error!(
                request_id = exchange.id_text(),
                client = %exchange.forwarded_client.0,
                "unable to proxy stream connection, status: {status}, err: {body}{more}"
            );
        });
    }
    Some(Bytes::new())
}

/// Count a refusal as the session's status and tell the operator.
pub fn refuse(gateway: &Gateway, exchange: &mut Exchange, refusal: &Refusal) {
    let status = refusal.answer().status;
    if let Some(session) = &mut exchange.session {
        session.status = status;
    }
    exchange.timings.answered = Some(Instant::now());
    exchange.is_failed |= refusal.is_failure();
    let client = exchange.forwarded_client.0;
    gateway.refused_streams.write(|more| match refusal {
        Refusal::NoService => {
            tracing::warn!(request_id = exchange.id_text(), %client, "{refusal}{more}");
        }
        _ => tracing::error!(request_id = exchange.id_text(), %client, "{refusal}{more}"),
    });
}

/// No route takes the stream.
pub fn refuse_without_route(gateway: &Gateway, exchange: &mut Exchange, cause: &str) {
    if let Some(session) = &mut exchange.session {
        session.status = 500;
    }
    let connection = exchange.connection.clone();
    let session = exchange.session.as_deref();
    let name = session
        .and_then(|session| session.server_name.as_deref())
        .unwrap_or("-");
    gateway.refused_streams.write(|more| {
        tracing::error!(
            request_id = exchange.id_text(),
            client = %connection.peer_ip_text,
            "{cause} (to {}, server name {name}): connection closed{more}",
            connection.local
        );
    });
}

/// The last byte is out: access log and log phase.
pub fn finish(gateway: &Arc<Gateway>, mut exchange: Box<Exchange>) {
    exchange.timings.finished = Some(Instant::now());
    if let Some(log) = &gateway.stream_access_log {
        log.write_stream(&exchange);
    }
    if exchange.has(Phase::Log) {
        exchange.phase = Phase::Log;
        LogQueue::push(gateway, exchange);
    }
}
